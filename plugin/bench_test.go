package main

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
)

// What log-ins cost the others: 20 a second for some seconds, each of a user who
// was not there before, and then of those who were, while a message is delivered
// every 5 ms. With PATH, another version of the broker can be put under it.
func BenchmarkBrokerLogins(b *testing.B) {
	const logins = 60
	s := startStore(b)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}}})
	for i := range logins {
		s.user(acl.User{Name: fmt.Sprint("u", i)})
	}
	broker := startBroker(b, conf(s.uri))
	broker.waitLog("following the store")
	publisher := broker.connect(connect{user: "jane", pass: "secret", id: "publisher"})
	reader := broker.connect(connect{user: "jane", pass: "secret", id: "reader"})
	reader.subscribe("a", 0)

	measure := func(name string, login func(i int)) {
		var latencies, took []time.Duration
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for tick := time.NewTicker(5 * time.Millisecond); ; {
				select {
				case <-stop:
					tick.Stop()
					return
				case <-tick.C:
				}
				start := time.Now()
				publisher.publish("a", "x", 0, false)
				<-reader.inbox
				latencies = append(latencies, time.Since(start))
			}
		})
		for i := range logins {
			next := time.Now().Add(50 * time.Millisecond)
			if login != nil {
				start := time.Now()
				login(i)
				took = append(took, time.Since(start))
			}
			time.Sleep(time.Until(next))
		}
		close(stop)
		wg.Wait()
		ms := func(d []time.Duration, part float64) float64 {
			if len(d) == 0 {
				return 0
			}
			slices.Sort(d)
			return d[int(part*float64(len(d)-1))].Seconds() * 1000
		}
		b.ReportMetric(ms(latencies, 0.5), name+"-p50-ms")
		b.ReportMetric(ms(latencies, 0.99), name+"-p99-ms")
		b.ReportMetric(ms(took, 0.5), name+"-login-p50-ms")
	}
	for b.Loop() {
		measure("idle", nil)
		login := func(i int) {
			broker.connect(connect{user: fmt.Sprint("u", i), pass: "secret", id: fmt.Sprint("u", i)}).drop()
		}
		measure("first", login)
		measure("again", login)
	}
}
