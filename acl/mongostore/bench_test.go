package mongostore

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
)

// fill puts grants into a store, as settled payments of as many subjects, each
// of an hour from an instant on, and waits until the embedded store has indexed
// them. Those that are over are not named as current, as after Trim.
func fill(b *testing.B, s *Store, prefix string, grants int, start time.Time) {
	b.Helper()
	now := time.Now()
	for from := 1; from <= grants; from += 5000 {
		var documents, names, settlements, payments []any
		for i := from; i < from+5000 && i <= grants; i++ {
			g := paid(b, 1, fmt.Sprintf("%s-P%d", prefix, i))
			g.Subject, g.NotBefore, g.NotAfter, g.End = fmt.Sprintf("%s%d", prefix, i), start, start.Add(time.Hour), start.Add(time.Hour)
			d := documentOf(g)
			documents = append(documents, d)
			if g.NotAfter.After(now) {
				names = append(names, currentDocument{Grant: d.ID})
			}
			settlements = append(settlements, settlementDocument{Payment: g.Cause, Outcome: string(tangle.Credited), Grant: d.ID, At: now})
			payments = append(payments, paymentDocument{ID: g.Cause, Ledger: "legacy", Amount: 500, Seen: now, Confirmed: now})
		}
		for _, insert := range []func() error{
			func() error { _, err := s.grants.InsertMany(b.Context(), documents); return err },
			func() error {
				if len(names) == 0 {
					return nil
				}
				_, err := s.current.InsertMany(b.Context(), names)
				return err
			},
			func() error { _, err := s.settlements.InsertMany(b.Context(), settlements); return err },
			func() error { _, err := s.payments.InsertMany(b.Context(), payments); return err },
		} {
			if err := insert(); err != nil {
				b.Fatal(err)
			}
		}
	}
	time.Sleep(2 * time.Second)
}

// BenchmarkChanges is the cost of asking what is new when nothing is, and of
// reading one new grant, beside so many in the store.
func BenchmarkChanges(b *testing.B) {
	for _, grants := range []int{10, 1_000, 100_000} {
		s := newStore(b)
		fill(b, s, "user", grants, time.Now())
		announceUser(b, s, "john")
		at := load(b, s)
		b.Run(fmt.Sprintf("none/grants=%d", grants), func(b *testing.B) {
			for b.Loop() {
				if changes, _, err := s.Changes(b.Context(), at); err != nil || len(changes) != 0 {
					b.Fatal(len(changes), err)
				}
			}
		})
		id := grantID("user1", "live", 1)
		if err := s.announceGrant(b.Context(), id, "user1"); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("one/grants=%d", grants), func(b *testing.B) {
			for b.Loop() {
				if changes, _, err := s.Changes(b.Context(), at); err != nil || len(changes) != 1 {
					b.Fatal(len(changes), err)
				}
			}
		})
		b.Run(fmt.Sprintf("load/grants=%d", grants), func(b *testing.B) {
			for b.Loop() {
				if _, got, _, err := s.Load(b.Context()); err != nil || len(got) != grants {
					b.Fatal(len(got), err)
				}
			}
		})
		b.Run(fmt.Sprintf("unsettled/grants=%d", grants), func(b *testing.B) {
			for b.Loop() {
				if got, err := s.Unsettled(b.Context()); err != nil || len(got) != 0 {
					b.Fatal(len(got), err)
				}
			}
		})
		b.Run(fmt.Sprintf("settle/grants=%d", grants), func(b *testing.B) { settle(b, s) })
	}
}

// BenchmarkLoad is the cost of loading a thousand grants that are live, beside so
// many that are over.
func BenchmarkLoad(b *testing.B) {
	const live = 1_000
	for _, over := range []int{10, 1_000, 100_000} {
		s := newStore(b)
		fill(b, s, "old", over, time.Now().Add(-1000*time.Hour))
		fill(b, s, "user", live, time.Now())
		b.Run(fmt.Sprintf("over=%d", over), func(b *testing.B) {
			for b.Loop() {
				if _, got, _, err := s.Load(b.Context()); err != nil || len(got) != live {
					b.Fatal(len(got), err)
				}
			}
		})
		b.Run(fmt.Sprintf("trim/over=%d", over), func(b *testing.B) {
			for b.Loop() {
				if err := s.Trim(b.Context(), time.Now().Add(-24*time.Hour)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("list/over=%d", over), func(b *testing.B) {
			for b.Loop() {
				if got, err := s.CurrentGrants(b.Context(), "", ""); err != nil || len(got) != live {
					b.Fatal(len(got), err)
				}
			}
		})
	}
}

// settle records and settles one payment after another, all of one account.
func settle(b *testing.B, s *Store) {
	offers, err := tangle.NewOffers(tangle.Offer{ID: "live", Filters: filters(b, "sensor/live"), Price: 500, Period: time.Hour, Address: "ADDRESS"})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.AddUser(b.Context(), acl.User{Name: "john"}); err != nil && !errors.Is(err, ErrExists) {
		b.Fatal(err)
	}
	settler := &tangle.Settler{Store: s, Offers: offers}
	for b.Loop() {
		p := payment(fmt.Sprintf("B%d", databases.Add(1)))
		if _, err := s.Record(b.Context(), p, tangle.Unmatched); err != nil {
			b.Fatal(err)
		}
		if r, err := settler.Settle(b.Context(), p); err != nil || r.Outcome != tangle.Credited {
			b.Fatal(r, err)
		}
	}
}

// BenchmarkGet is one look-up by _id.
func BenchmarkGet(b *testing.B) {
	s := newStore(b)
	announceUser(b, s, "john")
	time.Sleep(2 * time.Second)
	for seq, name := range []string{"there", "absent"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if d, err := get[change](b.Context(), s.changes, changeID(int64(seq+1))); err != nil || (d == nil) != (seq == 1) {
					b.Fatal(d, err)
				}
			}
		})
	}
}

func BenchmarkAnnounce(b *testing.B) {
	s := newStore(b)
	for b.Loop() {
		announceUser(b, s, "john")
	}
}
