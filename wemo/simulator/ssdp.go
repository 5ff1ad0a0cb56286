package simulator

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
)

var ssdpGroup = net.UDPAddr{IP: net.IPv4(239, 255, 255, 250), Port: 1900}

// serviceOrder is the order in which a plug announces its services.
var serviceOrder = []string{"WiFiSetup", "timesync", "basicevent", "firmwareupdate", "rules", "metainfo",
	"remoteaccess", "deviceinfo", "insight", "smartsetup", "manufacture"}

// joinGroup listens for searches on every interface with multicast.
func joinGroup() (net.PacketConn, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var c *net.UDPConn
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagMulticast == 0 {
			continue
		}
		if c == nil {
			c, err = net.ListenMulticastUDP("udp4", &i, &ssdpGroup)
		} else {
			err = ipv4.NewPacketConn(c).JoinGroup(&i, &ssdpGroup)
		}
		if err != nil && c == nil {
			return nil, fmt.Errorf("join %s on %s: %w", ssdpGroup.String(), i.Name, err)
		}
	}
	if c == nil {
		return nil, fmt.Errorf("join %s: no interface with multicast", ssdpGroup.String())
	}
	return c, nil
}

// answerSearches answers searches until c is closed. When ctx ends, it drops answers
// that are not due yet.
func (p *Plug) answerSearches(ctx context.Context, c net.PacketConn, wg *sync.WaitGroup) {
	buf := make([]byte, 4096)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		st, delay, ok := p.search(buf[:n])
		switch {
		case !ok:
		case delay == 0:
			p.answer(st, from.(*net.UDPAddr))
		default:
			wg.Go(func() {
				select {
				case <-ctx.Done():
				case <-time.After(delay):
					p.answer(st, from.(*net.UDPAddr))
				}
			})
		}
	}
}

// search parses an M-SEARCH as libupnp does: MAN must be quoted, MX is required, and
// the answer is due after a random part of MX in whole seconds. ok is false if a plug
// does not answer.
func (p *Plug) search(b []byte) (st string, delay time.Duration, ok bool) {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil || req.Method != "M-SEARCH" || req.Header.Get("MAN") != `"ssdp:discover"` {
		return "", 0, false
	}
	mx, err := strconv.Atoi(req.Header.Get("MX"))
	st = req.Header.Get("ST")
	if _, ok := p.usn(st); !ok || err != nil || mx < 1 {
		return "", 0, false
	}
	mx = min(mx, 120)
	return st, time.Duration(rand.IntN(max(1, mx-max(1, mx/10)))) * time.Second, true
}

// answer answers a search from another port of the plug's address.
func (p *Plug) answer(st string, to *net.UDPAddr) {
	var from net.UDPAddr // unspecified: one that reaches to
	if a := p.Addr().Addr(); !a.IsUnspecified() {
		from.IP = a.AsSlice()
	}
	c, err := net.DialUDP("udp", &from, to)
	if err != nil {
		return
	}
	defer c.Close()
	usn, _ := p.usn(st)
	fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=86400\r\n%s\r\nEXT:\r\nLOCATION: %s\r\n"+
		"OPT: \"http://schemas.upnp.org/upnp/1/0/\"; ns=01\r\n01-NLS: %s\r\n%s\r\n%s\r\nST: %s\r\nUSN: %s\r\n\r\n",
		date(p.config.Now()), p.location(c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()), p.booted(), serverLine, userAgentLine, st, usn)
}

// usn returns the USN of the answer to a search for st. Plugs do not answer ssdp:all.
func (p *Plug) usn(st string) (string, bool) {
	const device = "urn:Belkin:device:insight:1"
	switch {
	case st == p.UDN():
		return st, true
	case st == "upnp:rootdevice", st == device, st == "urn:Belkin:device:**":
		return p.UDN() + "::" + st, true
	}
	for _, s := range serviceOrder {
		if st == "urn:Belkin:service:"+s+":1" {
			return p.UDN() + "::" + st, true
		}
	}
	return "", false
}

// location returns the URL of the description for hosts that reach us at local.
func (p *Plug) location(local netip.Addr) string {
	a := p.Addr()
	if a.Addr().IsUnspecified() {
		a = netip.AddrPortFrom(local, a.Port())
	}
	return "http://" + a.String() + "/setup.xml"
}

// booted returns the UUID of this boot.
func (p *Plug) booted() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.boot
}

// announcements returns the NOTIFYs for the device and its services at local, each
// twice. nts is ssdp:alive or ssdp:byebye.
func (p *Plug) announcements(nts string, local netip.Addr) []string {
	types := []string{"upnp:rootdevice", p.UDN(), "urn:Belkin:device:insight:1"}
	for _, s := range serviceOrder {
		types = append(types, "urn:Belkin:service:"+s+":1")
	}
	var all []string
	for range 2 {
		for _, t := range types {
			usn, _ := p.usn(t)
			all = append(all, fmt.Sprintf("NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nCACHE-CONTROL: max-age=86400\r\nLOCATION: %s\r\n"+
				"OPT: \"http://schemas.upnp.org/upnp/1/0/\"; ns=01\r\n01-NLS: %s\r\nNT: %s\r\nNTS: %s\r\n%s\r\n%s\r\nUSN: %s\r\n\r\n",
				p.location(local), p.booted(), t, nts, serverLine, userAgentLine, usn))
		}
	}
	return all
}

// announce sends the announcements on every network, with Config.Multicast.
func (p *Plug) announce(nts string) {
	if !p.config.Multicast {
		return
	}
	ifaces, err := net.Interfaces()
	if err != nil {
		return
	}
	for _, i := range ifaces {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 || i.Flags&net.FlagMulticast == 0 {
			continue
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok || n.IP.To4() == nil {
				continue
			}
			local, _ := netip.AddrFromSlice(n.IP.To4())
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: n.IP})
			if err != nil {
				continue
			}
			pc := ipv4.NewPacketConn(c)
			pc.SetMulticastInterface(&i)
			pc.SetMulticastTTL(4)
			for _, m := range p.announcements(nts, local) {
				c.WriteTo([]byte(m), &ssdpGroup)
			}
			c.Close()
		}
	}
}
