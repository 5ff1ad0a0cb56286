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
	credit, hour, silent := payment("CREDIT"), payment("HOUR"), payment("SILENT")
	credit.Amount, silent.Message = 200, nil
	revoked := tangle.NewCause()
	for _, act := range []struct {
		name     string
		payments []tangle.Payment
		do       func(context.Context, *tangle.Settler) error
		outcome  map[string]tangle.Outcome
		entries  string // kinds of john's entries
		credit   int64
	}{
		{
			"dismiss", []tangle.Payment{silent},
			func(ctx context.Context, s *tangle.Settler) error {
				_, err := s.Dismiss(ctx, silent, "jane", "spam")
				return err
			},
			map[string]tangle.Outcome{"SILENT": tangle.Dismissed}, "", 0,
		},
		{
			"refund credit", []tangle.Payment{credit},
			func(ctx context.Context, s *tangle.Settler) error {
				_, err := s.Refund(ctx, credit, "jane", "TX")
				return err
			},
			map[string]tangle.Outcome{"CREDIT": tangle.Refunded}, "paid released", 0,
		},
		{
			"take back time that has not begun", []tangle.Payment{hour, credit, payment("MORE")},
			func(ctx context.Context, s *tangle.Settler) error {
				_, err := s.Release(ctx, payment("MORE"), "jane", "typo")
				return err
			},
			map[string]tangle.Outcome{"HOUR": tangle.Credited, "CREDIT": tangle.Underpaid, "MORE": tangle.Unmatched}, "paid paid paid released", 200,
		},
		{
			"assign what was dismissed", []tangle.Payment{silent},
			func(ctx context.Context, s *tangle.Settler) error {
				if _, err := s.Dismiss(ctx, silent, "jane", "spam"); err != nil && !errors.Is(err, tangle.ErrConsumed) {
					return err
				}
				_, err := s.Assign(ctx, silent, "john", "live", "jane")
				return err
			},
			map[string]tangle.Outcome{"SILENT": tangle.Credited}, "paid", 0,
		},
		{
			"close", []tangle.Payment{hour, payment("MORE"), credit},
			func(ctx context.Context, s *tangle.Settler) error {
				store := s.Store.(*Store)
				if err := store.SetDisabled(ctx, "john", true); err != nil && !errors.Is(err, ErrNotFound) {
					return err
				}
				if err := s.Close(ctx, "john", "removed"); err != nil {
					return err
				}
				if err := store.RemoveUser(ctx, "john"); err != nil && !errors.Is(err, ErrNotFound) {
					return err
				}
				return nil
			},
			map[string]tangle.Outcome{"HOUR": tangle.Credited, "MORE": tangle.Credited, "CREDIT": tangle.Underpaid}, "paid paid paid closed*", 0,
		},
		{
			"revoke and restore", []tangle.Payment{hour, payment("MORE")},
			func(ctx context.Context, s *tangle.Settler) error {
				if _, err := s.Revoke(ctx, "john", "live", "mistake", revoked); err != nil {
					return err
				}
				_, err := s.Restore(ctx, "john", "live", "sorry")
				return err
			},
			map[string]tangle.Outcome{"HOUR": tangle.Credited, "MORE": tangle.Credited}, "paid paid revoked manual", 0,
		},
	} {
		t.Run(act.name, func(t *testing.T) {
			t.Parallel()
			now := epoch
			settler := func(s *Store) *tangle.Settler {
				s.Now = func() time.Time { return now }
				return &tangle.Settler{Store: s, Offers: offers, Now: s.Now}
			}
			points := 0
			var matrix strings.Builder
			run := func(phase string, at int64) (died bool) {
				now = epoch
				whole := newStore(t)
				database := whole.meta.Database().Name()
				if err := whole.AddUser(t.Context(), acl.User{Name: "john"}); err != nil {
					t.Fatal(err)
				}
				settle := func(s *Store) {
					for _, p := range act.payments {
						if _, ok, err := s.Unsettled(t.Context(), p.ID); err != nil {
							t.Fatal(err)
						} else if ok {
							if _, err := settler(s).Settle(t.Context(), p); err != nil {
								t.Fatal(err)
							}
						}
					}
				}
				for _, p := range act.payments {
					if _, err := whole.Record(t.Context(), p, tangle.Settling); err != nil {
						t.Fatal(err)
					}
				}
				settle(whole)
				now = epoch.Add(10 * time.Minute)

				victim, ctx, struck := dying(t, database, phase, at)
				err := act.do(ctx, settler(victim))
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
				if err := act.do(t.Context(), settler(again)); err != nil {
					t.Fatalf("killed %s write %d, %s; done again: %v", phase, at, struck(), err)
				}
				settle(again)
				checkAccount(t, again, act.entries, act.credit)
				for id, want := range act.outcome {
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

// checkAccount checks which kinds of entries john has, each cause once, each
// finished and told to those who follow, and that nothing opens after a closing.
// A * means once or more.
func checkAccount(t *testing.T, s *Store, kinds string, credit int64) {
	t.Helper()
	entries, err := s.Entries(t.Context(), "john", "live")
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
	active, err := s.ActiveEntries(t.Context(), "john", "live")
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(kinds, "closed*") && len(active) != 0 {
		t.Errorf("after the closing: got %+v open, want nothing", active)
	}
}
