package insight

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iotoll/iotoll/wemo/simulator"
)

func TestParseSSDP(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=86400\r\nEXT:\r\nLOCATION: http://10.22.22.1:49152/setup.xml\r\n" +
		"SERVER: Unspecified, UPnP/1.0, Unspecified\r\nST: urn:Belkin:device:insight:1\r\nUSN: uuid:Insight-1_0-SERIALNUMBER::urn:Belkin:device:insight:1\r\n\r\n"
	want := ssdpAnswer{udn: "uuid:Insight-1_0-SERIALNUMBER", addr: netip.MustParseAddrPort("10.22.22.1:49152")}
	bye := want
	bye.gone = true
	for name, tt := range map[string]struct {
		in   string
		want ssdpAnswer
	}{
		"a real answer":    {answer, want},
		"LF only":          {strings.ReplaceAll(answer, "\r", ""), want},
		"no space":         {strings.ReplaceAll(answer, ": ", ":"), want},
		"lower case":       {strings.Replace(strings.ToLower(answer), "insight-1_0-serialnumber", "Insight-1_0-SERIALNUMBER", 1), want},
		"no end":           {strings.TrimRight(answer, "\r\n"), want},
		"HTTP/1.0":         {strings.Replace(answer, "1.1", "1.0", 1), want},
		"no reason":        {strings.Replace(answer, "200 OK", "200", 1), want},
		"USN is the UDN":   {strings.Replace(answer, "R::urn:Belkin:device:insight:1", "R", 1), want},
		"alive":            {strings.Replace(answer, "HTTP/1.1 200 OK", "NOTIFY * HTTP/1.1\r\nNTS: ssdp:alive", 1), want},
		"byebye":           {strings.Replace(answer, "HTTP/1.1 200 OK", "NOTIFY * HTTP/1.1\r\nNTS: ssdp:byebye", 1), bye},
		"lines of nothing": {strings.Replace(answer, "EXT:", "EXT:\r\nnothing\r\n:\r\n\x00\xff", 1), want},
	} {
		if got, err := parseSSDP([]byte(tt.in)); err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, tt.want)
		}
	}
	for name, tt := range map[string]struct{ in, want string }{
		"a search":       {"M-SEARCH * HTTP/1.1\r\nST: ssdp:all\r\n\r\n", "want an HTTP 200 or NOTIFY"},
		"nothing":        {"", "want an HTTP 200"},
		"404":            {strings.Replace(answer, "200", "404", 1), "want an HTTP 200"},
		"no USN":         {strings.Replace(answer, "USN", "X", 1), "want uuid:"},
		"no uuid":        {strings.Replace(answer, "uuid:", "x", 1), "want uuid:"},
		"no LOCATION":    {strings.Replace(answer, "LOCATION", "X", 1), "LOCATION"},
		"a name":         {strings.Replace(answer, "10.22.22.1", "plug.local", 1), "want an IP address"},
		"no port":        {strings.Replace(answer, ":49152", "", 1), "want an IP address"},
		"another scheme": {strings.Replace(answer, "http://", "file://", 1), "want http://"},
	} {
		if got, err := parseSSDP([]byte(tt.in)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %+v, %v, want %q", name, got, err, tt.want)
		}
	}
	// Every answer captured from libupnp.
	n := 0
	for _, s := range strings.Split(recording(t, "libupnp-ssdp.txt"), "HTTP/1.1 200 OK")[1:] {
		got, err := parseSSDP([]byte("HTTP/1.1 200 OK" + s))
		if err != nil || got.udn != want.udn || got.addr.String() != "192.0.2.2:49152" {
			t.Errorf("captured answer: got %+v, %v", got, err)
		}
		n++
	}
	if n != 7 {
		t.Errorf("captured answers: got %d, want 7", n)
	}
}

func FuzzSSDP(f *testing.F) {
	for _, s := range strings.Split(recording(f, "libupnp-ssdp.txt"), "###") {
		f.Add([]byte(s))
	}
	f.Add([]byte("NOTIFY * HTTP/1.1\nUSN:uuid:a\nLOCATION:http://[::1]:1/"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseSSDP(b)
		if err == nil && (!a.addr.IsValid() || a.addr.Port() == 0 || !strings.HasPrefix(a.udn, "uuid:") || len(a.udn) > 200) {
			t.Errorf("parseSSDP(%q): got %+v", b, a)
		}
	})
}

// simulate runs a plug until the test ends.
func simulate(t testing.TB, c simulator.Config) *simulator.Plug {
	t.Helper()
	p, _ := simulateUntil(t, c)
	return p
}

// simulateUntil runs a plug until the test ends or stop is called.
func simulateUntil(t testing.TB, c simulator.Config) (p *simulator.Plug, stop func()) {
	t.Helper()
	p, err := simulator.Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return p, stop
}

func TestDiscover(t *testing.T) {
	t.Parallel()
	p := simulate(t, simulator.Config{Search: "127.0.0.1:0", Serial: "ONE", Name: "Büro & Küche"})
	found, err := Search{Group: p.SearchAddr()}.Discover(t.Context(), new(Client))
	if err != nil || len(found) != 1 || found[0].UDN != "uuid:Insight-1_0-ONE" || found[0].Addr != p.Addr() || found[0].Name != "Büro & Küche" {
		t.Errorf("Discover: got %+v, %v, want %s at %s", found, err, p.UDN(), p.Addr())
	}
	start := time.Now()
	d, err := Search{Group: p.SearchAddr()}.find(t.Context(), new(Client), p.UDN())
	if err != nil || d.Addr != p.Addr() || time.Since(start) > 2*time.Second {
		t.Errorf("find %s: got %+v, %v after %s, want %s at once", p.UDN(), d, err, time.Since(start), p.Addr())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start = time.Now()
	_, err = Search{Group: p.SearchAddr()}.find(ctx, new(Client), "uuid:Insight-1_0-TWO")
	if err == nil || time.Since(start) > time.Second {
		t.Errorf("find another: got %v after %s, want an error when the context ends", err, time.Since(start))
	}
}

func TestDiscoverHalfDead(t *testing.T) {
	t.Parallel()
	p := simulate(t, simulator.Config{Search: "127.0.0.1:0"})
	if err := p.Command("silent"); err != nil {
		t.Fatal(err)
	}
	want := Device{UDN: p.UDN(), Addr: p.Addr()}
	found, err := Search{Group: p.SearchAddr()}.Discover(t.Context(), new(Client))
	if err != nil || len(found) != 1 || found[0] != want {
		t.Errorf("Discover with HTTP silent: got %+v, %v, want %+v", found, err, want)
	}
}

// A host that claims to be many plugs and never answers does not delay the others, nor
// the end of the search.
func TestDiscoverHostileHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &network{answers: map[string]func(net.Conn){"192.0.2.1:49153": insight("OURS", nil)}}
		answers := make(chan ssdpAnswer)
		go func() {
			for i := range 200 {
				addr := fmt.Sprint("192.0.2.66:", 40000+i)
				n.mu.Lock()
				n.answers[addr] = nil
				n.mu.Unlock()
				answers <- ssdpAnswer{udn: fmt.Sprint("uuid:Insight-1_0-", i), addr: netip.MustParseAddrPort(addr)}
			}
			answers <- ssdpAnswer{udn: "uuid:Insight-1_0-OURS", addr: netip.MustParseAddrPort("192.0.2.1:49153")}
		}()
		start := time.Now()
		var ours time.Duration
		hostile := 0
		err := describe(t.Context(), &Client{Dial: n.dial}, "", answers, func(a ssdpAnswer, d Device, err error) bool {
			if err != nil {
				hostile++
			} else if d.UDN == "uuid:Insight-1_0-OURS" {
				ours = time.Since(start)
			}
			return false
		})
		if took := time.Since(start); err != nil || took > searchTime+describeTime || ours > time.Second || hostile > maxPerHost || len(n.dials) > maxPerHost+1 {
			t.Errorf("describe: got %v after %s, ours after %s, %d answers of the hostile host, %d requests", err, took, ours, hostile, len(n.dials))
		}
	})
}
