package wemo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// This file holds what several sources need.

// MaxDocument is the largest document, in bytes, that a source reads from a
// device. The largest recorded one has 20,836 bytes.
const MaxDocument = 64 << 10

// Backoff spaces the requests to a failing device: 1, 2, 5, 15 and then 60 s
// after each failure. The zero value is ready.
type Backoff struct {
	Failures int // in a row

	until time.Time
}

// Wait blocks until the next request is due, or until wake receives. It returns
// ctx's error if ctx ends first.
func (b *Backoff) Wait(ctx context.Context, now time.Time, wake <-chan struct{}) error {
	d := b.until.Sub(now)
	if d <= 0 || b.Failures == 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
	case <-wake:
	}
	return nil
}

// Done records how a request ended. A canceled one does not count as a failure.
func (b *Backoff) Done(err error, now time.Time) {
	if err == nil {
		b.Failures = 0
		return
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	steps := [...]time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, time.Minute}
	b.until = now.Add(steps[min(b.Failures, len(steps)-1)])
	b.Failures++
}

// ErrNoPower is returned by ParsePower if nothing is at the pointer.
var ErrNoPower = errors.New("no such value")

// ParsePower returns the power in a JSON document, in milliwatts. The value at
// the JSON pointer (RFC 6901) is a number, or a string that contains one; with
// an empty pointer the document is the number. scale is milliwatts per unit of
// the value. ParsePower errs if the document has more than MaxDocument bytes, is
// not JSON, or holds no number within ±MaxMilliWatts, and with ErrNoPower if it
// has no value at the pointer.
func ParsePower(doc []byte, pointer string, scale float64) (int64, error) {
	if len(doc) > MaxDocument {
		return 0, fmt.Errorf("%d bytes, want at most %d", len(doc), MaxDocument)
	}
	text := strings.Trim(strings.TrimSpace(string(doc)), `"`)
	if pointer != "" {
		d := json.NewDecoder(bytes.NewReader(doc))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			return 0, fmt.Errorf("parse JSON: %w", err)
		}
		if _, err := d.Token(); err != io.EOF {
			return 0, errors.New("parse JSON: trailing data after the value")
		}
		v, err := resolvePointer(v, pointer)
		if err != nil {
			return 0, err
		}
		switch v := v.(type) {
		case json.Number:
			text = v.String()
		case string:
			text = v
		default:
			return 0, fmt.Errorf("%s is not a number", pointer)
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("power is %.80q, want a number", text)
	}
	mw := f * scale
	if !(mw >= -MaxMilliWatts && mw <= MaxMilliWatts) { // also false for NaN
		return 0, fmt.Errorf("power is %g mW, want a number within ±100 kW", mw)
	}
	if mw < 0 {
		return int64(mw - 0.5), nil
	}
	return int64(mw + 0.5), nil
}

// resolvePointer follows a JSON pointer (RFC 6901).
func resolvePointer(v any, pointer string) (any, error) {
	for _, token := range strings.Split(pointer, "/")[1:] {
		key := strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		ok := false
		switch c := v.(type) {
		case map[string]any:
			v, ok = c[key]
		case []any:
			if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(c) && strconv.Itoa(i) == key {
				v, ok = c[i], true
			}
		}
		if !ok {
			return nil, fmt.Errorf("%w: %s", ErrNoPower, pointer)
		}
	}
	return v, nil
}

// SplitAddress splits a device's address, an IP address or a host name with or
// without a port, into host and port. Without a port, port is 0.
func SplitAddress(s string) (host string, port uint16, err error) {
	bad := fmt.Errorf("plug address %.80q: want an IP address or a host name, with or without a port, such as 192.168.1.20:49153", s)
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
		strings.Trim(host, "0123456789.") == "" { // a mistyped IP address, not a name
		return "", 0, bad
	}
	return host, port, nil
}
