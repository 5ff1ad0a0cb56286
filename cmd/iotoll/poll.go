package main

import (
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/wemo"
	"github.com/iotoll/iotoll/wemo/insight"
	"github.com/iotoll/iotoll/wemo/mqtt"
	"github.com/iotoll/iotoll/wemo/shelly"
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
	broker, err := d.cfg.Broker.broker()
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
			broker: &mqtt.Publisher{Broker: broker, Status: p.Status, Log: log},
		}
		meter := &plugMeter{source: p.source(broker, log), broker: one.broker, live: p.Live, status: p.Status}
		d.meters.plugs = append(d.meters.plugs, meter)
		one.poller.Source, one.poller.Publisher = meter, meter
		if err := errors.Join(one.poller.Validate(), one.broker.Validate()); err != nil {
			return nil, fmt.Errorf("plug that publishes to %s: %w", p.Live, err)
		}
		all = append(all, one)
	}
	return all, nil
}

// broker returns how to connect to the broker.
func (c *BrokerConfig) broker() (mqtt.Broker, error) {
	pw, err := c.password()
	if err != nil {
		return mqtt.Broker{}, err
	}
	return mqtt.Broker{URL: c.URL, Username: c.Username, Password: []byte(pw.reveal())}, nil
}

// password returns the password of the publisher's account; empty if there is no
// account.
func (c *BrokerConfig) password() (secret, error) {
	if c.PasswordFile == "" {
		return secret{}, nil
	}
	s, err := readSecretFile(c.PasswordFile)
	if err != nil {
		return secret{}, fmt.Errorf("read broker.password_file: %w", err)
	}
	return s, nil
}

// source returns the source of a plug's readings.
func (c *PlugConfig) source(broker mqtt.Broker, log logrus.FieldLogger) wemo.Source {
	switch {
	case c.Topic != "":
		return &mqtt.Source{Broker: broker, Topic: c.Topic, Pointer: c.Pointer, Scale: c.Scale}
	case c.Shelly != "":
		return &shelly.Switch{Address: c.Shelly, ID: c.Switch}
	}
	return &insight.Plug{Address: c.Address, UDN: c.UDN, Eventing: c.Events, Log: log}
}
