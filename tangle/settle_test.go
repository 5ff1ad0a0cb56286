package tangle_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

var start = time.Date(2026, 11, 22, 17, 0, 0, 0, time.UTC)

func newOffers(t testing.TB, offers ...tangle.Offer) *tangle.Offers {
	t.Helper()
	s, err := tangle.NewOffers(offers...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func live(t testing.TB) tangle.Offer {
	t.Helper()
	f, err := acl.ParseFilter("sensor/live")
	if err != nil {
		t.Fatal(err)
	}
	return tangle.Offer{ID: "live", Filters: []acl.Filter{f}, Price: 500, Period: time.Hour, Address: "JANE"}
}

func payment(id, message string, amount int64) tangle.Payment {
	return tangle.Payment{ID: id, Ledger: "test", Address: "JANE", Amount: amount, Message: []byte(message)}
}

const fromJohn = `{"username": "john"}`

// till is a settler with a store and a clock.
type till struct {
	tangle.Settler
	store *tangletest.Store
	now   time.Time
}

func newTill(t testing.TB) *till {
	store := new(tangletest.Store)
	store.AddUser("john")
	s := &till{store: store, now: start}
	s.Settler = tangle.Settler{Store: store, Offers: newOffers(t, live(t)), Now: func() time.Time { return s.now }}
	return s
}

func (s *till) pay(t testing.TB, p tangle.Payment) tangle.Result {
	t.Helper()
	if _, err := s.store.Record(t.Context(), p, tangle.Settling); err != nil {
		t.Fatal(err)
	}
	r, err := s.Settle(t.Context(), p)
	if err != nil {
		t.Fatalf("Settle(%s): %v", p.ID, err)
	}
	return r
}

func TestSettle(t *testing.T) {
	s := newTill(t)
	if r := s.pay(t, payment("p1", fromJohn, 200)); r.Outcome != tangle.Underpaid || r.Entry.Credit != 200 || !r.Entry.NotAfter.Equal(r.Entry.NotBefore) {
		t.Errorf("200 at 500: got %+v, want a credit of 200", r)
	}
	s.now = s.now.Add(time.Minute + 123456*time.Nanosecond)
	r := s.pay(t, payment("p2", fromJohn, 300))
	first := start.Add(time.Minute)
	if r.Outcome != tangle.Credited || r.Entry.Credit != 0 || !r.Entry.NotBefore.Equal(first) || !r.Entry.NotAfter.Equal(first.Add(time.Hour)) {
		t.Errorf("300 more: got %+v, want an hour from %s", r, first)
	}
	s.now = s.now.Add(10 * time.Minute)
	if r = s.pay(t, payment("p3", fromJohn, 1250)); !r.Entry.NotBefore.Equal(first.Add(time.Hour)) || !r.Entry.NotAfter.Equal(first.Add(210*time.Minute)) {
		t.Errorf("1250 more: got %+v, want 2 h 30 min after the first hour", r)
	}
	for _, id := range []string{"p1", "p2", "p3"} {
		if r := s.pay(t, payment(id, fromJohn, 999)); r.Outcome != tangle.Replayed {
			t.Errorf("%s again: got %+v, want %s", id, r, tangle.Replayed)
		}
	}
	// The clock goes back: what follows still begins where the time ended.
	s.now = start.Add(-48 * time.Hour)
	if r = s.pay(t, payment("p4", fromJohn, 500)); !r.Entry.NotBefore.Equal(first.Add(210 * time.Minute)) {
		t.Errorf("clock put back: got %+v", r)
	}
	// After the end, it begins now.
	s.now = start.Add(time.Hour * 100)
	if r = s.pay(t, payment("p5", fromJohn, 500)); !r.Entry.NotBefore.Equal(s.now) {
		t.Errorf("after the end: got %+v", r)
	}
	if got := len(s.store.Account("john", "live")); got != 5 {
		t.Errorf("account: got %d entries, want 5", got)
	}
	if got := len(s.store.Announced()); got != 5 {
		t.Errorf("announced: got %d, want 5", got)
	}
}

func TestSettleHolds(t *testing.T) {
	s := newTill(t)
	for _, test := range []struct{ id, message, address, want string }{
		{"h1", "", "JANE", "there is no message"},
		{"h2", `{"username": "jane"}`, "JANE", `no user "jane"`},
		{"h3", fromJohn, "ELSEWHERE", "no offer uses this address"},
		{"h4", `{"username": "john", "offer": "gold"}`, "JANE", "does not exist"},
	} {
		p := payment(test.id, test.message, 500)
		p.Address = test.address
		if r := s.pay(t, p); r.Outcome != tangle.Unmatched || !strings.Contains(r.Reason, test.want) {
			t.Errorf("%s: got %+v, want it held for %q", test.id, r, test.want)
		}
		if outcome, reason := s.store.Outcome(test.id); outcome != tangle.Unmatched || !strings.Contains(reason, test.want) {
			t.Errorf("%s: the book says %s, %q", test.id, outcome, reason)
		}
	}
	s.store.AddUser("jane")
	if r := s.pay(t, payment("h2", `{"username": "jane"}`, 500)); r.Outcome != tangle.Credited || r.Entry.Subject != "jane" {
		t.Errorf("once the user exists: got %+v", r)
	}
	for _, amount := range []int64{0, -1} {
		p := payment("n"+string(rune('1'-amount)), fromJohn, amount)
		if r := s.pay(t, p); r.Outcome != tangle.Unmatched || !strings.Contains(r.Reason, "amount") {
			t.Errorf("amount %d: got %+v", amount, r)
		}
	}
	if r := s.pay(t, payment("all", fromJohn, 2779530283277761)); r.Outcome != tangle.Unmatched || !strings.Contains(r.Reason, "9999") {
		t.Errorf("the whole supply: got %+v", r)
	}
	if r := s.pay(t, payment("after", fromJohn, 500)); r.Outcome != tangle.Credited {
		t.Errorf("after one that is too much: got %+v", r)
	}
}

// TestSettleUnreadable: what the ledger could not decode is held with its reason,
// whatever the message looks like.
func TestSettleUnreadable(t *testing.T) {
	s := newTill(t)
	p := payment("p1", fromJohn, 500)
	p.Unreadable = "character 3 is not in the encoding"
	if r := s.pay(t, p); r.Outcome != tangle.Unmatched || r.Reason != p.Unreadable {
		t.Errorf("got %s, %q, want it held because %q", r.Outcome, r.Reason, p.Unreadable)
	}
}

func TestAssign(t *testing.T) {
	s := newTill(t)
	p := payment("p1", "", 500)
	s.pay(t, p)
	if _, err := s.Assign(t.Context(), p, "nobody", "live", "jane"); !errors.Is(err, tangle.ErrNoUser) {
		t.Errorf("to nobody: got %v", err)
	}
	if _, err := s.Assign(t.Context(), p, "john", "gold", "jane"); !errors.Is(err, tangle.ErrNoOffer) {
		t.Errorf("for no offer: got %v", err)
	}
	if r, err := s.Assign(t.Context(), p, "john", "live", "jane"); err != nil || r.Outcome != tangle.Credited {
		t.Errorf("to john: got %+v, %v", r, err)
	}
	if r, err := s.Assign(t.Context(), p, "john", "live", "jane"); err != nil || r.Outcome != tangle.Replayed {
		t.Errorf("to john again: got %+v, %v", r, err)
	}
	hd := live(t)
	hd.ID = "hd"
	s.Offers = newOffers(t, live(t), hd)
	if _, err := s.Assign(t.Context(), p, "john", "hd", "jane"); !errors.Is(err, tangle.ErrAssigned) {
		t.Errorf("to john for another offer: got %v", err)
	}
	s.store.AddUser("eve")
	if _, err := s.Assign(t.Context(), p, "eve", "live", "jane"); !errors.Is(err, tangle.ErrAssigned) {
		t.Errorf("to eve: got %v", err)
	}
	if r := s.pay(t, p); r.Outcome != tangle.Replayed {
		t.Errorf("settled later: got %+v", r)
	}
	if got := len(s.store.Account("john", "live")) + len(s.store.Account("eve", "live")); got != 1 {
		t.Errorf("got %d entries, want 1", got)
	}
}

func TestManual(t *testing.T) {
	s := newTill(t)
	ctx := t.Context()
	if _, err := s.Revoke(ctx, "john", "live", "why", tangle.NewCause()); !errors.Is(err, tangle.ErrNothing) {
		t.Errorf("revoke nothing: got %v", err)
	}
	for _, d := range []time.Duration{0, -time.Hour, time.Nanosecond} {
		if _, err := s.Grant(ctx, "john", "live", d, "gift", tangle.NewCause()); err == nil {
			t.Errorf("grant %s: got no error", d)
		}
	}
	if _, err := s.Grant(ctx, "eve", "live", time.Hour, "gift", tangle.NewCause()); !errors.Is(err, tangle.ErrNoUser) {
		t.Errorf("grant to nobody: got %v", err)
	}
	s.pay(t, payment("p0", fromJohn, 100))
	cause := tangle.NewCause()
	for range 2 { // as after an error
		g, err := s.Grant(ctx, "john", "live", time.Hour, "gift", cause)
		if err != nil || g.Kind != tangle.Manual || g.Credit != 100 || !g.NotBefore.Equal(start) || !g.NotAfter.Equal(start.Add(time.Hour)) || g.Reason != "gift" {
			t.Errorf("grant: got %+v, %v", g, err)
		}
	}
	if r := s.pay(t, payment("p1", fromJohn, 400)); !r.Entry.NotBefore.Equal(start.Add(time.Hour)) {
		t.Errorf("payment after the gift: got %+v", r)
	}
	// An act that is repeated after others followed is still done once.
	if g, err := s.Grant(ctx, "john", "live", time.Hour, "gift", cause); err != nil || g.Seq != 2 {
		t.Errorf("grant again: got %+v, %v", g, err)
	}
	s.now = start.Add(30 * time.Minute)
	g, err := s.Revoke(ctx, "john", "live", "abuse", tangle.NewCause())
	if err != nil || g.Kind != tangle.Revoked || !g.End.Equal(s.now) {
		t.Errorf("revoke: got %+v, %v", g, err)
	}
	for _, seq := range []int64{2, 3} {
		if by, ok := s.store.RevokedBy("john", "live", seq); !ok || by.Seq != 4 {
			t.Errorf("entry %d: got revoked by %+v, %t", seq, by, ok)
		}
	}
	if _, ok := s.store.RevokedBy("john", "live", 1); ok {
		t.Error("entry 1, which opened nothing, is marked")
	}
	s.now = s.now.Add(time.Minute)
	if r := s.pay(t, payment("p2", fromJohn, 500)); !r.Entry.NotBefore.Equal(s.now) || r.Entry.Seq != 5 {
		t.Errorf("payment after the revocation: got %+v", r)
	}
	if _, ok := s.store.RevokedBy("john", "live", 5); ok {
		t.Error("the payment after the revocation is marked")
	}
	if one, other := tangle.NewCause(), tangle.NewCause(); one == other {
		t.Errorf("NewCause: got %s twice", one)
	}
}

func TestSettleStoreFails(t *testing.T) {
	away := errors.New("store is away")
	for _, op := range []string{"Settled", "Decided", "UserState", "Offered", "Offer", "Decide", "Last", "Append", "Complete"} {
		s := newTill(t)
		p := payment("p1", fromJohn, 500)
		if _, err := s.store.Record(t.Context(), p, tangle.Settling); err != nil {
			t.Fatal(err)
		}
		s.store.Fault = func(at tangletest.Point) error {
			if at.Op == op {
				return away
			}
			return nil
		}
		if r, err := s.Settle(t.Context(), p); !errors.Is(err, away) || r.Outcome != "" || !strings.Contains(err.Error(), "p1") && !strings.Contains(err.Error(), "john") {
			t.Errorf("%s fails: got %+v, %v", op, r, err)
		}
		s.store.Fault = nil
		if _, err := s.Settle(t.Context(), p); err != nil {
			t.Errorf("%s works again: %v", op, err)
		}
		if got := s.store.Account("john", "live"); len(got) != 1 || got[0].NotAfter.Sub(got[0].NotBefore) != time.Hour {
			t.Errorf("%s works again: got %+v, want one hour", op, got)
		}
	}
}

func TestSettleCanceled(t *testing.T) {
	s := newTill(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Settle(ctx, payment("p1", fromJohn, 500)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
