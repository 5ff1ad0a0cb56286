package gate

import (
	"context"
	"sync"
	"time"

	"github.com/iotoll/iotoll/acl"
)

const (
	// sharesAtMost bounds the shared subscriptions of one subject.
	sharesAtMost = 1000
	// kicksAtOnce bounds how long one call of Kicks keeps the broker busy.
	kicksAtOnce = 100
	// membersAtOnce bounds how long the broker may wait for a look at the members.
	membersAtOnce = 100
)

// Kick names sessions that the broker must end: those of a username or, if that is
// empty, the session of a client ID with the shared subscriptions that are the cause.
type Kick struct {
	Username string
	ClientID string
	Filters  []string
}

// Conn tells one connection to the broker from all others at the same time.
type Conn uintptr

// sessions are the sessions that must end. There are two kinds: the sessions of a
// user whose password was changed, who was disabled or removed; and a session with
// a shared subscription that no right covers any more. The broker hands each
// message of a shared subscription to one member of the group, and a member without
// the right to read it would keep it from the others.
type sessions struct {
	mu      sync.Mutex
	kicks   []Kick
	members map[string]*member // by client ID
	shares  map[string]int     // shared subscriptions by subject
	next    time.Time          // when watchShares looks at the members; zero: when told to
	all     bool               // watchShares looks at the members now
	due     chan struct{}      // has room for one: next or all has changed
	ended   uint64             // kicks that the broker took
	// arrivingID and arriving are an anonymous connection whose login is in
	// progress.
	arrivingID string
	arriving   Conn
}

// member is a session with shared subscriptions.
type member struct {
	subject string
	conn    Conn
	offline bool // the connection is closed; the session may live on
	filters map[string]bool
}

func newSessions() sessions {
	return sessions{members: make(map[string]*member), shares: make(map[string]int), due: make(chan struct{}, 1)}
}

// check makes watchShares look at the members now.
func (s *sessions) check() {
	s.mu.Lock()
	s.all = true
	s.mu.Unlock()
	s.notify()
}

func (s *sessions) notify() {
	select {
	case s.due <- struct{}{}:
	default: // watchShares has yet to read the last one
	}
}

// drop forgets a member. Call it with the lock held.
func (s *sessions) drop(id string) {
	m := s.members[id]
	s.count(m.subject, -len(m.filters))
	delete(s.members, id)
}

// count adds to the shared subscriptions of a subject. Call it with the lock held.
func (s *sessions) count(subject string, n int) {
	if s.shares[subject] += n; s.shares[subject] <= 0 {
		delete(s.shares, subject)
	}
}

// kick queues kicks and wakes the broker.
func (g *Gate) kick(kicks []Kick) {
	if len(kicks) == 0 {
		return
	}
	s := &g.sessions
	s.mu.Lock()
	s.kicks = append(s.kicks, kicks...)
	s.mu.Unlock()
	g.host.Wake()
}

// Kicks returns sessions that the broker must end now. The broker calls it from its
// own thread, when it is not in the middle of a request.
func (g *Gate) Kicks() []Kick {
	s := &g.sessions
	s.mu.Lock()
	n := min(len(s.kicks), kicksAtOnce)
	kicks := s.kicks[:n:n]
	s.kicks = s.kicks[n:]
	more := len(s.kicks) > 0
	s.ended += uint64(n)
	s.arrivingID = "" // that login is over
	s.mu.Unlock()
	if more {
		g.host.Wake()
	}
	return kicks
}

// Subscribe decides a SUBSCRIBE like Decide, and remembers a permitted shared
// subscription. A subject may have a thousand of them.
func (g *Gate) Subscribe(r acl.Request, conn Conn) Answer {
	a := g.Decide(r)
	// What is public has no end, and changes only by the operator's hand.
	if a.Verdict != Permit || !acl.IsShared(r.Topic) || a.Reason == acl.Public {
		return a
	}
	s := &g.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[r.ClientID]
	if m != nil && m.subject != r.Subject {
		s.drop(r.ClientID)
		m = nil
	}
	if m == nil || !m.filters[r.Topic] {
		if s.shares[r.Subject] >= sharesAtMost && !s.dropOffline(r.Subject) {
			return Answer{Reason: acl.NoRight}
		}
		if m == nil {
			m = &member{subject: r.Subject, filters: make(map[string]bool)}
			s.members[r.ClientID] = m
		}
		m.filters[r.Topic] = true
		s.count(r.Subject, 1)
	}
	m.conn, m.offline = conn, false
	if !a.Until.IsZero() && (s.next.IsZero() || a.Until.Before(s.next)) {
		s.next = a.Until
		s.notify()
	}
	return a
}

// dropOffline forgets a member of a subject whose connection is closed. It reports
// whether there was one. Call it with the lock held.
func (s *sessions) dropOffline(subject string) bool {
	for id, m := range s.members {
		if m.subject == subject && m.offline {
			s.drop(id)
			return true
		}
	}
	return false
}

// Unsubscribe forgets a shared subscription that a client has ended.
func (g *Gate) Unsubscribe(clientID, filter string) {
	s := &g.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[clientID]
	if m == nil || !m.filters[filter] {
		return
	}
	delete(m.filters, filter)
	s.count(m.subject, -1)
	if len(m.filters) == 0 {
		delete(s.members, clientID)
	}
}

// Connected notes that a connection has the session of a client ID from now on. If
// clean is true, the session is a new one.
func (g *Gate) Connected(clientID, subject string, conn Conn, clean bool) {
	s := &g.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[clientID]
	switch {
	case m == nil:
	case m.conn == conn && !m.offline: // asked again, at SIGHUP
	case clean:
		s.drop(clientID)
	default:
		s.inherit(m, subject, conn)
	}
}

// inherit gives a member's session to another connection. Call it with the lock
// held.
func (s *sessions) inherit(m *member, subject string, conn Conn) {
	s.count(m.subject, -len(m.filters))
	s.count(subject, len(m.filters))
	m.subject, m.conn, m.offline = subject, conn, false
	s.all = true
	s.notify()
}

// Arriving notes that an anonymous connection asks for the session of a client ID,
// which allow_anonymous decides. If Mosquitto 2.0 accepts it, it says so only by
// closing the connection that had the session.
func (g *Gate) Arriving(clientID string, conn Conn) {
	s := &g.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.members[clientID]; m != nil && (m.conn != conn || m.offline) {
		s.arrivingID, s.arriving = clientID, conn
	}
}

// Disconnected notes that a connection is closed. gone is true if its session ended
// with it.
func (g *Gate) Disconnected(clientID string, conn Conn, gone bool) {
	s := &g.sessions
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[clientID]
	switch {
	case m == nil || m.conn != conn:
	case s.arrivingID == clientID:
		s.inherit(m, "", s.arriving)
	case gone:
		s.drop(clientID)
	default:
		m.offline = true
	}
}

// watchShares ends the sessions of members when their right ends, until ctx ends.
func (g *Gate) watchShares(ctx context.Context) {
	s := &g.sessions
	for ctx.Err() == nil {
		s.mu.Lock()
		next, look := s.next, s.all
		s.mu.Unlock()
		var timer <-chan time.Time
		if !next.IsZero() {
			left := next.Sub(g.now())
			look = look || left <= 0
			timer = time.After(left)
		}
		if look {
			g.endShares()
			continue
		}
		select {
		case <-ctx.Done():
		case <-s.due:
		case <-timer:
		}
	}
}

// endShares kicks each member with a shared subscription to which it has no right
// any more, and sets when the next right ends.
func (g *Gate) endShares() {
	var kicks []Kick
	s := &g.sessions
	s.mu.Lock()
	s.next, s.all = time.Time{}, false // before the snapshot is read
	snapshot, now := g.snapshot.Load(), g.now()
	if !snapshot.Fresh(now) {
		s.mu.Unlock()
		return // no member may read; publish looks again
	}
	looked := 0
	for id, m := range s.members {
		if looked++; looked%membersAtOnce == 0 {
			s.mu.Unlock()
			s.mu.Lock()
		}
		if s.members[id] != m {
			continue
		}
		var ended []string
		for filter := range m.filters {
			d := snapshot.Decide(acl.Request{Subject: m.subject, ClientID: id, Topic: filter, Access: acl.Subscribe}, now)
			if !d.Permit {
				delete(m.filters, filter)
				ended = append(ended, filter)
			} else if !d.Until.IsZero() && (s.next.IsZero() || d.Until.Before(s.next)) {
				s.next = d.Until
			}
		}
		if ended != nil {
			kicks = append(kicks, Kick{ClientID: id, Filters: ended})
			s.count(m.subject, -len(ended))
			if len(m.filters) == 0 {
				delete(s.members, id)
			}
		}
	}
	if soonest := now.Add(time.Millisecond); !s.next.IsZero() && s.next.Before(soonest) {
		s.next = soonest // while the snapshot's end is in the past of a clock that was set
	}
	s.mu.Unlock()
	g.kick(kicks)
}
