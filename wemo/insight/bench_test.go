package insight

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/iotoll/iotoll/wemo"
)

// clockwork is a Publisher that notes when readings arrive.
type clockwork struct {
	mu sync.Mutex
	at []time.Time
}

func (c *clockwork) Publish(_ string, _ []byte, retained bool) error {
	if !retained {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.at = append(c.at, time.Now())
	}
	return nil
}

// BenchmarkPlug polls one plug, which runs in another process, twice a second over
// loopback: the CPU time that this takes, and how steady the interval is.
func BenchmarkPlug(b *testing.B) {
	const interval, d = 500 * time.Millisecond, 10 * time.Second
	addr := simulateElsewhere(b)
	for b.Loop() {
		var readings clockwork
		p := &wemo.Poller{Source: &Plug{Address: addr, Log: quiet()}, Publisher: &readings, Live: "l", Average: "a", Log: quiet()}
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(2 * time.Second) // first contact
		from, used := time.Now(), cpuTime(b)
		time.Sleep(d)
		used = cpuTime(b) - used
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		at := slices.DeleteFunc(readings.at, func(t time.Time) bool { return t.Before(from) || t.Sub(from) > d })
		if len(at) < 2 {
			b.Fatalf("got %d readings in %s", len(at), d)
		}
		var off []time.Duration
		missed := 0
		for i := 1; i < len(at); i++ {
			gap := at[i].Sub(at[i-1])
			off = append(off, (gap - interval).Abs())
			missed += max(0, int((gap+interval/2)/interval)-1)
		}
		slices.Sort(off)
		b.ReportMetric(float64(used.Microseconds())/1000/d.Seconds(), "cpu-ms/plug/s")
		b.ReportMetric(float64(off[len(off)/2].Microseconds())/1000, "jitter-p50-ms")
		b.ReportMetric(float64(off[len(off)*99/100].Microseconds())/1000, "jitter-p99-ms")
		b.ReportMetric(float64(missed), "missed")
	}
	b.ReportMetric(0, "ns/op")
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
