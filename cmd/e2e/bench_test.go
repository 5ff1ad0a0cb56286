package e2e

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/iotaledger/iota.go/api"

	"github.com/iotoll/iotoll/cmd/internal/rig"
)

// BenchmarkPaidStream measures what a buyer waits for, and what he gets beyond
// his time, on the embedded store:
//
//   - confirmed→message-ms: from the moment the node reports the payment as
//     confirmed to the first sensor/live message at a client that was subscribed
//     already (median and greatest; readings come every 500 ms);
//   - late-messages: how many arrived after the end of the grant, and last→end-ms,
//     how long before the end the last one came (the least of all grants).
func BenchmarkPaidStream(b *testing.B) {
	r, err := rig.Start(b.Context(), rig.Options{
		Bin: bin, Dir: b.TempDir(), Period: 2 * time.Second, Finality: 300 * time.Millisecond,
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

	node, err := api.ComposeAPI(api.HTTPClientSettings{URI: r.NodeURL})
	if err != nil {
		b.Fatal(err)
	}
	var waits []time.Duration
	for range 8 { // one after another, whatever b.N is
		out, err := r.Pay(b.Context(), r.Price, john)
		if err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		confirmed := waitConfirmed(b, node, regexp.MustCompile(`[A-Z9]{81}`).FindString(out))
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

// waitConfirmed returns the moment at which the node says that it has confirmed
// a transaction.
func waitConfirmed(b *testing.B, node *api.API, tail string) time.Time {
	b.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		states, err := node.GetInclusionStates([]string{tail})
		if err != nil || len(states) != 1 {
			b.Fatalf("inclusion of %s: got %v, %v", tail, states, err)
		}
		if states[0] {
			return time.Now()
		}
	}
	b.Fatalf("payment %s was not confirmed within ten seconds", tail)
	return time.Time{}
}
