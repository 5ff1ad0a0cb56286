package config

import (
	"fmt"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/cmd/internal/secret"
	"github.com/iotoll/iotoll/wemo"
	"github.com/iotoll/iotoll/wemo/insight"
	"github.com/iotoll/iotoll/wemo/mqtt"
	"github.com/iotoll/iotoll/wemo/shelly"
)

// Connection returns how to connect to the broker as the account that publishes,
// or anonymously if there is none.
func (c *Broker) Connection() (mqtt.Broker, error) {
	b := mqtt.Broker{URL: c.URL, Username: c.Username}
	if c.PasswordFile != "" {
		pw, err := secret.ReadFile(c.PasswordFile)
		if err != nil {
			return mqtt.Broker{}, fmt.Errorf("read broker.password_file: %w", err)
		}
		b.Password = []byte(pw.Reveal())
	}
	return b, nil
}

// Source returns the source of a plug's readings.
func (c *Plug) Source(broker mqtt.Broker, log logrus.FieldLogger) wemo.Source {
	switch {
	case c.Topic != "":
		return &mqtt.Source{Broker: broker, Topic: c.Topic, Pointer: c.Pointer, Scale: c.Scale}
	case c.Shelly != "":
		return &shelly.Switch{Address: c.Shelly, ID: c.Switch}
	}
	return &insight.Plug{Address: c.Address, UDN: c.UDN, Eventing: c.Events, Log: log}
}

// Poller returns what publishes a plug's readings, still without its source and
// its publisher.
func (c *Plug) Poller(log logrus.FieldLogger) *wemo.Poller {
	return &wemo.Poller{
		Live: c.Live, Average: c.Average, Status: c.Status,
		Window: c.Window, Hold: c.Hold, Format: c.Format, Log: log,
	}
}
