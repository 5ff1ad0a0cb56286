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
)

// The kinds of ledgers.
const (
	Legacy = "legacy" // the trinary tangle, IRI and Hornet
	IOTA   = "iota"   // today's IOTA network
)

// errNoIOTA is returned for IOTA until its package lands.
var errNoIOTA = errors.New(`kind: "iota" is not supported by this version, want legacy`)

// Config is the section "ledger" of the configuration.
type Config struct {
	// Kind is Legacy or IOTA; Legacy if left out.
	Kind string `yaml:"kind"`
	// Network is mainnet, testnet, devnet or local. The legacy tangle has no
	// public network: it is always local, which may be left out.
	Network string `yaml:"network"`
	// Nodes are the http:// or https:// URLs of nodes. The next is tried when one
	// fails.
	Nodes []string `yaml:"nodes"`
	// Poll is how often the ledger is read; 250ms on the legacy tangle if left
	// out.
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
	if c.Poll == 0 {
		c.Poll = 250 * time.Millisecond
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
		return nil, errNoIOTA
	}
	return nil, fmt.Errorf("kind: %q, want legacy or iota", kind)
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
	Node  string // URL of a node on this machine
	Price string // of an hour
}

// ExampleOf returns the example for a kind of ledger.
func ExampleOf(kind string) (Example, error) {
	if _, err := Notation(kind); err != nil {
		return Example{}, err
	}
	return Example{Node: "http://127.0.0.1:14265", Price: "500 i"}, nil
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
	if c.Kind != Legacy {
		return nil, fmt.Errorf("open ledger: %w", errNoIOTA)
	}
	return legacy.New(legacy.Config{Nodes: c.Nodes, Addresses: addresses, Agree: c.Agree, Log: log})
}
