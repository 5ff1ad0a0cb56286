package legacy

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/tangle"
	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// replayed serves a tangle on which one bundle paid 1 iota count times, and
// returns a ledger of the address.
func replayed(t testing.TB, count int) (*devlegacy.Node, *watched, *Ledger) {
	t.Helper()
	net, err := devlegacy.New(devlegacy.Config{Genesis: bank()})
	if err != nil {
		t.Fatal(err)
	}
	jane := addressOf(t, janeSeed, 0)
	message, err := devlegacy.Message(fromJohn)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := devlegacy.Spend{Seed: bankSeed, To: bundle.Transfers{{Address: jane, Value: 1, Message: message}}}.Sign()
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

// BenchmarkIdle measures a poll when nothing is new, by the payments in the history.
func BenchmarkIdle(b *testing.B) {
	for _, count := range []int{10, 900} {
		b.Run(map[int]string{10: "10 payments", 900: "900 payments"}[count], func(b *testing.B) {
			_, s, l := replayed(b, count)
			if _, _, err := confirmed(l, b.Context()); err != nil {
				b.Fatal(err)
			}
			s.asked()
			const polls = 200
			for b.Loop() {
				for range polls {
					if _, _, err := confirmed(l, b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			}
			n := float64(b.N * polls)
			b.ReportMetric(float64(b.Elapsed().Microseconds())/n, "µs/poll")
			b.ReportMetric(float64(s.bytes)/n, "answer-B/poll")
			b.ReportMetric(float64(len(s.asked()))/n, "requests/poll")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkHistory measures the first scan of a history of 200 payments.
func BenchmarkHistory(b *testing.B) {
	_, s, l := replayed(b, 200)
	for b.Loop() {
		fresh, err := New(l.cfg)
		if err != nil {
			b.Fatal(err)
		}
		if got, _, err := confirmed(fresh, b.Context()); err != nil || len(got) != 200 {
			b.Fatalf("got %d payments, %v", len(got), err)
		}
	}
	b.ReportMetric(float64(len(s.asked()))/float64(b.N), "requests/op")
}

// BenchmarkPayment measures from the milestone to the payment.
func BenchmarkPayment(b *testing.B) {
	net, _, l := replayed(b, 1)
	got, _, err := confirmed(l, b.Context())
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
		if more, _, err := confirmed(l, b.Context()); err != nil || len(more) != 1 {
			b.Fatalf("got %v, %v", more, err)
		}
	}
}

// till is everything that turns payments into grants: a simulated tangle, a ledger
// that reads it over HTTP, a watcher that polls every 250 ms, and the embedded store,
// all in this process.
type till struct {
	net  *devlegacy.Node
	jane string
	paid int

	settled chan time.Time // when a payment was settled and its grant published
}

func newTill(b *testing.B) *till {
	b.Helper()
	logger, _ := logtest.NewNullLogger()
	tl := &till{jane: addressOf(b, janeSeed, 0), settled: make(chan time.Time, 1000)}
	var err error
	if tl.net, err = devlegacy.New(devlegacy.Config{Genesis: bank()}); err != nil {
		b.Fatal(err)
	}
	l, err := New(Config{Nodes: []string{serve(b, tl.net).URL}, Addresses: []string{tl.jane}, Log: logger})
	if err != nil {
		b.Fatal(err)
	}
	filter, err := acl.ParseFilter("sensor/live")
	if err != nil {
		b.Fatal(err)
	}
	offers, err := tangle.NewOffers(tangle.Offer{
		ID: "live", Filters: []acl.Filter{filter}, Price: 500, Period: time.Hour, Address: tl.jane,
	})
	if err != nil {
		b.Fatal(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	ferret, err := embedded.Open(embedded.Config{Directory: filepath.Join(b.TempDir(), "store")}, logger)
	if err != nil {
		b.Fatal(err)
	}
	stored := make(chan error, 1)
	go func() { stored <- ferret.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-stored; err != nil {
			b.Error(err)
		}
	})
	store, err := mongostore.Open(ferret.URI(), "mosquitto")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close(context.Background()) })
	if err := errors.Join(store.Migrate(ctx), store.AddUser(ctx, acl.User{Name: "john"})); err != nil {
		b.Fatal(err)
	}

	w := &tangle.Watcher{
		Ledger: l, Store: store, Offers: offers, Interval: 250 * time.Millisecond, Timeout: time.Minute, FromStart: true,
		Log: logger,
		Observe: func(_ tangle.Payment, o tangle.Outcome, _ time.Duration) {
			if o != tangle.Credited {
				b.Errorf("a payment is %s", o)
			}
			tl.settled <- time.Now()
		},
	}
	watched, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- w.Run(watched) }()
	b.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	return tl
}

// pay sends payments, each a bundle of its own; no milestone confirms them yet.
func (tl *till) pay(b *testing.B, count int) {
	b.Helper()
	message, err := devlegacy.Message(fromJohn)
	if err != nil {
		b.Fatal(err)
	}
	for range count {
		tl.paid++
		signed, err := devlegacy.Spend{
			Seed: bankSeed, To: bundle.Transfers{{Address: tl.jane, Value: 500, Message: message}},
			Time: time.Now().Add(time.Duration(tl.paid) * time.Second),
		}.Sign()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tl.net.Send(signed); err != nil {
			b.Fatal(err)
		}
	}
}

// settle issues a milestone and returns how long it takes until a number of payments
// are settled.
func (tl *till) settle(b *testing.B, count int) time.Duration {
	b.Helper()
	at := time.Now()
	if _, err := tl.net.Milestone(); err != nil {
		b.Fatal(err)
	}
	var last time.Time
	for range count {
		select {
		case last = <-tl.settled:
		case <-time.After(time.Minute):
			b.Fatal("a payment was not settled within a minute")
		}
	}
	return last.Sub(at)
}

// BenchmarkGranted measures the time from the milestone that confirms a payment until
// its grant is in the embedded store and its followers know, for 20 payments.
func BenchmarkGranted(b *testing.B) {
	tl := newTill(b)
	var took []time.Duration
	for b.Loop() {
		for i := range 20 {
			tl.pay(b, 1)
			time.Sleep(time.Duration(i*67%250) * time.Millisecond) // anywhere between two polls
			took = append(took, tl.settle(b, 1))
		}
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1000, "median-ms")
	b.ReportMetric(took[len(took)-1].Seconds()*1000, "max-ms")
	b.ReportMetric(0, "ns/op") // of 20 payments with pauses: means nothing
}

// BenchmarkSettled measures payments a second from the node to grants in the embedded
// store: 100 bundles of one account that one milestone confirms.
func BenchmarkSettled(b *testing.B) {
	tl := newTill(b)
	const count = 100
	var took time.Duration
	for b.Loop() {
		tl.pay(b, count)
		took += tl.settle(b, count)
	}
	b.ReportMetric(float64(b.N*count)/took.Seconds(), "payments/s")
	b.ReportMetric(0, "ns/op")
}
