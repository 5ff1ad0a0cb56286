package wemo

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Shelly is a Source: one switch of a Shelly of the second generation or
// later, such as a Plus Plug S, read by HTTP
// (shelly-api-docs.shelly.cloud/gen2/ComponentsAndServices/Switch). It must
// not be protected by a password.
type Shelly struct {
	Address string // an IP address or a host name, with or without a port
	Switch  int    // which one, from 0
	Client  Client
	Now     func() time.Time // nil is time.Now

	mu      sync.Mutex
	backoff backoff
}

var _ Source = (*Shelly)(nil)

// Validate reports an Address that does not read as one.
func (s *Shelly) Validate() error {
	if s.Switch < 0 {
		return fmt.Errorf("switch %d: want a number from 0", s.Switch)
	}
	_, _, err := splitAddress(s.Address)
	return err
}

// Read implements Source. After a failure it waits as a Plug does.
func (s *Shelly) Read(ctx context.Context) (Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.backoff.wait(ctx, s.now(), nil); err != nil {
		return Reading{}, err
	}
	mw, err := s.read(ctx)
	if ctx.Err() != nil {
		return Reading{}, ctx.Err()
	}
	s.backoff.done(err, s.now())
	if err != nil {
		return Reading{}, fmt.Errorf("read Shelly at %s: %w", s.Address, err)
	}
	return Reading{At: s.now(), MilliWatts: mw}, nil
}

func (s *Shelly) read(ctx context.Context) (int64, error) {
	if err := s.Validate(); err != nil {
		return 0, err
	}
	addr, err := ResolveAddress(ctx, s.Address)
	if err != nil {
		return 0, err
	}
	if addr.Port() == 0 {
		addr = netip.AddrPortFrom(addr.Addr(), 80)
	}
	_, body, err := s.Client.do(ctx, http.MethodGet, addr, fmt.Sprintf("/rpc/Switch.GetStatus?id=%d", s.Switch), nil, "")
	if err != nil {
		return 0, err
	}
	return parsePower(body, "/apower", 1000) // watts
}

func (s *Shelly) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}
