package mongostore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
)

// dying returns a Store and a context that ends before or after the write of a
// number: what uses them gets no further, as if its process was killed there.
// struck tells which write that was, or "" if there was none.
func dying(t *testing.T, database, phase string, at int64) (s *Store, ctx context.Context, struck func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	var writes, request atomic.Int64
	var what atomic.Value
	s, err := open(server, database, &event.CommandMonitor{
		Started: func(_ context.Context, e *event.CommandStartedEvent) {
			switch e.CommandName {
			case "insert", "update", "delete":
			default:
				return
			}
			if writes.Add(1) != at {
				return
			}
			name, _ := e.Command.Lookup(e.CommandName).StringValueOK()
			what.Store(e.CommandName + " " + name)
			if phase == "before" {
				cancel()
			}
			request.Store(e.RequestID)
		},
		Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
			if phase == "after" && request.Load() == e.RequestID && what.Load() != nil {
				cancel()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
	return s, ctx, func() string {
		name, _ := what.Load().(string)
		return name
	}
}

// TestKilledActs kills what the seller does to payments and users before and after
// each write. Then serve settles what is pending, the seller does it again, and
// everything is as if nothing had happened.
func TestKilledActs(t *testing.T) {
	offers, err := tangle.NewOffers(tangle.Offer{ID: "live", Filters: filters(t, "sensor/live"), Price: 500, Period: time.Hour, Address: "ADDRESS"})
	if err != nil {
		t.Fatal(err)
	}
	for _, act := range []struct {
		name    string
		amounts map[string]int64 // by payment; 0 is one without a message
		order   string
		do      func(context.Context, *tangle.Settler, *victim) error
		outcome map[string]tangle.Outcome
		entries string // kinds of the user's entries
		credit  int64
	}{
		{
			"dismiss", map[string]int64{"SILENT": 0}, "SILENT",
			func(ctx context.Context, s *tangle.Settler, v *victim) error {
				_, err := s.Dismiss(ctx, v.payments["SILENT"], "jane", "spam")
				return err
			},
			map[string]tangle.Outcome{"SILENT": tangle.Dismissed}, "", 0,
		},
		{
			"refund credit", map[string]int64{"CREDIT": 200}, "CREDIT",
			func(ctx context.Context, s *tangle.Settler, v *victim) error {
				_, err := s.Refund(ctx, v.payments["CREDIT"], "jane", "TX")
				return err
			},
			map[string]tangle.Outcome{"CREDIT": tangle.Refunded}, "paid released", 0,
		},
		{
			"take back time that has not begun", map[string]int64{"HOUR": 500, "CREDIT": 200, "MORE": 500}, "HOUR CREDIT MORE",
			func(ctx context.Context, s *tangle.Settler, v *victim) error {
				_, err := s.Release(ctx, v.payments["MORE"], "jane", "typo")
				return err
			},
			map[string]tangle.Outcome{"HOUR": tangle.Credited, "CREDIT": tangle.Underpaid, "MORE": tangle.Unmatched}, "paid paid paid released", 200,
		},
		{
			"assign what was dismissed", map[string]int64{"SILENT": 0}, "SILENT",
			func(ctx context.Context, s *tangle.Settler, v *victim) error {
				if _, err := s.Dismiss(ctx, v.payments["SILENT"], "jane", "spam"); err != nil && !errors.Is(err, tangle.ErrConsumed) {
					return err
				}
				_, err := s.Assign(ctx, v.payments["SILENT"], v.user, "live", "jane")
				return err
			},
			map[string]tangle.Outcome{"SILENT": tangle.Credited}, "paid", 0,
		},
		{
			"close", map[string]int64{"HOUR": 500, "MORE": 500, "CREDIT": 200}, "HOUR MORE CREDIT",
			func(ctx context.Context, s *tangle.Settler, v *victim) error {
				store := s.Store.(*Store)
				if err := store.SetDisabled(ctx, v.user, true); err != nil && !errors.Is(err, ErrNotFound) {
					return err
				}
				if err := s.Close(ctx, v.user, "removed"); err != nil {
					return err
				}
				if err := store.RemoveUser(ctx, v.user); err != nil && !errors.Is(err, ErrNotFound) {
					return err
				}
				return nil
			},
			map[string]tangle.Outcome{"HOUR": tangle.Credited, "MORE": tangle.Credited, "CREDIT": tangle.Underpaid}, "paid paid paid closed*", 0,
		},
		{
			"revoke and restore", map[string]int64{"HOUR": 500, "MORE": 500}, "HOUR MORE",
			func(ctx context.Context, s *tangle.Settler, v *victim) error {
				if _, err := s.Revoke(ctx, v.user, "live", "mistake", "manual/"+v.user); err != nil {
					return err
				}
				_, err := s.Restore(ctx, v.user, "live", "sorry")
				return err
			},
			map[string]tangle.Outcome{"HOUR": tangle.Credited, "MORE": tangle.Credited}, "paid paid revoked manual", 0,
		},
	} {
		t.Run(act.name, func(t *testing.T) {
			now := epoch
			settler := func(s *Store) *tangle.Settler {
				s.Now = func() time.Time { return now }
				return &tangle.Settler{Store: s, Offers: offers, Now: s.Now}
			}
			whole := newStore(t)
			database := whole.meta.Database().Name()
			points, runs := 0, 0
			var matrix strings.Builder
			run := func(phase string, at int64) (died bool) {
				now = epoch
				runs++
				v := &victim{user: fmt.Sprintf("user%d", runs), payments: make(map[string]tangle.Payment)}
				if err := whole.AddUser(t.Context(), acl.User{Name: v.user}); err != nil {
					t.Fatal(err)
				}
				settle := func(s *Store) {
					for _, id := range strings.Fields(act.order) {
						p := v.payments[id]
						if _, ok, err := s.Unsettled(t.Context(), p.ID); err != nil {
							t.Fatal(err)
						} else if ok {
							if _, err := settler(s).Settle(t.Context(), p); err != nil {
								t.Fatal(err)
							}
						}
					}
				}
				for id, amount := range act.amounts {
					p := payment(fmt.Sprintf("%s-%d", id, runs))
					p.Message = []byte(fmt.Sprintf(`{"username": %q}`, v.user))
					if p.Amount = amount; amount == 0 {
						p.Message, p.Amount = nil, 500
					}
					v.payments[id] = p
					if _, err := whole.Record(t.Context(), p, tangle.Settling); err != nil {
						t.Fatal(err)
					}
				}
				settle(whole)
				now = epoch.Add(10 * time.Minute)

				dead, ctx, struck := dying(t, database, phase, at)
				err := act.do(ctx, settler(dead), v)
				died = struck() != ""
				if died {
					points++
					fmt.Fprintf(&matrix, "\n  %s %d: %s", phase, at, struck())
				} else if err != nil {
					t.Fatalf("not killed, but: %v", err)
				}
				now = now.Add(time.Minute)
				again := openDatabase(t, database)
				settle(again)
				if err := act.do(t.Context(), settler(again), v); err != nil {
					t.Fatalf("killed %s write %d, %s; done again: %v", phase, at, struck(), err)
				}
				settle(again)
				checkAccount(t, again, v.user, act.entries, act.credit)
				for id, want := range act.outcome {
					id = v.payments[id].ID
					r, err := again.PaymentRecord(t.Context(), id)
					if err != nil || r.Outcome != want {
						t.Errorf("payment %s: got %+v, %v, want %s", id, r, err, want)
					}
					_, ok, err := again.Unsettled(t.Context(), id)
					_, isPending := pending(t, again)[id]
					if open := want == tangle.Unmatched; err != nil || ok != open || isPending != open {
						t.Errorf("payment %s, %s: unsettled %t (%v), pending %t", id, want, ok, err, isPending)
					}
				}
				if t.Failed() {
					t.Fatalf("killed %s write %d: %s", phase, at, struck())
				}
				return died
			}
			for _, phase := range []string{"before", "after"} {
				for at := int64(1); run(phase, at); at++ {
				}
			}
			if points < 4 {
				t.Errorf("killed at %d points, want 4 at least:%s", points, &matrix)
			}
			t.Logf("killed at %d points:%s", points, &matrix)
		})
	}
}

// victim is whom an act is about, and what that user paid.
type victim struct {
	user     string
	payments map[string]tangle.Payment
}

// checkAccount checks which kinds of entries a user has, each cause once, each
// finished and told to those who follow, and that nothing opens after a closing.
// A * means once or more.
func checkAccount(t *testing.T, s *Store, user, kinds string, credit int64) {
	t.Helper()
	entries, err := s.Entries(t.Context(), user, "live")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	causes := make(map[string]bool)
	for _, e := range entries {
		if kind := string(e.Kind); !strings.HasSuffix(kinds, "closed*") || kind != "closed" || len(got) == 0 || got[len(got)-1] != "closed*" {
			if kind == "closed" {
				kind = "closed*"
			}
			got = append(got, kind)
		}
		settled, ok, err := s.Settled(t.Context(), e.Cause)
		if causes[e.Cause] || err != nil || !ok || settled.Entry.Seq != e.Seq {
			t.Errorf("entry %+v: settled %t as %+v, %v", e, ok, settled, err)
		}
		causes[e.Cause] = true
	}
	if strings.Join(got, " ") != kinds {
		t.Errorf("account: got %q, want %q", got, kinds)
	}
	if n := len(entries); n > 0 && entries[n-1].Credit != credit {
		t.Errorf("account: got credit %d, want %d", entries[n-1].Credit, credit)
	}
	active, err := s.ActiveEntries(t.Context(), user, "live")
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(kinds, "closed*") && len(active) != 0 {
		t.Errorf("after the closing: got %+v open, want nothing", active)
	}
}
