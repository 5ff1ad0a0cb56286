// Package config reads the configuration file: its shape, its defaults and what
// is wrong with it.
package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/wemo"
)

// Config is the configuration file. File names in it that are not absolute
// are relative to the directory of the configuration file.
type Config struct {
	Store  Store          `yaml:"store"`
	Ledger ledgers.Config `yaml:"ledger"`
	// Public lists the topic filters that everybody may read, anonymous clients
	// too: those of broker.settings_file. Only a file of the first release, which
	// has no settings_file, lists them here.
	Public []string `yaml:"public"`
	Offers []Offer  `yaml:"offers"`
	Broker Broker   `yaml:"broker"`
	Plugs  []Plug   `yaml:"plugs"`
	// Metrics is for those who watch "iotoll serve".
	Metrics Metrics `yaml:"metrics"`

	Path string `yaml:"-"` // of the file

	// RefuseUnpaid is what the broker's settings file says of subscriptions to what
	// is for sale: whether they are refused until it is paid for.
	RefuseUnpaid bool `yaml:"-"`

	inline bool // Public was in the file
}

// Store says where users, payments and grants are kept.
type Store struct {
	// URIFile is a file that holds the mongodb:// URI of a MongoDB server,
	// which may contain a password. Without it, the embedded store is used.
	URIFile string `yaml:"uri_file"`
	// Database is the name of the database; "mosquitto" if left out.
	Database string `yaml:"database"`
	// Embedded is the store that "iotoll serve" runs itself.
	Embedded *Embedded `yaml:"embedded"`
}

// Embedded describes the store that "iotoll serve" runs itself.
type Embedded struct {
	// Directory holds its files; /var/lib/iotoll/store if left out.
	Directory string `yaml:"directory"`
	// Socket is the Unix socket on which it serves the broker's plugin and the
	// other commands; /run/iotoll/store.sock if left out.
	Socket string `yaml:"socket"`
	// Group is the group whose members may connect to the socket, with every
	// right: the user that runs the broker must be one. It is the group of "iotoll
	// serve" if left out.
	Group string `yaml:"group"`
}

// Offer is one thing for sale.
type Offer struct {
	// ID names the offer in messages and in the book: a-z, 0-9 and -.
	ID string `yaml:"id"`
	// Topics are the topic filters that it opens.
	Topics []string `yaml:"topics"`
	// Price is what one period costs, as the ledger writes amounts: 500, 500 i.
	Price string `yaml:"price"`
	// LowPrice permits a price below the ledger's least: 0.1 IOTA on today's
	// network.
	LowPrice bool `yaml:"low_price"`
	// Period is what one price buys, such as 1h.
	Period time.Duration `yaml:"period"`
	// Address is the deposit address.
	Address string `yaml:"address"`
	// Former are deposit addresses used before: payments to them still count.
	Former []string `yaml:"former"`
}

// Broker says where readings are published.
type Broker struct {
	// URL is the broker's, such as mqtt://127.0.0.1:1883, or mqtts:// for TLS.
	URL string `yaml:"url"`
	// Username is the account that publishes.
	Username string `yaml:"username"`
	// PasswordFile is a file that holds its password.
	PasswordFile string `yaml:"password_file"`
	// SettingsFile is what plugin_opt_settings_file of mosquitto.conf names. Its
	// lines "public FILTER" are the topics that everybody may read: it is the only
	// place for them, and read by the plugin and by iotoll.
	SettingsFile string `yaml:"settings_file"`
	// OffersTopic is where the offers are published, retained, for buyers'
	// programs: a JSON array of what "iotoll offer list" prints. They are not
	// published if it is left out.
	OffersTopic string `yaml:"offers_topic"`
}

// Metrics says whether /metrics, /healthz and /readyz are served.
type Metrics struct {
	// Listen is the address of the HTTP server, such as 127.0.0.1:9464; there
	// is none if left out. It asks for no password, and tells what plugs
	// measure and what the configuration names.
	Listen string `yaml:"listen"`
}

// Plug is one smart plug, or another source of readings.
type Plug struct {
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

// ForSale returns the offers, of which there must be at least one.
func (c *Config) ForSale() (*tangle.Offers, error) {
	notation, err := ledgers.Notation(c.Ledger.Kind)
	if err != nil {
		return nil, err
	}
	offers := make([]tangle.Offer, len(c.Offers))
	for i := range c.Offers {
		if offers[i], err = c.Offers[i].offer(notation); err != nil {
			return nil, err
		}
	}
	return tangle.NewOffers(offers...)
}

// Notes returns what is permitted and may surprise: which offer a payment is for
// that names none, where several share an address.
func (c *Config) Notes() []string {
	var notes []string
	byAddress := make(map[string][]string)
	for _, o := range c.Offers {
		for _, address := range append([]string{o.Address}, o.Former...) {
			byAddress[address] = append(byAddress[address], o.ID)
		}
	}
	for _, address := range slices.Sorted(maps.Keys(byAddress)) {
		if ids := byAddress[address]; len(ids) > 1 {
			notes = append(notes, fmt.Sprintf("offers %s share the address %s: a payment whose message names no offer is for %s", strings.Join(ids, ", "), address, ids[0]))
		}
	}
	return notes
}

// offer returns the offer. The errors begin with the key.
func (c *Offer) offer(notation tangle.Notation) (tangle.Offer, error) {
	o := tangle.Offer{ID: c.ID, Period: c.Period}
	var f faults
	// What cannot be read is replaced by something that Validate has no complaint
	// about, so that each fault is reported once.
	for i, text := range c.Topics {
		filter, err := acl.ParseFilter(text)
		if err != nil {
			f.addErr(fmt.Sprintf("topics[%d]", i), err)
			filter, _ = acl.ParseFilter("unreadable")
		}
		o.Filters = append(o.Filters, filter)
	}
	var err error
	if o.Price, err = notation.Currency().Parse(c.Price); err != nil {
		f.addErr("price", err)
		o.Price = 1
	} else if err := notation.Currency().CheckPrice(o.Price); err != nil && o.Price > 0 && !c.LowPrice {
		f.addErr("price", hint.Add(err, "offers[].low_price: true permits it all the same"))
	}
	address := func(key, text string) string {
		a, err := notation.ParseAddress(text)
		if err != nil {
			f.addErr(key, err)
			return "unreadable"
		}
		return a
	}
	o.Address = address("address", c.Address)
	for i, text := range c.Former {
		o.Former = append(o.Former, address(fmt.Sprintf("former[%d]", i), text))
	}
	f.addEach("", o.Validate())
	return o, f.join()
}

// PublicFilters returns the parsed filters of Public.
func (c *Config) PublicFilters() []acl.Filter {
	var all []acl.Filter
	for _, text := range c.Public {
		if filter, err := acl.ParseFilter(text); err == nil { // validate told of others
			all = append(all, filter)
		}
	}
	return all
}

// Where says for people which store is meant, without secrets.
func (c *Store) Where() string {
	if c.URIFile != "" {
		return "the URI in " + c.URIFile
	}
	return c.Embedded.Socket
}

// Published returns the topics that serve publishes to.
func (c *Config) Published() []string {
	var topics []string
	if c.Broker.OffersTopic != "" {
		topics = append(topics, c.Broker.OffersTopic)
	}
	for _, p := range c.Plugs {
		topics = append(topics, p.Live, p.Average, p.Status)
	}
	return topics
}

// StoreIDFile returns where the ID of the store is noted outside the store: beside the
// configuration, or in /var/lib/iotoll for the one in /etc, where serve cannot
// write.
func (c *Config) StoreIDFile() string {
	name := strings.TrimSuffix(filepath.Base(c.Path), ".yaml") + ".store-id"
	if c.Path == SystemPath {
		return filepath.Join("/var/lib/iotoll", name)
	}
	return filepath.Join(filepath.Dir(c.Path), name)
}
