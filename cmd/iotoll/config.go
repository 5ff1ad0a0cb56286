package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/wemo"
)

// Config is the configuration file. File names in it that are not absolute
// are relative to the directory of the configuration file.
type Config struct {
	Store  StoreConfig  `yaml:"store"`
	Ledger LedgerConfig `yaml:"ledger"`
	// Public lists the topic filters that everybody may read, anonymous
	// clients too. The broker's plugin does not read this file: its
	// plugin_opt_public lines must say the same.
	Public []string      `yaml:"public"`
	Offers []OfferConfig `yaml:"offers"`
	Broker BrokerConfig  `yaml:"broker"`
	Plugs  []PlugConfig  `yaml:"plugs"`
	// Metrics is for those who watch "iotoll serve".
	Metrics MetricsConfig `yaml:"metrics"`

	path string // of the file
}

// StoreConfig says where users, payments and grants are kept.
type StoreConfig struct {
	// URIFile is a file that holds the mongodb:// URI of a MongoDB server,
	// which may contain a password. Without it, the embedded store is used.
	URIFile string `yaml:"uri_file"`
	// Database is the name of the database; "mosquitto" if left out.
	Database string `yaml:"database"`
	// Embedded is the store that "iotoll serve" runs itself.
	Embedded *EmbeddedConfig `yaml:"embedded"`
}

// EmbeddedConfig describes the store that "iotoll serve" runs itself.
type EmbeddedConfig struct {
	// Directory holds its files; /var/lib/iotoll/store if left out.
	Directory string `yaml:"directory"`
	// Listen is the address on which it serves the broker's plugin and the
	// other commands; 127.0.0.1:27117 if left out. It has to be a loopback
	// address, since the embedded store asks for no password.
	Listen string `yaml:"listen"`
}

// LedgerConfig says how the ledger is read.
type LedgerConfig struct {
	// Nodes are the http:// or https:// URLs of nodes. The next is tried when
	// one fails.
	Nodes []string `yaml:"nodes"`
	// Poll is how often the ledger is read; 250ms if left out.
	Poll time.Duration `yaml:"poll"`
	// Agree is how many nodes have to say that a payment is confirmed; 1 if
	// left out.
	Agree int `yaml:"agree"`
	// FromStart also settles what is on an address when it is first read.
	FromStart bool `yaml:"from_start"`
}

// OfferConfig is one thing for sale.
type OfferConfig struct {
	// ID names the offer in messages and in the book: a-z, 0-9 and -.
	ID string `yaml:"id"`
	// Topics are the topic filters that it opens.
	Topics []string `yaml:"topics"`
	// Price is what one period costs, in iotas.
	Price iotas `yaml:"price"`
	// Period is what one price buys, such as 1h.
	Period time.Duration `yaml:"period"`
	// Address is the deposit address with its checksum, 90 trytes.
	Address string `yaml:"address"`
	// Former are deposit addresses used before: payments to them
	// still count.
	Former []string `yaml:"former"`
}

// iotas is an amount of money.
type iotas int64

// BrokerConfig says where readings are published.
type BrokerConfig struct {
	// URL is the broker's, such as mqtt://127.0.0.1:1883, or mqtts:// for TLS.
	URL string `yaml:"url"`
	// Username is the account that publishes.
	Username string `yaml:"username"`
	// PasswordFile is a file that holds its password.
	PasswordFile string `yaml:"password_file"`
	// OffersTopic is where the offers are published, retained, for buyers'
	// programs: a JSON array of what "iotoll offer list" prints. They are not
	// published if it is left out.
	OffersTopic string `yaml:"offers_topic"`
}

// MetricsConfig says whether /metrics, /healthz and /readyz are served.
type MetricsConfig struct {
	// Listen is the address of the HTTP server, such as 127.0.0.1:9464; there
	// is none if left out. It asks for no password, and tells what plugs
	// measure and what the configuration names.
	Listen string `yaml:"listen"`
}

// PlugConfig is one smart plug, or another source of readings.
type PlugConfig struct {
	// Address is the IP address or host name of a WeMo Insight, with or without
	// a port. Without it, Shelly and Topic, the plug is discovered.
	Address string `yaml:"address"`
	// UDN identifies one of several WeMo plugs that are discovered; see
	// "iotoll plug discover".
	UDN string `yaml:"udn"`
	// Events asks a WeMo plug to push its readings, which spares it most
	// requests. It must be able to connect to this host.
	Events bool `yaml:"events"`

	// Shelly is the IP address or host name of a Shelly of the second
	// generation or later, in place of a WeMo Insight.
	Shelly string `yaml:"shelly"`
	// Switch is which switch of the Shelly; the first, 0, if left out.
	Switch int `yaml:"switch"`

	// Topic is one of the broker's on which something else publishes readings,
	// in place of a plug.
	Topic string `yaml:"topic"`
	// Pointer says where in its JSON messages the power is, such as
	// /ENERGY/Power; if left out, the message is the number.
	Pointer string `yaml:"pointer"`
	// Scale is how many milliwatts 1 of that number is; 1000 if left out: it
	// is in watts.
	Scale float64 `yaml:"scale"`

	// Hold is how long a reading stands when no other follows; 5s if left out.
	// What reports seldom needs more.
	Hold time.Duration `yaml:"hold"`

	// Live is the topic of its live readings.
	Live string `yaml:"live"`
	// Average is the topic of its averages.
	Average string `yaml:"average"`
	// Status is the topic of its status; "status" beside the live topic if
	// left out, such as sensor/status.
	Status string `yaml:"status"`
	// Window is the time that an average is taken of, in whole seconds; 1m if
	// left out.
	Window time.Duration `yaml:"window"`
	// Format is that of readings and averages: mW, W or json; mW if left out.
	Format wemo.Format `yaml:"format"`
}

// offers returns the offers, of which there must be one at least.
func (c *Config) offers() (*tangle.Offers, error) {
	offers := make([]tangle.Offer, 0, len(c.Offers))
	for _, o := range c.Offers {
		filters, err := parseFilters(o.Topics)
		if err != nil {
			return nil, fmt.Errorf("offer %s: %w", o.ID, err)
		}
		offers = append(offers, tangle.Offer{
			ID: o.ID, Filters: filters, Price: int64(o.Price), Period: o.Period, Address: o.Address, Former: o.Former,
		})
	}
	return tangle.NewOffers(offers...)
}

func parseFilters(texts []string) ([]acl.Filter, error) {
	filters := make([]acl.Filter, 0, len(texts))
	for _, text := range texts {
		filter, err := acl.ParseFilter(text)
		if err != nil {
			return nil, err
		}
		filters = append(filters, filter)
	}
	return filters, nil
}

func newConfig(c console, load loader) *cobra.Command {
	return group("config", "Check the configuration",
		&cobra.Command{
			Use:   "check",
			Short: "Read the configuration and say what is wrong with it",
			Long: `check reads the configuration and the files that it names, and prints every
fault with what would be right. It connects to nothing.`,
			Args: exactly(),
			RunE: func(*cobra.Command, []string) error {
				cfg, err := load()
				if err != nil {
					return err
				}
				var f faults
				if name := cfg.Store.URIFile; name != "" {
					uri, err := readSecretFile(name)
					if err == nil {
						err = mongostore.CheckURI(uri.reveal())
					}
					f.addErr("store.uri_file", err)
				}
				if name := cfg.Broker.PasswordFile; name != "" {
					_, err := readSecretFile(name)
					f.addErr("broker.password_file", err)
				}
				if len(f) > 0 {
					return fmt.Errorf("configuration %s:\n%w", cfg.path, errors.Join(f...))
				}
				_, err = fmt.Fprintf(c.out, "ok: %d offers, %d plugs, %d public filters\n", len(cfg.Offers), len(cfg.Plugs), len(cfg.Public))
				return err
			},
		})
}
