package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/iotaledger/iota.go/address"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/wemo"
)

// systemConfigPath is where the configuration is unless --config or
// $IOTOLL_CONFIG says otherwise.
const systemConfigPath = "/etc/iotoll/iotoll.yaml"

func defaultConfigPath() string {
	if path := os.Getenv("IOTOLL_CONFIG"); path != "" {
		return path
	}
	return systemConfigPath
}

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
	// Events is the URL of a node's MQTT broker, such as tcp://127.0.0.1:1883,
	// whose events have the ledger read before the next poll. May be left out.
	Events string `yaml:"events"`
	// FromStart also settles what was paid before the first start.
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

// UnmarshalYAML refuses 0.5 and 1e3, of which the decoder would make the
// integers 0 and 1000.
func (i *iotas) UnmarshalYAML(n *yaml.Node) error {
	v, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil || n.ShortTag() != "!!int" {
		// In this type, the decoder adds it to the faults it found elsewhere.
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %.40q: must be a whole number of iotas", n.Line, n.Value)}}
	}
	*i = iotas(v)
	return nil
}

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

// LoadConfig reads and checks a configuration file. Its error names every
// fault that was found.
func LoadConfig(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, hint(fmt.Errorf("read configuration: %w", err),
			`"iotoll init DIR" writes one; --config or $IOTOLL_CONFIG says where it is`)
	} else if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	c, err := parseConfig(text)
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	c.path = path
	c.resolve(filepath.Dir(path))
	return c, nil
}

// parseConfig reads YAML, strictly, over the defaults.
func parseConfig(text []byte) (*Config, error) {
	c := &Config{
		Store:  StoreConfig{Database: "mosquitto"},
		Ledger: LedgerConfig{Poll: 250 * time.Millisecond},
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(c); errors.Is(err, io.EOF) {
		return nil, errors.New("is empty: must at least say where the store is")
	} else if err != nil {
		return nil, plainYAML(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds a second YAML document: must hold one")
	}
	if c.Store.URIFile == "" {
		if c.Store.Embedded == nil {
			c.Store.Embedded = new(EmbeddedConfig)
		}
		e := c.Store.Embedded
		if e.Directory == "" {
			e.Directory = "/var/lib/iotoll/store"
		}
		if e.Listen == "" {
			e.Listen = "127.0.0.1:27117"
		}
	}
	for i := range c.Plugs {
		if p := &c.Plugs[i]; p.Status == "" && p.Live != "" {
			p.Status = wemo.StatusTopic(p.Live)
		}
	}
	return c, nil
}

var (
	yamlUnknown = regexp.MustCompile(`field (\S+) not found in type \S+`)
	yamlType    = regexp.MustCompile("cannot unmarshal !!\\S+(?: `(.*)`)? into (\\S+)")
)

// plainYAML says what the decoder found in the words of the file, not in those
// of its Go types.
func plainYAML(err error) error {
	var faults *yaml.TypeError
	if !errors.As(err, &faults) {
		return errors.New("is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var all []error
	for _, text := range faults.Errors {
		text = yamlUnknown.ReplaceAllString(text, `unknown key "$1"`)
		text = yamlType.ReplaceAllStringFunc(text, func(s string) string {
			m := yamlType.FindStringSubmatch(s)
			want, ok := map[string]string{
				"string":        "a text",
				"bool":          "true or false",
				"int":           "a whole number",
				"float64":       "a number",
				"time.Duration": "a duration such as 250ms or 1h",
			}[m[2]]
			switch {
			case ok:
			case strings.HasPrefix(m[2], "[]"):
				want = "a list"
			default:
				want = "a mapping of keys to values"
			}
			if m[1] == "" {
				return "must be " + want
			}
			return fmt.Sprintf("%q: must be %s", m[1], want)
		})
		all = append(all, errors.New(text))
	}
	return errors.Join(all...)
}

// resolve makes file names absolute that are relative to dir.
func (c *Config) resolve(dir string) {
	names := []*string{&c.Store.URIFile, &c.Broker.PasswordFile}
	if c.Store.Embedded != nil {
		names = append(names, &c.Store.Embedded.Directory)
	}
	for _, name := range names {
		if *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(dir, *name)
		}
	}
}

// faults collects what is wrong with a configuration.
type faults []error

// add notes that the value of a field is not what it must be.
func (f *faults) add(field string, value any, must string) {
	if s, ok := value.(string); ok {
		if s == "" {
			*f = append(*f, fmt.Errorf("%s: is missing: must be %s", field, must))
			return
		}
		value = fmt.Sprintf("%q", s)
	}
	*f = append(*f, fmt.Errorf("%s: %v: must be %s", field, value, must))
}

// addErr notes an error that names the value itself.
func (f *faults) addErr(field string, err error) {
	if err != nil {
		*f = append(*f, fmt.Errorf("%s: %w", field, err))
	}
}

// Validate returns every fault of the configuration, each with its field, its
// value and what would be right, joined into one error.
func (c *Config) Validate() error {
	var f faults
	c.Store.validate(&f)
	c.Ledger.validate(&f, len(c.Offers) > 0)
	public := filters(&f, "public", c.Public)
	ids := make(map[string]int)
	for i, o := range c.Offers {
		field := fmt.Sprintf("offers[%d]", i)
		o.validate(&f, field, public)
		if first, twice := ids[o.ID]; twice {
			f.add(field+".id", o.ID, fmt.Sprintf("another than that of offers[%d]", first))
		} else {
			ids[o.ID] = i
		}
	}
	c.Broker.validate(&f, len(c.Plugs) > 0, public)
	c.Metrics.validate(&f)
	topics := make(map[string]string)
	if c.Broker.OffersTopic != "" {
		topics[c.Broker.OffersTopic] = "broker.offers_topic"
	}
	for i, p := range c.Plugs {
		p.validate(&f, fmt.Sprintf("plugs[%d]", i), topics)
	}
	return errors.Join(f...)
}

func (c *StoreConfig) validate(f *faults) {
	if c.Database == "" || len(c.Database) > 63 || strings.ContainsAny(c.Database, "/\\. \"$*<>:|?\x00") {
		f.add("store.database", c.Database, "a name of 1 to 63 letters, digits, _ and -")
	}
	if c.Embedded == nil {
		return
	}
	if c.URIFile != "" {
		*f = append(*f, errors.New("store.embedded: must be left out when store.uri_file says which server to use"))
		return
	}
	if host, port, err := net.SplitHostPort(c.Embedded.Listen); err != nil || port == "" || !loopback(host) {
		f.add("store.embedded.listen", c.Embedded.Listen, "a loopback address with a port, such as 127.0.0.1:27117")
	}
}

// loopback reports whether only this machine can connect to a host.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *LedgerConfig) validate(f *faults, needed bool) {
	if needed && len(c.Nodes) == 0 {
		*f = append(*f, errors.New("ledger.nodes: is missing: must list the URL of at least one node, such as http://127.0.0.1:14265"))
	}
	for i, node := range c.Nodes {
		checkURL(f, fmt.Sprintf("ledger.nodes[%d]", i), node, "http://127.0.0.1:14265", "http", "https")
	}
	if c.Agree < 0 || c.Agree > max(1, len(c.Nodes)) {
		f.add("ledger.agree", c.Agree, "a number from 1 to that of the nodes")
	}
	if c.Events != "" {
		checkURL(f, "ledger.events", c.Events, "tcp://127.0.0.1:1883", "tcp", "mqtt", "mqtts")
	}
	if c.Poll < 50*time.Millisecond || c.Poll > time.Hour {
		f.add("ledger.poll", c.Poll, "a duration from 50ms to 1h")
	}
}

// checkURL notes what is wrong with a URL; its error never holds a password.
func checkURL(f *faults, field, value, example string, schemes ...string) {
	must := "a URL such as " + example
	u, err := url.Parse(value)
	switch {
	case err != nil:
		// The value may hold a password in a place where no parser finds it.
		*f = append(*f, fmt.Errorf("%s: is not a URL: must be %s", field, must))
	case u.User != nil:
		f.add(field, u.Redacted(), "without username and password")
	case u.Hostname() == "" || !slices.Contains(schemes, u.Scheme):
		f.add(field, value, must)
	}
}

// filters parses topic filters and notes what is wrong with them.
func filters(f *faults, field string, texts []string) []acl.Filter {
	var parsed []acl.Filter
	for i, text := range texts {
		filter, err := acl.ParseFilter(text)
		if err != nil {
			f.addErr(fmt.Sprintf("%s[%d]", field, i), err)
			continue
		}
		parsed = append(parsed, filter)
	}
	return parsed
}

// maxPrice is all the iotas that there are.
const maxPrice = 2_779_530_283_277_761

var offerID = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

func (c *OfferConfig) validate(f *faults, field string, public []acl.Filter) {
	if !offerID.MatchString(c.ID) {
		f.add(field+".id", c.ID, "1 to 64 characters of a-z, 0-9 and -")
	}
	if len(c.Topics) == 0 {
		*f = append(*f, fmt.Errorf("%s.topics: is missing: must list the topic filters that are for sale", field))
	}
	for i, filter := range filters(f, field+".topics", c.Topics) {
		for _, free := range public {
			if free.Covers(filter) {
				f.add(fmt.Sprintf("%s.topics[%d]", field, i), filter.String(),
					fmt.Sprintf("something that the public filter %q does not give away for nothing", free))
			}
		}
	}
	if c.Price < 1 || c.Price > maxPrice {
		f.add(field+".price", c.Price, fmt.Sprintf("a number of iotas from 1 to %d", int64(maxPrice)))
	}
	if c.Period < time.Second || c.Period%time.Millisecond != 0 {
		f.add(field+".period", c.Period, "a duration of at least 1s, in whole milliseconds, such as 1h")
	}
	checkAddress(f, field+".address", c.Address)
	for i, a := range c.Former {
		checkAddress(f, fmt.Sprintf("%s.former[%d]", field, i), a)
	}
}

// checkAddress notes what is wrong with an address of the legacy tangle. A
// wrong checksum would make money disappear, so that it is verified here:
// iota.go cuts it off unread in queries.
func checkAddress(f *faults, field, a string) {
	if len(a) != 90 {
		f.add(field, a, "90 trytes (A-Z and 9), the last 9 of them the checksum")
	} else if err := address.ValidAddress(a); err != nil {
		f.add(field, a, "90 trytes whose last 9 are the checksum of the others; a letter is mistaken")
	}
}

func (c *BrokerConfig) validate(f *faults, needed bool, public []acl.Filter) {
	if c.OffersTopic != "" {
		if err := acl.CheckTopic(c.OffersTopic); err != nil {
			f.addErr("broker.offers_topic", err)
		} else if !slices.ContainsFunc(public, func(free acl.Filter) bool { return free.Matches(c.OffersTopic) }) {
			f.add("broker.offers_topic", c.OffersTopic, "a topic that a public filter opens, for buyers to read")
		}
		if c.URL == "" {
			f.add("broker.url", c.URL, "the broker's URL, such as mqtt://127.0.0.1:1883, since there is an offers_topic")
			return
		}
	}
	if needed || c.URL != "" {
		if c.URL == "" {
			f.add("broker.url", c.URL, "the broker's URL, such as mqtt://127.0.0.1:1883, since there are plugs")
		} else {
			checkURL(f, "broker.url", c.URL, "mqtt://127.0.0.1:1883", "mqtt", "mqtts")
		}
	}
	if c.Username != "" {
		f.addErr("broker.username", acl.CheckName(c.Username))
		if c.PasswordFile == "" {
			f.add("broker.password_file", "", "a file that holds the password of broker.username")
		}
	} else if c.PasswordFile != "" {
		f.add("broker.username", "", "the account whose password is in broker.password_file")
	}
}

func (c *MetricsConfig) validate(f *faults) {
	if c.Listen == "" {
		return
	}
	_, port, err := net.SplitHostPort(c.Listen)
	if _, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil {
		f.add("metrics.listen", c.Listen, "an address with a port, such as 127.0.0.1:9464")
	}
}

func (c *PlugConfig) validate(f *faults, field string, topics map[string]string) {
	if err := (&wemo.Plug{Address: c.Address}).Validate(); err != nil {
		f.add(field+".address", c.Address, "an IP address or a host name, with or without a port, such as 192.168.1.20, or left out for discovery")
	}
	if kinds := []bool{c.Address != "" || c.UDN != "", c.Shelly != "", c.Topic != ""}; len(slices.DeleteFunc(kinds, func(b bool) bool { return !b })) > 1 {
		*f = append(*f, fmt.Errorf("%s: has several sources: must have one of address or udn, shelly, and topic", field))
	}
	if c.Shelly != "" {
		if err := (&wemo.Shelly{Address: c.Shelly}).Validate(); err != nil {
			f.add(field+".shelly", c.Shelly, "an IP address or a host name, with or without a port, such as 192.168.1.20")
		}
	}
	if c.Switch < 0 || c.Switch > 0 && c.Shelly == "" {
		f.add(field+".switch", c.Switch, "a number from 0, beside shelly")
	}
	if c.Topic != "" {
		f.addErr(field+".topic", acl.CheckTopic(c.Topic))
		if c.Topic == c.Live || c.Topic == c.Average || c.Topic == c.Status {
			f.add(field+".topic", c.Topic, "another topic than those that are published to")
		}
	} else if c.Pointer != "" || c.Scale != 0 {
		*f = append(*f, fmt.Errorf("%s: has pointer or scale: must have them beside topic only", field))
	}
	if c.Pointer != "" && !strings.HasPrefix(c.Pointer, "/") {
		f.add(field+".pointer", c.Pointer, "a JSON pointer such as /ENERGY/Power")
	}
	if math.IsNaN(c.Scale) || math.IsInf(c.Scale, 0) || c.Scale < 0 {
		f.add(field+".scale", c.Scale, "a number above 0")
	}
	if c.Events && (c.Shelly != "" || c.Topic != "") {
		f.add(field+".events", c.Events, "left out beside shelly and topic")
	}
	if c.Hold < 0 || c.Hold > time.Hour {
		f.add(field+".hold", c.Hold, "a duration up to 1h")
	} else if c.Events && c.Hold > 0 && c.Hold < 5*time.Second {
		f.add(field+".hold", c.Hold, "at least 5s, beside events")
	}
	if c.Window < 0 || c.Window > 24*time.Hour || c.Window%time.Second != 0 {
		f.add(field+".window", c.Window, "whole seconds, at most 24h")
	}
	if err := c.Format.Validate(); err != nil {
		f.add(field+".format", string(c.Format), "mW, W or json")
	}
	for _, t := range []struct{ field, topic string }{{field + ".live", c.Live}, {field + ".average", c.Average}, {field + ".status", c.Status}} {
		if t.topic == "" {
			f.add(t.field, "", "the topic to publish to")
		} else if err := acl.CheckTopic(t.topic); err != nil {
			f.addErr(t.field, err)
		} else if other, taken := topics[t.topic]; taken {
			f.add(t.field, t.topic, "another topic than that of "+other)
		} else {
			topics[t.topic] = t.field
		}
	}
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
				for _, name := range []string{cfg.Store.URIFile, cfg.Broker.PasswordFile} {
					if name == "" {
						continue
					}
					if _, err := readSecretFile(name); err != nil {
						return err
					}
				}
				_, err = fmt.Fprintf(c.out, "ok: %d offers, %d plugs, %d public filters\n", len(cfg.Offers), len(cfg.Plugs), len(cfg.Public))
				return err
			},
		})
}
