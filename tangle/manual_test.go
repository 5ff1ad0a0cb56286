package tangle_test

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/tangle"
)

// TestUserStates: a payment for a user who cannot use it is held, and settles
// once that changes.
func TestUserStates(t *testing.T) {
	for state, want := range map[tangle.UserState]string{
		tangle.UserDisabled: `user "john" is disabled`,
		tangle.UserUnusable: `user "john" cannot log in`,
		tangle.UserUnknown:  `there is no user "john"`,
	} {
		s := newTill(t)
		s.store.SetUser("john", state)
		r := s.pay(t, payment("p1", fromJohn, 500))
		if r.Outcome != tangle.Unmatched || !strings.Contains(r.Reason, want) || r.Waits != "john" {
			t.Errorf("%s: got %+v, want it held for %q", state, r, want)
		}
		if _, err := s.Assign(t.Context(), payment("p1", fromJohn, 500), "john", "live", "jane"); !errors.Is(err, tangle.ErrUser) && !errors.Is(err, tangle.ErrNoUser) {
			t.Errorf("%s: assign: got %v", state, err)
		}
		if _, err := s.Grant(t.Context(), "john", "live", time.Hour, "gift", tangle.NewCause()); !errors.Is(err, tangle.ErrUser) && !errors.Is(err, tangle.ErrNoUser) {
			t.Errorf("%s: grant: got %v", state, err)
		}
		s.now = s.now.Add(24 * time.Hour)
		s.store.AddUser("john")
		if r := s.pay(t, payment("p1", fromJohn, 500)); r.Outcome != tangle.Credited || !r.Entry.NotBefore.Equal(s.now) {
			t.Errorf("%s, then ready: got %+v, want an hour from %s", state, r, s.now)
		}
	}
}

// at is a payment that was made at an instant.
func at(p tangle.Payment, when time.Time) tangle.Payment {
	p.Final, p.Seen, p.Confirmed = when, when, when
	return p
}

// remove does what removing a user does.
func (s *till) remove(t testing.TB, name string) {
	t.Helper()
	s.store.SetUser(name, tangle.UserDisabled)
	if err := s.Close(t.Context(), name, "removed"); err != nil {
		t.Fatal(err)
	}
	s.store.SetUser(name, tangle.UserUnknown)
}

// TestLifetime: a name that is given to somebody else starts with nothing.
func TestLifetime(t *testing.T) {
	s := newTill(t)
	s.pay(t, at(payment("p1", fromJohn, 1250), start))
	s.now = start.Add(time.Minute)
	s.pay(t, at(payment("p2", fromJohn, 200), s.now))
	s.now = start.Add(time.Hour)
	early := at(payment("p3", fromJohn, 500), s.now)
	s.now = s.now.Add(time.Second)
	s.remove(t, "john")
	closed := s.store.Account("john", "live")[2]
	if closed.Kind != tangle.Closed || closed.Credit != 0 || closed.Remainder != 0 || !closed.End.Equal(s.now) || closed.Life != 1 || closed.Reason != "removed" {
		t.Errorf("closed: got %+v, want no time and no credit", closed)
	}
	if by, ok := s.store.RevokedBy("john", "live", 1); !ok || by.Seq != 3 {
		t.Errorf("the hour that was left opens on: revoked by %+v, %t", by, ok)
	}

	s.now = s.now.Add(time.Hour)
	s.store.AddUser("john")
	// What the first John paid and nobody has settled is not the second's.
	if r := s.pay(t, early); r.Outcome != tangle.Unmatched || !strings.Contains(r.Reason, "removed after it was paid") {
		t.Errorf("a payment of the first holder: got %+v", r)
	}
	if r := s.pay(t, at(payment("p4", fromJohn, 500), s.now)); r.Outcome != tangle.Credited || !r.Entry.NotBefore.Equal(s.now) || !r.Entry.NotAfter.Equal(s.now.Add(time.Hour)) || r.Entry.Life != 1 {
		t.Errorf("a payment of the second holder: got %+v, want one hour from now", r)
	}
	// The seller may say otherwise.
	if r, err := s.Assign(t.Context(), early, "john", "live", "jane"); err != nil || r.Outcome != tangle.Credited {
		t.Errorf("assigned to the second holder: got %+v, %v", r, err)
	}
}

// TestLifetimeAssigned: what was assigned to the first holder of a name and not
// entered yet is held, until the seller says that the second one is meant.
func TestLifetimeAssigned(t *testing.T) {
	s := newTill(t)
	p := at(payment("p1", fromJohn, 500), start)
	if _, err := s.store.Record(t.Context(), p, tangle.Settling); err != nil {
		t.Fatal(err)
	}
	d := tangle.Decision{Payment: "p1", Seq: 1, Verdict: tangle.AssignedTo, Subject: "john", Offer: "live", By: "message", At: start}
	if _, err := s.store.Decide(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := s.RecordTerms(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.remove(t, "john")
	s.now = s.now.Add(time.Hour)
	s.store.AddUser("john")
	if r := s.pay(t, p); r.Outcome != tangle.Unmatched || !strings.Contains(r.Reason, "removed since") {
		t.Errorf("settled: got %+v, want it held", r)
	}
	for i, want := range []tangle.Outcome{tangle.Credited, tangle.Replayed} {
		if r, err := s.Assign(t.Context(), p, "john", "live", "jane"); err != nil || r.Outcome != want || r.Entry.Life != 1 {
			t.Errorf("assigned, time %d: got %+v, %v, want %s", i, r, err, want)
		}
	}
	if r := s.pay(t, p); r.Outcome != tangle.Replayed {
		t.Errorf("settled again: got %+v", r)
	}
}

// TestRelease: an assignment can be taken back while nothing of it was used.
func TestRelease(t *testing.T) {
	s := newTill(t)
	ctx := t.Context()
	s.store.AddUser("mary")
	credit, hour, more := payment("p1", fromJohn, 200), payment("p2", fromJohn, 500), payment("p3", fromJohn, 700)
	s.pay(t, credit)
	if _, err := s.Release(ctx, payment("p9", "", 1), "jane", "typo"); !errors.Is(err, tangle.ErrFree) {
		t.Errorf("release what is nobody's: got %v", err)
	}
	for range 2 {
		d, err := s.Release(ctx, credit, "jane", "typo")
		if err != nil || d.Verdict != tangle.TakenBack || d.Seq != 2 {
			t.Fatalf("release credit: got %+v, %v", d, err)
		}
	}
	if outcome, reason := s.store.Outcome("p1"); outcome != tangle.Unmatched || !strings.Contains(reason, "taken back: typo") {
		t.Errorf("released: the book says %s, %q", outcome, reason)
	}
	if r := s.pay(t, credit); r.Outcome != tangle.Unmatched {
		t.Errorf("the message assigns it again: got %+v", r)
	}
	if r, err := s.Assign(ctx, credit, "mary", "live", "jane"); err != nil || r.Outcome != tangle.Underpaid || r.Entry.Credit != 200 || r.Entry.Cause == "p1" {
		t.Errorf("assigned to mary: got %+v, %v", r, err)
	}

	s.pay(t, hour) // begins now
	if _, err := s.Release(ctx, hour, "jane", "typo"); !errors.Is(err, tangle.ErrConsumed) {
		t.Errorf("release an hour that has begun: got %v", err)
	}
	if r := s.pay(t, more); r.Entry.NotAfter.Sub(r.Entry.NotBefore) != 84*time.Minute {
		t.Fatalf("700 at 500: got %+v", r)
	}
	if _, err := s.Release(ctx, hour, "jane", "typo"); !errors.Is(err, tangle.ErrConsumed) {
		t.Errorf("release what another entry follows: got %v", err)
	}
	if _, err := s.Release(ctx, more, "jane", "typo"); err != nil {
		t.Errorf("release time that has not begun: got %v", err)
	}
	account := s.store.Account("john", "live")
	end := account[len(account)-1]
	if end.Kind != tangle.Released || end.Undoes != end.Seq-1 || !end.End.Equal(start.Add(time.Hour)) || end.Credit != 0 {
		t.Errorf("released: got %+v, want the account as it was before", end)
	}
	if by, ok := s.store.RevokedBy("john", "live", end.Seq-1); !ok || by.Seq != end.Seq {
		t.Errorf("released: the entry opens on, revoked by %+v, %t", by, ok)
	}
	if _, ok := s.store.RevokedBy("john", "live", end.Seq-2); ok {
		t.Error("released: the entry before is cut too")
	}
}

// TestReleaseHeld: what is assigned and not entered can be taken back, and never
// gets into the account afterwards.
func TestReleaseHeld(t *testing.T) {
	s := newTill(t)
	p := payment("p1", fromJohn, 500)
	s.pay(t, payment("p0", fromJohn, 100))
	d := tangle.Decision{Payment: "p1", Seq: 1, Verdict: tangle.AssignedTo, Subject: "john", Offer: "live", By: "message", At: start}
	if _, err := s.store.Record(t.Context(), p, tangle.Settling); err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Decide(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Release(t.Context(), p, "jane", "typo"); err != nil {
		t.Fatal(err)
	}
	if r := s.pay(t, p); r.Outcome != tangle.Unmatched {
		t.Errorf("got %+v", r)
	}
	last := s.store.Account("john", "live")
	if g := last[len(last)-1]; g.Kind != tangle.Released || g.Undoes != 0 || g.Credit != 100 {
		t.Errorf("account: got %+v, want it as it was", g)
	}
	if r, err := s.Assign(t.Context(), p, "john", "live", "jane"); err != nil || r.Outcome != tangle.Credited {
		t.Errorf("assigned again: got %+v, %v", r, err)
	}
}

func TestDismissAndRefund(t *testing.T) {
	s := newTill(t)
	ctx := t.Context()
	p := payment("p1", "", 500)
	s.pay(t, p)
	for range 2 {
		if d, err := s.Dismiss(ctx, p, "jane", "spam"); err != nil || d.Verdict != tangle.SetAside || d.Seq != 1 || d.Reason != "spam" {
			t.Errorf("dismiss: got %+v, %v", d, err)
		}
	}
	if r := s.pay(t, p); r.Outcome != tangle.Dismissed {
		t.Errorf("read again: got %+v, want %s", r, tangle.Dismissed)
	}
	if left, err := s.store.Pending(ctx, "test"); err != nil || len(left) != 0 {
		t.Errorf("pending: got %v, %v", left, err)
	}
	if r, err := s.Assign(ctx, p, "john", "live", "jane"); err != nil || r.Outcome != tangle.Credited {
		t.Errorf("assign what is dismissed: got %+v, %v", r, err)
	}
	for _, refuse := range []func() error{
		func() error { _, err := s.Dismiss(ctx, p, "jane", "spam"); return err },
		func() error { _, err := s.Refund(ctx, p, "jane", "TX"); return err },
	} {
		if err := refuse(); !errors.Is(err, tangle.ErrConsumed) {
			t.Errorf("what is in use: got %v", err)
		}
	}

	q := payment("q1", fromJohn, 200)
	s.pay(t, q) // credit
	for range 2 {
		if d, err := s.Refund(ctx, q, "jane", "TX"); err != nil || d.Verdict != tangle.PaidBack || d.Reason != "TX" {
			t.Errorf("refund: got %+v, %v", d, err)
		}
	}
	account := s.store.Account("john", "live")
	if g := account[len(account)-1]; g.Credit != 0 {
		t.Errorf("refunded: got a credit of %d in the account, want 0", g.Credit)
	}
	if r := s.pay(t, q); r.Outcome != tangle.Refunded {
		t.Errorf("read again: got %+v", r)
	}
	if _, err := s.Dismiss(ctx, q, "jane", "spam"); !errors.Is(err, tangle.ErrRefunded) {
		t.Errorf("dismiss what is refunded: got %v", err)
	}
	if _, err := s.Assign(ctx, q, "john", "live", "jane"); !errors.Is(err, tangle.ErrRefunded) {
		t.Errorf("assign what is refunded: got %v", err)
	}
	d := payment("d1", "", 200)
	s.pay(t, d)
	if _, err := s.Dismiss(ctx, d, "jane", "later"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Refund(ctx, d, "jane", "TX2"); err != nil {
		t.Errorf("refund what is dismissed: got %v", err)
	}
}

func TestRestore(t *testing.T) {
	s := newTill(t)
	ctx := t.Context()
	if _, err := s.Restore(ctx, "john", "live", "sorry"); !errors.Is(err, tangle.ErrNothing) {
		t.Errorf("restore nothing: got %v", err)
	}
	s.pay(t, payment("p1", fromJohn, 1000))
	if _, err := s.Restore(ctx, "john", "live", "sorry"); !errors.Is(err, tangle.ErrNothing) {
		t.Errorf("restore what was not revoked: got %v", err)
	}
	s.now = start.Add(30 * time.Minute)
	if _, err := s.Revoke(ctx, "john", "live", "mistake", tangle.NewCause()); err != nil {
		t.Fatal(err)
	}
	s.now = start.Add(10 * time.Hour)
	s.pay(t, payment("p2", fromJohn, 500))
	for range 2 {
		g, err := s.Restore(ctx, "john", "live", "sorry")
		if err != nil || g.Seq != 4 || !g.NotBefore.Equal(s.now.Add(time.Hour)) || g.NotAfter.Sub(g.NotBefore) != 90*time.Minute {
			t.Errorf("restore: got %+v, %v, want the 90 minutes that were left, after the hour bought since", g, err)
		}
	}
	s.remove(t, "john")
	s.store.AddUser("john")
	if _, err := s.Restore(ctx, "john", "live", "sorry"); !errors.Is(err, tangle.ErrNothing) {
		t.Errorf("restore what an earlier holder of the name had: got %v", err)
	}
}

// TestPriceHistory: a payment counts by what was asked for when it was made.
func TestPriceHistory(t *testing.T) {
	s := newTill(t)
	ctx := t.Context()
	priced := func(price int64, period time.Duration) {
		o := live(t)
		o.Price, o.Period = price, period
		s.Settler = tangle.Settler{Store: s.store, Offers: newOffers(t, o), Now: s.Now}
		for range 2 {
			if err := s.RecordTerms(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.store.SetUser("john", tangle.UserDisabled)
	priced(500, time.Hour)
	old := at(payment("old", fromJohn, 500), start.Add(time.Minute))
	before := at(payment("before", fromJohn, 500), start.Add(-time.Hour))
	s.pay(t, old)
	s.pay(t, before)
	s.now = start.Add(time.Hour)
	priced(600, time.Hour)
	s.now = start.Add(2 * time.Hour)
	priced(500, 30*time.Minute)
	s.now = start.Add(3 * time.Hour)
	priced(600, time.Hour)
	s.store.AddUser("john")
	for _, test := range []struct {
		p    tangle.Payment
		want time.Duration
	}{
		{old, time.Hour},
		{before, time.Hour}, // before the first that is known, that
		{at(payment("p1", fromJohn, 600), start.Add(time.Hour)), time.Hour},
		{at(payment("p2", fromJohn, 600), start.Add(2*time.Hour-1)), time.Hour},
		{at(payment("p3", fromJohn, 500), start.Add(150*time.Minute)), 30 * time.Minute},
		{at(payment("p4", fromJohn, 600), start.Add(4*time.Hour)), time.Hour},
	} {
		r := s.pay(t, test.p)
		if got := r.Entry.NotAfter.Sub(r.Entry.NotBefore); got != test.want || r.Entry.Price == 0 || r.Entry.Period == 0 {
			t.Errorf("%s, paid at %s: got %s by %+v, want %s", test.p.ID, test.p.Final, got, r.Entry, test.want)
		}
	}
	terms, err := s.store.Offered(ctx)
	if err != nil || len(terms) != 4 {
		t.Errorf("history: got %+v, %v, want four terms", terms, err)
	}
}

func TestUnconfigured(t *testing.T) {
	o := live(t)
	o.Former = []string{"OLD"}
	got := newOffers(t, o).Unconfigured(map[string]tangle.Mark{"JANE": {}, "OLD": {}, "B": {}, "A": {}})
	if strings.Join(got, " ") != "A B" {
		t.Errorf("got %q, want A and B", got)
	}
}

// TestPriceChanges: with prices that change, and payments that settle in any order
// by the price of their time, each price sells what its payments brought: to the
// millisecond as long as it stays, and less than one more at each change.
func TestPriceChanges(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 5))
		s := newTill(t)
		var payments []tangle.Payment
		paid := make(map[string]tangle.Terms)
		for day := range 6 {
			o := live(t)
			o.Price, o.Period = 1+r.Int64N(1000), time.Duration(1+r.Int64N(1e7))*time.Millisecond
			s.now = start.Add(time.Duration(day) * 24 * time.Hour)
			s.Settler = tangle.Settler{Store: s.store, Offers: newOffers(t, o), Now: s.Now}
			if err := s.RecordTerms(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i := range r.IntN(5) {
				p := at(payment(fmt.Sprintf("p%d-%d", day, i), fromJohn, 1+r.Int64N(3000)), s.now.Add(time.Duration(r.Int64N(int64(24*time.Hour)))))
				paid[p.ID] = tangle.Terms{Price: o.Price, Period: o.Period}
				payments = append(payments, p)
			}
		}
		r.Shuffle(len(payments), func(i, j int) { payments[i], payments[j] = payments[j], payments[i] })
		for _, p := range payments {
			s.pay(t, p)
		}
		before := tangle.Entry{}
		run, entries := new(big.Int), s.store.Account("john", "live")
		for i, g := range entries {
			if want := paid[g.Payment]; g.Price != want.Price || g.Period != want.Period {
				t.Errorf("seed %d: payment %s counts by %d for %s, want %+v", seed, g.Payment, g.Price, g.Period, want)
			}
			if i > 0 && (g.Price != before.Price || g.Period != before.Period) {
				run.SetInt64(min(before.Remainder, g.Price-1))
			}
			credited := big.NewInt(before.Credit + g.Amount - g.Credit)
			run.Add(run, credited.Mul(credited, big.NewInt(g.Period.Milliseconds())))
			if g.Outcome() == tangle.Credited {
				sold := big.NewInt(g.NotAfter.Sub(g.NotBefore).Milliseconds())
				run.Sub(run, sold.Mul(sold, big.NewInt(g.Price)))
				if run.Cmp(big.NewInt(g.Remainder)) != 0 || g.Remainder >= g.Price {
					t.Errorf("seed %d: after entry %+v %s is left, want below %d, and noted", seed, g, run, g.Price)
				}
			}
			before = g
		}
		if len(entries) != len(payments) || t.Failed() {
			t.Fatalf("seed %d: got %d entries for %d payments", seed, len(entries), len(payments))
		}
	}
}
