package main

import (
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"

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
	pw, err := d.cfg.Broker.password()
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
				URL: d.cfg.Broker.URL, Username: d.cfg.Broker.Username, Password: []byte(pw.reveal()), Status: p.Status, Log: log,
			},
		}
		meter := &plugMeter{source: p.source(&d.cfg.Broker, pw, log), broker: one.broker, live: p.Live, status: p.Status}
		d.meters.plugs = append(d.meters.plugs, meter)
		one.poller.Source, one.poller.Publisher = meter, meter
		if err := errors.Join(one.poller.Validate(), one.broker.Validate()); err != nil {
			return nil, fmt.Errorf("plug that publishes to %s: %w", p.Live, err)
		}
		all = append(all, one)
	}
	return all, nil
}

// password returns the password of the account that publishes; none if there
// is no account.
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

// source returns where the readings of a plug come from.
func (c *PlugConfig) source(b *BrokerConfig, pw secret, log logrus.FieldLogger) wemo.Source {
	switch {
	case c.Topic != "":
		return &wemo.Topic{
			URL: b.URL, Username: b.Username, Password: []byte(pw.reveal()),
			Topic: c.Topic, Pointer: c.Pointer, Scale: c.Scale,
		}
	case c.Shelly != "":
		return &wemo.Shelly{Address: c.Shelly, Switch: c.Switch}
	}
	return &wemo.Plug{Address: c.Address, UDN: c.UDN, Events: c.Events, Log: log}
}
