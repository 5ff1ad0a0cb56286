package tangle_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// check holds the account of a subject against a model of ten lines: what was
// paid, each payment once, in whatever order, makes exactly so much time.
func check(t testing.TB, store *tangletest.Store, o tangle.Offer, subject string, paid map[string]int64) {
	t.Helper()
	total, bought := new(big.Int), new(big.Int)
	var end time.Time
	entries := store.Account(subject, o.ID)
	seen := make(map[string]bool)
	for i, g := range entries {
		if g.Seq != int64(i+1) || seen[g.Cause] || g.Kind == tangle.Paid && g.Amount != paid[g.Cause] {
			t.Errorf("%s: entry %d is %+v: want each payment once, with its amount, without gaps", subject, i+1, g)
		}
		seen[g.Cause] = true
		ms := g.NotAfter.Sub(g.NotBefore).Milliseconds()
		if ms > 0 && !g.NotBefore.Equal(latest(end, g.At)) {
			t.Errorf("%s: entry %d begins at %s, want the end before it, %s, or when it was written, %s", subject, i+1, g.NotBefore, end, g.At)
		}
		if ms > 0 {
			end = g.NotAfter
		} else if g.Kind == tangle.Revoked && end.After(g.At) {
			end = g.At
		}
		if !g.End.Equal(end) {
			t.Errorf("%s: entry %d ends the account at %s, want %s", subject, i+1, g.End, end)
		}
		if g.Kind != tangle.Paid {
			continue
		}
		total.Add(total, big.NewInt(g.Amount))
		bought.Add(bought, big.NewInt(ms))
		want := new(big.Int).Sub(total, big.NewInt(g.Credit))
		want.Mul(want, big.NewInt(o.Period.Milliseconds())).Div(want, big.NewInt(o.Price))
		if bought.Cmp(want) != 0 || g.Credit >= o.Price {
			t.Errorf("%s: %s ms after entry %d, want (%s - %d) × %d ÷ %d = %s", subject, bought, i+1, total, g.Credit, o.Period.Milliseconds(), o.Price, want)
		}
	}
	announced := make(map[int64]bool)
	for _, g := range store.Announced() {
		if g.Subject == subject && g.Offer == o.ID {
			announced[g.Seq] = true
		}
	}
	if len(announced) != len(entries) {
		t.Errorf("%s: followers were told of %d of %d entries", subject, len(announced), len(entries))
	}
	for id := range paid {
		if outcome, reason := store.Outcome(id); !seen[id] || outcome != tangle.Credited && outcome != tangle.Underpaid {
			t.Errorf("%s: payment %s is %s (%s), in the account: %t", subject, id, outcome, reason, seen[id])
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// actor does its work step by step: it stops before each call of the store, and
// after each write.
type actor struct {
	name string
	work func(context.Context, tangle.Store) error

	resume chan bool // true to go on, false to crash
	paused chan tangletest.Point
	ended  chan error
	done   bool
	steps  int
}

type crash struct{}

func (a *actor) start(store *tangletest.Store) {
	a.resume, a.paused, a.ended = make(chan bool), make(chan tangletest.Point), make(chan error)
	ctx := tangletest.WithFault(context.Background(), func(p tangletest.Point) error {
		a.paused <- p
		if !<-a.resume {
			panic(crash{})
		}
		return nil
	})
	go func() {
		defer func() {
			if p := recover(); p != nil {
				if _, ok := p.(crash); !ok {
					panic(p)
				}
				a.ended <- errCrashed
			}
		}()
		a.ended <- a.work(ctx, store)
	}()
	a.wait()
}

var errCrashed = errors.New("crashed")

// wait returns when the actor has stopped at a point, or ended.
func (a *actor) wait() {
	select {
	case <-a.paused:
	case err := <-a.ended:
		a.done = true
		if err != nil && !errors.Is(err, errCrashed) {
			panic(fmt.Sprintf("%s: %v", a.name, err))
		}
	}
}

// step lets the actor go on to its next point.
func (a *actor) step() {
	if !a.done {
		a.steps++
		a.resume <- true
		a.wait()
	}
}

func (a *actor) run(steps int) {
	for i := 0; (steps < 0 || i < steps) && !a.done; i++ {
		a.step()
	}
}

// crash ends the actor where it is; a new one takes its place.
func (a *actor) crash(store *tangletest.Store) {
	if !a.done {
		a.resume <- false
		a.wait()
		a.done = false
		a.start(store)
	}
}

// world is a store with payments, and a clock that jumps.
type world struct {
	store  *tangletest.Store
	offers *tangle.Offers
	offer  tangle.Offer
	now    func() time.Time
}

func newWorld(t testing.TB, payments ...tangle.Payment) *world {
	o := live(t)
	w := &world{store: new(tangletest.Store), offers: newOffers(t, o), offer: o, now: func() time.Time { return start }}
	for _, name := range []string{"john", "mary"} {
		w.store.AddUser(name)
	}
	for _, p := range payments {
		if _, err := w.store.Record(t.Context(), p, tangle.Settling); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// watcher settles payments in the given order.
func (w *world) watcher(name string, payments ...tangle.Payment) *actor {
	return &actor{name: name, work: func(ctx context.Context, store tangle.Store) error {
		s := &tangle.Settler{Store: store, Offers: w.offers, Now: w.now}
		for _, p := range payments {
			if _, err := s.Settle(ctx, p); err != nil {
				return err
			}
		}
		return nil
	}}
}

// TestPausedAnywhere pauses one watcher after each of its steps, lets a second
// one go each number of steps, and then wakes the first, which ends before the
// second; in turn, nobody, the first or the second is killed where it stands.
func TestPausedAnywhere(t *testing.T) {
	p1, p2, p3 := payment("p1", fromJohn, 700), payment("p2", fromJohn, 300), payment("p3", fromJohn, 1250)
	paid := map[string]int64{"p1": 700, "p2": 300, "p3": 1250}
	runs := 0
	for _, kill := range []string{"nobody", "first", "second"} {
		for pause := 0; ; pause++ {
			ended := false
			for second := 0; ; second++ {
				w := newWorld(t, p1, p2, p3)
				a, b := w.watcher("first", p1, p2, p3), w.watcher("second", p3, p1, p2)
				a.start(w.store)
				a.run(pause)
				ended = a.done
				b.start(w.store)
				b.run(second)
				over := b.done
				switch kill {
				case "first":
					a.crash(w.store)
				case "second":
					b.crash(w.store)
				}
				a.run(-1)
				b.run(-1)
				check(t, w.store, w.offer, "john", paid)
				runs++
				if t.Failed() {
					t.Fatalf("kill %s, pause after %d, second goes %d steps", kill, pause, second)
				}
				if over {
					break
				}
			}
			if ended {
				break
			}
		}
	}
	t.Logf("%d interleavings", runs)
}

// TestRandomHistories lets two watchers and the seller act on two accounts, in
// random order of steps, with crashes at any point, each payment settled several
// times, and a clock that jumps back and forth by days.
func TestRandomHistories(t *testing.T) {
	const histories = 1500
	for seed := range uint64(histories) {
		r := rand.New(rand.NewPCG(seed, 7))
		paid := map[string]map[string]int64{"john": {}, "mary": {}}
		var payments []tangle.Payment
		for i := range 2 + r.IntN(5) {
			subject := []string{"john", "mary"}[r.IntN(2)]
			p := payment(fmt.Sprintf("p%d", i), fmt.Sprintf(`{"username": %q}`, subject), 1+r.Int64N(1500))
			paid[subject][p.ID] = p.Amount
			payments = append(payments, p)
		}
		w := newWorld(t, payments...)
		now := start
		w.now = func() time.Time { return now }
		shuffled := func() []tangle.Payment {
			all := slices.Concat(payments, payments)
			r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			return all[:len(payments)+r.IntN(len(payments))]
		}
		gift, end := tangle.NewCause(), tangle.NewCause()
		seller := &actor{name: "seller", work: func(ctx context.Context, store tangle.Store) error {
			s := &tangle.Settler{Store: store, Offers: w.offers, Now: w.now}
			if _, err := s.Grant(ctx, "john", "live", time.Hour, "gift", gift); err != nil {
				return err
			}
			if _, err := s.Revoke(ctx, "mary", "live", "abuse", end); err != nil && !errors.Is(err, tangle.ErrNothing) {
				return err
			}
			return nil
		}}
		actors := []*actor{w.watcher("first", shuffled()...), w.watcher("second", shuffled()...), seller}
		for _, a := range actors {
			a.start(w.store)
		}
		crashes := r.IntN(6)
		for {
			live := slices.DeleteFunc(slices.Clone(actors), func(a *actor) bool { return a.done })
			if len(live) == 0 {
				break
			}
			a := live[r.IntN(len(live))]
			switch {
			case crashes > 0 && r.IntN(12) == 0:
				crashes--
				a.crash(w.store)
			case r.IntN(20) == 0:
				now = now.Add(time.Duration(r.Int64N(int64(144*time.Hour))) - 72*time.Hour)
			default:
				a.run(1 + r.IntN(4))
			}
		}
		// What no watcher got to is settled at the next start.
		last := w.watcher("last", payments...)
		last.start(w.store)
		last.run(-1)
		for subject, of := range paid {
			check(t, w.store, w.offer, subject, of)
		}
		gifts := 0
		for _, g := range w.store.Account("john", "live") {
			if g.Kind == tangle.Manual {
				gifts++
			}
		}
		if gifts != 1 {
			t.Errorf("john: got %d gifts, want 1", gifts)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d histories", histories)
}

// TestKilledAtEveryWrite kills a watcher after each write of settling, once, and
// starts it again.
func TestKilledAtEveryWrite(t *testing.T) {
	p1, p2 := payment("p1", fromJohn, 200), payment("p2", fromJohn, 1050)
	for stop := 0; ; stop++ {
		w := newWorld(t, p1, p2)
		a := w.watcher("watcher", p1, p2)
		a.start(w.store)
		a.run(stop)
		if a.done {
			t.Logf("%d points", stop)
			return
		}
		a.crash(w.store)
		a.run(-1)
		check(t, w.store, w.offer, "john", map[string]int64{"p1": 200, "p2": 1050})
	}
}

// TestTogether settles the same payments in many goroutines at once.
func TestTogether(t *testing.T) {
	var payments []tangle.Payment
	paid := make(map[string]int64)
	for i := range 40 {
		p := payment(fmt.Sprintf("p%d", i), fromJohn, int64(100+37*i))
		payments = append(payments, p)
		paid[p.ID] = p.Amount
	}
	w := newWorld(t, payments...)
	w.store.Fault = func(tangletest.Point) error { runtime.Gosched(); return nil }
	fails := make(chan error)
	for i := range 8 {
		go func() {
			s := &tangle.Settler{Store: w.store, Offers: w.offers, Now: w.now}
			mine := slices.Clone(payments)
			slices.SortFunc(mine, func(a, b tangle.Payment) int {
				return cmp.Compare(strings.ToUpper(a.ID)[i%2:], strings.ToUpper(b.ID)[i%2:]) * (1 - i%3)
			})
			for _, p := range mine {
				if _, err := s.Settle(context.Background(), p); err != nil {
					fails <- err
					return
				}
			}
			fails <- nil
		}()
	}
	for range 8 {
		if err := <-fails; err != nil {
			t.Error(err)
		}
	}
	check(t, w.store, w.offer, "john", paid)
}
