// Package ledgers constructs ledgers and wallets from a configuration. It is the
// one place above package tangle that knows which ledgers there are.
package ledgers

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/legacy"
	"github.com/iotoll/iotoll/tangle/rebased"
)

// The kinds of ledgers.
const (
	Legacy = "legacy" // the trinary tangle, IRI and Hornet
	IOTA   = "iota"   // today's IOTA network
)

// Config is the section "ledger" of the configuration.
type Config struct {
	// Kind is Legacy or IOTA; Legacy if left out.
	Kind string `yaml:"kind"`
	// Network is mainnet, testnet, devnet or local. The legacy tangle has no
	// public network: it is always local, which may be left out there.
	Network string `yaml:"network"`
	// Nodes are the http:// or https:// URLs of nodes. The next is tried when one
	// fails. On today's network they are GraphQL services; the network's public one
	// if left out.
	Nodes []string `yaml:"nodes"`
	// Poll is how often the ledger is read. If left out, it is 250ms on a local
	// network and 3s on the others.
	Poll time.Duration `yaml:"poll"`
	// Agree is how many nodes must say that a payment is final; 1 if left out.
	Agree int `yaml:"agree"`
	// FromStart also settles what is on an address when it is first read.
	FromStart bool `yaml:"from_start"`
}

// SetDefaults fills in what was left out.
func (c *Config) SetDefaults() {
	if c.Kind == "" {
		c.Kind = Legacy
	}
	if c.Network == "" && c.Kind == Legacy {
		c.Network = "local"
	}
	if n, err := rebased.NetworkByName(c.Network); c.Kind == IOTA && len(c.Nodes) == 0 && err == nil {
		c.Nodes = []string{n.Node}
	}
	if c.Poll == 0 {
		c.Poll = 250 * time.Millisecond
		if c.Network != "local" {
			c.Poll = 3 * time.Second
		}
	}
	if c.Agree == 0 {
		c.Agree = 1
	}
}

// Notation returns how a kind of ledger writes amounts and addresses.
func Notation(kind string) (tangle.Notation, error) {
	switch kind {
	case Legacy:
		return legacy.Notation{}, nil
	case IOTA:
		return rebased.Notation{}, nil
	}
	return nil, fmt.Errorf("kind: %q, want legacy or iota", kind)
}

// KindOfAddress returns the kind of ledger that writes addresses like text, empty if
// none does.
func KindOfAddress(text string) string {
	for _, kind := range []string{IOTA, Legacy} {
		if notation, err := Notation(kind); err == nil {
			if _, err := notation.ParseAddress(text); err == nil {
				return kind
			}
		}
	}
	return ""
}

// Currency returns the money of a kind of ledger. Amounts of a kind that is not
// known, as a newer version may have written into the store, are in base units.
func Currency(kind string) tangle.Currency {
	notation, err := Notation(kind)
	if err != nil {
		return tangle.Currency{Unit: "base units", Max: math.MaxInt64}
	}
	return notation.Currency()
}

// Example is what "iotoll init" writes for a kind of ledger unless it is told
// otherwise.
type Example struct {
	Node  string // URL
	Price string // of an hour
}

// ExampleOf returns the example for a network of a kind of ledger.
func ExampleOf(kind, network string) (Example, error) {
	if _, err := Notation(kind); err != nil || kind == Legacy {
		return Example{Node: "http://127.0.0.1:14265", Price: "500 i"}, err
	}
	n, err := rebased.NetworkByName(network)
	return Example{Node: n.Node, Price: "0.5 IOTA"}, err
}

// Validate returns everything that keeps the ledger from being opened. The errors
// begin with the key.
func (c *Config) Validate() error {
	_, err := Notation(c.Kind)
	faults := []error{err}
	if c.Kind == Legacy {
		if c.Network != "local" {
			faults = append(faults, fmt.Errorf("network: %q, want local: the legacy tangle has no public network", c.Network))
		}
		faults = append(faults, legacy.CheckNodes(c.Nodes, c.Agree))
	}
	if c.Kind == IOTA {
		if _, err := rebased.NetworkByName(c.Network); err != nil {
			faults = append(faults, err)
		}
		faults = append(faults, rebased.CheckNodes(c.Nodes, c.Agree))
	}
	for i, node := range c.Nodes {
		if u, err := url.Parse(node); err == nil && u.User != nil {
			faults = append(faults, fmt.Errorf("nodes[%d]: %q contains a username, want a URL without", i, u.Redacted()))
		}
	}
	if c.Poll < 50*time.Millisecond || c.Poll > time.Hour {
		faults = append(faults, fmt.Errorf("poll: %s, want 50ms to 1h", c.Poll))
	}
	return errors.Join(faults...)
}

// Open returns the ledger, which reads the payments to some deposit addresses.
func (c *Config) Open(addresses []string, log logrus.FieldLogger) (tangle.Inspector, error) {
	switch c.Kind {
	case Legacy:
		return legacy.New(legacy.Config{Nodes: c.Nodes, Addresses: addresses, Agree: c.Agree, Log: log})
	case IOTA:
		return rebased.New(rebased.Config{Nodes: c.Nodes, Addresses: addresses, Agree: c.Agree, Log: log})
	}
	_, err := Notation(c.Kind)
	return nil, err
}
