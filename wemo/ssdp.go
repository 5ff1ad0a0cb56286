package wemo

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
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

// Search finds plugs by SSDP (UPnP Device Architecture 1.0, section 1). The
// zero value searches every network that this host is on.
//
// It asks as plugs need to be asked: for the service basicevent, which all
// WeMo devices answer, and for the device insight, since some firmwares answer
// one of them only; with MX 1, since a plug told MX 10 takes up to 8 s; three
// times, a second apart, since they miss some.
type Search struct {
	// Group is where searches go; the zero value is 239.255.255.250:1900.
	// Another address, such as a simulator's on loopback, is asked directly.
	Group netip.AddrPort

	// For tests; nil is listen and join.
	listener, joiner func() ([]*net.UDPConn, error)
}

const (
	searchRounds   = 3
	searchInterval = time.Second
	ssdpTTL        = 4 // as the device's own stack uses
)

// ErrNotFound says that no plug answered a search.
var ErrNotFound = errors.New("no plug answered the search")

// Discover returns every Insight that answers, in the order of their UDN. It
// takes four seconds. That none answers is no error. A plug that answers the
// search and then does not say more, as one whose HTTP server hangs, is there
// with its UDN and address alone.
func (s Search) Discover(ctx context.Context, c *Client) ([]Device, error) {
	var answers []ssdpAnswer
	err := s.run(ctx, func(a ssdpAnswer) bool {
		answers = append(answers, a)
		return false
	})
	if err != nil {
		return nil, err
	}
	// Only now: a plug that keeps us waiting must not cost us the others.
	found := map[string]Device{}
	for _, a := range answers {
		if found[a.udn].Name != "" {
			continue // another way to the same plug
		}
		d, err := c.Describe(ctx, a.addr)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil:
			found[a.udn] = d
		case strings.HasPrefix(a.udn, "uuid:Insight-") && !errors.Is(err, ErrNotInsight):
			found[a.udn] = Device{UDN: a.udn, Addr: a.addr}
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Device) int { return strings.Compare(a.UDN, b.UDN) }), nil
}

// find returns the plug with a udn, as soon as it answers, or, without one,
// the only plug that there is.
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
	var d Device
	var failed error
	err := s.run(ctx, func(a ssdpAnswer) bool {
		if a.udn != udn {
			return false
		}
		var err error
		if d, err = c.Describe(ctx, a.addr); err != nil {
			failed = err
			return false
		}
		return d.UDN == udn
	})
	switch {
	case err != nil:
		return Device{}, err
	case d.UDN == udn:
		return d, nil
	case failed != nil:
		return Device{}, failed
	}
	return Device{}, fmt.Errorf("%w: %s", ErrNotFound, udn)
}

// run searches and hands each plug that answers to found, once, until found
// says that this is enough.
func (s Search) run(ctx context.Context, found func(ssdpAnswer) bool) error {
	ctx, cancel := context.WithTimeout(ctx, (searchRounds+1)*searchInterval)
	defer cancel()
	listen := s.listener
	if listen == nil {
		listen = s.listen
	}
	conns, err := listen()
	if err != nil {
		return fmt.Errorf("search for plugs: %w", err)
	}
	answers := make(chan ssdpAnswer)
	done := make(chan struct{}, len(conns))
	for _, c := range conns {
		go func() {
			receive(ctx, c, answers)
			done <- struct{}{}
		}()
	}
	defer func() {
		cancel()
		for _, c := range conns {
			c.Close()
		}
		for range conns {
			<-done
		}
	}()

	group := s.group()
	round := time.NewTicker(searchInterval)
	defer round.Stop()
	sent := 0
	send := func() error {
		sent++
		var errs []error
		for _, c := range conns {
			for _, st := range []string{"urn:Belkin:service:basicevent:1", "urn:Belkin:device:insight:1"} {
				m := "M-SEARCH * HTTP/1.1\r\nST: " + st + "\r\nMX: 1\r\nMAN: \"ssdp:discover\"\r\nHOST: 239.255.255.250:1900\r\n\r\n"
				if _, err := c.WriteToUDPAddrPort([]byte(m), group); err != nil {
					errs = append(errs, err)
				}
			}
		}
		if len(errs) == 2*len(conns) {
			return fmt.Errorf("search for plugs: %w", errs[0])
		}
		return nil
	}
	if err := send(); err != nil {
		return err
	}
	asked := map[ssdpAnswer]bool{}
	for {
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil // the search is over
			}
			return ctx.Err()
		case <-round.C:
			if sent < searchRounds {
				if err := send(); err != nil {
					return err
				}
			}
		case a := <-answers:
			if asked[a] || len(asked) >= maxAnswers {
				continue
			}
			asked[a] = true
			if found(a) {
				return nil
			}
		}
	}
}

// maxAnswers bounds the places that one search looks into.
const maxAnswers = 256

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
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var conns []*net.UDPConn
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagMulticast == 0 {
			continue
		}
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

// join opens a socket for what plugs announce of themselves, if that can be
// heard at all.
func (s Search) join() ([]*net.UDPConn, error) {
	if s.joiner != nil {
		return s.joiner()
	}
	if !s.group().Addr().IsMulticast() {
		return nil, nil
	}
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	group := net.UDPAddrFromAddrPort(s.group())
	var conn *net.UDPConn
	failed := errNoMulticast
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagMulticast == 0 {
			continue
		}
		if conn == nil {
			conn, err = net.ListenMulticastUDP("udp4", &i, group)
		} else {
			err = ipv4.NewPacketConn(conn).JoinGroup(&i, group)
		}
		if err != nil {
			failed = err // and go on: one network is better than none
		}
	}
	if conn == nil {
		return nil, fmt.Errorf("join %s: %w", group, failed)
	}
	return []*net.UDPConn{conn}, nil
}

var errNoMulticast = errors.New("no network interface with IPv4 multicast")

// receive reads answers until the socket is closed.
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
		// A message speaks for its sender only; else anybody on the network
		// could make us ask any address.
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

// ssdpAnswer is what an answer to M-SEARCH, or a NOTIFY, says about a device.
type ssdpAnswer struct {
	udn  string
	addr netip.AddrPort
	gone bool // ssdp:byebye
}

// parseSSDP reads an SSDP message, whatever its line ends, the case of its
// header names and the space after the colons.
func parseSSDP(b []byte) (ssdpAnswer, error) {
	first, rest, _ := bytes.Cut(b, []byte("\n"))
	start := strings.ToUpper(strings.TrimSpace(string(first)))
	isAnswer := strings.HasPrefix(start, "HTTP/1.") && strings.Contains(start+" ", " 200 ")
	if !isAnswer && !strings.HasPrefix(start, "NOTIFY ") {
		return ssdpAnswer{}, fmt.Errorf("SSDP message begins %q, want an HTTP 200 or NOTIFY", clip(start))
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
		return ssdpAnswer{}, fmt.Errorf("SSDP message with USN %q, want uuid:…", clip(a.udn))
	}
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "http" {
		return ssdpAnswer{}, fmt.Errorf("SSDP message with LOCATION %q, want http://ADDRESS:PORT/setup.xml", clip(location))
	}
	if a.addr, err = netip.ParseAddrPort(u.Host); err != nil || a.addr.Port() == 0 {
		return ssdpAnswer{}, fmt.Errorf("SSDP message with LOCATION %q, want an IP address and a port", clip(location))
	}
	a.addr = netip.AddrPortFrom(a.addr.Addr().Unmap(), a.addr.Port())
	return a, nil
}

// gone tells a host that does not answer from a port that nobody serves.
func gone(err error) bool {
	return os.IsTimeout(err) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) ||
		errors.Is(err, syscall.EHOSTDOWN) || errors.Is(err, syscall.ENETDOWN)
}
