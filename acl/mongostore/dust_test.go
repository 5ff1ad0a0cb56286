package mongostore

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// TestDustFlood: ten thousand payments of one base unit do not keep a real one
// from being credited, and stand in the book as one sum.
func TestDustFlood(t *testing.T) {
	s := newStore(t)
	if err := s.AddUser(t.Context(), acl.User{Name: "john"}); err != nil {
		t.Fatal(err)
	}
	offers, err := tangle.NewOffers(tangle.Offer{ID: "live", Filters: filters(t, "sensor/live"), Price: 500, Period: time.Hour, Address: "ADDRESS"})
	if err != nil {
		t.Fatal(err)
	}
	ledger := &tangletest.Ledger{Dust: 100}
	ledger.Marks(map[string]tangle.Mark{"ADDRESS": {Chain: "c1", Position: 1}})
	credited := make(chan struct{})
	w := &tangle.Watcher{
		Ledger: ledger, Store: s, Offers: offers, Interval: 250 * time.Millisecond, Timeout: time.Minute, Log: s.Log,
		Observe: func(tangle.Payment, tangle.Outcome, time.Duration) { close(credited) },
	}
	run := func(until func() bool) {
		t.Helper()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		for end := time.Now().Add(10 * time.Second); !until(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("waited in vain for 10 s")
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	run(func() bool { marks, err := s.Marks(t.Context(), "test"); return err == nil && len(marks) == 1 })

	const flood = 10_000
	for i := range flood + 1 {
		p := payment(fmt.Sprintf("D%d", i))
		p.Ledger, p.Amount, p.Position = "test", 1, int64(2+i/50)
		if i == flood/2 {
			p.Amount = 500
		}
		ledger.Confirm(p)
	}
	ledger.Marks(map[string]tangle.Mark{"ADDRESS": {Chain: "c1", Position: 1000}})
	run(func() bool {
		select {
		case <-credited:
		default:
			return false
		}
		marks, err := s.Marks(t.Context(), "test")
		return err == nil && marks["ADDRESS"].Position == 1000
	})
	sums, err := s.Dust(t.Context())
	if err != nil || len(sums) != 1 || sums[0].Count != flood || sums[0].Sum != flood || sums[0].Address != "ADDRESS" {
		t.Errorf("Dust: got %+v, %v, want one sum of %d", sums, err, flood)
	}
	if sum, err := s.Received(t.Context()); err != nil || len(sum) != 1 || sum["ADDRESS"] != flood+500 {
		t.Errorf("Received: got %v, %v, want %d", sum, err, flood+500)
	}
	records, err := s.PaymentRecords(t.Context())
	if err != nil || len(records) != 1 || records[0].Outcome != tangle.Credited {
		t.Errorf("the book: got %+v, %v, want the real payment alone", records, err)
	}
}
