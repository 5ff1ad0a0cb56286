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
			ID: id, Ledger: "test", Address: "JANE", Amount: 2779530283277761, Message: []byte("\x00\xff{}"), Unreadable: "no text", Reference: "BUNDLE",
			Position: 7, Sender: "JOHN", Claimed: now.Add(-time.Hour), Final: now.Add(-time.Minute), Seen: now, Confirmed: now.Add(time.Second),
		}
	}
	entry := func(seq int64, cause string) tangle.Entry {
		return tangle.Entry{
			Subject: "john", Offer: "live", Seq: seq, Kind: tangle.Paid, Cause: cause, Payment: cause, Amount: 1250, Credit: 3, Remainder: 4,
			Price: 500, Period: time.Hour, Life: 2, Born: now.Add(-time.Hour),
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
			{"p1", tangle.Settling, true},
			{"p2/3", tangle.Settling, true},
			{"old", tangle.Historic, true},
			{"p1", tangle.Settling, false},
			{"p1", tangle.Historic, false},
			{"old", tangle.Settling, false},
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
		pending := func() map[string]string {
			t.Helper()
			got, err := s.Pending(ctx, "test")
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		if got, want := pending(), map[string]string{"p1": "because", "p2/3": ""}; !maps.Equal(got, want) {
			t.Errorf("Pending: got %q, want %q", got, want)
		}
		if got, err := s.Pending(ctx, "other"); err != nil || len(got) != 0 {
			t.Errorf("Pending of another ledger: got %q, %v", got, err)
		}
		for id, want := range map[string]bool{"p1": true, "p2/3": true, "old": false, "p9": false} {
			if got, ok, err := s.Unsettled(ctx, id); err != nil || ok != want || ok && !reflect.DeepEqual(got, payment(id)) {
				t.Errorf("Unsettled(%s): got %+v, %t, %v, want %t and as recorded first", id, got, ok, err, want)
			}
		}
		g := entry(1, "p1")
		if err := errors.Join(s.Append(ctx, g), s.Complete(ctx, g)); err != nil {
			t.Fatal(err)
		}
		if got, want := pending(), map[string]string{"p2/3": ""}; !maps.Equal(got, want) {
			t.Errorf("Pending after p1 was settled: got %q, want %q", got, want)
		}
		if _, ok, err := s.Unsettled(ctx, "p1"); err != nil || ok {
			t.Errorf("Unsettled after p1 was settled: got %t, %v", ok, err)
		}
		if d, err := s.Decided(ctx, "p2/3"); err != nil || d.Seq != 0 {
			t.Errorf("Decided: got %+v, %v", d, err)
		}
		for _, verdict := range []tangle.Verdict{tangle.SetAside, tangle.PaidBack} {
			if _, err := s.Decide(ctx, tangle.Decision{Payment: "p2/3", Seq: 1, Verdict: verdict, By: "jane", Reason: "spam", At: now}); err != nil {
				t.Fatal(err)
			}
			if _, ok, err := s.Unsettled(ctx, "p2/3"); err != nil || ok || len(pending()) != 0 {
				t.Errorf("dismissed: got Unsettled %t, %v, Pending %v", ok, err, pending())
			}
		}
		for _, test := range []struct {
			payment string
			seq     int64
		}{{"p1", 1}, {"p1", 2}, {"p2/3", 2}} {
			if _, err := s.Decide(ctx, tangle.Decision{Payment: test.payment, Seq: test.seq, Verdict: tangle.TakenBack, By: "jane", At: now}); err != nil {
				t.Fatal(err)
			}
			if err := s.Hold(ctx, test.payment, "taken back"); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := pending(), map[string]string{"p1": "taken back", "p2/3": "taken back"}; !maps.Equal(got, want) {
			t.Errorf("Pending after both were taken back: got %q, want %q", got, want)
		}
		if _, ok, err := s.Unsettled(ctx, "p1"); err != nil || !ok {
			t.Errorf("Unsettled after it was taken back: got %t, %v", ok, err)
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

	t.Run("decisions", func(t *testing.T) {
		s, _ := open(t)
		ctx := t.Context()
		if d, err := s.Decided(ctx, "p1"); err != nil || d.Seq != 0 {
			t.Errorf("Decided before: got %+v, %v", d, err)
		}
		for i := range int64(5) {
			d := tangle.Decision{
				Payment: "p1", Seq: i + 1, Verdict: tangle.AssignedTo, Subject: "john", Offer: "live", Life: 3, By: "message", Reason: "why", At: now,
			}
			for _, by := range []string{"message", "eve"} {
				d.By = by
				if added, err := s.Decide(ctx, d); err != nil || added != (by == "message") {
					t.Errorf("Decide %d by %s: got %t, %v", d.Seq, by, added, err)
				}
			}
			d.By = "message"
			if got, err := s.Decided(ctx, "p1"); err != nil || got != d {
				t.Errorf("Decided: got %+v, %v, want %+v", got, err, d)
			}
		}
	})

	t.Run("terms", func(t *testing.T) {
		s, _ := open(t)
		ctx := t.Context()
		var want []tangle.Terms
		for _, offer := range []string{"gold", "live", "live-2"} {
			for seq := range int64(12) {
				want = append(want, tangle.Terms{Offer: offer, Seq: seq + 1, Price: 500 + seq, Period: time.Hour, Since: now.Add(time.Duration(seq) * time.Minute)})
			}
		}
		for _, i := range []int{24, 12, 0} {
			for _, terms := range want[i : i+12] {
				for n := range 2 {
					if added, err := s.Offer(ctx, terms); err != nil || added != (n == 0) {
						t.Errorf("Offer(%+v), time %d: got %t, %v", terms, n, added, err)
					}
					terms.Price = 1
				}
			}
		}
		if got, err := s.Offered(ctx); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Offered: got %+v, %v, want %+v", got, err, want)
		}
	})

	t.Run("dust", func(t *testing.T) {
		s, _ := open(t)
		ctx := t.Context()
		if d, err := s.LastDust(ctx, "test", "JANE", "c1"); err != nil || d.Seq != 0 {
			t.Errorf("LastDust before: got %+v, %v", d, err)
		}
		day := now.Truncate(24 * time.Hour)
		for i := range int64(10) {
			d := tangle.Dust{Ledger: "test", Address: "JANE", Chain: "c1", Seq: i + 1, To: 100 * (i + 1), Day: day, Count: i, Sum: 7 * i}
			for n := range 2 {
				if added, err := s.AddDust(ctx, d); err != nil || added != (n == 0) {
					t.Errorf("AddDust %d, time %d: got %t, %v", d.Seq, n, added, err)
				}
			}
			if got, err := s.LastDust(ctx, "test", "JANE", "c1"); err != nil || got != d {
				t.Errorf("LastDust: got %+v, %v, want %+v", got, err, d)
			}
		}
		for _, other := range [][3]string{{"test", "JANE", ""}, {"test", "JAN", "c1"}, {"", "JANE", "c1"}} {
			if d, err := s.LastDust(ctx, other[0], other[1], other[2]); err != nil || d.Seq != 0 {
				t.Errorf("LastDust of %q: got %+v, %v", other, d, err)
			}
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
		if at, err := s.LastWritten(ctx); err != nil || !at.IsZero() {
			t.Errorf("LastWritten before: got %s, %v", at, err)
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
			want := tangle.Settlement{Cause: g.Cause, Outcome: tangle.Credited, Entry: g}
			if got, ok, err := s.Settled(ctx, g.Cause); err != nil || !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("Settled(%s): got %+v, %t, %v, want %+v", g.Cause, got, ok, err, want)
			}
		}
		if at, err := s.LastWritten(ctx); err != nil || at.IsZero() {
			t.Errorf("LastWritten: got %s, %v", at, err)
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
		for seq := range int64(23) {
			want := tangle.Entry{}
			if seq >= 1 && seq <= 20 {
				want = entry(seq, fmt.Sprintf("p%d", seq-1))
			}
			if got, err := s.Entry(ctx, "john", "live", seq); err != nil || got.Seq != want.Seq || got.Seq > 0 && !reflect.DeepEqual(got, want) {
				t.Errorf("Entry(%d): got %+v, %v, want %+v", seq, got, err, want)
			}
		}
	})

	t.Run("underpaid and revoked", func(t *testing.T) {
		s, _ := open(t)
		ctx := t.Context()
		credit := entry(1, "p1")
		credit.NotAfter, credit.End = credit.NotBefore, time.Time{}
		gift := entry(2, "manual/a")
		gift.Kind, gift.Amount, gift.Reason, gift.Payment = tangle.Manual, 0, "gift", ""
		end := entry(3, "manual/b")
		end.Kind, end.Amount, end.Reason, end.Filters, end.Payment = tangle.Revoked, 0, "abuse", nil, ""
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
		added, assigned, appended := 0, 0, 0
		for i := range 8 {
			all.Go(func() {
				name := fmt.Sprintf("u%d", i)
				new, err := s.Record(ctx, payment("p1"), tangle.Settling)
				mine, err2 := s.Decide(ctx, tangle.Decision{Payment: "p1", Seq: 1, Verdict: tangle.AssignedTo, Subject: name, Offer: "live", By: "message", At: now})
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
				if mine {
					assigned++
				}
			})
		}
		all.Wait()
		if added != 1 || appended != 1 || assigned != 1 {
			t.Errorf("eight at once: got %d payments added, %d entries appended, %d assignments; want one of each", added, appended, assigned)
		}
	})
}
