package daemon

import (
	"errors"
	"fmt"

	"github.com/iotoll/iotoll/wemo"
)

// polled is a plug with its connection to the broker.
type polled struct {
	poller *wemo.Poller
	broker *wemo.Broker
}

// pollers returns what reads and publishes each plug.
func (d *daemon) pollers() ([]polled, error) {
	if len(d.cfg.Plugs) == 0 {
		return nil, nil
	}
	pw, err := d.cfg.Broker.ReadPassword()
	if err != nil {
		return nil, err
	}
	var all []polled
	for _, p := range d.cfg.Plugs {
		log := d.log.WithField("plug", p.Live)
		one := polled{
			poller: &wemo.Poller{
				Live: p.Live, Average: p.Average, Status: p.Status,
				Window: p.Window, Hold: p.Hold, Format: p.Format, Log: log,
			},
			broker: &wemo.Broker{
				URL: d.cfg.Broker.URL, Username: d.cfg.Broker.Username, Password: []byte(pw.Reveal()), Status: p.Status, Log: log,
			},
		}
		meter := &plugMeter{source: p.Source(&d.cfg.Broker, pw, log), broker: one.broker, live: p.Live, status: p.Status}
		d.meters.plugs = append(d.meters.plugs, meter)
		one.poller.Source, one.poller.Publisher = meter, meter
		if err := errors.Join(one.poller.Validate(), one.broker.Validate()); err != nil {
			return nil, fmt.Errorf("plug that publishes to %s: %w", p.Live, err)
		}
		all = append(all, one)
	}
	return all, nil
}
