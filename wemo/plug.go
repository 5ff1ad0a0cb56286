package wemo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Plug is a Source: one WeMo Insight, found again whenever it moves. After the
// first contact it is known by its UDN, and no other plug takes its place.
//
// One request is in flight at a time. After a failure Read waits 1, 2, 5, 15
// and then 60 s before it asks again; after the second failure in a row it
// looks for the plug anew, first on the other ports of its address, then by
// SSDP.
//
// With Events, and while Run runs, the plug is not asked as long as it says of
// itself what it measures.
type Plug struct {
	// Address is an IP address or a host name, with or without a port. Empty:
	// the plug is searched for.
	Address string
	// UDN says which plug it is. Empty: the one at Address, or, with no address
	// either, the only Insight that answers.
	UDN string
	// Events asks the plug to push its readings, which spares it most requests;
	// one can then be 3 s old, so a Poller's Hold must be more. The plug has to
	// reach this host on a TCP port that the system chooses; if it cannot, it is
	// polled as ever.
	Events bool
	Client Client
	Search Search
	Log    logrus.FieldLogger
	Now    func() time.Time // nil is time.Now

	mu      sync.Mutex // held while the plug is asked, or waited for
	backoff backoff
	device  Device    // where it was last; the zero value before the first contact
	last    time.Time // of the last reading
	listening
}

var _ Runner = (*Plug)(nil)

// ErrAmbiguous says that several plugs answer and none was asked for.
var ErrAmbiguous = errors.New("several plugs answer: give an address or a UDN")

// Validate reports an Address that does not read as one.
func (p *Plug) Validate() error {
	if p.Address == "" {
		return nil
	}
	_, _, err := splitAddress(p.Address)
	return err
}

// Read implements Source.
func (p *Plug) Read(ctx context.Context) (Reading, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.wake: // old news
	default:
	}
	r, ok := p.pushed()
	if !ok && p.announced.Load() == nil {
		if err := p.backoff.wait(ctx, p.now(), p.wake); err != nil {
			return Reading{}, err
		}
		r, ok = p.pushed()
	}
	var err error
	if !ok {
		r, err = p.read(ctx)
	}
	if ctx.Err() != nil {
		return Reading{}, ctx.Err()
	}
	p.backoff.done(err, p.now())
	if err != nil {
		if p.subscribed != nil {
			p.due = time.Time{} // see whether it still knows us
		}
		return Reading{}, err
	}
	if ok {
		p.note(nil)
	}
	p.last = r.At
	p.keepSubscribed(ctx)
	return r, nil
}

func (p *Plug) read(ctx context.Context) (Reading, error) {
	var announced *netip.AddrPort
	if p.backoff.failures > 0 {
		announced = p.announced.Swap(nil)
	}
	if p.device.UDN == "" || p.backoff.failures >= 2 || announced != nil {
		d, err := p.locate(ctx, announced)
		if err != nil {
			return Reading{}, fmt.Errorf("find plug: %w", err)
		}
		if d.Addr != p.device.Addr {
			p.Log.WithFields(logrus.Fields{"udn": d.UDN, "name": d.Name, "firmware": d.Firmware, "address": d.Addr.String()}).Info("plug found")
		}
		p.device = d
		p.known.Store(&d)
	}
	params, err := p.Client.Params(ctx, p.device.Addr)
	if err != nil {
		return Reading{}, err
	}
	return Reading{At: p.now(), MilliWatts: params.MilliWatts()}, nil
}

// locate finds the plug: where it says it is, if it does, where it was, where
// it should be, or by searching.
func (p *Plug) locate(ctx context.Context, announced *netip.AddrPort) (Device, error) {
	udn := p.UDN
	if udn == "" {
		udn = p.device.UDN
	}
	var places []netip.AddrPort
	var errs []error
	add := func(a netip.AddrPort) {
		// All ports of an address are tried, so once is enough.
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
			errs = append(errs, err) // the plug may still be where it was
		}
	}
	for _, a := range places {
		d, err := p.Client.Locate(ctx, a, udn)
		if err == nil {
			return d, nil
		}
		errs = append(errs, err)
	}
	// An address alone does not say which plug it is: searching could bring
	// the readings of a neighbour's.
	if udn == "" && p.Address != "" {
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
