package simulator

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// run starts a plug with the identity of the recorded one.
func run(t *testing.T, c Config) *Plug {
	t.Helper()
	c.Serial = "SERIALNUMBER"
	p, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("Run did not return")
		}
	})
	return p
}

// ask sends a request and returns head and body of the answer.
func ask(t *testing.T, p *Plug, request string) (head, body string) {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, request)
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("ask: %v after %q", err, b)
	}
	head, body, ok := strings.Cut(string(b), "\r\n\r\n")
	if !ok {
		t.Fatalf("ask: got %q, want a head and a body", b)
	}
	return head, body
}

func soap(p *Plug, service, action, args string) string {
	body := fmt.Sprintf(`<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><u:%[1]s xmlns:u="urn:Belkin:service:%[2]s:1">%[3]s</u:%[1]s></s:Body></s:Envelope>`, action, service, args)
	return fmt.Sprintf("POST /upnp/control/%[1]s1 HTTP/1.1\r\nHost: %[2]s\r\nContent-Type: text/xml\r\nSOAPACTION: \"urn:Belkin:service:%[1]s:1#%[3]s\"\r\nContent-Length: %[4]d\r\n\r\n%[5]s",
		service, p.Addr(), action, len(body), body)
}

func recording(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../insight/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var recorded = Values{State: 8, LastChange: 1611530424, OnFor: 231, OnToday: 300, OnTotal: 183183, Period: 1209600,
	Average: 8, Power: 1190, Today: 1164707, Total: 99830512, Threshold: 8000}

func TestAnswersEqualRecordings(t *testing.T) {
	off := recorded
	off.State, off.LastChange, off.Power = 0, 1611532924, 0
	stale := recorded
	stale.State, stale.LastChange, stale.Power = 0, 1611532923, 1170
	standby := Values{8, 1611100927, 4, 0, 12313, 1209600, 165, 0, 13394, 32622495, 8000}
	for _, tt := range []struct {
		file, service, action, args string
		values                      Values
		now                         int64
	}{
		{"params-on.xml", "insight", "GetInsightParams", "", recorded, 0},
		{"params-off.xml", "insight", "GetInsightParams", "", off, 0},
		{"params-off-stale.xml", "insight", "GetInsightParams", "", stale, 0},
		{"params-standby.xml", "insight", "GetInsightParams", "", standby, 0},
		{"set-on.xml", "basicevent", "SetBinaryState", "<BinaryState>1</BinaryState>", recorded, 1611532922},
		{"set-off.xml", "basicevent", "SetBinaryState", "<BinaryState>0</BinaryState>", stale, 1611532923},
		{"state-on.xml", "basicevent", "GetBinaryState", "", recorded, 0},
		{"state-off.xml", "basicevent", "GetBinaryState", "", off, 0},
	} {
		now := time.Date(2019, 12, 4, 20, 57, 23, 0, time.UTC)
		if tt.now != 0 {
			now = time.Unix(tt.now, 0)
		}
		p := run(t, Config{Now: func() time.Time { return now }})
		p.Freeze(tt.values)
		head, body := ask(t, p, soap(p, tt.service, tt.action, tt.args))
		if want := recording(t, tt.file); body != want {
			t.Errorf("%s: got %q, want %q", tt.file, body, want)
		}
		if tt.now == 0 {
			want, _, _ := strings.Cut(recording(t, "head.txt"), "\n\n")
			want = strings.ReplaceAll(want, "\r", "")
			want = strings.Replace(want, "CONTENT-LENGTH: 435", fmt.Sprintf("CONTENT-LENGTH: %d", len(body)), 1)
			if got := strings.ReplaceAll(head, "\r\n", "\n"); got != want {
				t.Errorf("%s: got head\n%s\nwant\n%s", tt.file, got, want)
			}
		}
	}
}

// The documents are the recorded ones, with the plug's own identity.
func TestDocuments(t *testing.T) {
	p := run(t, Config{Name: "Tom & Jerry", MAC: "665544332211"})
	re := regexp.MustCompile(`^HTTP/1.1 200 OK\r\nCONTENT-LENGTH: \d+\r\nCONTENT-TYPE: text/xml\r\nDATE: [^\r]+ GMT\r\nLAST-MODIFIED: Sat, 01 Jan 2000 00:0\d:\d\d GMT\r\nSERVER: Unspecified, UPnP/1.0, Unspecified\r\nX-User-Agent: redsonic\r\nCONNECTION: close$`)
	for file, want := range map[string]string{
		"setup.xml":          "<friendlyName>Tom &amp; Jerry</friendlyName>|<UDN>" + p.UDN() + "</UDN>|<macAddress>665544332211</macAddress>",
		"insightservice.xml": "<name>GetInsightParams</name>",
	} {
		head, body := ask(t, p, "GET /"+file+" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
		for _, want := range strings.Split(want, "|") {
			if !strings.Contains(body, want) {
				t.Errorf("%s: got %q, want %s", file, body, want)
			}
		}
		if !re.MatchString(head) {
			t.Errorf("%s: got head %q, want %s", file, head, re)
		}
	}
}

func TestFaultsEqualLibupnp(t *testing.T) {
	p := run(t, Config{})
	capture := strings.ReplaceAll(recording(t, "libupnp-http.txt"), "\r", "")
	_, section, _ := strings.Cut(capture, "--- SOAP fail action\n")
	_, want, _ := strings.Cut(section, "\n\n")
	want = want[:strings.Index(want, "</s:Envelope>")+len("</s:Envelope>\n")]
	if err := p.Command("fault 501 1"); err != nil {
		t.Fatal(err)
	}
	head, body := ask(t, p, soap(p, "insight", "GetInsightParams", ""))
	if body != want || len(body) != 411 {
		t.Errorf("fault 501: got %d bytes %q, want %d bytes %q", len(body), body, len(want), want)
	}
	if !strings.HasPrefix(head, "HTTP/1.1 500 Internal Server Error\r\nCONTENT-LENGTH: 411\r\n") {
		t.Errorf("fault 501: got head %q", head)
	}
	for request, want := range map[string]string{
		soap(p, "insight", "NoSuchAction", ""):                "<errorCode>401</errorCode>",
		soap(p, "insight", "GetInsightInfo", ""):              "<errorCode>501</errorCode>",
		"GET /nosuch.xml HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n":  "<html><body><h1>404 Not Found</h1></body></html>",
		"GET /setup.xml HTTP/1.1\r\nHost: plug.local\r\n\r\n": "500 Internal Server Error",
	} {
		if _, body := ask(t, p, request); !strings.Contains(body, want) {
			t.Errorf("%.40q: got %q, want %s", request, body, want)
		}
	}
}

func TestEvents(t *testing.T) {
	p := run(t, Config{})
	p.Freeze(recorded)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	notifies := make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(5 * time.Second))
			var b bytes.Buffer
			for !strings.HasSuffix(b.String(), "\n\n\r\n") {
				if _, err := io.CopyN(&b, c, 1); err != nil {
					break
				}
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			c.Close()
			notifies <- b.String()
		}
	}()
	subscribe := func(headers string) string {
		head, _ := ask(t, p, "SUBSCRIBE /upnp/event/insight1 HTTP/1.1\r\nHOST: "+p.Addr().String()+"\r\n"+headers+"\r\n")
		return head
	}
	callback := "CALLBACK: <http://" + l.Addr().String() + "/cb>\r\nNT: upnp:event\r\n"
	re := regexp.MustCompile(`^HTTP/1.1 200 OK\r\nDATE: [^\r]+\r\nSERVER: Unspecified, UPnP/1.0, Unspecified\r\nCONTENT-LENGTH: 0\r\nX-User-Agent: redsonic\r\nSID: (uuid:[0-9a-f]{8}-1dd2-11b2-[0-9a-f]{4}-[0-9a-f]{12})\r\nTIMEOUT: Second-300$`)
	m := re.FindStringSubmatch(subscribe(callback + "TIMEOUT: Second-300\r\n"))
	if m == nil {
		t.Fatal("SUBSCRIBE: got another answer than recorded")
	}
	sid := m[1]

	capture := strings.ReplaceAll(recording(t, "libupnp-http.txt"), "\r", "")
	_, body, _ := strings.Cut(capture[strings.Index(capture, "NOTIFY /cb"):], "\n\n")
	body = body[:strings.Index(body, "</e:propertyset>")] + "</e:propertyset>\n\n\r\n"
	want := "NOTIFY /cb HTTP/1.1\r\nHOST: " + l.Addr().String() + "\r\nCONTENT-TYPE: text/xml; charset=\"utf-8\"\r\nCONTENT-LENGTH: 200\r\nNT: upnp:event\r\nNTS: upnp:propchange\r\nSID: " + sid + "\r\nSEQ: 0\r\n\r\n" + body
	select {
	case got := <-notifies:
		if got != want {
			t.Errorf("first event: got %q, want %q", got, want)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("no first event")
	}
	changed := recorded
	changed.Power = 1200
	p.Freeze(changed)
	select {
	case got := <-notifies:
		if !strings.Contains(got, "SEQ: 1\r\n") || !strings.Contains(got, "|8|1200|1164707|99830512|8000<") {
			t.Errorf("second event: got %q, want SEQ 1 and 1200 mW", got)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("no event after a change")
	}

	if got := subscribe(callback + "TIMEOUT: 300\r\n"); !strings.Contains(got, "TIMEOUT: Second-1801") {
		t.Errorf("malformed TIMEOUT: got %q, want Second-1801 as recorded", got)
	}
	if got := subscribe("SID: " + sid + "\r\nTIMEOUT: Second-60\r\n"); !strings.Contains(got, "SID: "+sid) {
		t.Errorf("renewal: got %q, want the same SID", got)
	}
	if got := subscribe("CALLBACK: <http://192.0.2.1:80/cb>\r\nNT: upnp:event\r\n"); !strings.HasPrefix(got, "HTTP/1.1 412 ") {
		t.Errorf("somebody else's callback: got %q, want 412", got)
	}
	unsubscribe := "UNSUBSCRIBE /upnp/event/insight1 HTTP/1.1\r\nHOST: " + p.Addr().String() + "\r\nSID: " + sid + "\r\n\r\n"
	if head, body := ask(t, p, unsubscribe); body != recording(t, "unsubscribe.html") || !strings.Contains(head, "Accept-Ranges: bytes") {
		t.Errorf("UNSUBSCRIBE: got %q %q", head, body)
	}
	p.Restart(false)
	re = regexp.MustCompile(`^HTTP/1.1 412 Invalid Parameters\r\nCONTENT-LENGTH: 0\r\nDATE: [^\r]+\r\nSERVER: Unspecified, UPnP/1.0, Unspecified\r\nX-User-Agent: redsonic$`)
	if got := subscribe("SID: " + sid + "\r\n"); !re.MatchString(got) {
		t.Errorf("renewal after restart: got %q, want 412 as recorded", got)
	}
}

func TestSearch(t *testing.T) {
	p := run(t, Config{Search: "127.0.0.1:0"})
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.SearchAddr()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	local := c.LocalAddr().(*net.UDPAddr)
	c.Close()
	u, err := net.ListenUDP("udp", local) // unconnected: answers come from another port
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	search := func(st, man string) string {
		fmt.Fprintf(to{u, p}, "M-SEARCH * HTTP/1.1\r\nST: %s\r\nMX: 1\r\nMAN: %s\r\nHOST: 239.255.255.250:1900\r\n\r\n", st, man)
		u.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		buf := make([]byte, 4096)
		n, _, err := u.ReadFrom(buf)
		if err != nil {
			return ""
		}
		return string(buf[:n])
	}
	for _, st := range []string{"urn:Belkin:service:basicevent:1", "urn:Belkin:device:insight:1", "urn:Belkin:service:insight:1", "upnp:rootdevice", p.UDN(), "urn:Belkin:device:**"} {
		_, want, _ := strings.Cut(recording(t, "libupnp-ssdp.txt"), "### "+st+" -> 1 replies")
		_, want, _ = strings.Cut(want, "\n")
		want, _, _ = strings.Cut(want, "\n###")
		want = strings.TrimSpace(strings.ReplaceAll(want, "\r", ""))
		got := strings.TrimSpace(strings.ReplaceAll(search(st, `"ssdp:discover"`), "\r", ""))
		for _, r := range [][2]string{
			{`DATE: [^\n]+`, "DATE"}, {`01-NLS: [0-9a-f-]{36}`, "01-NLS"}, {`SERVER: [^\n]+`, "SERVER"}, {`http://[0-9.]+:\d+/`, "http://HOST/"},
		} {
			re := regexp.MustCompile(r[0])
			want, got = re.ReplaceAllString(want, r[1]), re.ReplaceAllString(got, r[1])
		}
		if got != want {
			t.Errorf("search for %s: got\n%s\nwant\n%s", st, got, want)
		}
	}
	for _, st := range []string{"ssdp:all", "urn:Belkin:device:controllee:1", "urn:Belkin:service:nosuch:1"} {
		if got := search(st, `"ssdp:discover"`); got != "" {
			t.Errorf("search for %s: got %q, want silence", st, got)
		}
	}
	if got := search("upnp:rootdevice", "ssdp:discover"); got != "" {
		t.Errorf("MAN without quotes: got %q, want silence", got)
	}
}

// to writes to a plug's search address.
type to struct {
	c *net.UDPConn
	p *Plug
}

func (w to) Write(b []byte) (int, error) { return w.c.WriteToUDPAddrPort(b, w.p.SearchAddr()) }

func TestMeter(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	m := newMeter(func(time.Time) float64 { return 60_000 }, at)
	v := m.values(at.Add(30 * time.Minute))
	if v.State != 1 || v.Power != 60_000 || v.OnFor < 1799 || v.OnFor > 1801 || v.Today < 1_796_000 || v.Today > 1_802_000 || v.Average != 60 {
		t.Errorf("60 W for 30 min: got %+v", v)
	}
	v = m.set(false, at.Add(30*time.Minute))
	if v.State != 0 || v.Power != 60_000 {
		t.Errorf("just after switching off: got %+v, want state 0 and the last power", v)
	}
	if v = m.values(at.Add(30*time.Minute + time.Second)); v.Power != 0 {
		t.Errorf("a second later: got %+v, want 0 mW", v)
	}
	m.set(true, at.Add(31*time.Minute))
	if v = m.values(at.Add(31*time.Minute + 2*time.Second)); v.State != 1 || v.Power != 60_000 {
		t.Errorf("on again: got %+v", v)
	}
}

func TestHousehold(t *testing.T) {
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	low, high := Household(at), Household(at)
	for range 24 * 3600 {
		at = at.Add(time.Second)
		low, high = min(low, Household(at)), max(high, Household(at))
	}
	if low < 1000 || low > 3000 || high < 100_000 || high > 300_000 {
		t.Errorf("a day of Household: got %.0f to %.0f mW, want about 2 W to 190 W", low, high)
	}
}

func TestCommand(t *testing.T) {
	p := run(t, Config{})
	for line, want := range map[string]string{
		"fault":      "want a code",
		"fault x":    `"x": want a whole number`,
		"slow":       "want a duration",
		"slow -1s":   "want a duration",
		"status 5":   "want a code",
		"burn":       "want one of",
		"reset many": `"many": want a whole number`,
		"":           "", "off": "", "on": "", "slow 1ms": "", "ok": "", "restart": "", "move": "", "status 500 1": "", "mute": "",
	} {
		err := p.Command(line)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("Command(%q): got %v, want %q", line, err, want)
		}
	}
}
