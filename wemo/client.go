package wemo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Client talks to plugs, one request a connection: their HTTP server has few
// threads and no keep-alive. The zero value is ready. Use one request at a
// time for each device; Plug sees to that.
type Client struct {
	// Dial opens a connection; nil is a net.Dialer. It is for tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	once sync.Once
	http *http.Client
}

const (
	connectTimeout = 2 * time.Second
	requestTimeout = 3 * time.Second // connecting included
	maxHead        = 8 << 10
	maxBody        = 64 << 10 // the largest recorded document has 20,836 bytes
)

var (
	// ErrUnreachable says that nothing answers at an address, on any port.
	ErrUnreachable = errors.New("host does not answer")
	// ErrNotInsight says that something else than an Insight answers.
	ErrNotInsight = errors.New("not a WeMo Insight")
	// ErrOtherPlug says that an Insight answers, and not the one asked for.
	ErrOtherPlug = errors.New("another plug")
)

// StatusError is an HTTP status other than 200, without a SOAP fault.
type StatusError struct{ Code int }

func (e *StatusError) Error() string {
	return fmt.Sprintf("HTTP status %d %s", e.Code, http.StatusText(e.Code))
}

// Device is a plug at the place where it was seen. The UDN stays; the address
// and, more often, the port do not.
type Device struct {
	UDN      string // uuid:Insight-1_0-<serial number>
	Name     string // as its owner called it
	Model    string // Insight
	Serial   string
	MAC      string // 12 hexadecimal digits
	Firmware string
	Addr     netip.AddrPort
}

// Describe asks the plug at addr who it is. Something else is ErrNotInsight.
func (c *Client) Describe(ctx context.Context, addr netip.AddrPort) (Device, error) {
	_, body, err := c.do(ctx, http.MethodGet, addr, "/setup.xml", nil, "")
	if err != nil {
		return Device{}, fmt.Errorf("describe %s: %w", addr, err)
	}
	d, err := parseDescription(body)
	if err != nil {
		return Device{}, fmt.Errorf("describe %s: %w", addr, err)
	}
	d.Addr = addr
	return d, nil
}

// parseDescription reads a setup.xml.
func parseDescription(doc []byte) (Device, error) {
	v, err := xmlTexts(doc, "deviceType", "UDN", "friendlyName", "modelName", "serialNumber", "macAddress", "firmwareVersion")
	if err != nil {
		return Device{}, fmt.Errorf("%w: parse description: %w", ErrNotInsight, err)
	}
	field := func(name string) string { return plain(v[name]) }
	if t := field("deviceType"); !strings.HasPrefix(t, "urn:Belkin:device:insight:") {
		return Device{}, fmt.Errorf("%w: device type is %q, want urn:Belkin:device:insight:1", ErrNotInsight, t)
	}
	if field("UDN") == "" {
		return Device{}, fmt.Errorf("%w: description without a UDN", ErrNotInsight)
	}
	return Device{
		UDN:      field("UDN"),
		Name:     field("friendlyName"),
		Model:    field("modelName"),
		Serial:   field("serialNumber"),
		MAC:      field("macAddress"),
		Firmware: field("firmwareVersion"),
	}, nil
}

// Params asks the plug at addr for its GetInsightParams.
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

// ResolveAddress reads "192.168.1.20", "192.168.1.20:49153", or a host name in
// place of the IP address; without a port it is 0. A name is looked up here,
// since plugs answer 500 to a request that names one in its Host header.
func ResolveAddress(ctx context.Context, s string) (netip.AddrPort, error) {
	host, port, err := splitAddress(s)
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

// splitAddress takes the port, if there is one, from an address.
func splitAddress(s string) (host string, port uint16, err error) {
	bad := fmt.Errorf("plug address %q: want an IP address or a host name, with or without a port, such as 192.168.1.20:49153", clip(s))
	host = s
	if _, err := netip.ParseAddr(s); err != nil && strings.Contains(s, ":") {
		var p string
		if host, p, err = net.SplitHostPort(s); err != nil {
			return "", 0, bad
		}
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return "", 0, bad
		}
		port = uint16(n)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return host, port, nil
	}
	if host == "" || len(host) > 253 || strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789-._") != "" ||
		strings.Trim(host, "0123456789.") == "" { // a mistyped IP address is no name
		return "", 0, bad
	}
	return host, port, nil
}

// Locate finds the plug at an address, whichever port it uses today: first the
// one given, if any, and then the usual ones, one after the other. With a udn,
// any other plug is ErrOtherPlug.
func (c *Client) Locate(ctx context.Context, addr netip.AddrPort, udn string) (Device, error) {
	ports := []uint16{49153, 49152, 49154, 49151, 49155, 49156, 49157, 49158, 49159}
	if p := addr.Port(); p != 0 {
		others := slices.DeleteFunc(ports, func(q uint16) bool { return q == p })
		ports = append([]uint16{p}, others...)
	}
	var last error
	for _, port := range ports {
		d, err := c.Describe(ctx, netip.AddrPortFrom(addr.Addr(), port))
		var status *StatusError
		switch {
		case err == nil && (udn == "" || d.UDN == udn):
			return d, nil
		case err == nil:
			return Device{}, fmt.Errorf("plug at %s: %w: %s answers, want %s", d.Addr, ErrOtherPlug, d.UDN, udn)
		case ctx.Err() != nil:
			return Device{}, ctx.Err()
		case errors.Is(err, ErrUnreachable), errors.As(err, &status):
			// The host is gone, or this is the port and the plug is not well.
			return Device{}, err
		}
		// Refused, reset, silent or something else: a plug that moved leaves
		// its old port accepting and never answering. Keep the more telling.
		if last == nil || errors.Is(err, ErrNotInsight) {
			last = err
		}
	}
	return Device{}, fmt.Errorf("no plug at %s on %d ports: %w", addr.Addr(), len(ports), last)
}

// do sends one request and returns header and body of a 200 answer. A SOAP
// fault is a *Fault, another status a *StatusError.
func (c *Client) do(ctx context.Context, method string, addr netip.AddrPort, path string, header http.Header, body string) (http.Header, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
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
	b, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read body: %w", err)
	}
	if len(b) > maxBody {
		return nil, nil, fmt.Errorf("body is longer than %d bytes", maxBody)
	}
	if res.StatusCode != http.StatusOK {
		var fault *Fault
		if _, err := soapValue(b, "InsightParams"); errors.As(err, &fault) {
			return nil, nil, fault
		}
		return nil, nil, &StatusError{Code: res.StatusCode}
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
				if err != nil && ctx.Err() == nil && gone(err) {
					return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
				}
				return conn, err
			},
		},
		// A plug never sends us elsewhere; whoever does is no plug.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
