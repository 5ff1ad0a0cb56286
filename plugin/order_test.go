package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/iotoll/iotoll/acl"
)

// Decisions do not depend on earlier ones or on the order of the questions, even where
// the concatenation of a name and a topic is ambiguous.
func TestBrokerAnyOrder(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	names := []string{"j", "jo", "jx", "joh"}
	topics := []string{"n/a", "n/a/b", "hn/a", "oo", "ohn/a", "ohn/"}
	reads := func(i, k int) bool { return (2*i+k)%3 != 0 }
	writes := func(i, k int) bool { return (2*i+k)%3 != 1 }
	for i, name := range names {
		var rights []acl.Right
		for k, topic := range topics {
			var a acl.Access
			if reads(i, k) {
				a |= acl.Read
			}
			if writes(i, k) {
				a |= acl.Write
			}
			rights = append(rights, acl.Right{Pattern: topic, Access: a})
		}
		s.user(acl.User{Name: name, Rights: rights})
	}
	b := startBroker(t, conf(s.uri))
	clients := make([]*client, len(names))
	for i, name := range names {
		clients[i] = b.connect(connect{user: name, pass: "secret", id: name})
		if code := clients[i].subscribe("#", 0); code != 0 {
			t.Fatalf("%s subscribes to #: got %#x, want 0", name, code)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 500 {
		if n%10 == 0 { // from now on the broker asks in another order
			c := clients[random.IntN(len(clients))]
			c.unsubscribe("#")
			c.subscribe("#", 0)
		}
		w, k := random.IntN(len(names)), random.IntN(len(topics))
		clients[w].publish(topics[k], fmt.Sprint(n), 1, false)
		for i, c := range clients {
			if writes(w, k) && reads(i, k) {
				c.want(topics[k], fmt.Sprint(n))
			}
			c.wantNothing()
		}
	}
}

// The decision cache distinguishes names and topics that differ in their last byte, for
// every length, including those that it cannot keep.
func TestBrokerAnyLength(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	var topics []string
	for _, n := range []int{1, 100, 180, 200, 204, 205, 206, 207, 208, 209, 210, 211, 212, 213, 214, 215, 216, 256, 1000, 65_535} {
		topics = append(topics, strings.Repeat("x", n-1)+"y", strings.Repeat("x", n-1)+"z")
	}
	names := []string{"john", strings.Repeat("j", 112) + "y", strings.Repeat("j", 112) + "z"}
	may := func(i, k int) bool { return (i+k)%2 == 0 }
	for i, name := range names {
		var rights []acl.Right
		for k, topic := range topics {
			if may(i, k) {
				rights = append(rights, acl.Right{Pattern: topic, Access: acl.Read})
			}
		}
		s.user(acl.User{Name: name, Rights: rights})
	}
	s.user(acl.User{Name: "jane", Superuser: true})
	b := startBroker(t, conf(s.uri))
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	clients := make([]*client, len(names))
	for i, name := range names {
		clients[i] = b.connect(connect{user: name, pass: "secret", id: fmt.Sprint(i)})
		if code := clients[i].subscribe("#", 0); code != 0 {
			t.Fatalf("user %d subscribes to #: got %#x, want 0", i, code)
		}
	}
	// If these were kept, they would be written beyond the table's end.
	for i := range 500 {
		jane.publish(fmt.Sprint(strings.Repeat("long", 16_000), i), "x", 0, false)
	}
	for _, c := range clients {
		c.sync()
	}
	for range 3 { // asked, remembered, guessed
		for k, topic := range topics {
			jane.publish(topic, "x", 1, false)
			for i, c := range clients {
				c.sync()
				if got := len(c.inbox) > 0; got != may(i, k) {
					t.Errorf("user %d, topic of %d bytes ending in %s: delivered %t, want %t", i, len(topic), topic[len(topic)-1:], got, may(i, k))
				}
				for len(c.inbox) > 0 {
					<-c.inbox
				}
			}
		}
	}
}
