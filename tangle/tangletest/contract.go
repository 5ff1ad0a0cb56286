package tangletest

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
)

// TestStore tests that a store keeps the promises of tangle.Store. open returns
// an empty one and a function that adds a user to it.
func TestStore(t *testing.T, open func(t *testing.T) (store tangle.Store, addUser func(name string))) {
	now := time.Date(2026, 11, 22, 17, 0, 0, 123e6, time.UTC)
	filter, err := acl.ParseFilter("sensor/live")
	if err != nil {
		t.Fatal(err)
	}
	payment := func(id string) tangle.Payment {
		return tangle.Payment{
			ID: id, Ledger: "test", Address: "JANE", Amount: 2779530283277761, Message: []byte("\x00\xff{}"), Reference: "BUNDLE",
			Position: 7, Sender: "JOHN", Claimed: now.Add(-time.Hour), Final: now.Add(-time.Minute), Seen: now, Confirmed: now.Add(time.Second),
		}
	}
	entry := func(seq int64, cause string) tangle.Entry {
		return tangle.Entry{
			Subject: "john", Offer: "live", Seq: seq, Kind: tangle.Paid, Cause: cause, Amount: 1250, Credit: 3, Remainder: 4,
			Filters: []acl.Filter{filter}, NotBefore: now, NotAfter: now.Add(time.Hour), End: now.Add(time.Hour), At: now,
		}
	}

	t.Run("marks", func(t *testing.T) {
		s, _ := open(t)
		ctx := t.Context()
		mark := tangle.Mark{Chain: "c1", Position: 7}
		for _, m := range []tangle.Mark{{}, {Chain: "c1", Position: 9}, mark} {
			if err := s.SetMark(ctx, "test", "JANE", m); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.SetMark(ctx, "other", "MARY", tangle.Mark{}); err != nil {
			t.Fatal(err)
		}
		for ledger, want := range map[string]map[string]tangle.Mark{
			"test": {"JANE": mark}, "other": {"MARY": {}}, "test/JANE": {}, "": {},
		} {
			if got, err := s.Marks(ctx, ledger); err != nil || !maps.Equal(got, want) {
				t.Errorf("Marks(%q): got %v, %v, want %v", ledger, got, err, want)
			}
		}
	})

	t.Run("payments", func(t *testing.T) {
		s, _ := open(t)
		ctx := t.Context()
		for _, test := range []struct {
			id      string
			outcome tangle.Outcome
			added   bool
		}{
			{"p1", tangle.Unmatched, true},
			{"p2/3", tangle.Unmatched, true},
			{"old", tangle.Historic, true},
			{"p1", tangle.Unmatched, false},
			{"p1", tangle.Historic, false},
			{"old", tangle.Unmatched, false},
		} {
			p := payment(test.id)
			if !test.added {
				p.Amount = 1 // what was recorded stays
			}
			if added, err := s.Record(ctx, p, test.outcome); err != nil || added != test.added {
				t.Errorf("Record(%s): got %t, %v, want %t", test.id, added, err, test.added)
			}
		}
		if err := s.Hold(ctx, "p1", "because"); err != nil {
			t.Errorf("Hold: %v", err)
		}
		got, err := s.Unsettled(ctx, "test")
		if err != nil {
			t.Fatal(err)
		}
		found := make(map[string]tangle.Payment)
		for _, p := range got {
			found[p.ID] = p
		}
		if len(got) != 2 || !reflect.DeepEqual(found["p1"], payment("p1")) || !reflect.DeepEqual(found["p2/3"], payment("p2/3")) {
			t.Errorf("Unsettled: got %+v, want p1 and p2/3 as recorded first, and not what is historic", got)
		}
		g := entry(1, "p1")
		if err := errors.Join(s.Append(ctx, g), s.Complete(ctx, g)); err != nil {
			t.Fatal(err)
		}
		if got, err = s.Unsettled(ctx, "test"); err != nil || len(got) != 1 || got[0].ID != "p2/3" {
			t.Errorf("Unsettled after p1 was settled: got %+v, %v", got, err)
		}
	})

	t.Run("users", func(t *testing.T) {
		s, addUser := open(t)
		ctx := t.Context()
		addUser("john")
		if got, err := s.UserState(ctx, "john"); err != nil || got != tangle.UserReady {
			t.Errorf("UserState(john): got %q, %v, want %q", got, err, tangle.UserReady)
		}
		for _, name := range []string{"John", "", "joh", "$john", "jo.hn", "\xff", strings.Repeat("j", 4000)} {
			if got, err := s.UserState(ctx, name); err != nil || got != tangle.UserUnknown {
				t.Errorf("UserState(%.20q): got %q, %v, want %q", name, got, err, tangle.UserUnknown)
			}
		}
	})

	t.Run("assignments", func(t *testing.T) {
		s, _ := open(t)
		ctx := t.Context()
		if _, ok, err := s.Assigned(ctx, "p1"); err != nil || ok {
			t.Errorf("Assigned before: got %t, %v", ok, err)
		}
		first := tangle.Assignment{Payment: "p1", Subject: "john", Offer: "live", By: "message", At: now}
		if got, err := s.Assign(ctx, first); err != nil || got != first {
			t.Errorf("Assign: got %+v, %v", got, err)
		}
		if got, err := s.Assign(ctx, tangle.Assignment{Payment: "p1", Subject: "eve", Offer: "live", By: "eve", At: now}); err != nil || got != first {
			t.Errorf("Assign again: got %+v, %v, want the first", got, err)
		}
		if got, ok, err := s.Assigned(ctx, "p1"); err != nil || !ok || got != first {
			t.Errorf("Assigned: got %+v, %t, %v", got, ok, err)
		}
	})

	t.Run("accounts", func(t *testing.T) {
		s, _ := open(t)
		ctx := t.Context()
		if g, err := s.Last(ctx, "john", "live"); err != nil || g.Seq != 0 {
			t.Errorf("Last of an empty account: got %+v, %v", g, err)
		}
		if _, ok, err := s.Settled(ctx, "p1"); err != nil || ok {
			t.Errorf("Settled before: got %t, %v", ok, err)
		}
		for i := range int64(20) {
			g := entry(i+1, fmt.Sprintf("p%d", i))
			if err := s.Append(ctx, g); err != nil {
				t.Fatalf("Append %d: %v", g.Seq, err)
			}
			if last, err := s.Last(ctx, "john", "live"); err != nil || !reflect.DeepEqual(last, g) {
				t.Errorf("Last: got %+v, %v, want %+v", last, err, g)
			}
			other := entry(i+1, fmt.Sprintf("q%d", i))
			if err := s.Append(ctx, other); !errors.Is(err, tangle.ErrConflict) {
				t.Errorf("Append %d again: got %v, want %v", g.Seq, err, tangle.ErrConflict)
			}
			for range 2 {
				if err := s.Complete(ctx, g); err != nil {
					t.Fatalf("Complete %d: %v", g.Seq, err)
				}
			}
			want := tangle.Settlement{Payment: g.Cause, Outcome: tangle.Credited, Entry: g}
			if got, ok, err := s.Settled(ctx, g.Cause); err != nil || !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("Settled(%s): got %+v, %t, %v, want %+v", g.Cause, got, ok, err, want)
			}
		}
		// Names that would run into each other if they were only joined.
		for i, names := range [][2]string{{"john", "live-2"}, {"john/live", "live"}, {"john/", "live"}, {"/john", "live"}, {"20", "live"}, {"jo.hn", "live"}, {"$john", "live"}, {"john%2F", "live"}} {
			g := entry(1, fmt.Sprintf("n%d", i))
			g.Subject, g.Offer = names[0], names[1]
			if err := s.Append(ctx, g); err != nil {
				t.Errorf("Append for %q: %v", names, err)
			}
			if last, err := s.Last(ctx, names[0], names[1]); err != nil || !reflect.DeepEqual(last, g) {
				t.Errorf("Last of %q: got %+v, %v, want %+v", names, last, err, g)
			}
		}
		if g, err := s.Last(ctx, "john", "live"); err != nil || g.Seq != 20 {
			t.Errorf("Last: got %+v, %v, want entry 20", g, err)
		}
	})

	t.Run("underpaid and revoked", func(t *testing.T) {
		s, _ := open(t)
		ctx := t.Context()
		credit := entry(1, "p1")
		credit.NotAfter, credit.End = credit.NotBefore, time.Time{}
		gift := entry(2, "manual/a")
		gift.Kind, gift.Amount, gift.Reason = tangle.Manual, 0, "gift"
		end := entry(3, "manual/b")
		end.Kind, end.Amount, end.Reason, end.Filters = tangle.Revoked, 0, "abuse", nil
		end.At = now.Add(time.Minute)
		end.NotBefore, end.NotAfter, end.End = end.At, end.At, end.At
		for i, g := range []tangle.Entry{credit, gift, end} {
			if err := errors.Join(s.Append(ctx, g), s.Complete(ctx, g)); err != nil {
				t.Fatal(err)
			}
			want := []tangle.Outcome{tangle.Underpaid, tangle.Credited, tangle.Underpaid}[i]
			got, ok, err := s.Settled(ctx, g.Cause)
			if err != nil || !ok || got.Outcome != want || got.Entry.Seq != g.Seq || got.Entry.Kind != g.Kind || !got.Entry.End.Equal(g.End) {
				t.Errorf("Settled(%s): got %+v, %t, %v, want %s", g.Cause, got, ok, err, want)
			}
		}
		if g, err := s.Last(ctx, "john", "live"); err != nil || g.Kind != tangle.Revoked || len(g.Filters) != 0 || !g.End.Equal(end.At) || g.Reason != "abuse" {
			t.Errorf("Last: got %+v, %v, want %+v", g, err, end)
		}
	})

	t.Run("together", func(t *testing.T) {
		s, _ := open(t)
		ctx := t.Context()
		var all sync.WaitGroup
		var mu sync.Mutex
		added, assigned, appended := 0, make(map[string]int), 0
		for i := range 8 {
			all.Go(func() {
				name := fmt.Sprintf("u%d", i)
				new, err := s.Record(ctx, payment("p1"), tangle.Unmatched)
				a, err2 := s.Assign(ctx, tangle.Assignment{Payment: "p1", Subject: name, Offer: "live", By: "message", At: now})
				err3 := s.Append(ctx, entry(1, name))
				if err := errors.Join(err, err2); err != nil {
					t.Error(err)
				}
				if err3 != nil && !errors.Is(err3, tangle.ErrConflict) {
					t.Error(err3)
				}
				mu.Lock()
				defer mu.Unlock()
				if new {
					added++
				}
				if err3 == nil {
					appended++
				}
				assigned[a.Subject]++
			})
		}
		all.Wait()
		if added != 1 || appended != 1 || len(assigned) != 1 {
			t.Errorf("eight at once: got %d payments added, %d entries appended, assignments to %v; want one of each", added, appended, assigned)
		}
	})
}
