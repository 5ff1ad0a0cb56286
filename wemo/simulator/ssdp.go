package simulator

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/net/ipv4"
)

var ssdpGroup = net.UDPAddr{IP: net.IPv4(239, 255, 255, 250), Port: 1900}

// serviceOrder is the order in which a plug announces its services.
var serviceOrder = []string{"WiFiSetup", "timesync", "basicevent", "firmwareupdate", "rules", "metainfo",
	"remoteaccess", "deviceinfo", "insight", "smartsetup", "manufacture"}

// joinGroup listens for searches on every interface that has multicast.
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

// answerSearches answers until c is closed.
func (p *Plug) answerSearches(c net.PacketConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		p.search(buf[:n], from.(*net.UDPAddr))
	}
}

// search answers one M-SEARCH as libupnp does: MAN must be quoted and MX be
// there; the answer comes from a port of its own, after a random part of MX in
// whole seconds.
func (p *Plug) search(b []byte, from *net.UDPAddr) {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil || req.Method != "M-SEARCH" || req.Header.Get("MAN") != `"ssdp:discover"` {
		return
	}
	mx, err := strconv.Atoi(req.Header.Get("MX"))
	st := req.Header.Get("ST")
	usn, ok := p.usn(st)
	if err != nil || mx < 1 || !ok {
		return
	}
	mx = min(mx, 120)
	delay := time.Duration(rand.IntN(max(1, mx-max(1, mx/10)))) * time.Second
	send := func() {
		c, err := net.DialUDP("udp", nil, from)
		if err != nil {
			return
		}
		defer c.Close()
		location := p.location(c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap())
		p.mu.Lock()
		boot := p.boot
		p.mu.Unlock()
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=86400\r\n%s\r\nEXT:\r\nLOCATION: %s\r\n"+
			"OPT: \"http://schemas.upnp.org/upnp/1/0/\"; ns=01\r\n01-NLS: %s\r\n%s\r\n%s\r\nST: %s\r\nUSN: %s\r\n\r\n",
			date(p.config.Now()), location, boot, serverLine, userAgentLine, st, usn)
	}
	if delay == 0 {
		send()
	} else {
		time.AfterFunc(delay, send)
	}
}

// usn is the name under which a plug answers a search for st. It does not
// answer ssdp:all.
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

// location is where who reaches us by local finds the description.
func (p *Plug) location(local netip.Addr) string {
	a := p.Addr()
	if a.Addr().IsUnspecified() {
		a = netip.AddrPortFrom(local, a.Port())
	}
	return "http://" + a.String() + "/setup.xml"
}

// announce says on every network that the plug is there, or that it goes.
func (p *Plug) announce(nts string) {
	types := []string{"upnp:rootdevice", p.UDN(), "urn:Belkin:device:insight:1"}
	for _, s := range serviceOrder {
		types = append(types, "urn:Belkin:service:"+s+":1")
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
			for range 2 {
				for _, t := range types {
					usn, _ := p.usn(t)
					p.mu.Lock()
					boot := p.boot
					p.mu.Unlock()
					fmt.Fprintf(writerTo{c}, "NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nCACHE-CONTROL: max-age=86400\r\nLOCATION: %s\r\n"+
						"OPT: \"http://schemas.upnp.org/upnp/1/0/\"; ns=01\r\n01-NLS: %s\r\nNT: %s\r\nNTS: %s\r\n%s\r\n%s\r\nUSN: %s\r\n\r\n",
						p.location(local), boot, t, nts, serverLine, userAgentLine, usn)
				}
			}
			c.Close()
		}
	}
}

// writerTo sends each write to the group.
type writerTo struct{ c *net.UDPConn }

func (w writerTo) Write(b []byte) (int, error) { return w.c.WriteTo(b, &ssdpGroup) }
