package tangle_test

import (
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// TestWatcherMarks: a ledger that cuts is read on from its mark, which is stored
// only once every payment before it is recorded, and survives a restart.
func TestWatcherMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		address := live(t).Address
		at := func(position int64) map[string]tangle.Mark {
			return map[string]tangle.Mark{address: {Chain: "c1", Position: position}}
		}
		stored := func() map[string]tangle.Mark {
			marks, err := s.store.Marks(t.Context(), "test")
			if err != nil {
				t.Fatal(err)
			}
			return marks
		}
		s.ledger.Marks(at(100))
		s.open(t)
		time.Sleep(time.Second)
		if got := stored(); !maps.Equal(got, at(100)) {
			t.Errorf("marks after the first look: got %v, want %v", got, at(100))
		}
		if got := s.ledger.From(); !maps.Equal(got, at(100)) {
			t.Errorf("read on from %v, want %v", got, at(100))
		}

		// A payment that cannot be recorded keeps the stored mark where it was.
		s.store.Fault = func(p tangletest.Point) error {
			if p.Op == "Record" && !p.After {
				return errors.New("disk full")
			}
			return nil
		}
		p := payment("p1", `{"username": "john"}`, 500)
		p.Position = 150
		s.ledger.Confirm(p)
		s.ledger.Marks(at(200))
		time.Sleep(3 * time.Minute)
		if got := stored(); !maps.Equal(got, at(100)) {
			t.Errorf("marks over an unrecorded payment: got %v, want %v", got, at(100))
		}
		s.close(t)

		s.store.Fault = nil
		s = s.again(t)
		s.open(t)
		time.Sleep(10 * time.Millisecond)
		if got := s.ledger.From(); !maps.Equal(got, at(100)) {
			t.Errorf("after the restart read on from %v, want %v", got, at(100))
		}
		s.ledger.Confirm(p)
		time.Sleep(2 * time.Minute)
		s.want(t, "p1", tangle.Credited)
		if got := stored(); !maps.Equal(got, at(200)) {
			t.Errorf("marks once all is recorded: got %v, want %v", got, at(200))
		}
		s.close(t)
	})
}

// TestWatcherMarksFromStart: with FromStart an address that is new is read from
// the beginning.
func TestWatcherMarksFromStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.FromStart = true
		s.open(t)
		time.Sleep(10 * time.Millisecond)
		want := map[string]tangle.Mark{live(t).Address: {}}
		if got := s.ledger.From(); !maps.Equal(got, want) {
			t.Errorf("read from %v, want %v", got, want)
		}
		s.close(t)
	})
}

// TestWatchersOfTwoLedgers: payments of another ledger in the same store are
// none of a watcher's business.
func TestWatchersOfTwoLedgers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		other := payment("o1", `{"username": "john"}`, 500)
		other.Ledger = "other"
		if _, err := s.store.Record(t.Context(), other, tangle.Settling); err != nil {
			t.Fatal(err)
		}
		s.open(t)
		time.Sleep(3 * time.Minute)
		s.want(t, "o1", tangle.Settling)
		s.close(t)
	})
}
