package tangle_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/tangletest"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// shop is a watcher with what it works on.
type shop struct {
	tangle.Watcher
	ledger *tangletest.Ledger
	store  *tangletest.Store
	log    *logtest.Hook
	stop   context.CancelFunc
	ended  chan error
}

func newShop(t testing.TB) *shop {
	logger, hook := logtest.NewNullLogger()
	logger.SetLevel(logrus.DebugLevel)
	s := &shop{ledger: new(tangletest.Ledger), store: new(tangletest.Store), log: hook}
	s.store.AddUser("john")
	s.Watcher = tangle.Watcher{
		Ledger: s.ledger, Store: s.store, Offers: newOffers(t, live(t)),
		Interval: 250 * time.Millisecond, Timeout: 5 * time.Second, Log: logger,
	}
	return s
}

// open starts the watcher; close stops it and waits for it.
func (s *shop) open(t testing.TB) { s.openWith(t.Context()) }

func (s *shop) openWith(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	s.stop, s.ended = cancel, make(chan error, 1)
	go func() { s.ended <- s.Run(ctx) }()
}

func (s *shop) close(t testing.TB) {
	t.Helper()
	s.stop()
	if err := <-s.ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// again returns a new process on the same store and ledger.
func (s *shop) again(t testing.TB) *shop {
	n := newShop(t)
	n.ledger, n.store = s.ledger, s.store
	n.Ledger, n.Store = s.ledger, s.store
	return n
}

func (s *shop) want(t testing.TB, id string, want tangle.Outcome) {
	t.Helper()
	if got, reason := s.store.Outcome(id); got != want {
		t.Errorf("payment %s: got %q (%s), want %q", id, got, reason, want)
	}
}

func (s *shop) logged(text string) int {
	n := 0
	for _, e := range s.log.AllEntries() {
		if strings.Contains(e.Message, text) {
			n++
		}
	}
	return n
}

func TestWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		seen := make(map[string]tangle.Outcome)
		s.Observe = func(p tangle.Payment, o tangle.Outcome, took time.Duration) {
			seen[p.ID] = o
			if (took > 0) != (o == tangle.Credited || o == tangle.Underpaid) {
				t.Errorf("payment %s was observed as %s after %s", p.ID, o, took)
			}
		}
		s.ledger.Confirm(payment("old", fromJohn, 5000))
		s.open(t)
		time.Sleep(time.Second)
		s.want(t, "old", tangle.Historic)
		s.ledger.Confirm(payment("p1", fromJohn, 500), payment("p2", "", 500), payment("p3", fromJohn, 200))
		paid := time.Now()
		time.Sleep(300 * time.Millisecond)
		s.want(t, "p1", tangle.Credited)
		s.want(t, "p2", tangle.Unmatched)
		s.want(t, "p3", tangle.Underpaid)
		if g := s.store.Account("john", "live")[0]; g.NotBefore.Before(paid) || g.NotBefore.After(paid.Add(300*time.Millisecond)) {
			t.Errorf("grant begins at %s, want within 300 ms of %s", g.NotBefore, paid)
		}
		calls := s.store.Calls("Marks") + s.store.Calls("Settled") + s.store.Calls("Record")
		time.Sleep(10 * time.Second)
		if got := s.store.Calls("Marks") + s.store.Calls("Settled") + s.store.Calls("Record"); got != calls {
			t.Errorf("with nothing new the store was called %d times in 10 s", got-calls)
		}
		s.ledger.Confirm(payment("p1", fromJohn, 500)) // a ledger may repeat itself
		time.Sleep(time.Second)
		if got := len(s.store.Account("john", "live")); got != 2 {
			t.Errorf("account: got %d entries, want 2", got)
		}
		if want := map[string]tangle.Outcome{"old": tangle.Historic, "p1": tangle.Credited, "p2": tangle.Unmatched, "p3": tangle.Underpaid}; !maps.Equal(seen, want) {
			t.Errorf("observed: got %v, want %v", seen, want)
		}
		if h := s.Health(); h.Held != 1 || h.LedgerReads < 40 || h.LedgerFails != 0 || h.StoreFails != 0 || h.Waiting != 0 || h.LedgerError != nil || h.StoreError != nil || time.Since(h.LastSuccess) > time.Second {
			t.Errorf("Health: got %+v", h)
		}
		s.close(t)

		// The next process finds everything as it was, and settles what came meanwhile.
		n := s.again(t)
		n.ledger.Confirm(payment("old", fromJohn, 5000), payment("p1", fromJohn, 500), payment("p2", "", 500), payment("p3", fromJohn, 200), payment("p4", fromJohn, 300))
		n.open(t)
		time.Sleep(time.Second)
		n.want(t, "old", tangle.Historic)
		n.want(t, "p4", tangle.Credited)
		if got := len(n.store.Account("john", "live")); got != 3 {
			t.Errorf("account: got %d entries, want 3", got)
		}
		n.close(t)
	})
}

func TestWatcherFromStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.FromStart = true
		s.ledger.Confirm(payment("old", fromJohn, 500))
		s.open(t)
		time.Sleep(time.Second)
		s.want(t, "old", tangle.Credited)
		s.close(t)
	})
}

// TestWatcherFirstLook: as long as the ledger was not read as a whole, what comes
// is history; what comes between that and the store's first answer is not.
func TestWatcherFirstLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		var away atomic.Bool
		s.store.Fault = func(p tangletest.Point) error {
			if away.Load() {
				return errors.New("store is away")
			}
			return nil
		}
		s.ledger.Partial("JANE")
		s.ledger.Confirm(payment("old1", fromJohn, 500))
		s.ledger.Fail(errors.New("node is away"))
		s.open(t)
		time.Sleep(5 * time.Second)
		s.ledger.Confirm(payment("old2", fromJohn, 500))
		s.ledger.Partial()
		// The store goes away before it knows of the second one.
		away.Store(true)
		time.Sleep(time.Minute)
		s.ledger.Confirm(payment("new", fromJohn, 500))
		time.Sleep(time.Minute)
		if h := s.Health(); h.Waiting != 2 || h.StoreError == nil {
			t.Errorf("Health with the store away: got %+v", h)
		}
		away.Store(false)
		time.Sleep(time.Minute)
		s.want(t, "old1", tangle.Historic)
		s.want(t, "old2", tangle.Historic)
		s.want(t, "new", tangle.Credited)
		if h := s.Health(); h.Waiting != 0 || h.StoreError != nil {
			t.Errorf("Health with the store back: got %+v", h)
		}
		s.close(t)
	})
}

// TestWatcherHistoryOneFails: from no address do payments count before all its
// history is recorded, be it that one old payment alone cannot be.
func TestWatcherHistoryOneFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		poison := &poisonRecord{Store: s.store, id: "old2"}
		poison.bad.Store(true)
		s.Store = poison
		s.ledger.Confirm(payment("old1", fromJohn, 500), payment("old2", fromJohn, 500), payment("old3", fromJohn, 500))
		s.open(t)
		time.Sleep(time.Minute)
		s.ledger.Confirm(payment("new", fromJohn, 500))
		time.Sleep(time.Minute)
		s.want(t, "old3", tangle.Historic)
		poison.bad.Store(false)
		time.Sleep(time.Minute)
		s.want(t, "old2", tangle.Historic)
		s.want(t, "new", tangle.Credited)
		s.close(t)
	})
}

// poisonRecord fails to record one payment.
type poisonRecord struct {
	*tangletest.Store
	id  string
	bad atomic.Bool
}

func (s *poisonRecord) Record(ctx context.Context, p tangle.Payment, o tangle.Outcome) (bool, error) {
	if p.ID == s.id && s.bad.Load() {
		return false, errors.New("document is broken")
	}
	return s.Store.Record(ctx, p, o)
}

// TestWatcherPartialAddress: an address that cannot be read as a whole, since it
// is flooded, holds up no other one. That is how a seller gets away from it.
func TestWatcherPartialAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		o := live(t)
		o.Former = []string{"FLOODED"}
		s.Offers = newOffers(t, o)
		on := func(address, id string) tangle.Payment {
			p := payment(id, fromJohn, 500)
			p.Address = address
			return p
		}
		s.ledger.Partial("FLOODED")
		s.ledger.Confirm(on("JANE", "old"), on("FLOODED", "flooded"))
		s.open(t)
		time.Sleep(time.Second)
		s.want(t, "old", tangle.Historic)
		s.want(t, "flooded", tangle.Historic)
		if got := s.logged("cannot be read as a whole"); got != 0 {
			t.Errorf("the first look: got %d warnings, want none", got)
		}
		s.ledger.Confirm(on("JANE", "new"), on("FLOODED", "doubtful"))
		time.Sleep(time.Second)
		s.want(t, "new", tangle.Credited)
		s.want(t, "doubtful", tangle.Historic)
		if got := s.logged("cannot be read as a whole"); got != 1 {
			t.Errorf("got %d warnings, want one, about the payment that is not credited", got)
		}
		calls := s.store.Calls("Marks")
		time.Sleep(10 * time.Second)
		if got := s.store.Calls("Marks") - calls; got != 0 {
			t.Errorf("with nothing new the store was asked %d times in 10 s", got)
		}
		s.ledger.Partial()
		time.Sleep(time.Second)
		s.ledger.Confirm(on("FLOODED", "late"))
		time.Sleep(time.Second)
		s.want(t, "late", tangle.Credited)
		s.close(t)
	})
}

func TestWatcherRecheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		recheck := make(chan string, 1)
		s.Recheck = recheck
		s.open(t)
		time.Sleep(time.Second)
		s.ledger.Confirm(payment("p1", `{"username": "mary"}`, 500), payment("p2", `{"username": "anna"}`, 500))
		time.Sleep(5 * time.Second)
		s.want(t, "p1", tangle.Unmatched)
		s.store.AddUser("mary")
		recheck <- "mary"
		time.Sleep(100 * time.Millisecond)
		s.want(t, "p1", tangle.Credited)
		s.store.AddUser("anna") // and nobody tells
		time.Sleep(time.Minute + time.Second)
		s.want(t, "p2", tangle.Credited)
		s.ledger.Confirm(payment("p3", "", 500))
		time.Sleep(time.Second)
		held := s.Health().Held
		by := &tangle.Settler{Store: s.store, Offers: s.Offers}
		if _, err := by.Assign(t.Context(), payment("p3", "", 500), "john", "live", "jane"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute + time.Second)
		if now := s.Health().Held; held != 1 || now != 0 {
			t.Errorf("Held: got %d and, once it was assigned elsewhere, %d, want 1 and 0", held, now)
		}
		if got := s.logged("payment held"); got != 3 {
			t.Errorf("held payments were logged %d times, want each once", got)
		}
		if got := s.store.Calls("Hold"); got != 3 {
			t.Errorf("Hold was called %d times, want once for each", got)
		}
		close(recheck)
		time.Sleep(time.Second)
		before := s.ledger.Requests()
		time.Sleep(10 * time.Second)
		if got := s.ledger.Requests() - before; got < 39 || got > 41 {
			t.Errorf("after Recheck was closed: got %d looks in 10 s, want about 40", got)
		}
		s.close(t)
	})
}

// TestWatcherTwin: what another watcher recorded, and did not settle since it
// died, is settled soon.
func TestWatcherTwin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.open(t)
		time.Sleep(time.Second)
		p := payment("p1", fromJohn, 500)
		if _, err := s.store.Record(t.Context(), p, tangle.Settling); err != nil {
			t.Fatal(err)
		}
		s.ledger.Confirm(p)
		time.Sleep(2 * time.Second)
		s.want(t, "p1", tangle.Credited)
		s.close(t)
	})
}

func TestWatcherLedgerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.open(t)
		time.Sleep(time.Second)
		for range 1000 {
			s.ledger.Fail(errors.New("node is away"))
		}
		before := s.ledger.Requests()
		time.Sleep(10 * time.Minute)
		if got := s.ledger.Requests() - before; got < 55 || got > 75 {
			t.Errorf("got %d looks in ten minutes of failure, want about one in ten seconds", got)
		}
		if got := s.logged("ledger cannot be read"); got < 9 || got > 11 {
			t.Errorf("got %d lines in ten minutes of failure, want about one a minute", got)
		}
		h := s.Health()
		if h.LedgerError == nil || time.Since(h.LedgerSince) < 9*time.Minute || h.LedgerFails < 50 || h.LedgerFails >= h.LedgerReads {
			t.Errorf("Health: got %+v", h)
		}
		s.close(t)

		n := s.again(t)
		n.ledger = new(tangletest.Ledger)
		n.Ledger = n.ledger
		n.ledger.Fail(errors.New("node is away"))
		n.ledger.Confirm(payment("p1", fromJohn, 500))
		n.open(t)
		time.Sleep(time.Second)
		n.want(t, "p1", tangle.Credited)
		if n.logged("ledger cannot be read") != 1 || n.logged("ledger can be read again") != 1 {
			t.Errorf("got %d failures and %d recoveries logged, want one of each", n.logged("ledger cannot be read"), n.logged("ledger can be read again"))
		}
		n.close(t)
	})
}

// TestWatcherOneFails: a payment that cannot be stored does not hold up others.
func TestWatcherOneFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.open(t)
		time.Sleep(time.Second)
		s.store.AddUser("poison")
		poison := &poisonStore{Store: s.store}
		poison.bad.Store(true)
		s.close(t)
		n := s.again(t)
		n.Store = poison
		n.open(t)
		n.ledger.Confirm(payment("bad1", `{"username": "poison"}`, 500), payment("bad2", `{"username": "poison"}`, 500),
			payment("bad3", `{"username": "poison"}`, 500), payment("bad4", `{"username": "poison"}`, 500))
		for i := range 10 {
			n.ledger.Confirm(payment(fmt.Sprint("good", i), fromJohn, 500))
			time.Sleep(10 * time.Second)
		}
		for i := range 10 {
			n.want(t, fmt.Sprint("good", i), tangle.Credited)
		}
		poison.bad.Store(false)
		time.Sleep(time.Minute)
		for i := range 4 {
			n.want(t, fmt.Sprint("bad", i+1), tangle.Credited)
		}
		n.close(t)
	})
}

// poisonStore fails for one account.
type poisonStore struct {
	*tangletest.Store
	bad atomic.Bool
}

func (s *poisonStore) Last(ctx context.Context, subject, offer string) (tangle.Entry, error) {
	if subject == "poison" && s.bad.Load() {
		return tangle.Entry{}, errors.New("document is broken")
	}
	return s.Store.Last(ctx, subject, offer)
}

// TestWatcherCrashes kills the process at every point of a run that records
// history, writes the baseline, records, holds and settles; the next process
// makes it whole.
func TestWatcherCrashes(t *testing.T) {
	for stop := 0; ; stop++ {
		ended := false
		synctest.Test(t, func(t *testing.T) {
			s := newShop(t)
			var n atomic.Int64
			frozen := make(chan struct{})
			ctx := tangletest.WithFault(t.Context(), func(tangletest.Point) error {
				if n.Add(1) > int64(stop) {
					<-frozen // the process is gone: it never gets any further
					return context.Canceled
				}
				return nil
			})
			s.ledger.Confirm(payment("old", fromJohn, 500))
			s.openWith(ctx)
			time.Sleep(time.Second)
			after := n.Load() > int64(stop) // it died before it was ready to sell
			news := []tangle.Payment{payment("p1", fromJohn, 500), payment("p2", "", 500), payment("p3", fromJohn, 1250)}
			s.ledger.Confirm(news...)
			time.Sleep(time.Second)
			ended = n.Load() <= int64(stop)
			s.stop()
			close(frozen)
			<-s.ended

			next := newShop(t)
			next.store, next.Store = s.store, s.store
			next.ledger.Confirm(append([]tangle.Payment{payment("old", fromJohn, 500)}, news...)...)
			next.open(t)
			time.Sleep(time.Minute)
			next.close(t)
			if after {
				// It was not open yet: all of it may be history by now, but none is lost.
				if got := len(s.store.Payments()); got != 4 {
					t.Errorf("killed at %d: got %d payments in the book, want 4", stop, got)
				}
				return
			}
			next.want(t, "old", tangle.Historic)
			next.want(t, "p2", tangle.Unmatched)
			check(t, s.store, live(t), "john", map[string]int64{"p1": 500, "p3": 1250})
			if t.Failed() {
				t.Errorf("killed at point %d", stop)
			}
		})
		if t.Failed() {
			t.FailNow()
		}
		if ended {
			t.Logf("killed at %d points", stop)
			return
		}
	}
}

func TestWatcherIncomplete(t *testing.T) {
	s := newShop(t)
	s.Interval = 0
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "interval is 0s") {
		t.Errorf("Run: got %v", err)
	}
	if err := new(tangle.Watcher).Run(t.Context()); err == nil {
		t.Error("Run of an empty Watcher: got no error")
	}
}

// TestWatchersTogether runs two watchers on one store, where either may see a
// payment first.
func TestWatchersTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newShop(t), newShop(t)
		b.store, b.Store = a.store, a.store
		b.Interval = 170 * time.Millisecond
		a.open(t)
		b.open(t)
		time.Sleep(time.Second)
		paid := make(map[string]int64)
		for i := range 50 {
			p := payment(fmt.Sprint("p", i), fromJohn, int64(1+i*50))
			paid[p.ID] = p.Amount
			a.ledger.Confirm(p)
			b.ledger.Confirm(p)
			time.Sleep(30 * time.Millisecond)
		}
		time.Sleep(time.Second)
		a.close(t)
		b.close(t)
		check(t, a.store, live(t), "john", paid)
	})
}

// TestPace: an idle seller burdens nobody, and a buyer who is expected, or was just
// here, does not wait.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.Interval = 3 * time.Second
		s.open(t)
		defer s.close(t)
		// scans returns how many there are in a time.
		scans := func(d time.Duration) int64 {
			before := s.Health().LedgerReads
			time.Sleep(d)
			synctest.Wait()
			return s.Health().LedgerReads - before
		}
		expect := func(when string, got, want int64) {
			t.Helper()
			if got < want-1 || got > want+1 {
				t.Errorf("%s: got %d scans, want about %d", when, got, want)
			}
		}
		time.Sleep(time.Second)
		expect("idle", scans(time.Minute), 20)
		time.Sleep(time.Second) // into the middle of an interval
		s.Expect()
		synctest.Wait()
		if got := scans(time.Millisecond); got > 1 {
			t.Errorf("at once: got %d scans, want 1", got)
		}
		expect("a payment is expected", scans(2*time.Minute), 240)
		expect("nothing came", scans(time.Minute), 20)
		s.ledger.Confirm(payment("p1", fromJohn, 500))
		time.Sleep(3 * time.Second)
		expect("a payment was seen", scans(time.Minute), 120)
		time.Sleep(time.Minute)
		expect("nothing else came", scans(time.Minute), 20)
		for range 1000 {
			s.Expect()
			time.Sleep(time.Millisecond)
		}
		expect("many are expected", scans(time.Minute), 120)
	})
}
