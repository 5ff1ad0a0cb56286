package legacy

import (
	"context"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/devnet"
	"github.com/iotoll/iotoll/tangle/tangletest"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// replayed serves a tangle on which one bundle paid 1 iota count times, and
// returns a ledger of the address.
func replayed(t testing.TB, count int) (*devnet.Node, *watched, *Ledger) {
	t.Helper()
	net, err := devnet.New(devnet.Config{Genesis: bank()})
	if err != nil {
		t.Fatal(err)
	}
	jane := addressOf(t, janeSeed, 0)
	message, err := devnet.Message(fromJohn)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := devnet.Spend{Seed: bankSeed, To: bundle.Transfers{{Address: jane, Value: 1, Message: message}}}.Sign()
	if err != nil {
		t.Fatal(err)
	}
	for range count {
		if _, err := net.Send(signed); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := net.Milestone(); err != nil {
		t.Fatal(err)
	}
	s := serve(t, net)
	logger, _ := logtest.NewNullLogger()
	l, err := New(Config{Nodes: []string{s.URL}, Addresses: []string{jane}, Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	return net, s, l
}

// BenchmarkIdle is one poll when nothing is new, by the payments in the history.
func BenchmarkIdle(b *testing.B) {
	for _, count := range []int{10, 900} {
		b.Run(map[int]string{10: "10 payments", 900: "900 payments"}[count], func(b *testing.B) {
			_, s, l := replayed(b, count)
			if _, _, err := l.Confirmed(b.Context()); err != nil {
				b.Fatal(err)
			}
			s.asked()
			for b.Loop() {
				if _, _, err := l.Confirmed(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(s.bytes)/float64(b.N), "answer-B/op")
			b.ReportMetric(float64(len(s.asked()))/float64(b.N), "requests/op")
		})
	}
}

// BenchmarkHistory is the first look at a history of 200 payments.
func BenchmarkHistory(b *testing.B) {
	_, s, l := replayed(b, 200)
	for b.Loop() {
		fresh, err := New(l.cfg)
		if err != nil {
			b.Fatal(err)
		}
		if got, _, err := fresh.Confirmed(b.Context()); err != nil || len(got) != 200 {
			b.Fatalf("got %d payments, %v", len(got), err)
		}
	}
	b.ReportMetric(float64(len(s.asked()))/float64(b.N), "requests/op")
}

// BenchmarkPayment is from the milestone to the payment.
func BenchmarkPayment(b *testing.B) {
	net, _, l := replayed(b, 1)
	got, _, err := l.Confirmed(b.Context())
	if err != nil || len(got) != 1 {
		b.Fatal(got, err)
	}
	for b.Loop() {
		b.StopTimer()
		if _, err := net.Replay(got[0].ID); err != nil {
			b.Fatal(err)
		}
		if _, err := net.Milestone(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if more, _, err := l.Confirmed(b.Context()); err != nil || len(more) != 1 {
			b.Fatalf("got %v, %v", more, err)
		}
	}
}

// BenchmarkGranted is from a milestone to the grant in a store in memory, with a
// poll every 250 ms.
func BenchmarkGranted(b *testing.B) {
	net, _, l := replayed(b, 1)
	filter, err := acl.ParseFilter("sensor/live")
	if err != nil {
		b.Fatal(err)
	}
	offers, err := tangle.NewOffers(tangle.Offer{
		ID: "live", Filters: []acl.Filter{filter}, Price: 1, Period: time.Millisecond, Address: l.deposits[0].address,
	})
	if err != nil {
		b.Fatal(err)
	}
	store := new(tangletest.Store)
	store.AddUser("john")
	w := &tangle.Watcher{
		Ledger: l, Store: store, Offers: offers, Interval: 250 * time.Millisecond, Timeout: 30 * time.Second, FromStart: true, Log: l.cfg.Log,
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	granted := func(count int) {
		for len(store.Account("john", "live")) < count {
			time.Sleep(time.Millisecond)
		}
	}
	granted(1)
	tail := store.Payments()[0].ID
	count := 1
	var worst time.Duration
	for b.Loop() {
		b.StopTimer()
		if _, err := net.Replay(tail); err != nil {
			b.Fatal(err)
		}
		time.Sleep(time.Duration(count*37%250) * time.Millisecond) // anywhere between two polls
		b.StartTimer()
		at := time.Now()
		if _, err := net.Milestone(); err != nil {
			b.Fatal(err)
		}
		count++
		granted(count)
		worst = max(worst, time.Since(at))
	}
	b.ReportMetric(float64(worst.Milliseconds()), "worst-ms")
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}
