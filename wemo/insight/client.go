package insight

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/iotoll/iotoll/wemo"
)

// Client talks to plugs, with one request per connection: their HTTP server has
// few threads and no keep-alive. The zero value is ready. Make one request at a
// time to each device, as Plug does.
type Client struct {
	// Dial opens a connection; nil is a net.Dialer. Tests set it.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	timeout time.Duration // of one request; 0 is requestTimeout; tests set it
	once    sync.Once
	http    *http.Client
}

const (
	connectTimeout = 2 * time.Second
	requestTimeout = 3 * time.Second // including connectTimeout
	hostTimeout    = 8 * time.Second // for all requests that look for a plug on one host: two silent ports and a slow one
	maxHead        = 8 << 10
)

var (
	// ErrUnreachable says that a host does not answer on any port.
	ErrUnreachable = errors.New("host does not answer")
	// ErrNotInsight says that the answer is not that of an Insight.
	ErrNotInsight = errors.New("not a WeMo Insight")
	// ErrOtherPlug says that an Insight answers, but not the one asked for.
	ErrOtherPlug = errors.New("another plug")
)

// StatusError is an HTTP status other than 200, without a SOAP fault.
type StatusError struct{ Code int }

// Error returns the code and its name.
func (e *StatusError) Error() string {
	return fmt.Sprintf("HTTP status %d %s", e.Code, http.StatusText(e.Code))
}

// Device describes a plug at the address where it answered. The UDN is constant;
// the address and, more often, the port change.
type Device struct {
	UDN      string // uuid:Insight-1_0-<serial number>
	Name     string // which its owner chose
	Model    string // Insight
	Firmware string
	Addr     netip.AddrPort
}

// Describe asks the plug at addr for its description. If something else answers,
// the error is ErrNotInsight. Of a truncated or malformed description, device
// type and UDN are enough.
func (c *Client) Describe(ctx context.Context, addr netip.AddrPort) (Device, error) {
	_, body, err := c.do(ctx, http.MethodGet, addr, "/setup.xml", nil, "")
	if err != nil && len(body) == 0 {
		return Device{}, fmt.Errorf("describe %s: %w", addr, err)
	}
	d, parseErr := parseDescription(body)
	if parseErr != nil {
		return Device{}, fmt.Errorf("describe %s: %w", addr, errors.Join(err, parseErr))
	}
	d.Addr = addr
	return d, nil
}

// parseDescription reads a setup.xml.
func parseDescription(doc []byte) (Device, error) {
	const insight = "urn:Belkin:device:insight:"
	v, err := xmlTexts(doc, false, "deviceType", "UDN", "friendlyName", "modelName", "firmwareVersion")
	field := func(name string) string { return plain(v[name]) }
	d := Device{
		UDN:      field("UDN"),
		Name:     field("friendlyName"),
		Model:    field("modelName"),
		Firmware: field("firmwareVersion"),
	}
	switch {
	case strings.HasPrefix(field("deviceType"), insight) && d.UDN != "":
		return d, nil
	case err != nil:
		return Device{}, fmt.Errorf("%w: parse description: %w", ErrNotInsight, err)
	case d.UDN == "":
		return Device{}, fmt.Errorf("%w: description has no UDN", ErrNotInsight)
	}
	return Device{}, fmt.Errorf("%w: device type is %q, want %s1", ErrNotInsight, field("deviceType"), insight)
}

// Params asks the plug at addr for its InsightParams.
func (c *Client) Params(ctx context.Context, addr netip.AddrPort) (Params, error) {
	const service = "urn:Belkin:service:insight:1"
	header := http.Header{
		"Content-Type": {`text/xml; charset="utf-8"`},
		"SOAPACTION":   {`"` + service + `#GetInsightParams"`}, // spelt as every other client does
	}
	_, body, err := c.do(ctx, http.MethodPost, addr, "/upnp/control/insight1", header,
		`<?xml version="1.0" encoding="utf-8"?>`+
			`<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">`+
			`<s:Body><u:GetInsightParams xmlns:u="`+service+`"></u:GetInsightParams></s:Body></s:Envelope>`)
	if err != nil {
		return Params{}, fmt.Errorf("read %s: %w", addr, err)
	}
	s, err := soapValue(body, "InsightParams")
	if err != nil {
		return Params{}, fmt.Errorf("read %s: %w", addr, err)
	}
	p, err := ParseParams(s)
	if err != nil {
		return Params{}, fmt.Errorf("read %s: %w", addr, err)
	}
	return p, nil
}

// ResolveAddress parses an address as wemo.SplitAddress does and looks up a host
// name: plugs answer 500 to a request with a name in its Host header.
func ResolveAddress(ctx context.Context, s string) (netip.AddrPort, error) {
	host, port, err := wemo.SplitAddress(s)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(a.Unmap(), port), nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("look up plug address: %w", err)
	}
	return netip.AddrPortFrom(found[0].Unmap(), port), nil
}

// Locate returns the Insight at an address, whichever port it uses today.
//
// With a udn it probes the port of addr, if there is one, and then the usual
// ports, until it finds that plug; if only others answer, the error is
// ErrOtherPlug. Without a udn a port is binding: a plug on another port of that
// host could be another one. Without either, the first Insight counts.
//
// Ports are probed one after the other, for hostTimeout in all.
func (c *Client) Locate(ctx context.Context, addr netip.AddrPort, udn string) (Device, error) {
	ports := []uint16{49153, 49152, 49154, 49151, 49155, 49156, 49157, 49158, 49159}
	if p := addr.Port(); p != 0 && udn == "" {
		ports = []uint16{p}
	} else if p != 0 {
		others := slices.DeleteFunc(ports, func(q uint16) bool { return q == p })
		ports = append([]uint16{p}, others...)
	}
	hostCtx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	var last error
	for _, port := range ports {
		d, err := c.Describe(hostCtx, netip.AddrPortFrom(addr.Addr(), port))
		if err == nil {
			if udn == "" || d.UDN == udn {
				return d, nil
			}
			err = fmt.Errorf("plug at %s: %w: %s answers, want %s", d.Addr, ErrOtherPlug, d.UDN, udn)
		}
		var status *StatusError
		switch {
		case ctx.Err() != nil:
			return Device{}, ctx.Err()
		case errors.Is(err, ErrUnreachable), errors.As(err, &status):
			// The host is gone, or this is the port and the plug is not well.
			return Device{}, err
		}
		// Refused, reset, silent or something else: a plug that moved leaves its
		// old port accepting and never answering. Keep the most telling error.
		if last == nil || errors.Is(err, ErrOtherPlug) || errors.Is(err, ErrNotInsight) && !errors.Is(last, ErrOtherPlug) {
			last = err
		}
		if hostCtx.Err() != nil {
			break
		}
	}
	if len(ports) == 1 {
		return Device{}, last
	}
	return Device{}, fmt.Errorf("no plug at %s on %d ports: %w", addr.Addr(), len(ports), last)
}

// do sends one request and returns header and body of the answer if its status
// is 200. A SOAP fault is a *Fault, another status a *StatusError. If the body is
// truncated, what arrived of it is returned with the error.
func (c *Client) do(ctx context.Context, method string, addr netip.AddrPort, path string, header http.Header, body string) (http.Header, []byte, error) {
	timeout := c.timeout
	if timeout == 0 {
		timeout = requestTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr.String()+path, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if header != nil {
		req.Header = header
	}
	c.once.Do(c.init)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, wemo.MaxDocument+1))
	if len(b) > wemo.MaxDocument {
		return nil, nil, fmt.Errorf("body is longer than %d bytes", wemo.MaxDocument)
	}
	if res.StatusCode != http.StatusOK {
		var fault *Fault
		if _, err := soapValue(b, "InsightParams"); errors.As(err, &fault) {
			return nil, nil, fault
		}
		return nil, nil, &StatusError{Code: res.StatusCode}
	}
	if err != nil {
		return nil, b, fmt.Errorf("read body: %w", err)
	}
	return res.Header, b, nil
}

func (c *Client) init() {
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHead,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				dctx, cancel := context.WithTimeout(ctx, connectTimeout)
				defer cancel()
				conn, err := dial(dctx, network, address)
				if err != nil && ctx.Err() == nil && unreachable(err) {
					return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
				}
				return conn, err
			},
		},
		// Plugs do not redirect.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
