package insight

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/wemo"
)

// Plug is a wemo.Source: one WeMo Insight, found again whenever it moves. After
// the first contact its UDN is known, and no other plug is read in its place.
//
// One request is in flight at a time. After a failure Read waits 1, 2, 5, 15 and
// then 60 s. After the second failure in a row it looks for the plug again: on
// the other ports of its address, then by SSDP, for at most 20 s in all.
//
// With Eventing, and while Run runs, the plug is not asked as long as its events
// say what it measures.
type Plug struct {
	// Address is an IP address or a host name, with or without a port. A port
	// means the plug that answers there at the first contact, unless UDN is set.
	// Empty: the plug is searched for.
	Address string
	// UDN identifies the plug. Empty: the one at Address, or, with no address
	// either, the only Insight that answers a search.
	UDN string
	// Eventing subscribes to the plug's events, which spares it most requests. A
	// reading can then be 3 s old, so a Poller's Hold must be more. The plug must
	// reach this host on a TCP port that the system chooses; otherwise it is
	// polled.
	Eventing bool
	Client   Client
	Search   Search
	Log      logrus.FieldLogger
	Now      func() time.Time // nil is time.Now

	mu      sync.Mutex // held while a request is made, or waited for
	backoff wemo.Backoff
	device  Device    // as described last; the zero value before the first contact
	last    time.Time // of the last reading
	eventing
}

var _ wemo.Runner = (*Plug)(nil)

// ErrAmbiguous says that several plugs answer and neither Address nor UDN is set.
var ErrAmbiguous = errors.New("several plugs answer: give an address or a UDN")

// placesTimeout limits the probing of known addresses; a search follows it.
const placesTimeout = 12 * time.Second

// Validate returns an error if Address is malformed.
func (p *Plug) Validate() error {
	if p.Address == "" {
		return nil
	}
	_, _, err := wemo.SplitAddress(p.Address)
	return err
}

// Read implements wemo.Source.
func (p *Plug) Read(ctx context.Context) (wemo.Reading, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.wake: // of an event that pushed already sees
	default:
	}
	r, pushed := p.pushed()
	if !pushed && p.announced.Load() == nil {
		if err := p.backoff.Wait(ctx, p.now(), p.wake); err != nil {
			return wemo.Reading{}, err
		}
		r, pushed = p.pushed()
	}
	var err error
	if !pushed {
		r, err = p.request(ctx)
	}
	if ctx.Err() != nil {
		return wemo.Reading{}, ctx.Err()
	}
	p.backoff.Done(err, p.now())
	if err != nil {
		if p.subscribed != nil {
			p.due = time.Time{} // it may have restarted and forgotten the subscription
		}
		return wemo.Reading{}, err
	}
	if pushed {
		p.note(nil)
	}
	p.last = r.At
	p.keepSubscribed(ctx)
	return r, nil
}

// request asks the plug, which it first locates if necessary.
func (p *Plug) request(ctx context.Context) (wemo.Reading, error) {
	var announced *netip.AddrPort
	if p.backoff.Failures > 0 {
		announced = p.announced.Swap(nil)
	}
	if p.device.UDN == "" || p.backoff.Failures >= 2 || announced != nil {
		d, err := p.locate(ctx, announced)
		if err != nil {
			return wemo.Reading{}, fmt.Errorf("find plug: %w", err)
		}
		if d.Addr != p.device.Addr {
			p.Log.WithFields(logrus.Fields{"udn": d.UDN, "name": d.Name, "firmware": d.Firmware, "address": d.Addr.String()}).Info("plug found")
		}
		p.device = d
		p.known.Store(&d)
	}
	params, err := p.Client.Params(ctx, p.device.Addr)
	if err != nil {
		return wemo.Reading{}, err
	}
	return wemo.Reading{At: p.now(), MilliWatts: params.MilliWatts()}, nil
}

// locate finds the plug: at the address that it announced, at its last address,
// at the configured address, or by searching.
func (p *Plug) locate(ctx context.Context, announced *netip.AddrPort) (Device, error) {
	udn := p.UDN
	if udn == "" {
		udn = p.device.UDN
	}
	var places []netip.AddrPort
	var errs []error
	add := func(a netip.AddrPort) {
		// Locate probes all ports of an address.
		if !slices.ContainsFunc(places, func(b netip.AddrPort) bool { return b.Addr() == a.Addr() }) {
			places = append(places, a)
		}
	}
	if announced != nil {
		add(*announced)
	}
	if p.device.UDN != "" {
		add(p.device.Addr)
	}
	if p.Address != "" {
		if a, err := ResolveAddress(ctx, p.Address); err == nil {
			add(a)
		} else {
			errs = append(errs, err) // the plug may still be at its last address
		}
	}
	placesCtx, cancel := context.WithTimeout(ctx, placesTimeout)
	defer cancel()
	for _, a := range places {
		d, err := p.Client.Locate(placesCtx, a, udn)
		if err == nil {
			return d, nil
		}
		errs = append(errs, err)
	}
	// An address alone does not identify a plug: a search could find another one.
	if udn == "" && p.Address != "" || ctx.Err() != nil {
		return Device{}, errors.Join(errs...)
	}
	d, err := p.Search.find(ctx, &p.Client, udn)
	if err != nil {
		return Device{}, errors.Join(append(errs, err)...)
	}
	return d, nil
}

func (p *Plug) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}
