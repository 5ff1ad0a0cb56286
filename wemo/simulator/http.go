package simulator

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The description and the service documents of a real plug, see web/README.md.
//
//go:embed web/*.xml
var web embed.FS

// The answers are written without net/http: bytes, order of headers and the two
// segments are as recorded.
const (
	serverLine    = "SERVER: Unspecified, UPnP/1.0, Unspecified"
	userAgentLine = "X-User-Agent: redsonic"
)

// response is an HTTP response.
type response struct {
	status string // such as 200 OK
	lines  []string
	body   string
}

func date(t time.Time) string { return "DATE: " + t.UTC().Format(http.TimeFormat) }

func length(body string) string { return "CONTENT-LENGTH: " + strconv.Itoa(len(body)) }

// page returns libupnp's HTML page for a status.
func page(status string) response {
	body := "<html><body><h1>" + status + "</h1></body></html>"
	return response{status, []string{serverLine, "CONNECTION: close", length(body), "Accept-Ranges: bytes", "CONTENT-TYPE: text/html"}, body}
}

// handle answers the only request of a connection.
func (p *Plug) handle(ctx context.Context, c *net.TCPConn, wg *sync.WaitGroup) {
	c.SetDeadline(time.Now().Add(30 * time.Second))
	req, err := http.ReadRequest(bufio.NewReader(io.LimitReader(c, 128<<10)))
	if err != nil {
		return
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, 64<<10))
	if err != nil {
		return
	}
	f := p.takeFault()
	switch {
	case f.Silent:
		hang(c)
		return
	case f.Reset:
		c.SetLinger(0) // Close sends RST
		return
	case f.Delay > 0:
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
	peer := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	var res response
	var after func()
	switch {
	case f.Status != 0:
		res = page(fmt.Sprintf("%d %s", f.Status, http.StatusText(f.Status)))
	case !literalHost(req.Host):
		// Recent firmware answers 500 if the Host header has a name (pywemo).
		res = page("500 Internal Server Error")
	case req.Method == "GET" || req.Method == "HEAD":
		res = p.document(req.URL.Path)
	case req.Method == "POST":
		res = p.control(req, body, f.Code)
	case req.Method == "SUBSCRIBE":
		res, after = p.subscribe(ctx, req, peer, wg)
	case req.Method == "UNSUBSCRIBE":
		res = p.unsubscribe(req)
	default:
		res = page("501 Not Implemented")
	}
	head := "HTTP/1.1 " + res.status + "\r\n" + strings.Join(res.lines, "\r\n") + "\r\n\r\n"
	if _, err := io.WriteString(c, head); err != nil {
		return
	}
	if f.Half {
		res.body = res.body[:len(res.body)/2]
	}
	if req.Method != "HEAD" {
		io.WriteString(c, res.body)
	}
	p.config.Log.WithField("from", peer).WithField("status", res.status).Debug(req.Method + " " + req.URL.Path)
	c.Close()
	if after != nil {
		after()
	}
}

// literalHost reports whether a Host header has an IP address.
func literalHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// document returns setup.xml or a service document.
func (p *Plug) document(path string) response {
	b, err := web.ReadFile("web/" + strings.TrimPrefix(path, "/"))
	if err != nil {
		return page("404 Not Found")
	}
	modified := time.Date(2000, 1, 1, 0, 0, 47, 0, time.UTC) // the clock of a plug after booting
	body := string(b)
	if path == "/setup.xml" {
		modified = modified.Add(41 * time.Second)
		state := p.Values().State
		body = strings.NewReplacer(
			"SERIALNUMBER", escape(p.config.Serial),
			"<friendlyName>WeMo Device<", "<friendlyName>"+escape(p.config.Name)+"<",
			"001122334455", escape(p.config.MAC),
			"<binaryState>0<", fmt.Sprintf("<binaryState>%d<", state),
		).Replace(body)
	}
	return response{"200 OK", []string{
		length(body), "CONTENT-TYPE: text/xml", date(p.config.Now()),
		"LAST-MODIFIED: " + modified.Format(http.TimeFormat), serverLine, userAgentLine, "CONNECTION: close",
	}, body}
}

func escape(s string) string {
	var b bytes.Buffer
	xml.EscapeText(&b, []byte(s))
	return b.String()
}

// services maps each service to the document that describes it and its actions.
var services = map[string]string{
	"WiFiSetup": "setupservice", "timesync": "timesyncservice", "basicevent": "eventservice",
	"firmwareupdate": "firmwareupdate", "rules": "rulesservice", "metainfo": "metainfoservice",
	"remoteaccess": "remoteaccess", "deviceinfo": "deviceinfoservice", "insight": "insightservice",
	"smartsetup": "smartsetup", "manufacture": "manufacture",
}

func knows(service, action string) bool {
	b, err := web.ReadFile("web/" + services[service] + ".xml")
	return err == nil && regexp.MustCompile(`<action>\s*<name>`+regexp.QuoteMeta(action)+`</name>`).Match(b)
}

// control answers an action.
func (p *Plug) control(req *http.Request, body []byte, fault int) response {
	service, ok := strings.CutPrefix(req.URL.Path, "/upnp/control/")
	service = strings.TrimSuffix(service, "1")
	if !ok || services[service] == "" {
		return page("404 Not Found")
	}
	uri, action, _ := strings.Cut(strings.Trim(req.Header.Get("SOAPACTION"), `"`), "#")
	if uri != "urn:Belkin:service:"+service+":1" || !knows(service, action) {
		return p.soapFault(401, "Invalid Action")
	}
	if fault != 0 {
		return p.soapFault(fault, faultText(fault))
	}
	now := p.config.Now()
	reply := func(namespace string, args ...string) response {
		var b strings.Builder
		b.WriteString(`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>` + "\n")
		fmt.Fprintf(&b, "<u:%sResponse xmlns:u=\"urn:Belkin:service:%s:1\">\r\n", action, namespace)
		for i := 0; i < len(args); i += 2 {
			fmt.Fprintf(&b, "<%[1]s>%[2]s</%[1]s>\r\n", args[i], escape(args[i+1]))
		}
		fmt.Fprintf(&b, "</u:%sResponse>\r\n</s:Body> </s:Envelope>", action)
		return p.soap("200 OK", b.String())
	}
	switch action {
	case "GetInsightParams":
		return reply("metainfo", "InsightParams", p.Values().params()) // the namespace is as recorded
	case "GetBinaryState":
		return reply(service, "BinaryState", strconv.FormatInt(p.Values().State, 10))
	case "SetBinaryState":
		s := argument(body, "BinaryState")
		if s != "0" && s != "1" {
			return p.soapFault(501, "Action Failed")
		}
		v := p.meter.set(s == "1", now)
		return reply(service, "BinaryState", v.binaryState(), "CountdownEndTime", "0", "deviceCurrentTime", strconv.FormatInt(now.Unix(), 10))
	}
	return p.soapFault(501, "Action Failed") // as real plugs answer GetInsightInfo and others
}

// argument returns the text of an action's argument, or "".
func argument(body []byte, name string) string {
	m := regexp.MustCompile(`<(?:\w+:)?` + name + `(?:\s[^>]*)?>\s*([^<]*?)\s*</`).FindSubmatch(body)
	if m == nil {
		return ""
	}
	return string(m[1])
}

func (p *Plug) soap(status, body string) response {
	return response{status, []string{
		length(body), `CONTENT-TYPE: text/xml; charset="utf-8"`, date(p.config.Now()), "EXT:", serverLine, userAgentLine,
	}, body}
}

func (p *Plug) soapFault(code int, text string) response {
	return p.soap("500 Internal Server Error", `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">
<s:Body>
<s:Fault>
<faultcode>s:Client</faultcode>
<faultstring>UPnPError</faultstring>
<detail>
<UPnPError xmlns="urn:schemas-upnp-org:control-1-0">
<errorCode>`+strconv.Itoa(code)+`</errorCode>
<errorDescription>`+text+`</errorDescription>
</UPnPError>
</detail>
</s:Fault>
</s:Body>
</s:Envelope>
`)
}

func faultText(code int) string {
	switch code {
	case 401, -111:
		return "Invalid Action"
	}
	return "Action Failed"
}
