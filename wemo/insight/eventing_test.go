package insight

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iotoll/iotoll/wemo"
	"github.com/iotoll/iotoll/wemo/simulator"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// eventPlug is a Plug with Eventing, a clock and counters.
type eventPlug struct {
	*Plug
	ahead atomic.Int64 // nanoseconds that its clock is ahead
	log   *logtest.Hook
	asked atomic.Int32 // connections to the plug
	stop  func()
}

// listenTo runs a Plug with events until the test ends or stop is called.
func listenTo(t *testing.T, addr, search netip.AddrPort) *eventPlug {
	t.Helper()
	log, hook := logtest.NewNullLogger()
	e := &eventPlug{log: hook}
	e.Plug = &Plug{
		Address: addr.String(), Eventing: true, Log: log,
		Now:    func() time.Time { return time.Now().Add(time.Duration(e.ahead.Load())) },
		Search: Search{Group: search, joiner: func() ([]*net.UDPConn, error) { return nil, nil }},
		Client: Client{timeout: 2 * time.Second, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			e.asked.Add(1)
			return new(net.Dialer).DialContext(ctx, network, address)
		}},
	}
	e.start(t)
	return e
}

func (e *eventPlug) advance(d time.Duration) { e.ahead.Add(int64(d)) }

func (e *eventPlug) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	e.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: got %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run did not return")
		}
	})
	t.Cleanup(e.stop)
	within(t, time.Second, "Run to begin", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.running
	})
}

// within waits until cond holds.
func within(t *testing.T, d time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", d, what)
		}
	}
}

// want reads once; asking says whether a request is expected.
func (e *eventPlug) want(t *testing.T, mw int64, asking bool) {
	t.Helper()
	before := e.asked.Load()
	r, err := e.Read(t.Context())
	if err != nil || r.MilliWatts != mw {
		t.Fatalf("Read: got %+v, %v, want %d mW", r, err, mw)
	}
	if asked := e.asked.Load() != before; asked != asking {
		t.Fatalf("Read: asked the plug: %t, want %t", asked, asking)
	}
}

func (e *eventPlug) sid() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.subscribed == nil {
		return ""
	}
	return e.subscribed.sid
}

// pushes waits until the plug has sent mw.
func (e *eventPlug) pushes(t *testing.T, mw int64) {
	t.Helper()
	within(t, 5*time.Second, fmt.Sprintf("an event of %d mW", mw), func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.subscribed == nil {
			return false
		}
		e.subscribed.mu.Lock()
		defer e.subscribed.mu.Unlock()
		return !e.subscribed.newest.At.IsZero() && e.subscribed.newest.MilliWatts == mw
	})
}

// pushing returns a simulated plug of 60 W and a Plug that has its first event.
func pushing(t *testing.T, c simulator.Config) (*simulator.Plug, *eventPlug) {
	t.Helper()
	s := simulate(t, c)
	s.Freeze(on(60_000))
	p := listenTo(t, s.Addr(), s.SearchAddr())
	p.want(t, 60_000, true)
	p.pushes(t, 60_000)
	return s, p
}

func on(mw int64) simulator.Values {
	return simulator.Values{State: 1, Power: mw, Threshold: 8000}
}

func TestEventsSpareThePlug(t *testing.T) {
	t.Parallel()
	s, p := pushing(t, simulator.Config{})
	for range 5 {
		p.want(t, 60_000, false)
	}
	s.Freeze(on(61_000))
	p.pushes(t, 61_000)
	p.want(t, 61_000, false)

	// With the relay open no events arrive: it is polled.
	s.Freeze(simulator.Values{State: 0, Power: 61_000, Threshold: 8000})
	p.pushes(t, 0)
	for range 3 {
		p.want(t, 0, true)
	}
	s.Freeze(on(62_000))
	p.want(t, 62_000, true) // before it says so
	p.pushes(t, 62_000)
	p.want(t, 62_000, false)

	// A silent plug is polled too.
	p.advance(eventMaxAge + time.Second)
	for range 3 {
		p.want(t, 62_000, true)
	}
}

func TestEventsAreRenewed(t *testing.T) {
	t.Parallel()
	s, p := pushing(t, simulator.Config{})
	sid := p.sid()
	p.advance(224 * time.Second)
	p.want(t, 60_000, true) // polls, since nothing came; no renewal yet
	if n := p.asked.Load(); n != 4 {
		t.Errorf("requests so far: got %d, want 4: description, reading, subscription, reading", n)
	}
	p.advance(time.Second)
	p.want(t, 60_000, true)
	if n := p.asked.Load(); n != 6 || p.sid() != sid {
		t.Errorf("after 225 s: got %d requests and SID %s, want 6 and %s", n, p.sid(), sid)
	}

	// The plug restarts and forgets the subscription: 412, then a new subscription.
	s.Freeze(on(61_000))
	p.pushes(t, 61_000)
	if err := s.Restart(false); err != nil {
		t.Fatal(err)
	}
	p.advance(225 * time.Second)
	p.want(t, 61_000, true)
	if p.sid() == sid || p.sid() == "" {
		t.Errorf("after a restart: got SID %q, want another than %s", p.sid(), sid)
	}
	p.pushes(t, 61_000)
	p.want(t, 61_000, false)

	// If a read fails in between, the subscription is renewed at once.
	sid = p.sid()
	s.SetFault(simulator.Fault{Refuse: true})
	p.advance(eventMaxAge + time.Second)
	if r, err := p.Read(t.Context()); err == nil {
		t.Errorf("Read of a plug that restarts: got %+v", r)
	}
	if err := s.Restart(false); err != nil {
		t.Fatal(err)
	}
	p.want(t, 61_000, true)
	if p.sid() == sid || p.sid() == "" {
		t.Errorf("after a restart that a read noticed: got SID %q, want another than %s", p.sid(), sid)
	}
	p.pushes(t, 61_000)

	// Run unsubscribes at the end.
	sid = p.sid()
	p.stop()
	var status *StatusError
	if _, _, err := p.Client.subscribe(t.Context(), s.Addr(), http.Header{"SID": {sid}}); !errors.As(err, &status) || status.Code != http.StatusPreconditionFailed {
		t.Errorf("renewal after Run: got %v, want 412", err)
	}
	if p.sid() != "" {
		t.Errorf("SID after Run: got %s", p.sid())
	}
	p.want(t, 61_000, true) // as without events
	p.want(t, 61_000, true)
}

// After a restart on another port the plug is found and subscribed to there.
func TestEventsSurviveMove(t *testing.T) {
	t.Parallel()
	s, p := pushing(t, simulator.Config{Search: "127.0.0.1:0"})
	p.Client.timeout = 300 * time.Millisecond
	if err := s.Restart(true); err != nil {
		t.Fatal(err)
	}
	p.advance(eventMaxAge + time.Second)
	readUntil(t, p.Plug, 1)
	p.pushes(t, 60_000)
	p.want(t, 60_000, false)
	if p.subscribed.plug != s.Addr() {
		t.Errorf("subscribed at %s, want %s", p.subscribed.plug, s.Addr())
	}
}

// A plug grants a subscription but no event arrives: polling goes on, the subscription
// is repeated from time to time, and the log says so once.
func TestEventsNeverCome(t *testing.T) {
	t.Parallel()
	s := simulate(t, simulator.Config{})
	s.Freeze(on(60_000))
	s.Command("mute")
	p := listenTo(t, s.Addr(), s.SearchAddr())
	var sids []string
	for range 4 {
		for range 3 {
			p.want(t, 60_000, true)
		}
		sids = append(sids, p.sid())
		p.advance(225 * time.Second)
	}
	for i, sid := range sids {
		if sid == "" || i > 0 && sid == sids[i-1] {
			t.Errorf("SIDs: got %v, want a fresh one each time", sids)
		}
	}
	warnings := 0
	for _, e := range p.log.AllEntries() {
		if e.Message == "no events from the plug, polling" {
			warnings++
			if !strings.Contains(fmt.Sprint(e.Data["error"]), "firewall") {
				t.Errorf("warning: got %v, want the word firewall", e.Data)
			}
		}
	}
	if warnings != 1 {
		t.Errorf("warnings: got %d, want 1", warnings)
	}
	s.Command("ok")
	p.want(t, 60_000, true)
	p.pushes(t, 60_000)
	p.want(t, 60_000, false)
	if last := p.log.LastEntry().Message; last != "events from the plug are back" {
		t.Errorf("last log entry: got %q", last)
	}
}

// fakePlug answers as a plug does, and SUBSCRIBE with what answer returns.
type fakePlug struct {
	addr     netip.AddrPort
	mu       sync.Mutex
	requests []string // method and SID or CALLBACK
	callback string
}

// granted is a recorded answer.
const granted = "HTTP/1.1 200 OK\r\nDATE: Mon, 25 Jan 2021 00:22:59 GMT\r\nSERVER: Unspecified, UPnP/1.0, Unspecified\r\nCONTENT-LENGTH: 0\r\nX-User-Agent: redsonic\r\n" +
	"SID: uuid:7a59e192-1dd2-11b2-849c-b527ba18a01e\r\nTIMEOUT: Second-1801\r\n\r\n"

// refused is a recorded answer, to a renewal and to a first SUBSCRIBE.
const refused = "HTTP/1.1 412 Invalid Parameters\r\nCONTENT-LENGTH: 0\r\nDATE: Fri, 05 Feb 2021 05:52:21 GMT\r\nSERVER: Unspecified, UPnP/1.0, Unspecified\r\nX-User-Agent: redsonic\r\n\r\n"

const grantedSID = "uuid:7a59e192-1dd2-11b2-849c-b527ba18a01e"

func newFakePlug(t *testing.T, answer func(f *fakePlug) string) *fakePlug {
	f := &fakePlug{}
	f.addr = serve(t, func(req *http.Request, _ string) string {
		f.mu.Lock()
		f.requests = append(f.requests, req.Method+" "+req.Header.Get("SID")+req.Header.Get("CALLBACK"))
		if c := req.Header.Get("CALLBACK"); c != "" {
			f.callback = strings.Trim(c, "<>")
			if req.URL.Path != "/upnp/event/insight1" || req.Header.Get("NT") != "upnp:event" || req.Header.Get("TIMEOUT") != "Second-300" || req.Header.Get("SID") != "" {
				t.Errorf("SUBSCRIBE: got %s %v", req.URL, req.Header)
			}
		}
		f.mu.Unlock()
		switch req.Method {
		case "GET":
			return plugAnswer("200 OK", recording(t, "setup-11057-v2.xml"))
		case "POST":
			return plugAnswer("200 OK", recording(t, "params-on.xml"))
		case "UNSUBSCRIBE":
			return plugAnswer("200 OK", recording(t, "unsubscribe.html"))
		}
		return answer(f)
	})
	return f
}

// count returns how many requests had this prefix.
func (f *fakePlug) count(prefix string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// notify is the captured NOTIFY of libupnp with other values, byte for byte.
func notify(t *testing.T, callback, sid, seq, params string) string {
	t.Helper()
	capture := strings.ReplaceAll(recording(t, "libupnp-http.txt"), "\r", "")
	capture = capture[strings.Index(capture, "NOTIFY /cb"):]
	head, body, _ := strings.Cut(capture, "\n\n")
	body = body[:strings.Index(body, "</e:propertyset>")] + "</e:propertyset>\n\n"
	host, path, _ := strings.Cut(strings.TrimPrefix(callback, "http://"), "/")
	const captured = "8|1611530424|231|300|183183|1209600|8|1190|1164707|99830512|8000"
	for _, r := range [][2]string{
		{"/cb", "/" + path}, {"192.0.2.2:50407", host}, {"uuid:b6bc87e6-e685-11f1-aa69-f4af2dd29655", sid}, {"SEQ: 0", "SEQ: " + seq},
		{"CONTENT-LENGTH: 200", fmt.Sprintf("CONTENT-LENGTH: %d", 200+len(params)-len(captured))},
	} {
		if !strings.Contains(head, r[0]) {
			t.Fatalf("captured NOTIFY has no %q", r[0])
		}
		head = strings.Replace(head, r[0], r[1], 1)
	}
	return strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + strings.Replace(body, captured, params, 1) + "\r\n"
}

// post sends a request from an address and returns the status; 0 if there is none.
func post(t *testing.T, from, callback, request string) int {
	t.Helper()
	host, _, _ := strings.Cut(strings.TrimPrefix(callback, "http://"), "/")
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	go io.WriteString(c, request)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}

func TestEventsRefused(t *testing.T) {
	t.Parallel()
	plug := newFakePlug(t, func(*fakePlug) string { return granted })
	p := listenTo(t, plug.addr, netip.AddrPort{})
	p.want(t, 1190, true)
	const values = "1|1619118086|6|7745|7584|1209600|928|642585|123018182|123018182|8000"
	right := notify(t, plug.callback, grantedSID, "1", values)
	for name, tt := range map[string]struct {
		from, request string
		want          int
	}{
		"another SID":        {"127.0.0.1", strings.Replace(right, "7a59e192", "7a59e193", 1), 412},
		"no SID":             {"127.0.0.1", strings.Replace(right, "SID", "X", 1), 412},
		"another path":       {"127.0.0.1", strings.Replace(right, "NOTIFY /", "NOTIFY /x", 1), 404},
		"another method":     {"127.0.0.1", strings.Replace(right, "NOTIFY /", "POST /", 1), 400},
		"another NT":         {"127.0.0.1", strings.Replace(right, "upnp:event", "upnp:other", 1), 400},
		"no NTS":             {"127.0.0.1", strings.Replace(right, "NTS", "X", 1), 400},
		"no SEQ":             {"127.0.0.1", strings.Replace(right, "SEQ", "X", 1), 400},
		"negative SEQ":       {"127.0.0.1", strings.Replace(right, "SEQ: 1", "SEQ: -1", 1), 400},
		"SEQ of 33 bits":     {"127.0.0.1", strings.Replace(right, "SEQ: 1", "SEQ: 4294967296", 1), 400},
		"no XML":             {"127.0.0.1", strings.Replace(right, "</e:property>", "</e:propertx>", 1), 400},
		"an entity":          {"127.0.0.1", notify(t, plug.callback, grantedSID, "1", "&a;"), 400},
		"no values":          {"127.0.0.1", notify(t, plug.callback, grantedSID, "1", ""), 400},
		"impossible power":   {"127.0.0.1", notify(t, plug.callback, grantedSID, "1", "1|0|0|0|0|0|0|1e12|0|0|0"), 400},
		"power is no number": {"127.0.0.1", notify(t, plug.callback, grantedSID, "1", "1|0|0|0|0|0|0|NaN|0|0|0"), 400},
		"huge":               {"127.0.0.1", notify(t, plug.callback, grantedSID, "1", strings.Repeat("1", wemo.MaxDocument)), 413},
		"huge and a liar":    {"127.0.0.1", strings.Replace(right, "CONTENT-LENGTH: ", "CONTENT-LENGTH: 9999999", 1) + strings.Repeat(" ", 2*wemo.MaxDocument), 413},
		"a huge head":        {"127.0.0.1", strings.Replace(right, "SEQ", "X: "+strings.Repeat("x", 64<<10)+"\r\nSEQ", 1), 431},
		"no HTTP":            {"127.0.0.1", "\x16\x03\x01\x02\x00\r\n\r\n", 400},
		"another address":    {"127.0.0.2", right, 0},
	} {
		if got := post(t, tt.from, plug.callback, tt.request); got != tt.want {
			t.Errorf("%s: got status %d, want %d", name, got, tt.want)
		}
		p.want(t, 1190, true)
	}
	// Idle connections from the plug's address do not keep its event out for long.
	host, _, _ := strings.Cut(strings.TrimPrefix(plug.callback, "http://"), "/")
	for range 12 {
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if got := post(t, "127.0.0.1", plug.callback, right); got != 200 {
		t.Errorf("the right one: got status %d, want 200", got)
	}
	p.want(t, 642_585, false)
	// An older SEQ is acknowledged and ignored.
	for _, seq := range []string{"0", "1"} {
		if got := post(t, "127.0.0.1", plug.callback, notify(t, plug.callback, grantedSID, seq, "1|0|0|0|0|0|0|5|0|0|0")); got != 200 {
			t.Errorf("SEQ %s after 1: got status %d, want 200", seq, got)
		}
	}
	p.want(t, 642_585, false)
	// An event older than the last reading is ignored: readings do not go back in time.
	p.advance(eventMaxAge + time.Second)
	p.want(t, 1190, true)
	p.advance(-eventMaxAge - time.Second)
	p.want(t, 1190, true)
	if plug.count("SUBSCRIBE") != 1 {
		t.Errorf("requests: got %v, want one SUBSCRIBE", plug.requests)
	}
}

// The first event arrives before the answer to SUBSCRIBE, which has its SID.
func TestEventsFirstOutrunsAnswer(t *testing.T) {
	t.Parallel()
	status := make(chan int, 1)
	plug := newFakePlug(t, func(f *fakePlug) string {
		f.mu.Lock()
		defer f.mu.Unlock()
		callback := f.callback
		go func() {
			status <- post(t, "127.0.0.1", callback, notify(t, callback, grantedSID, "0", "1|0|0|0|0|0|0|60000|0|0|8000"))
		}()
		time.Sleep(200 * time.Millisecond)
		return granted
	})
	p := listenTo(t, plug.addr, netip.AddrPort{})
	p.want(t, 1190, true)
	if got := <-status; got != 200 {
		t.Errorf("first event: got status %d, want 200", got)
	}
	p.want(t, 60_000, false)
}

// A failed subscription does not fail readings, and is repeated ever less often.
func TestEventsFailWithoutHarm(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"412":       refused,
		"500":       plugAnswer("500 Internal Server Error", ""),
		"no SID":    "HTTP/1.1 200 OK\r\nCONTENT-LENGTH: 0\r\n\r\n",
		"no answer": "",
		"silence":   "wait",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plug := newFakePlug(t, func(*fakePlug) string {
				if answer == "wait" {
					<-t.Context().Done()
				}
				return answer
			})
			p := listenTo(t, plug.addr, netip.AddrPort{})
			rounds := []time.Duration{0, time.Minute, 2 * time.Minute, 4 * time.Minute}
			if answer == "wait" {
				rounds = rounds[:2]
			}
			for i, pause := range rounds {
				if i > 0 {
					p.advance(pause - time.Second)
					p.want(t, 1190, true)
					if got := plug.count("SUBSCRIBE"); got != i {
						t.Errorf("just before %s more: got %d SUBSCRIBE, want %d", pause, got, i)
					}
					p.advance(time.Second)
				}
				start := time.Now()
				p.want(t, 1190, true)
				if took := time.Since(start); took > 8*time.Second {
					t.Errorf("Read took %s, want about %s at most", took, subscribeTimeout)
				}
				p.want(t, 1190, true)
				if got := plug.count("SUBSCRIBE"); got != i+1 {
					t.Errorf("after %s more: got %d SUBSCRIBE, want %d", pause, got, i+1)
				}
			}
			if got := plug.count("UNSUBSCRIBE"); got != 0 {
				t.Errorf("UNSUBSCRIBE: got %d, want none", got)
			}
		})
	}
}

func TestEventsSequence(t *testing.T) {
	s := &subscription{sid: grantedSID, path: "/x", now: time.Now}
	for i, tt := range []struct {
		seq   string
		taken bool
	}{
		{"0", true}, {"0", false}, {"1", true}, {"3", true}, {"2", false}, {"2147483650", true}, {"4294967295", true}, {"1", true}, {"4294967295", false}, {"2", true},
	} {
		before := s.newest.MilliWatts
		req, _ := http.ReadRequest(bufio.NewReader(strings.NewReader(notify(t, "http://192.0.2.1:1/x", grantedSID, tt.seq, fmt.Sprintf("1|0|0|0|0|0|0|%d", 1000+i)))))
		s.ServeHTTP(httptest.NewRecorder(), req)
		if taken := s.newest.MilliWatts != before; taken != tt.taken {
			t.Errorf("event %d with SEQ %s: taken: %t, want %t", i, tt.seq, taken, tt.taken)
		}
	}
}

func TestSubscribeTimeout(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"Second-1801": 1801 * time.Second, "second-60": time.Minute, "Second-infinite": longestRenewal, "300": longestRenewal, "": longestRenewal, "Second--5": longestRenewal,
	} {
		addr := serve(t, func(*http.Request, string) string {
			return strings.Replace(granted, "Second-1801", in, 1)
		})
		sid, got, err := new(Client).subscribe(t.Context(), addr, http.Header{"SID": {grantedSID}})
		if err != nil || sid != grantedSID || got != want {
			t.Errorf("TIMEOUT %q: got %s, %s, %v, want %s", in, sid, got, err, want)
		}
	}
}

// A plug that moves announces its new address, where it is read as soon as the old one
// fails, without backoff and search. While it answers, announcements are ignored.
func TestPlugIsHeardWhenItMoves(t *testing.T) {
	t.Parallel()
	s := simulate(t, simulator.Config{})
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	log, _ := logtest.NewNullLogger()
	p := &eventPlug{Plug: &Plug{Address: s.Addr().String(), Eventing: true, Client: Client{timeout: 300 * time.Millisecond}, Log: log, Search: Search{
		joiner:   func() ([]*net.UDPConn, error) { return []*net.UDPConn{c}, nil },
		listener: func() ([]*net.UDPConn, error) { return nil, errors.New("not searched for") },
	}}}
	p.start(t)
	announce := func(nts, udn, addr string) {
		out, err := net.DialUDP("udp4", nil, c.LocalAddr().(*net.UDPAddr))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		for range 28 {
			fmt.Fprintf(out, "NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nLOCATION: http://%s/setup.xml\r\nNT: upnp:rootdevice\r\nNTS: %s\r\nUSN: %s::upnp:rootdevice\r\n\r\n", addr, nts, udn)
		}
	}
	readUntil(t, p.Plug, 1)
	s.Command("mute") // be polled
	p.mu.Lock()
	p.unsubscribe(t.Context())
	p.mu.Unlock()

	other := simulate(t, simulator.Config{Serial: "OTHER"})
	announce("ssdp:alive", s.UDN(), other.Addr().String())
	within(t, time.Second, "the announcement", func() bool { return p.announced.Load() != nil })
	at := s.Addr()
	readUntil(t, p.Plug, 2)
	if p.device.Addr != at {
		t.Errorf("after a false announcement: plug is at %s, want %s", p.device.Addr, at)
	}
	if err := s.Restart(true); err != nil {
		t.Fatal(err)
	}
	announce("ssdp:byebye", s.UDN(), "127.0.0.1:1")
	announce("ssdp:alive", other.UDN(), "127.0.0.1:1")
	announce("ssdp:alive", s.UDN(), "192.0.2.1:1") // not sent from that address
	announce("ssdp:alive", s.UDN(), s.Addr().String())
	within(t, time.Second, "the announcement", func() bool { a := p.announced.Load(); return a != nil && *a == s.Addr() })
	start := time.Now()
	errs := readUntil(t, p.Plug, 1)
	// The backoff would be 1 s.
	if took := time.Since(start); took > time.Second || len(errs) != 1 || p.device.Addr != s.Addr() {
		t.Errorf("after a move to %s: found at %s after %s and %v, want it after one failure", s.Addr(), p.device.Addr, took, errs)
	}
}

// Poller, plug and events together leave nothing running.
func TestPollerWithEvents(t *testing.T) {
	s := simulate(t, simulator.Config{})
	s.Freeze(on(60_000))
	if _, err := new(Client).Describe(t.Context(), s.Addr()); err != nil { // it runs
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	var asked atomic.Int32
	log, _ := logtest.NewNullLogger()
	m := &memory{}
	p := &wemo.Poller{
		Publisher: m, Live: "sensor/live", Average: "sensor/1m", Log: log,
		Window: 24 * time.Hour, // the end of one has the status said again
		Source: &Plug{
			Address: s.Addr().String(), Eventing: true, Log: log,
			Search: Search{joiner: func() ([]*net.UDPConn, error) { return nil, nil }},
			Client: Client{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				asked.Add(1)
				return new(net.Dialer).DialContext(ctx, network, address)
			}},
		},
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	go func() { // a new value each second
		for i := int64(1); ctx.Err() == nil; i++ {
			sleep(ctx, time.Second)
			s.Freeze(on(60_000 + i))
		}
	}()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	live := m.on("sensor/live")
	if len(live) < 7 || len(live) > 9 || live[len(live)-1].payload < "60001" {
		t.Errorf("live: got %d messages, the last %+v, want 8 and the values of the events", len(live), live[len(live)-1])
	}
	for i := 1; i < len(live); i++ {
		if gap := live[i].at.Sub(live[i-1].at); gap > 900*time.Millisecond {
			t.Errorf("live: %s between two messages, want 500 ms", gap)
		}
	}
	var statuses []string
	for _, s := range m.on("sensor/status") {
		var st wemo.Status
		if err := json.Unmarshal([]byte(s.payload), &st); err != nil {
			t.Fatal(err)
		}
		statuses = append(statuses, fmt.Sprintf("%t %s", st.Online, st.Reason))
	}
	if got := strings.Join(statuses, " "); got != "false starting true  false stopped" {
		t.Errorf("statuses: got %s", got)
	}
	// If a reading precedes the first event, one or two more requests follow.
	if n := asked.Load(); n > 8 {
		t.Errorf("requests: got %d, want 4 to 7: description, one reading or some, SUBSCRIBE, UNSUBSCRIBE", n)
	}
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			var b strings.Builder
			pprof.Lookup("goroutine").WriteTo(&b, 1)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, &b)
		}
	}
}

func FuzzEvent(f *testing.F) {
	for _, params := range []string{"1|1619118086|6|7745|7584|1209600|928|642585|123018182|123018182|8000", "1|2", "0|0|0|0|0|0|0|5"} {
		f.Add("<e:propertyset xmlns:e=\"urn:schemas-upnp-org:event-1-0\">\n<e:property>\n<InsightParams>"+params+"</InsightParams>\n</e:property>\n</e:propertyset>\n\n\r\n", "0")
	}
	f.Add("<a/>\x00", "4294967295")
	f.Fuzz(func(t *testing.T, body, seq string) {
		s := &subscription{sid: grantedSID, path: "/x", now: time.Now}
		req := httptest.NewRequest("NOTIFY", "/x", strings.NewReader(body))
		for name, value := range map[string]string{"NT": "upnp:event", "NTS": "upnp:propchange", "SID": grantedSID, "SEQ": seq} {
			req.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req)
		taken := !s.newest.At.IsZero()
		if w.Code != 200 && (taken || s.heard) || s.newest.MilliWatts < 0 || s.newest.MilliWatts > wemo.MaxMilliWatts || taken && s.state == Off && s.newest.MilliWatts != 0 {
			t.Errorf("event %q: got status %d and %+v", body, w.Code, s.newest)
		}
	})
}
