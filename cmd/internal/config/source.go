package config

import (
	"fmt"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/cmd/internal/secret"
	"github.com/iotoll/iotoll/wemo"
)

// ReadPassword returns the password of the account that publishes; none if there
// is no account.
func (c *Broker) ReadPassword() (secret.Text, error) {
	if c.PasswordFile == "" {
		return secret.Text{}, nil
	}
	s, err := secret.ReadFile(c.PasswordFile)
	if err != nil {
		return secret.Text{}, fmt.Errorf("read broker.password_file: %w", err)
	}
	return s, nil
}

// Source returns where the readings of a plug come from.
func (c *Plug) Source(b *Broker, pw secret.Text, log logrus.FieldLogger) wemo.Source {
	switch {
	case c.Topic != "":
		return &wemo.Topic{
			URL: b.URL, Username: b.Username, Password: []byte(pw.Reveal()),
			Topic: c.Topic, Pointer: c.Pointer, Scale: c.Scale,
		}
	case c.Shelly != "":
		return &wemo.Shelly{Address: c.Shelly, Switch: c.Switch}
	}
	return &wemo.Plug{Address: c.Address, UDN: c.UDN, Events: c.Events, Log: log}
}
