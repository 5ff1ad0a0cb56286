package mongostore

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/consts"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
	"github.com/iotoll/iotoll/tangle/legacy"
)

// fill puts grants into a store, as settled payments of as many subjects, each
// of an hour from an instant on, and waits until the embedded store has indexed
// them. Those that are over are not among the active ones, as after Trim.
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
				names = append(names, d.active())
			}
			settlements = append(settlements, settlementDocument{Cause: g.Cause, Outcome: string(tangle.Credited), Grant: d.ID, At: now})
			payments = append(payments, paymentDocument{ID: g.Cause, Ledger: "legacy", Amount: 500, Seen: now, Confirmed: now})
		}
		for _, insert := range []func() error{
			func() error { _, err := s.grants.InsertMany(b.Context(), documents); return err },
			func() error {
				if len(names) == 0 {
					return nil
				}
				_, err := s.active.InsertMany(b.Context(), names)
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
		b.Run(fmt.Sprintf("pending/grants=%d", grants), func(b *testing.B) {
			for b.Loop() {
				if got, err := s.Pending(b.Context(), "legacy"); err != nil || len(got) != 0 {
					b.Fatal(len(got), err)
				}
			}
		})
		b.Run(fmt.Sprintf("settle/grants=%d", grants), func(b *testing.B) { settle(b, s) })
		b.Run(fmt.Sprintf("poll/grants=%d", grants), func(b *testing.B) { poll(b, s) })
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
				if got, err := s.ActiveEntries(b.Context(), "", ""); err != nil || len(got) != live {
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
	const payments = 50
	for b.Loop() {
		for range payments {
			p := payment(fmt.Sprintf("B%d", databases.Add(1)))
			if _, err := s.Record(b.Context(), p, tangle.Settling); err != nil {
				b.Fatal(err)
			}
			if r, err := settler.Settle(b.Context(), p); err != nil || r.Outcome != tangle.Credited {
				b.Fatal(r, err)
			}
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N*payments), "ms/payment")
	b.ReportMetric(0, "ns/op")
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

// poll is one look at the ledger, over HTTP at a simulated node, when nothing is
// new, and what the watcher then asks of the store.
func poll(b *testing.B, s *Store) {
	node, err := devlegacy.New(devlegacy.Config{})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(node)
	defer server.Close()
	deposit, err := address.GenerateAddress(strings.Repeat("JANE9", 16)+"9", 0, consts.SecurityLevelMedium, true)
	if err != nil {
		b.Fatal(err)
	}
	ledger, err := legacy.New(legacy.Config{Nodes: []string{server.URL}, Addresses: []string{deposit}, Log: s.Log})
	if err != nil {
		b.Fatal(err)
	}
	offers, err := tangle.NewOffers(tangle.Offer{ID: "live", Filters: filters(b, "sensor/live"), Price: 500, Period: time.Hour, Address: deposit})
	if err != nil {
		b.Fatal(err)
	}
	w := &tangle.Watcher{Ledger: ledger, Store: s, Offers: offers, Interval: time.Nanosecond, Timeout: time.Minute, Log: s.Log}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	until := func(reads int64) {
		for w.Health().LedgerReads < reads {
			time.Sleep(time.Millisecond)
		}
	}
	until(10) // the first ones have more to do
	const polls = 1000
	first, begun := w.Health().LedgerReads, time.Now()
	for b.Loop() {
		until(w.Health().LedgerReads + polls)
	}
	b.ReportMetric(float64(time.Since(begun).Microseconds())/float64(w.Health().LedgerReads-first), "µs/poll")
	b.ReportMetric(0, "ns/op")
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}
