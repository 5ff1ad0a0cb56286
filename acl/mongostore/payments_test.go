package mongostore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

func contains(text fmt.Stringer, part string) bool { return strings.Contains(text.String(), part) }

// pending returns what waits on the ledger of the tests.
func pending(t testing.TB, s *Store) map[string]string {
	t.Helper()
	got, err := s.Pending(t.Context(), "legacy")
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func payment(id string) tangle.Payment {
	return tangle.Payment{
		ID: id, Ledger: "legacy", Address: "ADDRESS", Amount: 500, Message: []byte(`{"username": "john"}`),
		Reference: "BUNDLE", Position: 7, Claimed: time.Date(2096, 1, 1, 0, 0, 0, 0, time.UTC), Seen: epoch, Confirmed: epoch.Add(time.Second),
	}
}

// TestContract: what package tangle expects of every store.
func TestContract(t *testing.T) {
	tangletest.TestStore(t, func(t *testing.T) (tangle.Store, func(string)) {
		s := newStore(t)
		return s, func(name string) {
			if err := s.AddUser(t.Context(), acl.User{Name: name}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestBook: and that it gives back what it was given.
func TestBook(t *testing.T) {
	s := newStore(t)
	fresh := func() *Store { return newStore(t) }
	ctx := t.Context()
	t.Run("payment", func(t *testing.T) {
		s := fresh()
		p := payment("P1")
		p.Message = []byte("\xff\x00 not text")
		for i := range 3 {
			if added, err := s.Record(ctx, p, tangle.Settling); err != nil || added != (i == 0) {
				t.Errorf("Record, time %d: got added %v, error %v", i, added, err)
			}
		}
		if _, err := s.Record(ctx, payment("P0"), tangle.Historic); err != nil {
			t.Fatal(err)
		}
		if err := s.Hold(ctx, "P1", "nobody is named"); err != nil {
			t.Fatal(err)
		}
		if got := pending(t, s); !maps.Equal(got, map[string]string{"P1": "nobody is named"}) {
			t.Fatalf("Pending: got %v, want P1 alone", got)
		}
		g, ok, err := s.Unsettled(ctx, "P1")
		if err != nil || !ok {
			t.Fatalf("Unsettled: got %v, error %v", ok, err)
		}
		if !bytes.Equal(g.Message, p.Message) || !g.Claimed.Equal(p.Claimed) || !g.Seen.Equal(p.Seen) || !g.Confirmed.Equal(p.Confirmed) ||
			g.ID != p.ID || g.Ledger != p.Ledger || g.Address != p.Address || g.Amount != p.Amount || g.Reference != p.Reference || g.Position != p.Position {
			t.Errorf("Unsettled: got %+v, want %+v", g, p)
		}
	})
	t.Run("assignment", func(t *testing.T) {
		want := tangle.Decision{Payment: "P1", Seq: 1, Verdict: tangle.AssignedTo, Subject: "john", Offer: "live", By: "message", At: epoch}
		for _, subject := range []string{"john", "mallory"} {
			d := want
			d.Subject = subject
			if added, err := s.Decide(ctx, d); err != nil || added != (subject == "john") {
				t.Errorf("Decide for %s: got %t, error %v", subject, added, err)
			}
			if got, err := s.Decided(ctx, "P1"); err != nil || got != want {
				t.Errorf("Decided: got %+v, error %v, want %+v", got, err, want)
			}
		}
		// As the release before schema version 2 wrote it.
		if _, err := s.decisions.InsertOne(ctx, bson.D{
			{Key: "_id", Value: "P0"}, {Key: "subject", Value: "john"}, {Key: "offer", Value: "live"}, {Key: "by", Value: "message"}, {Key: "at", Value: epoch},
		}); err != nil {
			t.Fatal(err)
		}
		want.Payment = "P0"
		if got, err := s.Decided(ctx, "P0"); err != nil || got != want {
			t.Errorf("Decided of an old one: got %+v, error %v, want %+v", got, err, want)
		}
	})
	t.Run("account", func(t *testing.T) {
		s := fresh()
		if _, err := s.Record(ctx, payment("P1"), tangle.Settling); err != nil {
			t.Fatal(err)
		}
		if g, err := s.Last(ctx, "john", "live"); err != nil || g.Seq != 0 {
			t.Errorf("Last of an empty account: got %+v, error %v, want Seq 0", g, err)
		}
		if err := s.Append(ctx, paid(t, 2, "P2")); err == nil || errors.Is(err, tangle.ErrConflict) {
			t.Errorf("Append after a gap: got error %v, want one that is no conflict", err)
		}
		first := paid(t, 1, "P1")
		first.Amount, first.Credit, first.Remainder, first.Reason = 1<<60, 2, 3, "why"
		if err := s.Append(ctx, first); err != nil {
			t.Fatal(err)
		}
		if err := s.Append(ctx, paid(t, 1, "P2")); !errors.Is(err, tangle.ErrConflict) {
			t.Errorf("Append where an entry is: got error %v, want ErrConflict", err)
		}
		got, err := s.Last(ctx, "john", "live")
		if err != nil || got.Cause != "P1" || got.Amount != 1<<60 || got.Credit != 2 || got.Remainder != 3 || got.Kind != tangle.Paid ||
			got.Reason != "why" || !slices.Equal(got.Filters, first.Filters) || !got.NotBefore.Equal(first.NotBefore) ||
			!got.NotAfter.Equal(first.NotAfter) || !got.End.Equal(first.End) || !got.At.Equal(first.At) {
			t.Errorf("Last: got %+v, error %v, want %+v", got, err, first)
		}
		if _, ok, err := s.Settled(ctx, "P1"); ok || err != nil {
			t.Errorf("Settled before Complete: got %v, error %v, want false", ok, err)
		}
		if got := pending(t, s); len(got) != 1 {
			t.Errorf("Unsettled before Complete: got %v, want P1", got)
		}
		for range 2 {
			if err := s.Complete(ctx, first); err != nil {
				t.Fatal(err)
			}
			settled, ok, err := s.Settled(ctx, "P1")
			if err != nil || !ok || settled.Outcome != tangle.Credited || settled.Cause != "P1" || settled.Entry.Seq != 1 || settled.Entry.Cause != "P1" {
				t.Errorf("Settled: got %+v, %v, error %v, want credited by entry 1", settled, ok, err)
			}
		}
		if got := pending(t, s); len(got) != 0 {
			t.Errorf("Unsettled after Complete: got %v, want none", got)
		}
		if added, err := s.Record(ctx, payment("P1"), tangle.Settling); err != nil || added {
			t.Errorf("Record of a settled payment: got %v, error %v, want false", added, err)
		}
		if got := pending(t, s); len(got) != 0 {
			t.Errorf("Unsettled after that: got %v, want none", got)
		}
		// An entry that carries credit only.
		second := paid(t, 2, "P2")
		second.NotAfter, second.End = second.NotBefore, first.End
		if err := s.Append(ctx, second); err != nil {
			t.Fatal(err)
		}
		if err := s.Complete(ctx, second); err != nil {
			t.Fatal(err)
		}
		if settled, _, err := s.Settled(ctx, "P2"); err != nil || settled.Outcome != tangle.Underpaid {
			t.Errorf("Settled: got %+v, error %v, want underpaid", settled, err)
		}
		// Other accounts are others, however their names are put together.
		for _, account := range [][2]string{{"john/live", "live"}, {"john", "liv"}, {"", "live"}, {"1/john", "live"}} {
			if g, err := s.Last(ctx, account[0], account[1]); err != nil || g.Seq != 0 {
				t.Errorf("Last of %q: got %+v, error %v, want Seq 0", account, g, err)
			}
		}
	})
	t.Run("long account", func(t *testing.T) {
		s := fresh()
		for seq := int64(1); seq <= 20; seq++ {
			if err := s.Append(ctx, paid(t, seq, fmt.Sprint(seq))); err != nil {
				t.Fatal(err)
			}
			if g, err := s.Last(ctx, "john", "live"); err != nil || g.Seq != seq {
				t.Errorf("Last: got entry %d, error %v, want %d", g.Seq, err, seq)
			}
		}
	})
}

// conflicting counts the entries that were refused.
type conflicting struct {
	*Store
	refused *atomic.Int64
}

func (c conflicting) Append(ctx context.Context, g tangle.Entry) error {
	err := c.Store.Append(ctx, g)
	if errors.Is(err, tangle.ErrConflict) {
		c.refused.Add(1)
	}
	return err
}

// TestOneAccountManySettlers: goroutines of two processes settle the same
// payments of one account, each beginning with another one, so that they collide.
// Each payment counts once, and nothing is lost. More of them would hardly
// collide more often, but mostly wait for SQLite, which lets one write at a time.
func TestOneAccountManySettlers(t *testing.T) {
	const payments = 8
	database := newDatabase()
	first := openDatabase(t, database)
	if err := first.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := first.AddUser(t.Context(), acl.User{Name: "john"}); err != nil {
		t.Fatal(err)
	}
	at := load(t, first)
	offers, err := tangle.NewOffers(tangle.Offer{ID: "live", Filters: filters(t, "sensor/live"), Price: 500, Period: time.Hour, Address: "ADDRESS"})
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	var refused atomic.Int64
	for p := range 2 {
		s := openDatabase(t, database)
		for g := range 4 {
			settler := &tangle.Settler{Store: conflicting{s, &refused}, Offers: offers}
			wait.Go(func() {
				for i := range payments {
					p := payment(fmt.Sprintf("P%02d", (i+4*p+g)%payments))
					if _, err := s.Record(t.Context(), p, tangle.Settling); err != nil {
						t.Error(err)
						return
					}
					if r, err := settler.Settle(t.Context(), p); err != nil || r.Outcome == tangle.Unmatched {
						t.Errorf("Settle: got %+v, error %v", r, err)
						return
					}
				}
			})
		}
	}
	wait.Wait()
	if refused.Load() == 0 {
		t.Error("no entry was refused: the settlers did not meet")
	}
	t.Logf("%d entries were refused", refused.Load())
	entries, err := first.Entries(t.Context(), "john", "live")
	if err != nil {
		t.Fatal(err)
	}
	causes := make(map[string]bool)
	for i, e := range entries {
		causes[e.Cause] = true
		if e.Seq != int64(i+1) || e.NotAfter.Sub(e.NotBefore) != time.Hour || i > 0 && !e.NotBefore.Equal(entries[i-1].NotAfter) {
			t.Errorf("entry %d: got number %d from %s to %s after %+v", i+1, e.Seq, e.NotBefore, e.NotAfter, entries[max(i-1, 0)])
		}
	}
	if len(entries) != payments || len(causes) != payments {
		t.Errorf("account: got %d entries of %d payments, want %d of each", len(entries), len(causes), payments)
	}
	if left := pending(t, first); len(left) != 0 {
		t.Errorf("pending: got %v, want none", left)
	}
	// And the follower was told of every entry.
	told := make(map[string]bool)
	for changes, next, err := first.Changes(t.Context(), at); ; changes, next, err = first.Changes(t.Context(), at) {
		if err != nil {
			t.Fatal(err)
		}
		if at = next; len(changes) == 0 {
			break
		}
		for _, c := range changes {
			if c.Grant != nil {
				told[c.Grant.ID] = true
			}
		}
	}
	if len(told) != payments {
		t.Errorf("follower: was told of %d grants, want %d", len(told), payments)
	}
}

// TestRevoke: a revocation cuts what is live and what is to come, tells the
// follower, and does so again after a crash in between.
func TestRevoke(t *testing.T) {
	s := newStore(t)
	for seq := range int64(3) {
		complete(t, s, paid(t, seq+1, fmt.Sprintf("P%d", seq+1)))
	}
	now := epoch.Add(90 * time.Minute) // in the second hour
	s.Now = func() time.Time { return now }
	revoked := tangle.Entry{
		Subject: "john", Offer: "live", Seq: 4, Kind: tangle.Revoked, Cause: "manual/1", Filters: []acl.Filter{},
		NotBefore: now, NotAfter: now, End: now, At: now, Reason: "chargeback",
	}
	if err := s.Append(t.Context(), revoked); err != nil {
		t.Fatal(err)
	}
	at := load(t, s)
	// A crash after the latest entry was marked, before anybody was told.
	if err := s.revokeOne(t, revoked, 3); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Complete(t.Context(), revoked); err != nil {
			t.Fatal(err)
		}
	}
	changes, _, err := s.Changes(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	ends := make(map[string]time.Time)
	for _, c := range changes {
		ends[c.Grant.ID] = c.Grant.NotAfter
	}
	if len(ends) != 3 || !ends[grantID("john", "live", 2)].Equal(now) || !ends[grantID("john", "live", 3)].Equal(now) {
		t.Errorf("changes: got ends %v, want entries 2, 3 and 4 ending now", ends)
	}
	entries, err := s.Entries(t.Context(), "", "")
	if err != nil || len(entries) != 4 {
		t.Fatalf("Grants: got %d, error %v, want 4", len(entries), err)
	}
	for i, e := range entries {
		marked := i == 1 || i == 2
		if !e.RevokedAt.IsZero() != marked || marked && (!e.RevokedAt.Equal(now) || e.RevokedReason != "chargeback") {
			t.Errorf("entry %d: got revoked at %s because of %q, want that: %v", e.Seq, e.RevokedAt, e.RevokedReason, marked)
		}
		if want := paid(t, e.Seq, "").NotAfter; i < 3 && !e.NotAfter.Equal(want) {
			t.Errorf("entry %d: its own end is %s now, want %s", e.Seq, e.NotAfter, want)
		}
	}
	// The next revocation looks no further back than this one.
	later := paid(t, 5, "P5")
	later.NotBefore, later.NotAfter, later.End = now, now.Add(time.Hour), now.Add(time.Hour)
	complete(t, s, later)
	now = now.Add(time.Minute)
	again := revoked
	again.Seq, again.Cause, again.At, again.NotBefore, again.NotAfter, again.End = 6, "manual/2", now, now, now, now
	complete(t, s, again)
	entries, err = s.Entries(t.Context(), "john", "live")
	if err != nil || entries[4].RevokedAt.IsZero() || !entries[2].RevokedAt.Equal(revoked.At) {
		t.Errorf("second revocation: got %+v, error %v, want entry 5 marked and entry 3 as it was", entries, err)
	}
	settled, ok, err := s.Settled(t.Context(), "manual/1")
	if err != nil || !ok || settled.Entry.Seq != 4 {
		t.Errorf("Settled of a manual act: got %+v, %v, error %v, want entry 4", settled, ok, err)
	}
}

// revokeOne marks one entry and stops there.
func (s *Store) revokeOne(t *testing.T, by tangle.Entry, seq int64) error {
	_, err := set(t.Context(), s.grants, grantID(by.Subject, by.Offer, seq), revocation(by))
	return err
}

// TestCompleteTwoEntriesOfOneCause: it cannot happen; if it does, it is not
// passed over.
func TestCompleteTwoEntriesOfOneCause(t *testing.T) {
	s := newStore(t)
	complete(t, s, paid(t, 1, "P1"))
	if err := s.Append(t.Context(), paid(t, 2, "P1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Complete(t.Context(), paid(t, 2, "P1")); err == nil || !strings.Contains(err.Error(), "was settled with grant") {
		t.Errorf("Complete: got error %v, want one that names the other grant", err)
	}
}

// TestUnsettledAfterCrash: the list of unsettled payments heals after a crash
// between any two of its writes.
func TestUnsettledAfterCrash(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	// Noted as pending, the payment itself not written.
	if _, err := insert(ctx, s.pending, pendingDocument{Payment: "P1", Ledger: "legacy"}); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Unsettled(ctx, "P1"); err != nil || ok {
		t.Errorf("Unsettled before the payment: got %v, error %v, want false", ok, err)
	}
	if added, err := s.Record(ctx, payment("P1"), tangle.Settling); err != nil || !added {
		t.Errorf("Record: got %v, error %v, want true", added, err)
	}
	if _, ok, err := s.Unsettled(ctx, "P1"); err != nil || !ok {
		t.Errorf("Unsettled: got %v, error %v, want true", ok, err)
	}
	complete(t, s, paid(t, 1, "P1"))
	// Settled, but still pending.
	if _, err := insert(ctx, s.pending, pendingDocument{Payment: "P1", Ledger: "legacy", Reason: "old"}); err != nil {
		t.Fatal(err)
	}
	if b, err := s.PaymentRecord(ctx, "P1"); err != nil || b.Outcome != tangle.Credited || b.Reason != "" {
		t.Errorf("PaymentRecord: got %+v, error %v, want credited and no reason", b, err)
	}
	for range 2 {
		if _, ok, err := s.Unsettled(ctx, "P1"); err != nil || ok {
			t.Errorf("Unsettled after the settlement: got %v, error %v, want false", ok, err)
		}
		if got := pending(t, s); len(got) != 0 {
			t.Errorf("pending: got %v, want nothing", got)
		}
	}
}

func TestBookings(t *testing.T) {
	s := newStore(t)
	ctx := t.Context()
	for i, id := range []string{"HISTORIC", "HELD", "CREDITED"} {
		outcome := tangle.Unmatched
		if i == 0 {
			outcome = tangle.Historic
		}
		p := payment(id)
		p.Seen = epoch.Add(time.Duration(i) * time.Minute)
		p.Confirmed = p.Seen.Add(time.Second)
		if _, err := s.Record(ctx, p, outcome); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Hold(ctx, "HELD", "names \xff nobody"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Decide(ctx, tangle.Decision{Payment: "CREDITED", Seq: 1, Verdict: tangle.AssignedTo, Subject: "john", Offer: "live", By: "jane", At: epoch}); err != nil {
		t.Fatal(err)
	}
	complete(t, s, paid(t, 1, "CREDITED"))

	bookings, err := s.PaymentRecords(ctx)
	if err != nil || len(bookings) != 3 {
		t.Fatalf("Bookings: got %+v, error %v, want three", bookings, err)
	}
	for i, want := range []struct {
		id      string
		outcome tangle.Outcome
		reason  string
		by      string
		seq     int64
	}{
		{"HISTORIC", tangle.Historic, "", "", 0},
		{"HELD", tangle.Unmatched, "names \uFFFD nobody", "", 0},
		{"CREDITED", tangle.Credited, "", "jane", 1},
	} {
		one, err := s.PaymentRecord(ctx, want.id)
		if err != nil {
			t.Fatal(err)
		}
		for how, b := range map[string]PaymentRecord{"Bookings": bookings[i], "Booking": one} {
			if b.ID != want.id || b.Outcome != want.outcome || b.Reason != want.reason || b.Assignment.By != want.by || b.Entry.Seq != want.seq ||
				b.Settled.IsZero() != (want.seq == 0) || string(b.Message) != `{"username": "john"}` {
				t.Errorf("%s: got %+v, want %+v", how, b, want)
			}
		}
	}
	minute := func(i int) time.Time { return epoch.Add(time.Second + time.Duration(i)*time.Minute) }
	for _, test := range []struct {
		query PaymentQuery
		want  string
	}{
		{PaymentQuery{}, "HISTORIC HELD CREDITED"},
		{PaymentQuery{Subject: "john"}, "CREDITED"},
		{PaymentQuery{Subject: "mary"}, ""},
		{PaymentQuery{Held: true}, "HELD"},
		{PaymentQuery{Since: minute(1)}, "HELD CREDITED"},
		{PaymentQuery{Until: minute(1)}, "HISTORIC"},
		{PaymentQuery{Since: minute(1), Until: minute(2)}, "HELD"},
		{PaymentQuery{Subject: "john", Until: minute(2)}, ""},
		{PaymentQuery{Held: true, Since: minute(2)}, ""},
	} {
		found, err := s.FindPayments(ctx, test.query)
		var ids []string
		for _, r := range found {
			ids = append(ids, r.ID)
		}
		if got := strings.Join(ids, " "); got != test.want || err != nil {
			t.Errorf("FindPayments(%+v): got %q, error %v, want %q", test.query, got, err, test.want)
		}
	}
	if ids, err := s.PaymentIDs(ctx, "H"); err != nil || len(ids) != 2 {
		t.Errorf("PaymentIDs: got %q, error %v, want two", ids, err)
	}
	if _, err := s.PaymentRecord(ctx, "NONE"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Booking of nothing: got %v, want ErrNotFound", err)
	}
}

func TestAudit(t *testing.T) {
	s := newStore(t)
	for i := range 3 {
		s.Now = func() time.Time { return epoch.Add(time.Duration(i) * time.Minute) }
		if err := s.Audit(t.Context(), Act{By: "jane", Act: "grant revoke", Object: fmt.Sprint(i), Reason: "a\xff"}); err != nil {
			t.Fatal(err)
		}
	}
	acts, err := s.Acts(t.Context())
	if err != nil || len(acts) != 3 {
		t.Fatalf("Acts: got %v, error %v, want three", acts, err)
	}
	for i, a := range acts {
		want := Act{At: epoch.Add(time.Duration(i) * time.Minute), By: "jane", Act: "grant revoke", Object: fmt.Sprint(i), Reason: "a\uFFFD"}
		if a != want {
			t.Errorf("act %d: got %+v, want %+v", i, a, want)
		}
	}
}
