package gate

import "sync"

// signupTopic is where everybody reads how to sign up; package acl makes it public.
const signupTopic = "$SYS/broker/iotoll/signup"

// announcement is a retained message that follows the store.
type announcement struct {
	mu        sync.Mutex
	want      string // what the store says; empty: nothing is announced
	published string // what the broker retains
}

// announceSignup announces what those who want to sign up need, or nothing if text is
// empty.
func (g *Gate) announceSignup(text []byte) {
	a := &g.signup
	a.mu.Lock()
	a.want = string(text)
	due := a.want != a.published
	a.mu.Unlock()
	if due {
		g.host.Wake()
	}
}

// Announcements returns the messages that the broker must publish now. An empty payload
// removes the retained message. While the store is unreachable, the last announcement
// stays.
func (g *Gate) Announcements() []Message {
	a := &g.signup
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.want == a.published {
		return nil
	}
	a.published = a.want
	return []Message{{signupTopic, a.want}}
}
