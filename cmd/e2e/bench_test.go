package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/iotaledger/iota.go/api"

	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/cmd/internal/rig"
)

// BenchmarkPaidStream measures what a buyer waits for, and what he gets beyond
// his time, on the embedded store:
//
//   - confirmed→message-ms: from the moment the node reports the payment as
//     final to the first sensor/live message at a client that was subscribed
//     already (median and greatest; readings come every 500 ms);
//   - late-messages: how many arrived after the end of the grant, and last→end-ms,
//     how long before the end the last one came (the least of all grants).
func BenchmarkPaidStream(b *testing.B) {
	for _, ledger := range []string{ledgers.Legacy, ledgers.IOTA} {
		b.Run("ledger="+ledger, func(b *testing.B) { paidStream(b, ledger) })
	}
}

func paidStream(b *testing.B, ledger string) {
	r, err := rig.Start(b.Context(), rig.Options{
		Bin: bin, Dir: b.TempDir(), Ledger: ledger, Period: 3 * time.Second, Finality: 300 * time.Millisecond,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()

	var mu sync.Mutex
	var arrived []time.Time
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.BrokerPort))
	if err != nil {
		b.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{
		Conn: conn,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(m paho.PublishReceived) (bool, error) {
			if m.Packet.Topic == "sensor/live" {
				mu.Lock()
				arrived = append(arrived, time.Now())
				mu.Unlock()
			}
			return true, nil
		}},
	})
	_, err = c.Connect(b.Context(), &paho.Connect{
		CleanStart: true, UsernameFlag: true, Username: "john", PasswordFlag: true, Password: []byte(r.Password("john")),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Disconnect(&paho.Disconnect{})
	if _, err := c.Subscribe(b.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "sensor/#"}}}); err != nil {
		b.Fatal(err)
	}
	after := func(t time.Time) []time.Time {
		mu.Lock()
		defer mu.Unlock()
		i := slices.IndexFunc(arrived, func(a time.Time) bool { return a.After(t) })
		if i < 0 {
			return nil
		}
		return slices.Clone(arrived[i:])
	}

	var waits []time.Duration
	for range 8 { // one after another, whatever b.N is
		confirmed := payFinal(b, r)
		ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
		for len(after(confirmed)) == 0 {
			if ctx.Err() != nil {
				b.Fatal("paid, and no sensor/live within ten seconds")
			}
			time.Sleep(time.Millisecond)
		}
		cancel()
		waits = append(waits, after(confirmed)[0].Sub(confirmed))
		time.Sleep(r.Period + time.Second) // the grant ends, and a late message would come
	}

	late, least := 0, time.Hour
	for _, g := range grants(b, r) {
		if !g.Until.After(g.From) {
			continue
		}
		last := time.Duration(0)
		for _, a := range after(g.From) {
			if a.Before(g.Until) {
				last = g.Until.Sub(a)
			} else if a.Before(g.Until.Add(time.Second)) {
				late++
			}
		}
		least = min(least, last)
	}
	slices.Sort(waits)
	b.ReportMetric(ms(waits[len(waits)/2]), "confirmed→message-median-ms")
	b.ReportMetric(ms(waits[len(waits)-1]), "confirmed→message-max-ms")
	b.ReportMetric(float64(late), "late-messages")
	b.ReportMetric(ms(least), "last→end-ms")
	b.ReportMetric(0, "ns/op") // means nothing here
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// payFinal pays the price and returns the moment at which the node says that the
// payment is final: on today's network, that it lists the payment with its checkpoint,
// which may be before the paying tool has ended.
func payFinal(b *testing.B, r *rig.Rig) time.Time {
	b.Helper()
	await := func(final func() bool) time.Time {
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
			if final() {
				return time.Now()
			}
		}
		b.Fatal("the payment was not final within 20 seconds")
		return time.Time{}
	}
	if r.Ledger == ledgers.Legacy {
		node, err := api.ComposeAPI(api.HTTPClientSettings{URI: r.NodeURL})
		if err != nil {
			b.Fatal(err)
		}
		out, err := r.Pay(b.Context(), r.Price, john)
		if err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		tail := regexp.MustCompile(`[A-Z9]{81}`).FindString(out)
		return await(func() bool {
			states, err := node.GetInclusionStates([]string{tail})
			if err != nil || len(states) != 1 {
				b.Fatalf("inclusion of %s: got %v, %v", tail, states, err)
			}
			return states[0]
		})
	}
	query := fmt.Sprintf(`{"query":"{transactionBlocks(last:1,filter:{affectedAddress:\"%s\"}){nodes{digest effects{checkpoint{sequenceNumber}}}}}"}`, r.Deposit)
	list := func() string {
		res, err := http.Post(r.NodeURL, "application/json", strings.NewReader(query))
		if err != nil {
			b.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil || strings.Contains(string(text), "errors") {
			b.Fatalf("list of %s: got %s, %v", r.Deposit, text, err)
		}
		return string(text)
	}
	before := list()
	paid := make(chan error, 1)
	go func() {
		out, err := r.Pay(b.Context(), r.Price, john)
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		paid <- err
	}()
	at := await(func() bool {
		now := list()
		return now != before && strings.Contains(now, "sequenceNumber")
	})
	if err := <-paid; err != nil {
		b.Fatal(err)
	}
	return at
}

// BenchmarkMissed measures how long serve takes, on the embedded store, to settle the
// 5,000 payments that were made while it was down, and the memory that it needs. All
// must be settled, in the ledger's order.
func BenchmarkMissed(b *testing.B) {
	const missed = 5000
	tl := newTill(b, tillLedgers[1], "")
	first := tl.serve(tl.config, "")
	first.await("serve to watch the address", func() bool { return first.said("deposit address is watched from now on") > 0 })
	tl.addUsers("john")
	first.kill()
	tl.hangUp()
	amounts := make([]int64, missed)
	for i := range amounts {
		amounts[i] = int64(100 + i%1000)
	}
	ids := tl.pay("john", amounts...)

	start := time.Now()
	again := tl.serve(tl.config, "")
	for again.said(settled...) < missed {
		if again.ended() || time.Since(start) > 5*time.Minute {
			b.Fatalf("%d of %d payments are settled; serve said last:\n%s", again.said(settled...), missed, again.out.String()[max(0, len(again.out.String())-2000):])
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.ReportMetric(time.Since(start).Seconds(), "all-settled-s")
	b.ReportMetric(0, "ns/op")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", again.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	if m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status); m != nil {
		kilobytes, _ := strconv.ParseFloat(string(m[1]), 64)
		b.ReportMetric(kilobytes/1024, "peak-MiB")
	}
	tl.check("john")
	tl.with(func(ctx context.Context, s *mongostore.Store) error {
		entries, err := s.Entries(ctx, "john", "live")
		if err != nil {
			return err
		}
		for i, e := range entries {
			if e.Cause != ids[i] {
				b.Fatalf("entry %d is for payment %s, want %s, the next of the ledger", i+1, e.Cause, ids[i])
			}
		}
		return nil
	})
}
