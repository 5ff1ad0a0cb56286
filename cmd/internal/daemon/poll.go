package daemon

import (
	"errors"
	"fmt"

	"github.com/iotoll/iotoll/wemo"
	"github.com/iotoll/iotoll/wemo/mqtt"
)

// polled is a plug that is read and published.
type polled struct {
	poller *wemo.Poller
	broker *mqtt.Publisher
}

// pollers returns what reads and publishes each plug of the configuration.
func (d *daemon) pollers() ([]polled, error) {
	if len(d.cfg.Plugs) == 0 {
		return nil, nil
	}
	broker, err := d.cfg.Broker.Connection()
	if err != nil {
		return nil, err
	}
	var all []polled
	for _, p := range d.cfg.Plugs {
		log := d.log.WithField("plug", p.Live)
		one := polled{
			poller: p.Poller(log),
			broker: &mqtt.Publisher{Broker: broker, Status: p.Status, Log: log},
		}
		meter := &plugMeter{source: p.Source(broker, log), broker: one.broker, live: p.Live, status: p.Status}
		d.meters.plugs = append(d.meters.plugs, meter)
		one.poller.Source, one.poller.Publisher = meter, meter
		if err := errors.Join(one.poller.Validate(), one.broker.Validate()); err != nil {
			return nil, fmt.Errorf("plug that publishes to %s: %w", p.Live, err)
		}
		all = append(all, one)
	}
	return all, nil
}
