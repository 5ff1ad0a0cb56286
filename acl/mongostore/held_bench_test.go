package mongostore

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// BenchmarkCredit is the time from when the ledger returns a payment until it is
// credited, in a store with so many users with live grants, and so many payments
// held for users who do not exist, each for another one. idle is what the watcher
// and the store need of one processor when nothing happens.
func BenchmarkCredit(b *testing.B) {
	for _, size := range []struct{ users, held int }{{100, 0}, {5_000, 1_000}, {100_000, 0}} {
		b.Run(fmt.Sprintf("users=%d/held=%d", size.users, size.held), func(b *testing.B) {
			s := newStore(b)
			fill(b, s, "user", size.users, time.Now())
			fillUsers(b, s, size.users)
			fillHeld(b, s, size.held)
			if err := s.AddUser(b.Context(), acl.User{Name: "john"}); err != nil {
				b.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			offers, err := tangle.NewOffers(tangle.Offer{ID: "live", Filters: filters(b, "sensor/live"), Price: 500, Period: time.Hour, Address: "ADDRESS"})
			if err != nil {
				b.Fatal(err)
			}
			ledger := new(tangletest.Ledger)
			settled := make(chan string, 2*size.held+10)
			w := &tangle.Watcher{
				Ledger: ledger, Store: s, Offers: offers, Interval: 250 * time.Millisecond, Timeout: time.Minute, Log: s.Log, FromStart: true,
				Observe: func(p tangle.Payment, _ tangle.Outcome, _ time.Duration) { settled <- p.ID },
			}
			if err := s.IndexUsers(b.Context()); err != nil { // as serve does
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error)
			go func() { ended <- w.Run(ctx) }()
			for w.Health().LedgerReads < 1 {
				time.Sleep(time.Millisecond)
			}
			var took []time.Duration
			for b.Loop() { // from the first moment on, while the held ones are looked at
				p := payment(fmt.Sprintf("B%d", databases.Add(1)))
				p.Ledger = "test"
				begun := time.Now()
				ledger.Confirm(p)
				for <-settled != p.ID {
				}
				took = append(took, time.Since(begun))
			}
			slices.Sort(took)
			for w.Health().Held < size.held {
				time.Sleep(100 * time.Millisecond)
			}
			const idle = 10 * time.Second
			before := processor(b)
			time.Sleep(idle)
			b.ReportMetric(float64(processor(b)-before)/float64(idle)*100, "%idle")
			b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "ms/median")
			b.ReportMetric(float64(took[len(took)-1].Milliseconds()), "ms/slowest")
			b.ReportMetric(0, "ns/op")
			cancel()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}

// processor returns the processor time that the process has used.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func fillUsers(b *testing.B, s *Store, users int) {
	b.Helper()
	for some := range slices.Chunk(numbers(users), 5000) {
		var documents []any
		for _, i := range some {
			name := fmt.Sprintf("user%d", i)
			documents = append(documents, userDocument{ID: name, Username: name, Topics: []topicDocument{}})
		}
		if _, err := s.users.InsertMany(b.Context(), documents); err != nil {
			b.Fatal(err)
		}
	}
}

func fillHeld(b *testing.B, s *Store, held int) {
	b.Helper()
	var payments, pending []any
	for _, i := range numbers(held) {
		id := fmt.Sprintf("H%d", i)
		payments = append(payments, paymentDocument{ID: id, Ledger: "test", Address: "ADDRESS", Amount: 1, Message: []byte(fmt.Sprintf(`{"username": "nobody%d"}`, i)), Seen: epoch, Confirmed: epoch})
		pending = append(pending, pendingDocument{Payment: id, Ledger: "test", Reason: fmt.Sprintf(`there is no user "nobody%d"`, i)})
	}
	if held == 0 {
		return
	}
	if _, err := s.payments.InsertMany(b.Context(), payments); err != nil {
		b.Fatal(err)
	}
	if _, err := s.pending.InsertMany(b.Context(), pending); err != nil {
		b.Fatal(err)
	}
}

func numbers(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i + 1
	}
	return all
}
