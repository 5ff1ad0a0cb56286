package bench

import (
	"fmt"
	"testing"
	"time"
)

const (
	rounds = 5
	slices = 6                      // of each broker in a round
	slice  = 250 * time.Millisecond // short enough that all brokers meet the same machine
)

// BenchmarkDeliveries floods brokers with QoS 0 messages and counts what their
// subscribers receive, each of whom has a live grant on iotoll's broker.
func BenchmarkDeliveries(b *testing.B) {
	for _, subscribers := range []int{10, 100} {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			f := newFixture(b, subscribers, 0)
			for range b.N {
				perSecond, cpu := make(series), make(series)
				for round := range rounds {
					for name, t := range throughputs(b, f, subscribers, round) {
						perSecond.add(name, float64(t.deliveries)/t.elapsed.Seconds())
						cpu.add(name, t.cpu.Seconds()/float64(t.deliveries))
					}
				}
				for _, base := range []string{allow, thread, files} {
					b.ReportMetric(perSecond.ratio(iotoll, base), "deliveries/"+base)
					b.ReportMetric(cpu.ratio(iotoll, base), "cpu/"+base)
				}
				b.ReportMetric(perSecond.median(iotoll), "deliveries/s")
			}
		})
	}
}

// throughputs measures each configuration once, slice by slice in turn.
func throughputs(b *testing.B, f *fixture, subscribers, round int) map[string]throughput {
	flows := make(map[string]*flow)
	for _, name := range configurations {
		broker := f.start(b, name)
		flows[name] = newFlow(b, broker, f, subscribers)
		broker.pause(b)
	}
	sums := make(map[string]throughput)
	for i := range slices {
		for j := range configurations {
			name := configurations[(round+i+j)%len(configurations)]
			w := flows[name]
			w.broker.resume(b)
			sums[name] = sums[name].plus(w.measure(b, slice))
			w.broker.pause(b)
		}
	}
	for _, w := range flows {
		w.broker.resume(b)
		w.finish(b)
		w.broker.Stop()
	}
	return sums
}
