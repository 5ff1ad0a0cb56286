// Package simulator simulates a WeMo Insight, for tests, demonstrations and other
// software.
//
// For equal values its answers equal recordings of real plugs byte for byte
// (../insight/testdata); answers that were not recorded are those of libupnp, on
// which the real plug is built. It serves setup.xml and its eleven service documents,
// reads and switches by SOAP, sends events (GENA), answers searches (SSDP), and fails
// on command in the ways that real plugs fail.
package simulator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Config describes the plug. The zero value is a plug on a free port of loopback
// that answers no searches.
type Config struct {
	// Address is the address of the HTTP server; empty is 127.0.0.1:0. Real plugs use
	// port 49153.
	Address string
	// Search is a UDP address that answers searches, such as 127.0.0.1:0;
	// empty is none.
	Search string
	// Multicast makes the plug join 239.255.255.250:1900 on every interface, answer
	// searches and announce itself.
	Multicast bool

	Serial string                  // empty is SIMULATED00001; part of the UDN
	Name   string                  // empty is WeMo Device
	MAC    string                  // empty is 001122334455
	Load   func(time.Time) float64 // milliwatts while on; nil is Household
	Now    func() time.Time        // nil is time.Now
	Log    logrus.FieldLogger      // nil is none
}

// Plug is a simulated plug. Its methods may be used while Run runs.
type Plug struct {
	config Config
	meter  *meter
	group  net.PacketConn // of Config.Multicast, or nil
	direct net.PacketConn // of Config.Search, or nil

	mu       sync.Mutex
	http     net.Listener // nil while the port is closed
	addr     netip.AddrPort
	boot     string // 01-NLS: one UUID for each boot
	fault    Fault
	subs     map[string]*subscription
	leftover []net.Listener     // former ports, which still accept
	accept   func(net.Listener) // set while Run runs
}

// Listen opens the sockets of a plug; Run serves them. It errs if one cannot be
// opened.
func Listen(c Config) (*Plug, error) {
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	if c.Serial == "" {
		c.Serial = "SIMULATED00001"
	}
	if c.Name == "" {
		c.Name = "WeMo Device"
	}
	if c.MAC == "" {
		c.MAC = "001122334455"
	}
	if c.Load == nil {
		c.Load = Household
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		l := logrus.New()
		l.SetLevel(logrus.PanicLevel)
		c.Log = l
	}
	p := &Plug{config: c, boot: newUUID(), subs: map[string]*subscription{}}
	p.meter = newMeter(c.Load, c.Now())
	var err error
	if p.http, err = net.Listen("tcp", c.Address); err != nil {
		return nil, fmt.Errorf("simulate plug: %w", err)
	}
	p.addr = p.http.Addr().(*net.TCPAddr).AddrPort()
	if c.Search != "" {
		if p.direct, err = net.ListenPacket("udp", c.Search); err != nil {
			p.Close()
			return nil, fmt.Errorf("simulate plug: %w", err)
		}
	}
	if c.Multicast {
		if p.group, err = joinGroup(); err != nil {
			p.Close()
			return nil, fmt.Errorf("simulate plug: %w", err)
		}
	}
	return p, nil
}

// Close closes the sockets. Run does so by itself. It returns nil.
func (p *Plug) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range append(p.leftover, p.http) {
		if l != nil {
			l.Close()
		}
	}
	for _, c := range []net.PacketConn{p.direct, p.group} {
		if c != nil {
			c.Close()
		}
	}
	return nil
}

// Run serves until ctx ends. Then it closes every socket and returns nil.
func (p *Plug) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	p.mu.Lock()
	p.accept = func(l net.Listener) { wg.Go(func() { p.serve(ctx, l, &wg) }) }
	if p.http != nil {
		p.accept(p.http)
	}
	p.mu.Unlock()
	for _, c := range []net.PacketConn{p.direct, p.group} {
		if c != nil {
			wg.Go(func() { p.answerSearches(ctx, c, &wg) })
		}
	}
	wg.Go(func() { p.sendEvents(ctx) })
	p.announce("ssdp:alive")
	<-ctx.Done()
	p.announce("ssdp:byebye")
	p.mu.Lock()
	p.accept = nil // Restart starts nothing from here on
	p.mu.Unlock()
	cancel()
	p.Close()
	wg.Wait()
	return nil
}

// Addr returns the present address of the HTTP server.
func (p *Plug) Addr() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// SearchAddr returns the address that answers searches, if Config.Search is set.
func (p *Plug) SearchAddr() netip.AddrPort {
	if p.direct == nil {
		return netip.AddrPort{}
	}
	return p.direct.LocalAddr().(*net.UDPAddr).AddrPort()
}

// UDN returns the constant name of the plug.
func (p *Plug) UDN() string { return "uuid:Insight-1_0-" + p.config.Serial }

// Switch closes or opens the relay, as the plug's button does.
func (p *Plug) Switch(on bool) { p.meter.set(on, p.config.Now()) }

// Values returns the present values.
func (p *Plug) Values() Values { return p.meter.values(p.config.Now()) }

// Freeze sets the values, which no longer depend on time and load.
func (p *Plug) Freeze(v Values) { p.meter.freeze(v) }

// Restart reboots the plug: it forgets subscriptions, ends a fault and announces
// itself. With move it uses another port, and the old one accepts connections without
// answering, as on real plugs. Restart errs if a port cannot be opened.
func (p *Plug) Restart(move bool) error {
	if err := p.reboot(move); err != nil {
		return err
	}
	p.announce("ssdp:alive")
	return nil
}

func (p *Plug) reboot(move bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = Fault{}
	p.boot = newUUID()
	for id := range p.subs {
		p.drop(id)
	}
	if !move {
		return p.listen()
	}
	old := p.http
	p.http = nil
	where := netip.AddrPortFrom(p.addr.Addr(), 0)
	if n := p.addr.Port(); n >= 49152 && n < 49159 && p.config.Address != "127.0.0.1:0" {
		where = netip.AddrPortFrom(p.addr.Addr(), n+1) // as libupnp counts
	}
	l, err := net.Listen("tcp", where.String())
	if err != nil && where.Port() != 0 {
		l, err = net.Listen("tcp", netip.AddrPortFrom(p.addr.Addr(), 0).String())
	}
	if err != nil {
		p.http = old
		return fmt.Errorf("move plug: %w", err)
	}
	if old != nil {
		p.leftover = append(p.leftover, old)
	}
	p.http, p.addr = l, l.Addr().(*net.TCPAddr).AddrPort()
	if p.accept != nil {
		p.accept(l)
	}
	return nil
}

// listen opens the HTTP port if a fault has closed it. p.mu is held.
func (p *Plug) listen() error {
	if p.http != nil {
		return nil
	}
	l, err := net.Listen("tcp", p.addr.String())
	if err != nil {
		return fmt.Errorf("open port again: %w", err)
	}
	p.http = l
	if p.accept != nil {
		p.accept(l)
	}
	return nil
}

// serve accepts connections until l is closed.
func (p *Plug) serve(ctx context.Context, l net.Listener, wg *sync.WaitGroup) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // such as out of files
			continue
		}
		p.mu.Lock()
		left := l != p.http
		p.mu.Unlock()
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			defer c.Close()
			if left {
				hang(c)
				return
			}
			p.handle(ctx, c.(*net.TCPConn), wg)
		})
	}
}

// hang reads until the client gives up.
func hang(c net.Conn) { io.Copy(io.Discard, c) }

// newUUID returns a UUID in the form of libupnp.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-1dd2-11b2-%x-%x", b[:4], b[4:6], b[6:12])
}
