package tangle_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// TestWatcherManyHeld: a thousand payments that name nobody cost one question a
// minute for each name, delay no payment, and those that wait for a user are
// settled when the user is created, those and no others.
func TestWatcherManyHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		recheck := make(chan string, 1)
		s.Recheck = recheck
		// Each call takes as long as on the embedded store, on a slow machine.
		slow := func(ctx context.Context) context.Context {
			return tangletest.WithFault(ctx, func(p tangletest.Point) error {
				if !p.After {
					time.Sleep(2 * time.Millisecond)
				}
				return nil
			})
		}
		s.openWith(slow(t.Context()))
		time.Sleep(time.Second)
		const names, each = 200, 5
		for i := range names {
			for j := range each {
				s.ledger.Confirm(payment(fmt.Sprintf("h%d-%d", i, j), fmt.Sprintf(`{"username": "u%d"}`, i), 500))
			}
		}
		time.Sleep(time.Minute)
		if h := s.Health(); h.Held != names*each {
			t.Fatalf("Held: got %d, want %d", h.Held, names*each)
		}
		writes := s.store.Calls("Hold")
		asked := s.store.Calls("UserState")
		time.Sleep(5 * time.Minute)
		if got := s.store.Calls("UserState") - asked; got > 6*names {
			t.Errorf("in five minutes users were asked for %d times, want at most once a minute for each of %d", got, names)
		}
		for i := range 20 {
			time.Sleep(7 * time.Second)
			id := fmt.Sprint("p", i)
			s.ledger.Confirm(payment(id, fromJohn, 500))
			time.Sleep(500 * time.Millisecond)
			s.want(t, id, tangle.Credited)
		}
		settled := s.store.Calls("Last")
		s.store.AddUser("u7")
		recheck <- "u7"
		time.Sleep(500 * time.Millisecond)
		for j := range each {
			s.want(t, fmt.Sprintf("h7-%d", j), tangle.Credited)
		}
		if got := s.store.Calls("Last") - settled; got != each {
			t.Errorf("when the user was created, %d payments were looked at, want the %d that wait for it", got, each)
		}
		// Everything is tried again now and then, and nothing is written anew.
		time.Sleep(15 * time.Minute)
		if got := s.store.Calls("Hold"); got != writes {
			t.Errorf("reasons were written %d times more, want none", got-writes)
		}
		s.close(t)

		// A new process has them all to look at. A fresh payment does not wait for
		// that, nor does one whose settling was interrupted.
		n := s.again(t)
		cut := payment("cut", fromJohn, 500)
		if _, err := n.store.Record(t.Context(), cut, tangle.Settling); err != nil {
			t.Fatal(err)
		}
		n.store.AddUser("u9") // and nobody tells
		n.ledger.Confirm(payment("fresh", fromJohn, 500))
		n.openWith(slow(t.Context()))
		time.Sleep(500 * time.Millisecond)
		n.want(t, "fresh", tangle.Credited)
		n.want(t, "cut", tangle.Credited)
		time.Sleep(2 * time.Minute)
		n.want(t, "h9-0", tangle.Credited)
		if h := n.Health(); h.Held != (names-2)*each {
			t.Errorf("Held: got %d, want %d", h.Held, (names-2)*each)
		}
		n.close(t)
	})
}

// TestWatcherDisabled: a payment for a user who is disabled settles when that
// changes, and the reason in the book follows the state.
func TestWatcherDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		recheck := make(chan string, 1)
		s.Recheck = recheck
		s.store.SetUser("john", tangle.UserDisabled)
		s.open(t)
		time.Sleep(time.Second)
		s.ledger.Confirm(payment("p1", fromJohn, 500))
		for _, test := range []struct {
			state  tangle.UserState
			reason string
		}{
			{tangle.UserDisabled, `user "john" is disabled`},
			{tangle.UserUnknown, `there is no user "john"`},
			{tangle.UserUnusable, `user "john" cannot log in: the user's document is not readable`},
		} {
			s.store.SetUser("john", test.state)
			time.Sleep(61 * time.Second)
			if outcome, reason := s.store.Outcome("p1"); outcome != tangle.Unmatched || reason != test.reason {
				t.Errorf("%s: got %s, %q, want %q", test.state, outcome, reason, test.reason)
			}
		}
		s.store.AddUser("john")
		recheck <- "john"
		time.Sleep(100 * time.Millisecond)
		s.want(t, "p1", tangle.Credited)
		s.close(t)
	})
}
