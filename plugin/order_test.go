package main

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/iotoll/iotoll/acl"
)

// Whatever was decided before, in whatever order the broker asks: each may do what
// he may and nothing else, also where names and topics run into each other.
func TestBrokerAnyOrder(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	names := []string{"j", "jo", "joh"}
	topics := []string{"n/a", "hn/a", "ohn/a"}
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
