package tangle_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iotoll/iotoll/tangle"
)

func TestCheckClock(t *testing.T) {
	now, never := start, time.Time{}
	for _, test := range []struct {
		name                 string
		ledger, node, newest time.Time
		want                 string
	}{
		{"nothing to compare with", never, never, never, ""},
		{"right", now.Add(-4 * time.Second), never, now.Add(-time.Hour), ""},
		{"a lagging node", now.Add(-4 * time.Minute), now, never, ""},
		{"70 minutes behind the ledger", now.Add(70 * time.Minute), never, never, "our clock is 1h10m0s behind the ledger's time"},
		{"48 hours ahead of the ledger", now.Add(-48 * time.Hour), never, never, "our clock is 48h0m0s ahead of the ledger's time"},
		{"70 minutes behind a node", never, now.Add(70 * time.Minute), never, "our clock is 1h10m0s behind the node's clock"},
		{"48 hours ahead of a node", never, now.Add(-48 * time.Hour), never, "our clock is 48h0m0s ahead of the node's clock"},
		{"behind the newest entry", never, never, now.Add(70 * time.Minute), "our clock is 1h10m0s behind the newest entry in the store"},
		{"behind the newest entry, as the node on this machine is", never, now, now.Add(70 * time.Minute), "our clock is 1h10m0s behind the newest entry in the store"},
		{"an old entry says nothing", never, now, now.Add(-1000 * time.Hour), ""},
		{"an entry dated wrong, but the ledger agrees with us", now, now, now.Add(48 * time.Hour), ""},
	} {
		err := tangle.CheckClock(now, test.ledger, test.node, test.newest)
		var clock *tangle.ClockError
		if (err == nil) != (test.want == "") || err != nil && (err.Error() != test.want || !errors.As(err, &clock)) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

// TestWatcherClock: while our clock is wrong, payments are recorded and nothing
// is settled; when it is right, they all get their full time.
func TestWatcherClock(t *testing.T) {
	for name, test := range map[string]struct {
		off     time.Duration
		ledgers bool // the ledger has a clock
		against string
	}{
		"behind the ledger":       {-70 * time.Minute, true, "the ledger's time"},
		"ahead of the ledger":     {48 * time.Hour, true, "the ledger's time"},
		"behind the newest entry": {-70 * time.Minute, false, "the newest entry"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShop(t)
				var off atomic.Int64
				s.Now = func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
				if test.ledgers {
					s.ledger.Clock(time.Now)
				}
				s.open(t)
				time.Sleep(time.Second)
				s.ledger.Confirm(payment("p0", fromJohn, 500))
				time.Sleep(time.Second)
				s.want(t, "p0", tangle.Credited)
				s.close(t)

				// Jane's machine starts again, with another time of day.
				off.Store(int64(test.off))
				n := s.again(t)
				n.Now = s.Now
				n.open(t)
				n.ledger.Confirm(payment("p1", fromJohn, 500), payment("p2", "", 500))
				time.Sleep(90 * time.Second)
				n.want(t, "p1", tangle.Unmatched)
				if _, reason := n.store.Outcome("p1"); !strings.Contains(reason, "clock") {
					t.Errorf("the book says %q, want it to name the clock", reason)
				}
				h := n.Health()
				if h.ClockError == nil || !strings.Contains(h.ClockError.Error(), test.against) || h.ClockSince.IsZero() || h.Held != 2 || h.Waiting != 0 {
					t.Errorf("Health: got %+v, want the clock against %s and two payments held", h, test.against)
				}
				if got := n.logged("settling waits until the clock is right"); got != 1 {
					t.Errorf("got %d lines about the clock, want 1", got)
				}
				// The same after another restart.
				n.close(t)
				n = n.again(t)
				n.Now = s.Now
				n.open(t)
				time.Sleep(90 * time.Second)
				n.want(t, "p1", tangle.Unmatched)

				off.Store(0)
				fixed := time.Now()
				time.Sleep(61 * time.Second)
				n.want(t, "p1", tangle.Credited)
				n.want(t, "p2", tangle.Unmatched)
				if h := n.Health(); h.ClockError != nil || !h.ClockSince.IsZero() || h.Held != 1 {
					t.Errorf("Health: got %+v, want the clock right", h)
				}
				account := n.store.Account("john", "live")
				if g := account[len(account)-1]; len(account) != 2 || g.At.Before(fixed) || g.NotAfter.Sub(g.NotBefore) != time.Hour {
					t.Errorf("account: got %+v, want the second hour written when the clock was right", account)
				}
				n.close(t)
			})
		})
	}
}

// TestWatcherClockSteps: a clock that is set while we run is noticed before the
// ledger is read again.
func TestWatcherClockSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		var off atomic.Int64
		s.Now = func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
		s.ledger.Clock(time.Now)
		recheck := make(chan string, 1)
		s.Recheck = recheck
		s.open(t)
		time.Sleep(time.Second)
		s.ledger.Confirm(payment("p1", `{"username": "mary"}`, 500))
		time.Sleep(time.Second)
		for range 100 {
			s.ledger.Fail(errors.New("node is away"))
		}
		time.Sleep(time.Minute)
		off.Store(int64(48 * time.Hour))
		s.store.AddUser("mary")
		recheck <- "mary"
		time.Sleep(10 * time.Second)
		s.want(t, "p1", tangle.Unmatched)
		off.Store(0)
		time.Sleep(10 * time.Second)
		s.want(t, "p1", tangle.Credited)
		s.close(t)
	})
}
