package daemon

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/wemo/mqtt"
)

// part is something that serve runs, and that a reload may replace.
type part struct {
	name     string
	settings any // parts of the same name and settings are the same
	run      func(context.Context) error

	watch    *watching       // if it watches a ledger
	plug     *plugMeter      // if it publishes a plug
	offers   *mqtt.Publisher // if it publishes the offers
	accounts *mqtt.Publisher // if it publishes the buyers' accounts

	stop func()        // ends it
	done chan struct{} // closed when it has ended; nil before it was started
}

// same returns the one of some parts that is the same as p; nil if none is.
func (p *part) same(parts []*part) *part {
	for _, other := range parts {
		if other.name == p.name && reflect.DeepEqual(other.settings, p.settings) {
			return other
		}
	}
	return nil
}

// watching is a ledger that is watched.
type watching struct {
	watcher *tangle.Watcher
	ledger  tangle.Inspector
}

// parts returns what a configuration asks to run. It starts nothing.
func (d *daemon) parts(cfg *config.Config) ([]*part, error) {
	watch, err := d.watchPart(cfg)
	if err != nil {
		return nil, err
	}
	all := []*part{watch, d.signupPart(cfg)}
	if len(cfg.Published()) == 0 {
		return all, nil
	}
	broker, err := cfg.Broker.Connection()
	if err != nil {
		return nil, err
	}
	if cfg.Sells() {
		p, err := d.offersPart(cfg, broker)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
		if p, err = d.accountsPart(cfg, broker); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	for _, plug := range cfg.Plugs {
		p, err := d.plugPart(plug, broker)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// watchPart returns what settles payments.
func (d *daemon) watchPart(cfg *config.Config) (*part, error) {
	p := &part{name: "ledger", settings: []any{cfg.Ledger, cfg.Offers, cfg.Signup, cfg.Broker.Username}}
	if len(cfg.Offers) == 0 {
		d.log.Warn("nothing is for sale: the configuration has no offers")
		p.run = func(ctx context.Context) error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-d.recheck: // no payment waits
				}
			}
		}
		return p, nil
	}
	offers, err := cfg.ForSale()
	if err != nil {
		return nil, err
	}
	ledger, err := cfg.Ledger.Open(offers.Addresses(), d.log)
	if err != nil {
		return nil, err
	}
	p.watch = &watching{ledger: ledger, watcher: &tangle.Watcher{
		Ledger: ledger, Offers: offers,
		Interval: cfg.Ledger.Poll, Timeout: lookTimeout, FromStart: cfg.Ledger.FromStart,
		Recheck: d.recheck, Observe: d.observe, Log: d.log,
	}}
	p.run = func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-d.prepared:
		}
		p.watch.watcher.Store = d.store
		if cfg.Signup {
			p.watch.watcher.Rules = []tangle.Rule{tangle.MessageRule{}, signupRule(cfg, ledger, d.store)}
		}
		p.watch.watcher.Booked = d.store.Received
		return p.watch.watcher.Run(ctx)
	}
	return p, nil
}

// observe is told by the watcher what became of a payment.
func (d *daemon) observe(p tangle.Payment, o tangle.Outcome, took time.Duration) {
	d.metrics.settled(p, o, took)
	if o == tangle.Unmatched {
		d.news.holding()
	}
}

// plugPart returns what publishes a plug's readings.
func (d *daemon) plugPart(c config.Plug, broker mqtt.Broker) (*part, error) {
	log := d.log.WithField("plug", c.Live)
	poller := c.Poller(log)
	publisher := &mqtt.Publisher{Broker: broker, Status: c.Status, Log: log}
	meter := &plugMeter{source: c.Source(broker, log), broker: publisher, live: c.Live, average: c.Average, status: c.Status}
	poller.Source, poller.Publisher = meter, meter
	if err := errors.Join(poller.Validate(), publisher.Validate()); err != nil {
		return nil, fmt.Errorf("plug that publishes to %s: %w", c.Live, err)
	}
	return &part{
		name: "plug " + c.Live, settings: []any{c, broker}, plug: meter,
		run: func(ctx context.Context) error { return publisher.Run(ctx, poller.Run) },
	}, nil
}
