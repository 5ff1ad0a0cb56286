package insight

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func recording(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// serve answers every request on a loopback port with the bytes that answer returns.
func serve(t testing.TB, answer func(req *http.Request, body string) string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				req, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				b, _ := io.ReadAll(req.Body)
				io.WriteString(c, answer(req, string(b)))
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// plugAnswer puts a body under the recorded head of a plug.
func plugAnswer(status, body string) string {
	return "HTTP/1.1 " + status + "\r\nCONTENT-LENGTH: " + fmt.Sprint(len(body)) + "\r\nCONTENT-TYPE: text/xml; charset=\"utf-8\"\r\n" +
		"DATE: Wed, 04 Dec 2019 20:57:23 GMT\r\nEXT:\r\nSERVER: Unspecified, UPnP/1.0, Unspecified\r\nX-User-Agent: redsonic\r\n\r\n" + body
}

func TestParamsReplaysRecordings(t *testing.T) {
	for file, want := range map[string]Params{
		"params-on.xml":        {State: Standby, Reported: 1190},
		"params-off.xml":       {State: Off, Reported: 0},
		"params-off-stale.xml": {State: Off, Reported: 1170},
		"params-standby.xml":   {State: Standby, Reported: 0},
	} {
		addr := serve(t, func(req *http.Request, body string) string {
			if req.Method != "POST" || req.URL.Path != "/upnp/control/insight1" || req.Header.Get("SOAPACTION") != `"urn:Belkin:service:insight:1#GetInsightParams"` ||
				!req.Close || !strings.HasPrefix(req.Host, "127.0.0.1:") || req.ContentLength != int64(len(body)) ||
				!strings.Contains(body, `<u:GetInsightParams xmlns:u="urn:Belkin:service:insight:1"></u:GetInsightParams>`) {
				t.Errorf("got request %+v %s", req, body)
			}
			return plugAnswer("200 OK", recording(t, file))
		})
		got, err := new(Client).Params(t.Context(), addr)
		if err != nil || got.State != want.State || got.Reported != want.Reported {
			t.Errorf("%s: got %+v, %v, want state %d and %g mW", file, got, err, want.State, want.Reported)
		}
		if got.State == Off && got.MilliWatts() != 0 {
			t.Errorf("%s: got %d mW with the relay open, want 0", file, got.MilliWatts())
		}
	}
}

func TestDescribeReplaysRecordings(t *testing.T) {
	for file, want := range map[string]Device{
		"../simulator/web/setup.xml":  {UDN: "uuid:Insight-1_0-SERIALNUMBER", Name: "WeMo Device", Model: "Insight", Firmware: "WeMo_WW_2.00.11532.PVT-OWRT-InsightV2"},
		"testdata/setup-11057-v1.xml": {Model: "Insight", Firmware: "WeMo_WW_2.00.11057.PVT-OWRT-Insight"},
		"testdata/setup-11057-v2.xml": {Model: "Insight", Firmware: "WeMo_WW_2.00.11057.PVT-OWRT-InsightV2"},
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		addr := serve(t, func(req *http.Request, _ string) string {
			if req.URL.Path != "/setup.xml" {
				t.Errorf("got request for %s", req.URL.Path)
			}
			return plugAnswer("200 OK", string(b))
		})
		got, err := new(Client).Describe(t.Context(), addr)
		if err != nil || got.Model != want.Model || got.Firmware != want.Firmware || got.Addr != addr || !strings.HasPrefix(got.UDN, "uuid:Insight-1_0-") {
			t.Errorf("%s: got %+v, %v, want %+v", file, got, err, want)
		}
		want.Addr = addr
		if want.UDN != "" && got != want {
			t.Errorf("%s: got %+v, want %+v", file, got, want)
		}
	}
}

// Of a truncated or malformed description, device type and UDN are enough.
func TestDescribeTolerates(t *testing.T) {
	setup := recording(t, "setup-11057-v2.xml")
	udn := strings.Index(setup, "</UDN>") + len("</UDN>")
	for name, tt := range map[string]struct {
		answer string
		ok     bool
	}{
		"truncated":            {plugAnswer("200 OK", setup)[:len(plugAnswer("200 OK", setup))-len(setup)+udn], true},
		"short, no length":     {"HTTP/1.1 200 OK\r\n\r\n" + setup[:udn], true},
		"bare & in the name":   {plugAnswer("200 OK", strings.Replace(setup, "<friendlyName>", "<friendlyName>Tom & Jerry", 1)), true},
		"truncated in the UDN": {plugAnswer("200 OK", setup)[:len(plugAnswer("200 OK", setup))-len(setup)+udn-8], false},
	} {
		addr := serve(t, func(*http.Request, string) string { return tt.answer })
		d, err := new(Client).Describe(t.Context(), addr)
		want := Device{}
		if tt.ok {
			want, _ = parseDescription([]byte(setup))
		}
		if (err == nil) != tt.ok || !tt.ok && !errors.Is(err, ErrNotInsight) || d.UDN != want.UDN {
			t.Errorf("%s: got %+v, %v, want UDN %q", name, d, err, want.UDN)
		}
	}
}

func TestClientRefusesBadAnswers(t *testing.T) {
	fault := func(code string) string {
		_, s, _ := strings.Cut(strings.ReplaceAll(recording(t, "libupnp-http.txt"), "\r", ""), "--- SOAP fail action\n")
		_, s, _ = strings.Cut(s, "\n\n")
		s, _, _ = strings.Cut(s, "\n---")
		return strings.Replace(s, ">501<", ">"+code+"<", 1)
	}
	params := recording(t, "params-on.xml")
	for name, tt := range map[string]struct {
		answer string
		want   string
		code   int
	}{
		"fault 501":       {plugAnswer("500 Internal Server Error", fault("501")), "UPnP error 501 Action Failed", 501},
		"fault 401":       {plugAnswer("500 Internal Server Error", fault("401")), "UPnP error 401", 401},
		"fault -111":      {plugAnswer("500 Internal Server Error", fault("-111")), "UPnP error -111", -111},
		"fault with 200":  {plugAnswer("200 OK", fault("501")), "UPnP error 501", 501},
		"fault, no code":  {plugAnswer("500 Internal Server Error", fault("")), "HTTP status 500", 0},
		"500, no fault":   {plugAnswer("500 Internal Server Error", "oops"), "HTTP status 500", 0},
		"404":             {plugAnswer("404 Not Found", "<html><body><h1>404 Not Found</h1></body></html>"), "HTTP status 404", 0},
		"redirect":        {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "HTTP status 302", 0},
		"half a body":     {plugAnswer("200 OK", params)[:400], "unexpected EOF", 0},
		"half, no length": {"HTTP/1.1 200 OK\r\n\r\n" + params[:200], "XML syntax error", 0},
		"nothing":         {"", "EOF", 0},
		"no HTTP":         {"SSH-2.0-OpenSSH_9.2\r\n", "malformed HTTP", 0},
		"empty":           {plugAnswer("200 OK", ""), "no XML element", 0},
		"HTML":            {plugAnswer("200 OK", "<html><body>hello</body></html>"), "no such element: InsightParams", 0},
		"no number":       {plugAnswer("200 OK", strings.Replace(params, "1190", "much", 1)), `power is "much"`, 0},
		"too long":        {plugAnswer("200 OK", strings.Repeat("<a>", 100000)), "longer than 65536 bytes", 0},
		"entities":        {plugAnswer("200 OK", `<!DOCTYPE a [<!ENTITY b "1">]><a><InsightParams>&b;</InsightParams></a>`), "invalid character entity", 0},
		"deep":            {plugAnswer("200 OK", strings.Repeat("<a>", 20000)), "unexpected EOF", 0},
	} {
		addr := serve(t, func(*http.Request, string) string { return tt.answer })
		p, err := new(Client).Params(t.Context(), addr)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), addr.String()) || p != (Params{}) {
			t.Errorf("%s: got %+v, %v, want %q", name, p, err, tt.want)
		}
		var f *Fault
		if errors.As(err, &f) != (tt.code != 0) || f != nil && f.Code != tt.code {
			t.Errorf("%s: got fault %v, want code %d", name, f, tt.code)
		}
	}
}

func TestClientGivesUp(t *testing.T) {
	for name, answer := range map[string]func(net.Conn){
		"silent": nil,
		"dripping": func(c net.Conn) {
			readRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			for {
				time.Sleep(300 * time.Millisecond)
				if _, err := io.WriteString(c, " "); err != nil {
					return
				}
			}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := &network{answers: map[string]func(net.Conn){"192.0.2.1:49153": answer}}
			start := time.Now()
			_, err := (&Client{Dial: n.dial}).Params(t.Context(), netip.MustParseAddrPort("192.0.2.1:49153"))
			if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != requestTimeout {
				t.Errorf("%s plug: got %v after %s, want a deadline after %s", name, err, took, requestTimeout)
			}
			time.Sleep(time.Second) // the plug notices
		})
	}
}

func TestResolveAddress(t *testing.T) {
	for in, want := range map[string]string{
		"192.168.1.20":        "192.168.1.20:0",
		"192.168.1.20:49153":  "192.168.1.20:49153",
		"[fd00::1]:49153":     "[fd00::1]:49153",
		"fd00::1":             "[fd00::1]:0",
		"::ffff:192.168.1.20": "192.168.1.20:0",
		"localhost:49153":     "127.0.0.1:49153",
	} {
		got, err := ResolveAddress(t.Context(), in)
		if err != nil || got.String() != want {
			t.Errorf("ResolveAddress(%q): got %s, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", ":49153", "192.168.1.20:0", "192.168.1.20:99999", "192.168.1.20:x", "192.168.1.300", "192.168.1", "http://192.168.1.20", "a b", "a/b", "[fd00::1]", strings.Repeat("a", 300)} {
		if got, err := ResolveAddress(t.Context(), in); err == nil || !strings.Contains(err.Error(), "want an IP address or a host name") {
			t.Errorf("ResolveAddress(%.30q): got %s, %v, want an error that says what would be right", in, got, err)
		}
	}
}

func FuzzSOAP(f *testing.F) {
	for _, file := range []string{"params-on.xml", "params-off.xml", "set-on.xml", "state-on.xml"} {
		f.Add([]byte(recording(f, file)))
	}
	f.Add([]byte("<a><InsightParams><b>1</b>2</InsightParams></a>trailing <"))
	f.Add([]byte("<errorCode>7</errorCode>"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := soapValue(doc, "InsightParams")
		if err != nil && s != "" {
			t.Errorf("soapValue(%q): got %q with an error", doc, s)
		}
		parseDescription(doc)
		// The result does not depend on bytes after the document.
		if err == nil {
			if again, err := soapValue(append(doc, "\n\n\r\n\x00<"...), "InsightParams"); err != nil || again != s {
				t.Errorf("soapValue(%q and more): got %q, %v, want %q", doc, again, err, s)
			}
		}
	})
}

func readRequest(c net.Conn) (*http.Request, error) {
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return nil, err
	}
	_, err = io.ReadAll(req.Body)
	return req, err
}
