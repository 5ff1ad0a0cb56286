package tangle_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// dust is a payment that is too small to count.
func dust(i int, position int64, when time.Time) tangle.Payment {
	p := at(payment(fmt.Sprint("d", i), fromJohn, 1), when)
	p.Position = position
	return p
}

// dusty returns a shop whose ledger orders totally and has a dust limit.
func dusty(t testing.TB) *shop {
	s := newShop(t)
	s.ledger.Dust = 100
	return s
}

func marks(position int64) map[string]tangle.Mark {
	return map[string]tangle.Mark{"JANE": {Chain: "c1", Position: position}}
}

// TestWatcherDust: a flood of payments that are too small delays no real one, is
// booked as few sums, by day, and none is booked twice when it is read again.
func TestWatcherDust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dusty(t)
		s.ledger.Marks(marks(10))
		s.open(t)
		time.Sleep(time.Second)
		const flood = 10_000
		midnight := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
		var all []tangle.Payment
		for i := range flood {
			day := midnight.Add(-time.Hour)
			if i >= flood/4 {
				day = midnight.Add(time.Hour)
			}
			all = append(all, dust(i, 100+int64(i)/10, day))
		}
		real := payment("p1", fromJohn, 500)
		real.Position = 700
		s.ledger.Confirm(all[:flood/2]...)
		s.ledger.Confirm(real)
		s.ledger.Confirm(all[flood/2:]...)
		s.ledger.Marks(marks(5000))
		writes := s.store.Calls("Record") + s.store.Calls("AddDust")
		time.Sleep(time.Second)
		s.want(t, "p1", tangle.Credited)
		time.Sleep(2 * time.Minute)
		if got := s.store.Calls("Record") + s.store.Calls("AddDust") - writes; got > 5 {
			t.Errorf("the flood cost %d writes, want a handful", got)
		}
		s.close(t)

		// Everything is returned again to the next process, as after a crash before
		// the mark was stored.
		n := s.again(t)
		n.ledger.Confirm(all...)
		n.ledger.Confirm(dust(flood, 6000, midnight.Add(2*time.Hour)))
		n.ledger.Marks(marks(7000))
		n.open(t)
		time.Sleep(2 * time.Minute)
		n.close(t)
		sums := make(map[time.Time][2]int64)
		for _, d := range n.store.Dust("test", "JANE", "c1") {
			sums[d.Day] = [2]int64{sums[d.Day][0] + d.Count, sums[d.Day][1] + d.Sum}
		}
		today, tomorrow := midnight.Add(-24*time.Hour), midnight
		if len(sums) != 2 || sums[today] != [2]int64{flood / 4, flood / 4} || sums[tomorrow] != [2]int64{flood - flood/4 + 1, flood - flood/4 + 1} {
			t.Errorf("got %v, want %d today and %d tomorrow", sums, flood/4, flood-flood/4+1)
		}
	})
}

// TestWatcherDustCrashes: whatever a watcher returns again, however far it came
// before it died, and though two of them write, each payment is in one sum.
func TestWatcherDustCrashes(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			store := new(tangletest.Store)
			var dying atomic.Bool
			store.Fault = func(p tangletest.Point) error {
				if dying.Load() && p.Op == "SetMark" && !p.After {
					return errors.New("dying")
				}
				return nil
			}
			var all []tangle.Payment
			for i := range 60 {
				all = append(all, dust(i, 20+int64(i)/3, time.Now().Add(time.Duration(i)*time.Hour)))
			}
			shops := make([]*shop, 2)
			read := []int{0, 0} // how many of all each has been given
			start := func(i int) {
				s := dusty(t)
				s.store, s.Store = store, store
				s.ledger.Marks(marks(10))
				s.FromStart = true
				shops[i] = s
				// Read on from the mark in the store.
				stored, err := store.Marks(t.Context(), "test")
				if err != nil {
					t.Fatal(err)
				}
				from := stored["JANE"].Position
				for read[i] = 0; read[i] < len(all) && all[read[i]].Position <= from; read[i]++ {
				}
				s.openWith(t.Context())
			}
			start(0)
			start(1)
			for range 40 {
				i := r.IntN(2)
				switch r.IntN(5) {
				case 0: // it dies before or after it could store anything
					dying.Store(r.IntN(2) == 0)
					time.Sleep(time.Duration(r.IntN(90)) * time.Second)
					shops[i].close(t)
					dying.Store(false)
					start(i)
				default:
					to := min(len(all), read[i]+3*r.IntN(6))
					shops[i].ledger.Confirm(all[read[i]:to]...)
					if read[i] = to; to > 0 {
						shops[i].ledger.Marks(marks(all[to-1].Position))
					}
					time.Sleep(time.Duration(r.IntN(70)) * time.Second)
				}
			}
			for i := range shops {
				shops[i].ledger.Confirm(all[read[i]:]...)
				shops[i].ledger.Marks(marks(1000))
			}
			time.Sleep(3 * time.Minute)
			shops[0].close(t)
			shops[1].close(t)
			var count, sum, to int64
			for i, d := range store.Dust("test", "JANE", "c1") {
				if d.Seq != int64(i+1) || d.To <= to {
					t.Errorf("sum %d: got %+v after position %d", i, d, to)
				}
				count, sum, to = count+d.Count, sum+d.Sum, d.To
			}
			if count != int64(len(all)) || sum != count {
				t.Errorf("seed %d: got %d payments worth %d, want %d", seed, count, sum, len(all))
			}
		})
		if t.Failed() {
			t.FailNow()
		}
	}
}
