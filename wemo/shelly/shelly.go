// Package shelly reads the power of a Shelly of the second generation or later,
// such as a Plus Plug S, by HTTP
// (shelly-api-docs.shelly.cloud/gen2/ComponentsAndServices/Switch).
package shelly

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/iotoll/iotoll/wemo"
)

// Switch is a wemo.Source: one switch of a Shelly that has no password.
type Switch struct {
	Address string           // an IP address or a host name, with or without a port; the default port is 80
	ID      int              // of the switch, from 0
	Now     func() time.Time // nil is time.Now

	mu      sync.Mutex
	backoff wemo.Backoff
	client  *http.Client // nil before the first request
}

var _ wemo.Source = (*Switch)(nil)

// timeout limits one request.
const timeout = 3 * time.Second

// Validate returns an error if Address or ID is malformed.
func (s *Switch) Validate() error {
	if s.ID < 0 {
		return fmt.Errorf("switch %d: want a number from 0", s.ID)
	}
	_, _, err := wemo.SplitAddress(s.Address)
	return err
}

// Read implements wemo.Source. After a failure it waits as wemo.Backoff says.
func (s *Switch) Read(ctx context.Context) (wemo.Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.backoff.Wait(ctx, s.now(), nil); err != nil {
		return wemo.Reading{}, err
	}
	mw, err := s.request(ctx)
	if ctx.Err() != nil {
		return wemo.Reading{}, ctx.Err()
	}
	s.backoff.Done(err, s.now())
	if err != nil {
		return wemo.Reading{}, fmt.Errorf("read Shelly at %s: %w", s.Address, err)
	}
	return wemo.Reading{At: s.now(), MilliWatts: mw}, nil
}

func (s *Switch) request(ctx context.Context) (int64, error) {
	if err := s.Validate(); err != nil {
		return 0, err
	}
	host, port, _ := wemo.SplitAddress(s.Address)
	if port == 0 {
		port = 80
	}
	url := fmt.Sprintf("http://%s/rpc/Switch.GetStatus?id=%d", net.JoinHostPort(host, strconv.Itoa(int(port))), s.ID)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	if s.client == nil {
		s.client = &http.Client{
			Timeout: timeout,
			// One connection per request, since the devices accept few.
			Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 8 << 10},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	res, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("HTTP status %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, wemo.MaxDocument+1))
	if err != nil {
		return 0, fmt.Errorf("read body: %w", err)
	}
	return wemo.ParsePower(body, "/apower", 1000) // watts
}

func (s *Switch) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}
