package tangle_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// ledgerOf holds every account against a model: what is in it follows from its
// entries alone, each payment counts in one place at most, and nothing that one
// holder of a name bought opens anything for the next.
func ledgerOf(t testing.TB, store *tangletest.Store, o tangle.Offer, payments []tangle.Payment, names ...string) {
	t.Helper()
	type state struct {
		total, bought *big.Int // of this holder, credited or kept as credit
		credit        int64
		end           time.Time
	}
	counted := make(map[string]int) // by payment: entries that stand
	for _, name := range names {
		none := state{total: new(big.Int), bought: new(big.Int)}
		states := []state{none}
		life := int64(0)
		entries := store.Account(name, o.ID)
		for i, g := range entries {
			s := states[i]
			ms := g.NotAfter.Sub(g.NotBefore).Milliseconds()
			switch g.Kind {
			case tangle.Paid:
				counted[g.Payment]++
				s.total = new(big.Int).Add(s.total, big.NewInt(g.Amount))
				s.bought = new(big.Int).Add(s.bought, big.NewInt(ms))
				s.credit = g.Credit
				want := new(big.Int).Sub(s.total, big.NewInt(g.Credit))
				want.Mul(want, big.NewInt(o.Period.Milliseconds())).Div(want, big.NewInt(o.Price))
				if want.Cmp(s.bought) != 0 || g.Credit >= o.Price {
					t.Errorf("%s: %s ms after entry %+v, want %s", name, s.bought, g, want)
				}
			case tangle.Closed:
				life++
				end := s.end
				s = none
				if s.end = end; end.After(g.At) {
					s.end = g.At
				}
				for _, old := range entries[:i] {
					if by, ok := store.RevokedBy(name, o.ID, old.Seq); old.NotAfter.After(g.At) && old.NotAfter.After(old.NotBefore) && (!ok || by.At.After(g.At)) {
						t.Errorf("%s: entry %d opens until %s, the account was closed at %s", name, old.Seq, old.NotAfter, g.At)
					}
				}
			case tangle.Released:
				if g.Undoes > 0 {
					undone := entries[g.Undoes-1]
					if g.Undoes != g.Seq-1 || undone.Payment != g.Payment || ms != 0 || undone.Outcome() == tangle.Credited && !undone.NotBefore.After(g.At) {
						t.Errorf("%s: entry %+v takes back %+v", name, g, undone)
					}
					counted[g.Payment]--
					s = states[i-1]
				}
			}
			if ms > 0 {
				if !g.NotBefore.Equal(latest(s.end, g.At)) {
					t.Errorf("%s: entry %d begins at %s, want the latest of %s and %s", name, g.Seq, g.NotBefore, s.end, g.At)
				}
				s.end = g.NotAfter
			}
			if g.Seq != int64(i+1) || g.Credit != s.credit || !g.End.Equal(s.end) || g.Life != life {
				t.Errorf("%s: entry %d is %+v, want credit %d, end %s, life %d", name, i+1, g, s.credit, s.end, life)
			}
			states = append(states, s)
		}
	}
	for _, p := range payments {
		outcome, reason := store.Outcome(p.ID)
		want := 0
		if outcome == tangle.Credited || outcome == tangle.Underpaid {
			want = 1
		}
		if counted[p.ID] != want || outcome == tangle.Settling {
			t.Errorf("payment %s is %s (%s) and counts %d times; decisions: %+v", p.ID, outcome, reason, counted[p.ID], store.Decisions(p.ID))
		}
		for _, d := range store.Decisions(p.ID) {
			if d.Verdict != tangle.AssignedTo {
				continue
			}
			for _, g := range store.Account(d.Subject, d.Offer) {
				if g.Cause != d.Cause() || g.Kind != tangle.Paid {
					continue
				}
				if g.Life != d.Life || (d.By == "message" || d.By == "sign-up") && p.Final.Before(g.Born) {
					t.Errorf("payment %s of %s was decided by %s for holder %d of %s and went to holder %d, since %s", p.ID, p.Final, d.By, d.Life, d.Subject, g.Life, g.Born)
				}
			}
		}
	}
}

// TestRandomLives lets two watchers, a seller who takes back, assigns, dismisses
// and refunds, and another one who removes and creates users act on two accounts,
// in random order of steps and with crashes at any point.
func TestRandomLives(t *testing.T) {
	const histories = 3000
	outcomes := make(map[tangle.Outcome]int)
	for seed := range uint64(histories) {
		r := rand.New(rand.NewPCG(seed, 11))
		now := start
		var payments []tangle.Payment
		for i := range 2 + r.IntN(4) {
			name := []string{"john", "john", "mary"}[r.IntN(3)]
			p := payment(fmt.Sprintf("p%d", i), fmt.Sprintf(`{"username": %q}`, name), 1+r.Int64N(1500))
			payments = append(payments, at(p, start.Add(time.Duration(r.IntN(7200))*time.Second)))
		}
		w := newWorld(t, payments...)
		w.now = func() time.Time { return now }
		settler := func(store tangle.Store) *tangle.Settler {
			return &tangle.Settler{Store: store, Offers: w.offers, Now: w.now}
		}
		if err := settler(w.store).RecordTerms(t.Context()); err != nil {
			t.Fatal(err)
		}
		shuffled := func() []tangle.Payment {
			all := slices.Concat(payments, payments)
			r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			return all
		}
		gone := r.IntN(2) == 0            // nobody gets the name after the last one
		waits := make([]int, 1+r.IntN(2)) // steps that each holder of the name has
		for i := range waits {
			waits[i] = r.IntN(30)
		}
		remover := &actor{name: "remover", work: func(ctx context.Context, store tangle.Store) error {
			for i, steps := range waits {
				for range steps {
					if _, err := store.UserState(ctx, "john"); err != nil {
						return err
					}
				}
				w.store.SetUser("john", tangle.UserDisabled)
				if err := settler(store).Close(ctx, "john", "removed"); err != nil {
					return err
				}
				w.store.SetUser("john", tangle.UserUnknown)
				if gone && i == len(waits)-1 {
					break
				}
				w.store.SetUser("john", tangle.UserReady)
			}
			return nil
		}}
		type act struct {
			what int
			p    tangle.Payment
		}
		var acts []act
		for range 1 + r.IntN(4) {
			acts = append(acts, act{r.IntN(4), payments[r.IntN(len(payments))]})
		}
		refusals := []error{tangle.ErrConsumed, tangle.ErrFree, tangle.ErrRefunded, tangle.ErrAssigned, tangle.ErrUser, tangle.ErrNoUser}
		seller := &actor{name: "seller", work: func(ctx context.Context, store tangle.Store) error {
			for _, a := range acts {
				var err error
				switch a.what {
				case 0:
					_, err = settler(store).Release(ctx, a.p, "jane", "typo")
				case 1:
					_, err = settler(store).Assign(ctx, a.p, "mary", "live", "jane")
				case 2:
					_, err = settler(store).Dismiss(ctx, a.p, "jane", "spam")
				case 3:
					_, err = settler(store).Refund(ctx, a.p, "jane", "TX")
				}
				if err != nil && !slices.ContainsFunc(refusals, func(refusal error) bool { return errors.Is(err, refusal) }) && !tangle.IsDecided(err) {
					return err
				}
			}
			return nil
		}}
		actors := []*actor{w.watcher("first", shuffled()...), w.watcher("second", shuffled()...), seller, remover}
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
			case crashes > 0 && r.IntN(15) == 0:
				crashes--
				a.crash(w.store)
			case r.IntN(10) == 0:
				now = now.Add(time.Duration(r.IntN(3600)) * time.Second)
			default:
				a.run(1 + r.IntN(5))
			}
		}
		last := w.watcher("last", payments...)
		last.start(w.store)
		last.run(-1)
		ledgerOf(t, w.store, w.offer, payments, "john", "mary")
		if account := w.store.Account("john", "live"); gone && account[len(account)-1].Kind == tangle.Paid {
			t.Errorf("john was removed, and then got %+v", account[len(account)-1])
		}
		for _, p := range payments {
			outcome, _ := w.store.Outcome(p.ID)
			outcomes[outcome]++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d histories: %v", histories, outcomes)
}
