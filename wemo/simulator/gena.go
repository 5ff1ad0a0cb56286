package simulator

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// subscription is one subscriber to the events of one service.
type subscription struct {
	service  string
	callback *url.URL
	expires  time.Time
	last     Values      // in the event queued last
	events   chan string // property sets to send; a slow subscriber misses some
}

// defaultTimeout, in seconds, is what a plug grants if TIMEOUT is missing or
// malformed.
const defaultTimeout = 1801

// maxSubscriptions bounds the memory that other hosts can make us use.
const maxSubscriptions = 100

// eventService returns the service of an event path, or "" if there is none.
func eventService(path string) string {
	service := strings.TrimSuffix(strings.TrimPrefix(path, "/upnp/event/"), "1")
	if services[service] == "" {
		return ""
	}
	return service
}

// grant returns the granted duration for a TIMEOUT header, and the answer's header.
func grant(timeout string) (time.Duration, string) {
	number, ok := strings.CutPrefix(strings.ToLower(timeout), "second-")
	n, err := strconv.Atoi(number)
	switch {
	case ok && number == "infinite":
		return 100 * 365 * 24 * time.Hour, "Second-infinite"
	case !ok || err != nil || n <= 0:
		n = defaultTimeout
	}
	n = min(n, 86400)
	return time.Duration(n) * time.Second, "Second-" + strconv.Itoa(n)
}

// subscribe answers SUBSCRIBE (UPnP Device Architecture 1.0, section 4.1). The
// caller calls after, which sends the first event, once the answer is sent.
func (p *Plug) subscribe(ctx context.Context, req *http.Request, peer netip.Addr, wg *sync.WaitGroup) (res response, after func()) {
	service := eventService(req.URL.Path)
	if service == "" {
		return page("404 Not Found"), nil
	}
	now := p.config.Now()
	lasts, granted := grant(req.Header.Get("TIMEOUT"))
	p.mu.Lock()
	defer p.mu.Unlock()
	id, nt, callback := req.Header.Get("SID"), req.Header.Get("NT"), req.Header.Get("CALLBACK")
	if id != "" && (nt != "" || callback != "") || id == "" && nt == "" {
		return page("400 Bad Request"), nil
	}
	sub := p.subs[id]
	if id != "" {
		if sub == nil || sub.service != service || now.After(sub.expires) {
			return p.precondition(), nil
		}
		sub.expires = now.Add(lasts)
	} else {
		callback, err := url.Parse(strings.Trim(callback, "<>"))
		if err != nil || callback.Scheme != "http" || nt != "upnp:event" || len(p.subs) >= maxSubscriptions {
			return p.precondition(), nil
		}
		// Unlike a real plug, send events only to the subscriber itself.
		if host, err := netip.ParseAddr(callback.Hostname()); err != nil || host.Unmap() != peer {
			return p.precondition(), nil
		}
		id = "uuid:" + newUUID()
		sub = &subscription{service: service, callback: callback, expires: now.Add(lasts), events: make(chan string, 16)}
		first := p.Values()
		sub.last = first
		p.subs[id] = sub
		after = func() {
			wg.Go(func() { sub.send(ctx, id) })
			p.offer(sub, first)
		}
	}
	return response{"200 OK", []string{
		date(now), serverLine, "CONTENT-LENGTH: 0", userAgentLine, "SID: " + id, "TIMEOUT: " + granted,
	}, ""}, after
}

// precondition returns a 412 as recorded, which differs from libupnp's.
func (p *Plug) precondition() response {
	return response{"412 Invalid Parameters", []string{"CONTENT-LENGTH: 0", date(p.config.Now()), serverLine, userAgentLine}, ""}
}

func (p *Plug) unsubscribe(req *http.Request) response {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := req.Header.Get("SID")
	if sub := p.subs[id]; sub == nil || sub.service != eventService(req.URL.Path) {
		return p.precondition()
	}
	p.drop(id)
	return page("200 OK")
}

// drop ends a subscription. p.mu is held.
func (p *Plug) drop(id string) {
	close(p.subs[id].events)
	delete(p.subs, id)
}

// offer queues the event with v.
func (p *Plug) offer(sub *subscription, v Values) {
	var event string
	switch sub.service {
	case "insight":
		event = property("InsightParams", v.event())
	case "basicevent":
		event = property("BinaryState", v.binaryState())
	default:
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	sub.last = v
	if p.fault.Mute {
		return
	}
	for _, s := range p.subs {
		if s != sub {
			continue
		}
		select {
		case s.events <- event:
		default:
		}
	}
}

func property(name, value string) string {
	return fmt.Sprintf("<e:propertyset xmlns:e=\"urn:schemas-upnp-org:event-1-0\">\n<e:property>\n<%[1]s>%[2]s</%[1]s>\n</e:property>\n</e:propertyset>\n\n", name, value)
}

// sendEvents reads the meter every second. It sends InsightParams when that changes
// and the relay is closed, and BinaryState when the state changes.
func (p *Plug) sendEvents(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for id := range p.subs {
			p.drop(id)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		v, now := p.Values(), p.config.Now()
		var due []*subscription
		p.mu.Lock()
		for id, s := range p.subs {
			switch {
			case now.After(s.expires):
				p.drop(id)
			case s.service == "insight" && v != s.last && (v.State != 0 || s.last.State != 0),
				s.service == "basicevent" && v.State != s.last.State:
				due = append(due, s)
			}
		}
		p.mu.Unlock()
		for _, s := range due {
			p.offer(s, v)
		}
	}
}

// send delivers the events of one subscription, one after the other.
func (s *subscription) send(ctx context.Context, id string) {
	seq := 0
	for {
		var event string
		select {
		case <-ctx.Done():
			return
		case e, ok := <-s.events:
			if !ok {
				return
			}
			event = e
		}
		// The length includes the empty line after the body.
		n := fmt.Sprintf("NOTIFY %s HTTP/1.1\r\nHOST: %s\r\nCONTENT-TYPE: text/xml; charset=\"utf-8\"\r\nCONTENT-LENGTH: %d\r\nNT: upnp:event\r\nNTS: upnp:propchange\r\nSID: %s\r\nSEQ: %d\r\n\r\n%s\r\n",
			s.callback.RequestURI(), s.callback.Host, len(event)+2, id, seq, event)
		seq++
		deliver(ctx, s.callback.Host, n)
	}
}

// deliver sends a NOTIFY and ignores failures.
func deliver(ctx context.Context, host, notify string) {
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), "80")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	io.WriteString(c, notify)
	io.Copy(io.Discard, io.LimitReader(c, 4096))
}
