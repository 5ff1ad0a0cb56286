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

// clockwork is a Publisher that notes when readings come.
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

// polled is what polling n plugs for a while came to.
type polled struct {
	cpu      time.Duration // of this process, for one plug and one second
	p50, p99 time.Duration // how far the time between two readings is from 500 ms
	missed   int           // intervals without a reading
	readings int
}

// pollPlugs polls plugs twice a second for d. Their grids are spread over the
// interval, as those of plugs found one after the other are.
func pollPlugs(b *testing.B, addrs []string, d time.Duration) polled {
	b.Helper()
	const interval = 500 * time.Millisecond
	works := make([]clockwork, len(addrs))
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var wg sync.WaitGroup
	for i, addr := range addrs {
		p := &wemo.Poller{Source: &Plug{Address: addr, Log: quiet()}, Publisher: &works[i], Live: "l", Average: "a", Log: quiet()}
		wg.Go(func() {
			time.Sleep(interval * time.Duration(i) / time.Duration(len(addrs)))
			if err := p.Run(ctx); err != nil {
				b.Error(err)
			}
		})
	}
	time.Sleep(2 * time.Second) // first contact
	from := time.Now()
	before := cpuTime(b)
	time.Sleep(d)
	used := cpuTime(b) - before
	to := time.Now()
	cancel()
	wg.Wait()
	var r polled
	var off []time.Duration
	for i := range works {
		at := works[i].at
		at = slices.DeleteFunc(at, func(t time.Time) bool { return t.Before(from) || t.After(to) })
		r.readings += len(at)
		for j := 1; j < len(at); j++ {
			gap := at[j].Sub(at[j-1])
			off = append(off, (gap - interval).Abs())
			r.missed += max(0, int((gap+interval/2)/interval)-1)
		}
		if len(at) < 2 {
			r.missed += int(d / interval)
		}
	}
	slices.Sort(off)
	if len(off) > 0 {
		r.p50, r.p99 = off[len(off)/2], off[len(off)*99/100]
	}
	r.cpu = used / time.Duration(len(addrs)) * time.Second / d
	return r
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPlug polls one plug, which runs in another process, at 2 Hz over
// loopback: the CPU time that it takes, and how steady the grid is.
func BenchmarkPlug(b *testing.B) {
	addrs := simulateElsewhere(b, 1)
	for b.Loop() {
		r := pollPlugs(b, addrs, 10*time.Second)
		b.ReportMetric(float64(r.cpu.Microseconds())/1000, "cpu-ms/plug/s")
		b.ReportMetric(float64(r.p50.Microseconds())/1000, "jitter-p50-ms")
		b.ReportMetric(float64(r.p99.Microseconds())/1000, "jitter-p99-ms")
		b.ReportMetric(float64(r.missed), "missed")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkManyPlugs polls more and more plugs until one misses an interval.
// The simulators share the machine.
func BenchmarkManyPlugs(b *testing.B) {
	for b.Loop() {
		good := polled{}
		most := 0
		for _, n := range []int{50, 100, 200, 300, 400, 600, 800, 1200, 1600} {
			r := pollPlugs(b, simulateElsewhere(b, n), 3*time.Second)
			b.Logf("%d plugs: %d missed of %d, %s CPU a plug and second, jitter p50 %s p99 %s", n, r.missed, r.readings, r.cpu, r.p50, r.p99)
			if r.missed > 0 {
				break
			}
			good, most = r, n
		}
		b.ReportMetric(float64(most), "plugs")
		b.ReportMetric(float64(good.cpu.Microseconds())/1000, "cpu-ms/plug/s")
		b.ReportMetric(float64(good.p99.Microseconds())/1000, "jitter-p99-ms")
	}
	b.ReportMetric(0, "ns/op")
}
