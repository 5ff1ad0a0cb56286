package insight

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iotoll/iotoll/wemo"
)

// Two hours of poller, plug, HTTP, and a device that fails in every way: every published
// reading is one that the device measured.
func TestPollerAndPlugUnderFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(3, 4))
		start := time.Now()
		// The power encodes the second in which it was measured.
		power := func(at time.Time) int64 { return 10_000 + int64(at.Sub(start)/time.Second) }
		var off atomic.Bool
		answer := insight("A", func() string {
			if off.Load() {
				return fmt.Sprintf("0|0|0|0|0|0|0|%d|0|0|8000", power(time.Now()))
			}
			return fmt.Sprintf("1|0|0|0|0|0|0|%d|0|7107245804.000000|8000", power(time.Now()))
		})
		n := &network{gone: map[netip.Addr]bool{}, answers: map[string]func(net.Conn){}}
		addr := "192.0.2.1:49153"
		n.answers[addr] = answer
		faults := map[string]func(){
			"well":   func() { n.answers[addr] = answer },
			"refuse": func() { delete(n.answers, addr) },
			"silent": func() { n.answers[addr] = nil },
			"gone":   func() { n.gone[netip.MustParseAddr("192.0.2.1")] = true },
			"reset":  func() { n.answers[addr] = func(c net.Conn) {} },
			"half": func() {
				n.answers[addr] = func(c net.Conn) {
					readRequest(c)
					fmt.Fprint(c, strings.TrimSuffix(plugAnswer("200 OK", "12345678"), "678"))
				}
			},
			"fault": func() {
				n.answers[addr] = func(c net.Conn) {
					readRequest(c)
					fmt.Fprint(c, plugAnswer("500 x", "<a><errorCode>501</errorCode></a>"))
				}
			},
			"slow": func() { n.answers[addr] = func(c net.Conn) { time.Sleep(1200 * time.Millisecond); answer(c) } },
			"empty": func() {
				n.answers[addr] = func(c net.Conn) {
					readRequest(c)
					fmt.Fprint(c, plugAnswer("200 OK", "<a><InsightParams></InsightParams></a>"))
				}
			},
			"off": func() { off.Store(true); n.answers[addr] = answer },
			"move": func() {
				delete(n.answers, addr)
				addr = fmt.Sprintf("192.0.2.1:%d", 49151+r.IntN(9))
				n.answers[addr] = answer
			},
		}
		names := []string{"well", "refuse", "silent", "gone", "reset", "half", "fault", "slow", "empty", "off", "move"}
		ctx, cancel := context.WithCancel(t.Context())
		type span struct {
			from time.Time
			name string
		}
		var history []span
		go func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := names[r.IntN(len(names))]
				if i%2 == 0 {
					name = "well"
				}
				n.mu.Lock()
				off.Store(false)
				clear(n.gone)
				faults[name]()
				history = append(history, span{time.Now(), name})
				n.mu.Unlock()
				sleep(ctx, time.Duration(20+r.IntN(70))*time.Second)
			}
		}()
		p := &Plug{Address: "192.0.2.1", Client: Client{Dial: n.dial}, Search: nowhere, Log: quiet()}
		m := &memory{}
		pollCtx, stop := context.WithTimeout(t.Context(), 2*time.Hour)
		defer stop()
		poller := &wemo.Poller{Source: p, Publisher: m, Live: "sensor/live", Average: "sensor/1m", Log: quiet()}
		if err := poller.Run(pollCtx); err != nil {
			t.Errorf("Run: got %v", err)
		}
		cancel()
		live := m.on("sensor/live")
		at := func(t time.Time) string {
			name := ""
			for _, h := range history {
				if !h.from.After(t) {
					name = h.name
				}
			}
			return name
		}
		zeros := 0
		for _, l := range live {
			got, err := strconv.ParseInt(l.payload, 10, 64)
			switch {
			case err != nil:
				t.Fatalf("published %+v", l)
			case got == 0 && (at(l.at) == "off" || at(l.at.Add(-time.Millisecond)) == "off"): // it may end at that instant
				zeros++
			case got != power(l.at):
				t.Errorf("published %d at %s (%s), want %d", got, l.at.Sub(start), at(l.at), power(l.at))
			}
		}
		if n.most != 1 {
			t.Errorf("%d connections at once, want 1", n.most)
		}
		t.Logf("%d readings published, %d of them 0 W while off, %d faults, %d connections", len(live), zeros, len(history), len(n.dials))
		if len(live) < 4000 || len(history) < 80 {
			t.Errorf("got %d readings and %d faults: too few", len(live), len(history))
		}
	})
}

// published is a message and when it was handed over.
type published struct {
	at      time.Time
	topic   string
	payload string
}

// memory is a Publisher that remembers.
type memory struct {
	mu  sync.Mutex
	all []published
}

func (m *memory) Publish(topic string, payload []byte, _ bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, published{time.Now(), topic, string(payload)})
	return nil
}

func (m *memory) on(topic string) []published {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.all), func(p published) bool { return p.topic != topic })
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
