package insight

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/iotoll/iotoll/wemo"
)

// A plug sends events with its measurements (GENA: UPnP Device Architecture 1.0,
// section 4) and announces its address (SSDP, section 1.2). Both spare requests,
// and nothing depends on either.

const (
	// eventMaxAge is how long an event stands for the power. A plug sends one
	// every second or two while the power changes; when it is silent, it is
	// polled. It is less than a Poller's default Hold, so that polling resumes in
	// between.
	eventMaxAge = 3 * time.Second

	subscribeTimeout = 2 * time.Second // longest delay that SUBSCRIBE may add to a reading
	longestRenewal   = 5 * time.Minute // plugs grant half an hour, but may restart earlier
	shortestRenewal  = 30 * time.Second
	shortestPause    = time.Minute // after a failed SUBSCRIBE; it doubles up to longestPause
	longestPause     = time.Hour
)

// eventing is the part of a Plug that handles events, under its mu.
type eventing struct {
	running    bool          // Run runs
	subscribed *subscription // nil: not subscribed
	due        time.Time     // when to subscribe or to renew
	pause      time.Duration // after the last SUBSCRIBE, if that failed
	logged     string        // the last error about events; empty if there is none

	// These are used without mu.
	wake      chan struct{}                  // holds one: an event or announcement arrived
	known     atomic.Pointer[Device]         // a copy of device
	announced atomic.Pointer[netip.AddrPort] // an address that the plug announced, other than device's
}

// subscription is one subscription to the events of a plug, with the server that
// receives them. Each has its own server, since our own address may change.
type subscription struct {
	plug   netip.AddrPort
	path   string // of the callback; random
	now    func() time.Time
	wake   chan<- struct{}
	server *http.Server
	served chan struct{} // closed when the server has ended

	// mu is held during SUBSCRIBE: an event that arrives before the answer waits
	// until the SID is known.
	mu     sync.Mutex
	sid    string
	heard  bool // an event arrived since the last SUBSCRIBE
	seq    uint32
	newest wemo.Reading // the zero value before the first
	state  State        // when newest was sent
}

// Run receives events and announcements until ctx ends, if Eventing is set, and
// unsubscribes at the end. Read subscribes. A Poller runs it.
func (p *Plug) Run(ctx context.Context) error {
	if !p.Eventing {
		return nil
	}
	p.mu.Lock()
	p.running = true
	p.wake = make(chan struct{}, 1)
	p.mu.Unlock()
	var wg sync.WaitGroup
	if conns, err := p.Search.join(); err != nil {
		p.Log.WithError(err).Info("cannot listen for announcements of plugs")
	} else {
		announced := make(chan ssdpAnswer)
		for _, c := range conns {
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			wg.Go(func() { receive(ctx, c, announced) })
		}
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case a := <-announced:
					p.hear(a)
				}
			}
		})
	}
	<-ctx.Done()
	p.mu.Lock() // Read has returned
	p.running = false
	p.unsubscribe(context.WithoutCancel(ctx))
	p.mu.Unlock()
	wg.Wait()
	return nil
}

// hear notes an announced address. Read tries it only after a failure, so that no
// announcement can divert it from a plug that answers.
func (p *Plug) hear(a ssdpAnswer) {
	d := p.known.Load()
	if d == nil || a.udn != d.UDN || a.addr == d.Addr {
		return
	}
	if old := p.announced.Swap(&a.addr); old == nil || *old != a.addr {
		signal(p.wake)
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pushed returns the last event's reading if it is recent enough. A plug with the
// relay open sends no events, so its last event does not count.
func (p *Plug) pushed() (wemo.Reading, bool) {
	s := p.subscribed
	if s == nil {
		return wemo.Reading{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	age := p.now().Sub(s.newest.At)
	if age < 0 || age > eventMaxAge || s.state == Off || s.newest.At.Before(p.last) {
		return wemo.Reading{}, false
	}
	return s.newest, true
}

// keepSubscribed subscribes or renews when that is due. It is called after a
// successful reading; it delays the next one, so after a failure it pauses.
func (p *Plug) keepSubscribed(ctx context.Context) {
	if !p.running || p.now().Before(p.due) {
		return
	}
	sctx, cancel := context.WithTimeout(ctx, subscribeTimeout)
	defer cancel()
	granted, err := p.subscribe(sctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		p.pause = min(max(2*p.pause, shortestPause), longestPause)
		p.due = p.now().Add(p.pause)
		p.note(err)
		return
	}
	p.pause = 0
	p.due = p.now().Add(max(min(granted, longestRenewal)*3/4, shortestRenewal))
}

// errNoEvents says that a subscription was granted but not even its first event
// arrived, which a plug always sends.
var errNoEvents = errors.New("no event arrives: does a firewall block them?")

// note logs an error about events, or, with nil, that they work again, once.
func (p *Plug) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == p.logged {
		return
	}
	if p.logged = text; err != nil {
		p.Log.WithError(err).Warn("no events from the plug, polling")
	} else {
		p.Log.Info("events from the plug are back")
	}
}

// subscribe renews a working subscription or makes a new one. It returns the
// granted time.
func (p *Plug) subscribe(ctx context.Context) (time.Duration, error) {
	if s := p.subscribed; s != nil {
		s.mu.Lock()
		heard, ever := s.heard, !s.newest.At.IsZero()
		s.heard = false
		s.mu.Unlock()
		switch {
		case s.plug != p.device.Addr: // it moved
			p.drop()
		case heard:
			_, granted, err := p.Client.subscribe(ctx, s.plug, http.Header{"SID": {s.sid}})
			if status := (*StatusError)(nil); !errors.As(err, &status) {
				return granted, err
			}
			p.drop() // 412: it restarted and forgot the subscription
		default:
			if !ever {
				p.note(errNoEvents)
			}
			p.unsubscribe(ctx)
		}
	}

	plug := p.device.Addr
	l, err := listenFor(plug)
	if err != nil {
		return 0, err
	}
	s := &subscription{plug: plug, path: "/" + rand.Text(), now: p.now, wake: p.wake, served: make(chan struct{})}
	s.server = &http.Server{
		Handler:        s,
		ReadTimeout:    requestTimeout,
		WriteTimeout:   2 * requestTimeout,
		MaxHeaderBytes: maxHead,
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	s.server.SetKeepAlivesEnabled(false)
	s.mu.Lock()
	defer s.mu.Unlock()
	go func() {
		defer close(s.served)
		s.server.Serve(l)
	}()
	sid, granted, err := p.Client.subscribe(ctx, plug, http.Header{
		"CALLBACK": {"<http://" + l.Addr().String() + s.path + ">"},
		"NT":       {"upnp:event"},
	})
	p.subscribed = s
	if err != nil {
		p.drop()
		return 0, err
	}
	s.sid = sid
	return granted, nil
}

// unsubscribe ends the subscription, if there is one, and tells the plug.
func (p *Plug) unsubscribe(ctx context.Context) {
	if s := p.subscribed; s != nil {
		ctx, cancel := context.WithTimeout(ctx, subscribeTimeout)
		defer cancel()
		// If this fails, the subscription expires.
		p.Client.do(ctx, "UNSUBSCRIBE", s.plug, eventPath, http.Header{"SID": {s.sid}}, "")
		p.drop()
	}
}

// drop ends the subscription without telling the plug.
func (p *Plug) drop() {
	p.subscribed.server.Close()
	<-p.subscribed.served
	p.subscribed = nil
}

const eventPath = "/upnp/event/insight1"

// subscribe sends SUBSCRIBE, which is a renewal if header has a SID.
func (c *Client) subscribe(ctx context.Context, addr netip.AddrPort, header http.Header) (sid string, granted time.Duration, err error) {
	header["TIMEOUT"] = []string{fmt.Sprintf("Second-%.0f", longestRenewal.Seconds())}
	answer, _, err := c.do(ctx, "SUBSCRIBE", addr, eventPath, header, "")
	if err != nil {
		return "", 0, fmt.Errorf("subscribe at %s: %w", addr, err)
	}
	sid = answer.Get("SID")
	if sid == "" || len(sid) > 200 {
		return "", 0, fmt.Errorf("subscribe at %s: SID is %.80q, want uuid:…", addr, sid)
	}
	granted = longestRenewal // "Second-infinite", too
	unit, number, _ := strings.Cut(answer.Get("TIMEOUT"), "-")
	if n, err := strconv.ParseUint(number, 10, 31); err == nil && strings.EqualFold(unit, "Second") {
		granted = time.Duration(n) * time.Second
	}
	return sid, granted, nil
}

// listenFor opens a port on the interface that reaches the plug; it accepts
// connections from the plug only.
func listenFor(plug netip.AddrPort) (net.Listener, error) {
	route, err := net.Dial("udp", plug.String()) // sends nothing
	if err != nil {
		return nil, fmt.Errorf("listen for events: %w", err)
	}
	local := route.LocalAddr().(*net.UDPAddr)
	route.Close()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: local.IP, Zone: local.Zone})
	if err != nil {
		return nil, fmt.Errorf("listen for events: %w", err)
	}
	return netutil.LimitListener(&onlyFrom{l, plug.Addr()}, 8), nil
}

// onlyFrom is a listener that accepts connections from one address.
type onlyFrom struct {
	net.Listener
	addr netip.Addr
}

func (l *onlyFrom) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap() == l.addr {
			return c, err
		}
		c.Close()
	}
}

// ServeHTTP receives one event.
func (s *subscription) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	at := s.now()
	if req.URL.Path != s.path {
		http.NotFound(w, req)
		return
	}
	if req.Method != "NOTIFY" || req.Header.Get("NT") != "upnp:event" || req.Header.Get("NTS") != "upnp:propchange" {
		http.Error(w, "want NOTIFY of upnp:event, upnp:propchange", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, wemo.MaxDocument))
	if err != nil {
		status := http.StatusBadRequest
		if long := (*http.MaxBytesError)(nil); errors.As(err, &long) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), status)
		return
	}
	seq, err := strconv.ParseUint(req.Header.Get("SEQ"), 10, 32)
	if err != nil {
		http.Error(w, "want SEQ, a number", http.StatusBadRequest)
		return
	}
	values, err := xmlTexts(body, true, "InsightParams")
	if err != nil {
		http.Error(w, "want XML", http.StatusBadRequest)
		return
	}
	text, ok := values["InsightParams"]
	params, err := ParseParams(text)
	if ok && err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sid == "" || req.Header.Get("SID") != s.sid {
		// 412 makes a plug forget a subscription whose SID never reached us.
		http.Error(w, "unknown SID", http.StatusPreconditionFailed)
		return
	}
	s.heard = true
	// Older events may arrive late. SEQ wraps from 2³²−1 to 1.
	if !ok || !s.newest.At.IsZero() && int32(uint32(seq)-s.seq) <= 0 {
		return
	}
	s.seq, s.state = uint32(seq), params.State
	s.newest = wemo.Reading{At: at, MilliWatts: params.MilliWatts()}
	signal(s.wake)
}
