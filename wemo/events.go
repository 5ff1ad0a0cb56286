package wemo

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
)

// A plug says of itself what it measures (GENA: UPnP Device Architecture 1.0,
// section 4) and where it is (SSDP, section 1.2). Both spare requests, and
// nothing depends on either.

const (
	// eventMaxAge is how long an event stands for the power. A plug sends one
	// each second or two while the power changes; once it is silent, it is
	// polled. Less than a Poller's default Hold, so that no gap comes between.
	eventMaxAge = 3 * time.Second

	subscribeTimeout = 2 * time.Second // as long a reading may be held up
	subscribeFor     = 5 * time.Minute // at most: plugs grant half an hour, and may restart in it
	subscribeAtLeast = 30 * time.Second
	firstPause       = time.Minute // after a SUBSCRIBE that failed; then twice as long
	lastPause        = time.Hour
)

// listening is what a Plug needs for that, under its mu.
type listening struct {
	running    bool          // Run runs
	subscribed *subscription // nil: not
	due        time.Time     // when to subscribe or to renew
	pause      time.Duration // after the last SUBSCRIBE, if that failed
	trouble    string        // what was logged last about events

	// What else than reads uses, without mu.
	wake      chan struct{}                  // has room for one: there is news
	known     atomic.Pointer[Device]         // a copy of device
	announced atomic.Pointer[netip.AddrPort] // where the plug says that it is now
}

// subscription is one subscription to the events of a plug, and the listener
// that takes them. A new one has a new listener: our own address may have
// changed.
type subscription struct {
	plug   netip.AddrPort
	path   string // of the callback; nobody else knows it
	now    func() time.Time
	wake   chan<- struct{}
	server *http.Server
	served chan struct{} // closed when the server has ended

	// mu is held while SUBSCRIBE is under way: a first event that outruns the
	// answer waits for it, and finds its SID known.
	mu     sync.Mutex
	sid    string
	heard  bool // an event came since the last SUBSCRIBE
	seq    uint32
	newest Reading // the zero value before the first
	state  State   // when newest was sent
}

// Run listens to the plug until ctx ends, if Events says so. It receives what
// Reads subscribe to, hears where the plug says it is, and unsubscribes in the
// end. A Poller runs it.
func (p *Plug) Run(ctx context.Context) error {
	if !p.Events {
		return nil
	}
	p.mu.Lock()
	p.running = true
	p.wake = make(chan struct{}, 1)
	p.mu.Unlock()
	var wg sync.WaitGroup
	if conns, err := p.Search.join(); err != nil {
		p.Log.WithError(err).Info("not listening where plugs announce themselves")
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
	p.mu.Lock() // reads have ended with ctx
	p.running = false
	p.unsubscribe(context.WithoutCancel(ctx))
	p.mu.Unlock()
	wg.Wait()
	return nil
}

// hear notes where the plug says it is. Reads look there once the plug fails:
// while it answers, nobody can lead us elsewhere.
func (p *Plug) hear(a ssdpAnswer) {
	d := p.known.Load()
	if d == nil || a.udn != d.UDN || a.addr == d.Addr {
		return
	}
	if old := p.announced.Swap(&a.addr); old == nil || *old != a.addr {
		rouse(p.wake)
	}
}

func rouse(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pushed is what the plug sent last, if that is what a read would give. An
// open relay sends no events, so that what it sent last counts for nothing.
func (p *Plug) pushed() (Reading, bool) {
	s := p.subscribed
	if s == nil {
		return Reading{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	age := p.now().Sub(s.newest.At)
	if age < 0 || age > eventMaxAge || s.state == Off || s.newest.At.Before(p.last) {
		return Reading{}, false
	}
	return s.newest, true
}

// keepSubscribed subscribes and renews when that is due. The plug has just
// answered or pushed. That this fails is no failure of the reading, but it
// takes time from the next ones: it is not tried often.
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
		p.pause = min(max(2*p.pause, firstPause), lastPause)
		p.due = p.now().Add(p.pause)
		p.note(err)
		return
	}
	p.pause = 0
	p.due = p.now().Add(max(min(granted, subscribeFor)*3/4, subscribeAtLeast))
}

// errNoEvents says that a subscription was granted and brought nothing, not
// even the first event, which always comes.
var errNoEvents = errors.New("no event arrives: does a firewall keep them out?")

// note logs what is wrong with the events, or with nil that nothing is, once.
func (p *Plug) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == p.trouble {
		return
	}
	if p.trouble = text; err != nil {
		p.Log.WithError(err).Warn("no events from the plug, polling it")
	} else {
		p.Log.Info("events from the plug are back")
	}
}

// subscribe renews the subscription if there is one that works, and begins one
// otherwise. It returns for how long that holds.
func (p *Plug) subscribe(ctx context.Context) (time.Duration, error) {
	if s := p.subscribed; s != nil {
		s.mu.Lock()
		heard, ever := s.heard, !s.newest.At.IsZero()
		s.heard = false
		s.mu.Unlock()
		switch {
		case s.plug != p.device.Addr: // what answers there now does not know us
			p.drop()
		case heard:
			_, granted, err := p.Client.subscribe(ctx, s.plug, http.Header{"SID": {s.sid}})
			if status := (*StatusError)(nil); !errors.As(err, &status) {
				return granted, err
			}
			p.drop() // 412: it restarted, and has forgotten us
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

// unsubscribe ends the subscription and tells the plug, if there is one.
func (p *Plug) unsubscribe(ctx context.Context) {
	if s := p.subscribed; s != nil {
		ctx, cancel := context.WithTimeout(ctx, subscribeTimeout)
		defer cancel()
		// If it fails, the plug forgets us in half an hour.
		p.Client.do(ctx, "UNSUBSCRIBE", s.plug, eventPath, http.Header{"SID": {s.sid}}, "")
		p.drop()
	}
}

// drop ends the subscription without a word to the plug.
func (p *Plug) drop() {
	p.subscribed.server.Close()
	<-p.subscribed.served
	p.subscribed = nil
}

const eventPath = "/upnp/event/insight1"

// subscribe sends SUBSCRIBE, which with a SID in its header is a renewal.
func (c *Client) subscribe(ctx context.Context, addr netip.AddrPort, header http.Header) (sid string, granted time.Duration, err error) {
	header["TIMEOUT"] = []string{fmt.Sprintf("Second-%.0f", subscribeFor.Seconds())}
	answer, _, err := c.do(ctx, "SUBSCRIBE", addr, eventPath, header, "")
	if err != nil {
		return "", 0, fmt.Errorf("subscribe at %s: %w", addr, err)
	}
	sid = answer.Get("SID")
	if sid == "" || len(sid) > 200 {
		return "", 0, fmt.Errorf("subscribe at %s: SID is %q, want uuid:…", addr, clip(sid))
	}
	granted = subscribeFor // "Second-infinite", too
	unit, number, _ := strings.Cut(answer.Get("TIMEOUT"), "-")
	if n, err := strconv.ParseUint(number, 10, 31); err == nil && strings.EqualFold(unit, "Second") {
		granted = time.Duration(n) * time.Second
	}
	return sid, granted, nil
}

// listenFor opens a port on the interface that reaches the plug, for the plug.
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
	return netutil.LimitListener(&turnstile{l, plug.Addr()}, 8), nil
}

// turnstile turns away everybody but one.
type turnstile struct {
	net.Listener
	only netip.Addr
}

func (l *turnstile) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap() == l.only {
			return c, err
		}
		c.Close()
	}
}

// ServeHTTP takes one event.
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
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
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
	values, err := xmlTexts(body, "InsightParams")
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
		// So the plug forgets a subscription whose SID never reached us.
		http.Error(w, "unknown SID", http.StatusPreconditionFailed)
		return
	}
	s.heard = true
	// An event that was overtaken says nothing new. After 2³²-1 follows 1.
	if !ok || !s.newest.At.IsZero() && int32(uint32(seq)-s.seq) <= 0 {
		return
	}
	s.seq, s.state = uint32(seq), params.State
	s.newest = Reading{At: at, MilliWatts: params.MilliWatts()}
	rouse(s.wake)
}
