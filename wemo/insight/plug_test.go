package insight

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iotoll/iotoll/wemo"
	"github.com/iotoll/iotoll/wemo/simulator"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

func quiet() logrus.FieldLogger {
	l, _ := logtest.NewNullLogger()
	return l
}

// readUntil reads until want reads have succeeded in a row, and returns the errors
// before that.
func readUntil(t *testing.T, p *Plug, want int) []error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
	defer cancel()
	var errs []error
	for n := 0; n < want; n++ {
		if _, err := p.Read(ctx); err != nil {
			if ctx.Err() != nil {
				t.Fatalf("Read: no success in 25 s, got %v", errs)
			}
			errs = append(errs, err)
			n = -1
		}
	}
	return errs
}

func TestPlugIsFoundAgainWhenItMoves(t *testing.T) {
	t.Parallel()
	s := simulate(t, simulator.Config{Search: "127.0.0.1:0"})
	p := &Plug{Search: Search{Group: s.SearchAddr()}, Address: s.Addr().String(), Client: Client{timeout: 300 * time.Millisecond}, Log: quiet()}
	readUntil(t, p, 2)
	old := s.Addr()
	if err := s.Restart(true); err != nil {
		t.Fatal(err)
	}
	errs := readUntil(t, p, 2)
	if s.Addr() == old || p.device.Addr != s.Addr() || len(errs) < 2 {
		t.Errorf("after a move from %s to %s: plug is at %s, errors %v", old, s.Addr(), p.device.Addr, errs)
	}
}

// A plug that gets another IP address is found by its UDN.
func TestPlugIsFoundAtANewAddress(t *testing.T) {
	t.Parallel()
	old, stop := simulateUntil(t, simulator.Config{Search: "127.0.0.1:0"})
	p := &Plug{Address: old.Addr().String(), Search: Search{Group: old.SearchAddr()}, Log: quiet()}
	readUntil(t, p, 1)
	stop()
	moved := simulate(t, simulator.Config{Address: "127.0.0.2:0", Search: old.SearchAddr().String()})
	readUntil(t, p, 1)
	if p.device.Addr != moved.Addr() {
		t.Errorf("after a new lease: plug is at %s, want %s", p.device.Addr, moved.Addr())
	}
}

func TestPlugSurvivesFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"refuse", "silent 1", "reset 1", "half 1", "fault 501 1", "fault -111 1", "fault 401 1", "status 500 1", "status 404 1", "slow 200ms 1"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s := simulate(t, simulator.Config{Load: func(time.Time) float64 { return 60_000 }})
			p := &Plug{Address: s.Addr().String(), Client: Client{timeout: time.Second}, Log: quiet()}
			readUntil(t, p, 1)
			if err := s.Command(fault); err != nil {
				t.Fatal(err)
			}
			r, err := p.Read(t.Context())
			if slow := strings.HasPrefix(fault, "slow"); (err == nil) != slow {
				t.Errorf("Read: got %+v, %v, want an error: %t", r, err, !slow)
			}
			if fault == "refuse" {
				s.Command("ok")
			}
			readUntil(t, p, 1)
			if r, err := p.Read(t.Context()); err != nil || r.MilliWatts != 60_000 {
				t.Errorf("Read afterwards: got %+v, %v, want 60000 mW", r, err)
			}
			s.Switch(false)
			if r, err := p.Read(t.Context()); err != nil || r.MilliWatts != 0 {
				t.Errorf("Read with the relay open: got %+v, %v, want 0 mW", r, err)
			}
		})
	}
}

// Another plug at our plug's address is not read.
func TestPlugIsNoOther(t *testing.T) {
	t.Parallel()
	ours := simulate(t, simulator.Config{Serial: "OURS"})
	theirs := simulate(t, simulator.Config{Serial: "THEIRS", Search: "127.0.0.1:0"})
	p := &Plug{Address: theirs.Addr().String(), UDN: ours.UDN(), Search: Search{Group: theirs.SearchAddr()}, Log: quiet()}
	if _, err := p.Read(t.Context()); !errors.Is(err, ErrOtherPlug) || !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), theirs.UDN()) {
		t.Errorf("Read: got %v, want ErrOtherPlug, ErrNotFound and %s", err, theirs.UDN())
	}
}

// network is an in-memory network; answers says how each address answers.
type network struct {
	mu      sync.Mutex
	answers map[string]func(net.Conn) // nil: silence; no entry: refused
	gone    map[netip.Addr]bool       // hosts that do not answer at all
	dials   []string
	open    atomic.Int32
	most    int32
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	if n.open.Load() > 0 {
		time.Sleep(time.Nanosecond) // http closes the connection of a finished request in the background
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials = append(n.dials, address)
	if n.gone[netip.MustParseAddrPort(address).Addr()] {
		n.mu.Unlock()
		<-ctx.Done()
		n.mu.Lock()
		return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
	}
	answer, ok := n.answers[address]
	if !ok {
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	n.most = max(n.most, n.open.Add(1))
	client, server := net.Pipe()
	go func() {
		defer server.Close()
		if answer != nil {
			answer(server)
			return
		}
		b := make([]byte, 4096)
		for {
			if _, err := server.Read(b); err != nil {
				return
			}
		}
	}()
	return &counted{Conn: client, open: &n.open}, nil
}

// counted counts as open until the client closes it.
type counted struct {
	net.Conn
	open *atomic.Int32
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// insight answers like a plug of that serial number.
func insight(serial string, params func() string) func(net.Conn) {
	return func(c net.Conn) {
		req, err := readRequest(c)
		if err != nil {
			return
		}
		body := fmt.Sprintf("<root><device><deviceType>urn:Belkin:device:insight:1</deviceType><UDN>uuid:Insight-1_0-%s</UDN></device></root>", serial)
		if req.Method == http.MethodPost {
			body = "<a><InsightParams>" + params() + "</InsightParams></a>"
		}
		fmt.Fprint(c, plugAnswer("200 OK", body))
	}
}

func TestLocateProbesPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{answers: map[string]func(net.Conn){
			"192.0.2.1:49153": nil, // a stale port: accepts and never answers
			"192.0.2.1:49152": func(c net.Conn) { c.Close() },
			"192.0.2.1:49154": func(c net.Conn) { readRequest(c); fmt.Fprint(c, plugAnswer("200 OK", "<html></html>")) },
			"192.0.2.1:49155": insight("A", nil),
			"192.0.2.2:49153": func(c net.Conn) { readRequest(c); fmt.Fprint(c, plugAnswer("500 Internal Server Error", "")) },
		}, gone: map[netip.Addr]bool{netip.MustParseAddr("192.0.2.3"): true}}
		c := &Client{Dial: n.dial}
		d, err := c.Locate(t.Context(), netip.MustParseAddrPort("192.0.2.1:49158"), "uuid:Insight-1_0-A")
		want := "192.0.2.1:49158 192.0.2.1:49153 192.0.2.1:49152 192.0.2.1:49154 192.0.2.1:49151 192.0.2.1:49155"
		if got := strings.Join(n.dials, " "); err != nil || d.Addr.Port() != 49155 || got != want {
			t.Errorf("Locate: got %+v, %v, probed %s, want %s", d, err, got, want)
		}
		// After an HTTP error no other port is probed.
		n.dials = nil
		var status *StatusError
		if _, err := c.Locate(t.Context(), netip.MustParseAddrPort("192.0.2.2:0"), ""); !errors.As(err, &status) || len(n.dials) != 1 {
			t.Errorf("Locate with HTTP 500: got %v after %v, want a StatusError after one", err, n.dials)
		}
		// A host that does not answer is probed once.
		n.dials = nil
		start := time.Now()
		if _, err := c.Locate(t.Context(), netip.MustParseAddrPort("192.0.2.3:0"), ""); !errors.Is(err, ErrUnreachable) || len(n.dials) != 1 || time.Since(start) != connectTimeout {
			t.Errorf("Locate with the host gone: got %v after %v and %s, want ErrUnreachable after one", err, n.dials, time.Since(start))
		}
		n.dials = nil
		if _, err := c.Locate(t.Context(), netip.MustParseAddrPort("192.0.2.4:0"), ""); err == nil || len(n.dials) != 9 {
			t.Errorf("Locate with nothing there: got %v after %v, want an error after nine", err, n.dials)
		}
		// A host that accepts on every port and never answers is given up in time.
		for port := 49151; port <= 49159; port++ {
			n.answers[fmt.Sprint("192.0.2.5:", port)] = nil
		}
		start = time.Now()
		if _, err := c.Locate(t.Context(), netip.MustParseAddrPort("192.0.2.5:0"), ""); err == nil || time.Since(start) != hostTimeout {
			t.Errorf("Locate on a host that hangs: got %v after %s, want an error after %s", err, time.Since(start), hostTimeout)
		}
		synctest.Wait()
		if n.most != 1 {
			t.Errorf("Locate: %d connections at once, want 1", n.most)
		}
	})
}

// Another plug on the same host is never read in place of the configured one, however
// that fails.
func TestPlugIsNoNeighbour(t *testing.T) {
	description := func(doc string) func(net.Conn) {
		return func(c net.Conn) { readRequest(c); fmt.Fprint(c, plugAnswer("200 OK", doc)) }
	}
	well := func() string { return "1|0|0|0|0|0|0|5000" }
	for name, configured := range map[string]func(net.Conn){
		"silent":             nil,
		"resets":             func(net.Conn) {},
		"truncated":          description("<root><device><deviceType>urn:Belkin:device:insight:1</deviceType><UDN>uuid:Insight-1_0-OU"),
		"something else":     description("<html></html>"),
		"500":                func(c net.Conn) { readRequest(c); fmt.Fprint(c, plugAnswer("500 Internal Server Error", "")) },
		"no params":          insight("OURS", func() string { return "" }),
		"nothing listens":    nil,
		"well, then refuses": insight("OURS", well),
	} {
		synctest.Test(t, func(t *testing.T) {
			n := &network{answers: map[string]func(net.Conn){"192.0.2.1:49154": configured, "192.0.2.1:49153": insight("NEIGHBOUR", func() string { return "1|0|0|0|0|0|0|666000" })}}
			if name == "nothing listens" {
				delete(n.answers, "192.0.2.1:49154")
			}
			p := &Plug{Address: "192.0.2.1:49154", Client: Client{Dial: n.dial}, Search: nowhere, Log: quiet()}
			for i := range 5 {
				r, err := p.Read(t.Context())
				if name == "well, then refuses" && i == 0 {
					delete(n.answers, "192.0.2.1:49154")
				} else if err == nil {
					t.Errorf("%s: Read %d: got %+v, want an error", name, i, r)
				}
				if r.MilliWatts == 666_000 {
					t.Fatalf("%s: read the neighbour", name)
				}
			}
			// The configured plug is read when it is back, also on another port.
			n.answers["192.0.2.1:49154"] = insight("OURS", well)
			if name == "well, then refuses" {
				delete(n.answers, "192.0.2.1:49154")
				n.answers["192.0.2.1:49157"] = insight("OURS", well)
			}
			if r, err := p.Read(t.Context()); err != nil || r.MilliWatts != 5000 {
				t.Errorf("%s: Read when the plug is back: got %+v, %v, want 5000 mW", name, r, err)
			}
		})
	}
}

// nowhere is a search without a network, for synctest.
var nowhere = Search{listener: func() ([]*net.UDPConn, error) { return nil, errors.New("no network") }}

// A plug that answers 500 is asked ever less often, and located again after its second
// failure.
func TestPlugBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const addr = "192.0.2.1:49153"
		well := insight("A", func() string { return "1|0|0|0|0|0|0|5000" })
		n := &network{answers: map[string]func(net.Conn){addr: well}}
		p := &Plug{Address: "192.0.2.1", Client: Client{Dial: n.dial}, Search: nowhere, Log: quiet()}
		if r, err := p.Read(t.Context()); err != nil || r.MilliWatts != 5000 || !r.At.Equal(time.Now()) {
			t.Fatalf("Read: got %+v, %v, want 5000 mW now", r, err)
		}
		start := time.Now()
		var asked []string
		n.answers[addr] = func(c net.Conn) {
			req, err := readRequest(c)
			if err != nil {
				return
			}
			asked = append(asked, fmt.Sprintf("%s after %s", req.Method, time.Since(start).Round(time.Millisecond)))
			fmt.Fprint(c, plugAnswer("500 Internal Server Error", ""))
		}
		for range 7 {
			var status *StatusError
			if r, err := p.Read(t.Context()); !errors.As(err, &status) || r != (wemo.Reading{}) {
				t.Errorf("Read: got %+v, %v, want HTTP status 500", r, err)
			}
		}
		// GET asks for the description, POST for the power.
		const want = "POST after 0s, POST after 1s, GET after 3s, GET after 8s, GET after 23s, GET after 1m23s, GET after 2m23s"
		if got := strings.Join(asked, ", "); got != want {
			t.Errorf("requests: got %s, want %s", got, want)
		}
		// Read returns at once when canceled, which does not count as a failure.
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		start = time.Now()
		if _, err := p.Read(ctx); !errors.Is(err, context.Canceled) || time.Since(start) != 100*time.Millisecond || p.backoff.Failures != 7 {
			t.Errorf("canceled Read: got %v after %s, %d failures, want 7", err, time.Since(start), p.backoff.Failures)
		}
		n.answers[addr] = well
		for _, want := range []time.Duration{time.Minute, time.Minute} {
			if r, err := p.Read(t.Context()); err != nil || r.MilliWatts != 5000 || time.Since(start).Round(time.Millisecond) != want {
				t.Errorf("Read afterwards: got %+v, %v after %s, want 5000 mW after %s", r, err, time.Since(start), want)
			}
		}
	})
}

// While its name cannot be looked up, a plug is read at its last address.
func TestPlugSurvivesNameService(t *testing.T) {
	ResolveAddress(t.Context(), "localhost") // package net's state must not belong to the bubble
	synctest.Test(t, func(t *testing.T) {
		well := insight("A", func() string { return "1|0|0|0|0|0|0|5000" })
		n := &network{answers: map[string]func(net.Conn){"192.0.2.1:49153": well}}
		p := &Plug{Address: "192.0.2.1", Client: Client{Dial: n.dial}, Search: nowhere, Log: quiet()}
		readUntil(t, p, 1)
		p.Address = "plug..home" // no name, and so nobody is asked for it
		n.answers = map[string]func(net.Conn){"192.0.2.1:49154": well}
		if errs := readUntil(t, p, 1); len(errs) != 2 || p.device.Addr.Port() != 49154 {
			t.Errorf("plug that moved: found at %s after %v, want it on port 49154 after two failures", p.device.Addr, errs)
		}
		p.device = Device{}
		if _, err := p.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "look up plug address") {
			t.Errorf("Read of a plug never seen: got %v, want what is wrong with its name", err)
		}
	})
}
