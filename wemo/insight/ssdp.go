package insight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

// Search finds plugs by SSDP (UPnP Device Architecture 1.0, section 1). The
// zero value searches every network that this host is on.
//
// It searches for the service basicevent, which all WeMo devices answer, and for
// the device insight, since some firmwares answer only one of them; with MX 1,
// since plugs take up to 8 s with MX 10; three times, a second apart, since they
// miss some. Hosts that answer are described side by side, each with one request
// at a time, so that a host whose answers hang delays no other. A search ends
// within eight seconds.
type Search struct {
	// Group is where searches go; the zero value is 239.255.255.250:1900. A
	// unicast address, such as a simulator's on loopback, is asked directly.
	Group netip.AddrPort

	// Tests set these; nil is listen and join.
	listener, joiner func() ([]*net.UDPConn, error)
}

const (
	searchRounds   = 3
	searchInterval = time.Second
	searchTime     = (searchRounds + 1) * searchInterval // in which answers count
	describeTime   = 4 * time.Second                     // for one host, and for all after searchTime
	maxHosts       = 64                                  // described in one search
	maxPerHost     = 16                                  // addresses described of one host
	ssdpTTL        = 4                                   // as the device's own stack uses
)

// ErrNotFound says that no plug answered a search.
var ErrNotFound = errors.New("no plug answered the search")

// Discover returns every Insight that answers, in the order of their UDN, after
// four seconds, or up to eight if some host is slow. It is no error if none
// answers. A plug that answers the search but not the request for its
// description is returned with UDN and address alone.
func (s Search) Discover(ctx context.Context, c *Client) ([]Device, error) {
	found := map[string]Device{}
	err := s.run(ctx, c, "", func(a ssdpAnswer, d Device, err error) bool {
		switch known := found[a.udn]; {
		case known.Name != "": // another address of the same plug
		case err == nil:
			found[a.udn] = d
		case strings.HasPrefix(a.udn, "uuid:Insight-") && !errors.Is(err, ErrNotInsight):
			found[a.udn] = Device{UDN: a.udn, Addr: a.addr}
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Device) int { return strings.Compare(a.UDN, b.UDN) }), nil
}

// find returns the plug with a udn, as soon as it answers, or, without one, the
// only plug there is.
func (s Search) find(ctx context.Context, c *Client, udn string) (Device, error) {
	if udn == "" {
		switch found, err := s.Discover(ctx, c); {
		case err != nil:
			return Device{}, err
		case len(found) == 0:
			return Device{}, ErrNotFound
		case len(found) == 1:
			return found[0], nil
		default:
			var names []string
			for _, d := range found {
				names = append(names, fmt.Sprintf("%s (%s)", d.UDN, d.Addr))
			}
			return Device{}, fmt.Errorf("%w: %s", ErrAmbiguous, strings.Join(names, ", "))
		}
	}
	var device Device
	failed := fmt.Errorf("%w: %s", ErrNotFound, udn)
	err := s.run(ctx, c, udn, func(_ ssdpAnswer, d Device, err error) bool {
		if err != nil {
			failed = err
		} else if d.UDN == udn {
			device = d
		}
		return device.UDN == udn
	})
	if err == nil && device.UDN != udn {
		err = failed
	}
	return device, err
}

// run searches and calls found with the description of each device that answers,
// with the given udn if that is not empty, until found returns true. Nothing of it
// is left when it returns.
func (s Search) run(ctx context.Context, c *Client, udn string, found func(ssdpAnswer, Device, error) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	listen := s.listener
	if listen == nil {
		listen = s.listen
	}
	conns, err := listen()
	if err != nil {
		cancel()
		return fmt.Errorf("search for plugs: %w", err)
	}
	var wg sync.WaitGroup
	defer func() {
		cancel()
		for _, c := range conns {
			c.Close()
		}
		wg.Wait()
	}()
	if err := s.send(conns); err != nil {
		return fmt.Errorf("search for plugs: %w", err)
	}
	wg.Go(func() {
		round := time.NewTicker(searchInterval)
		defer round.Stop()
		for range searchRounds - 1 {
			select {
			case <-ctx.Done():
				return
			case <-round.C:
				s.send(conns) // the first round worked
			}
		}
	})
	answers := make(chan ssdpAnswer)
	for _, c := range conns {
		wg.Go(func() { receive(ctx, c, answers) })
	}
	return describe(ctx, c, udn, answers, found)
}

// send sends one round of searches. Its error says that all of them failed.
func (s Search) send(conns []*net.UDPConn) error {
	var errs []error
	for _, c := range conns {
		for _, st := range []string{"urn:Belkin:service:basicevent:1", "urn:Belkin:device:insight:1"} {
			m := "M-SEARCH * HTTP/1.1\r\nST: " + st + "\r\nMX: 1\r\nMAN: \"ssdp:discover\"\r\nHOST: 239.255.255.250:1900\r\n\r\n"
			if _, err := c.WriteToUDPAddrPort([]byte(m), s.group()); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if len(errs) == 2*len(conns) {
		return errs[0]
	}
	return nil
}

// describe asks for the description of each device that answers within searchTime
// and returns when all are known, or their time is over, or found returns true.
func describe(ctx context.Context, c *Client, udn string, answers <-chan ssdpAnswer, found func(ssdpAnswer, Device, error) bool) error {
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, searchTime+describeTime)
	type host struct {
		queue chan ssdpAnswer
		asked map[ssdpAnswer]bool
	}
	hosts := map[netip.Addr]host{}
	var wg sync.WaitGroup
	defer func() {
		cancel()
		for _, h := range hosts {
			close(h.queue)
		}
		wg.Wait()
	}()
	type description struct {
		answer ssdpAnswer
		device Device
		err    error
	}
	descriptions := make(chan description)
	work := func(queue <-chan ssdpAnswer) {
		hostCtx, cancel := context.WithTimeout(ctx, describeTime)
		defer cancel()
		for a := range queue {
			d, err := c.Describe(hostCtx, a.addr)
			select {
			case descriptions <- description{a, d, err}:
			case <-ctx.Done():
			}
		}
	}
	searched := time.NewTimer(searchTime)
	defer searched.Stop()
	searching, pending := true, 0
	for searching || pending > 0 {
		select {
		case <-ctx.Done():
			return outer.Err() // nil: the time is over
		case <-searched.C:
			searching = false
		case a := <-answers:
			if !searching || udn != "" && a.udn != udn {
				continue
			}
			h, known := hosts[a.addr.Addr()]
			if !known {
				if len(hosts) == maxHosts {
					continue
				}
				h = host{make(chan ssdpAnswer, maxPerHost), map[ssdpAnswer]bool{}}
				hosts[a.addr.Addr()] = h
				wg.Go(func() { work(h.queue) })
			}
			if !h.asked[a] && len(h.asked) < maxPerHost {
				h.asked[a] = true
				pending++
				h.queue <- a // has room
			}
		case d := <-descriptions:
			pending--
			if found(d.answer, d.device, d.err) {
				return nil
			}
		}
	}
	return nil
}

func (s Search) group() netip.AddrPort {
	if s.Group.IsValid() {
		return s.Group
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 255, 255, 250}), 1900)
}

// listen opens a socket for every network.
func (s Search) listen() ([]*net.UDPConn, error) {
	group := s.group()
	if !group.Addr().IsMulticast() {
		c, err := net.ListenUDP("udp", &net.UDPAddr{})
		if err != nil {
			return nil, err
		}
		return []*net.UDPConn{c}, nil
	}
	ifaces, err := multicastInterfaces()
	if err != nil {
		return nil, err
	}
	var conns []*net.UDPConn
	for _, i := range ifaces {
		addrs, err := i.Addrs()
		if err != nil {
			continue // the interface went away
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok || n.IP.To4() == nil {
				continue
			}
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: n.IP})
			if err != nil {
				continue
			}
			p := ipv4.NewPacketConn(c)
			if p.SetMulticastInterface(&i) != nil || p.SetMulticastTTL(ssdpTTL) != nil {
				c.Close()
				continue
			}
			conns = append(conns, c)
		}
	}
	if len(conns) == 0 {
		return nil, errNoMulticast
	}
	return conns, nil
}

// join opens a socket for announcements, unless Group is unicast.
func (s Search) join() ([]*net.UDPConn, error) {
	if s.joiner != nil {
		return s.joiner()
	}
	if !s.group().Addr().IsMulticast() {
		return nil, nil
	}
	ifaces, err := multicastInterfaces()
	if err != nil {
		return nil, err
	}
	group := net.UDPAddrFromAddrPort(s.group())
	var conn *net.UDPConn
	failed := errNoMulticast
	for _, i := range ifaces {
		if conn == nil {
			conn, err = net.ListenMulticastUDP("udp4", &i, group)
		} else {
			err = ipv4.NewPacketConn(conn).JoinGroup(&i, group)
		}
		if err != nil {
			failed = err // one network is better than none
		}
	}
	if conn == nil {
		return nil, fmt.Errorf("join %s: %w", group, failed)
	}
	return []*net.UDPConn{conn}, nil
}

// multicastInterfaces returns the interfaces that are up and have multicast.
func multicastInterfaces() ([]net.Interface, error) {
	ifaces, err := net.Interfaces()
	return slices.DeleteFunc(ifaces, func(i net.Interface) bool {
		return i.Flags&net.FlagUp == 0 || i.Flags&net.FlagMulticast == 0
	}), err
}

var errNoMulticast = errors.New("no network interface with IPv4 multicast")

// receive reads SSDP messages until the socket is closed.
func receive(ctx context.Context, c *net.UDPConn, answers chan<- ssdpAnswer) {
	buf := make([]byte, 4096)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// ICMP "port unreachable" for an earlier search, for instance.
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
				continue
			}
		}
		a, err := parseSSDP(buf[:n])
		// A host can only announce itself; otherwise any host on the network could
		// make us connect to any address.
		if err != nil || a.gone || a.addr.Addr() != from.Addr().Unmap() {
			continue
		}
		select {
		case answers <- a:
		case <-ctx.Done():
			return
		}
	}
}

// ssdpAnswer is an answer to M-SEARCH, or a NOTIFY.
type ssdpAnswer struct {
	udn  string
	addr netip.AddrPort
	gone bool // ssdp:byebye
}

// parseSSDP parses an SSDP message. Line ends, the case of header names and the
// space after colons vary.
func parseSSDP(b []byte) (ssdpAnswer, error) {
	first, rest, _ := bytes.Cut(b, []byte("\n"))
	start := strings.ToUpper(strings.TrimSpace(string(first)))
	isAnswer := strings.HasPrefix(start, "HTTP/1.") && strings.Contains(start+" ", " 200 ")
	if !isAnswer && !strings.HasPrefix(start, "NOTIFY ") {
		return ssdpAnswer{}, fmt.Errorf("SSDP message begins %.80q, want an HTTP 200 or NOTIFY", start)
	}
	var a ssdpAnswer
	var location string
	for line := range strings.Lines(string(rest)) {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.ToUpper(strings.TrimSpace(name)) {
		case "USN":
			a.udn, _, _ = strings.Cut(value, "::")
		case "LOCATION":
			location = value
		case "NTS":
			a.gone = strings.EqualFold(value, "ssdp:byebye")
		}
	}
	if a.udn != plain(a.udn) || !strings.HasPrefix(a.udn, "uuid:") || a.udn == "uuid:" {
		return ssdpAnswer{}, fmt.Errorf("SSDP message with USN %.80q, want uuid:…", a.udn)
	}
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "http" {
		return ssdpAnswer{}, fmt.Errorf("SSDP message with LOCATION %.80q, want http://ADDRESS:PORT/setup.xml", location)
	}
	if a.addr, err = netip.ParseAddrPort(u.Host); err != nil || a.addr.Port() == 0 {
		return ssdpAnswer{}, fmt.Errorf("SSDP message with LOCATION %.80q, want an IP address and a port", location)
	}
	a.addr = netip.AddrPortFrom(a.addr.Addr().Unmap(), a.addr.Port())
	return a, nil
}

// unreachable tells a host that does not answer from a closed port.
func unreachable(err error) bool {
	return os.IsTimeout(err) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) ||
		errors.Is(err, syscall.EHOSTDOWN) || errors.Is(err, syscall.ENETDOWN)
}
