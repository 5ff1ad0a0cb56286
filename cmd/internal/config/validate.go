package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/iotaledger/iota.go/address"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/wemo/insight"
	"github.com/iotoll/iotoll/wemo/shelly"
)

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

// validate returns every fault of the configuration, each with its field, its
// value and what would be right, joined into one error.
func (c *Config) validate() error {
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

func (c *Store) validate(f *faults) {
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
	if err := embedded.CheckSocket(c.Embedded.Socket); err != nil {
		*f = append(*f, fmt.Errorf("store.embedded.socket: %w", err))
	}
}

// validPort reports whether a text is the number of a port, or 0.
func validPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// Loopback reports whether only this machine can connect to a host.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *Ledger) validate(f *faults, needed bool) {
	if needed && len(c.Nodes) == 0 {
		*f = append(*f, errors.New("ledger.nodes: is missing: must list the URL of at least one node, such as http://127.0.0.1:14265"))
	}
	for i, node := range c.Nodes {
		field := fmt.Sprintf("ledger.nodes[%d]", i)
		checkURL(f, field, node, "http://127.0.0.1:14265", "http", "https")
		same := func(other string) bool { return strings.TrimRight(other, "/") == strings.TrimRight(node, "/") }
		if first := slices.IndexFunc(c.Nodes, same); first < i {
			*f = append(*f, fmt.Errorf("%s: is the same as ledger.nodes[%d]: must be another node", field, first))
		}
	}
	if c.Agree < 0 || c.Agree > max(1, len(c.Nodes)) {
		f.add("ledger.agree", c.Agree, "a number from 1 to that of the nodes")
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
	case u.Hostname() == "" || !slices.Contains(schemes, u.Scheme) || u.Port() != "" && !validPort(u.Port()),
		!strings.HasPrefix(u.Scheme, "http") && strings.Trim(u.Path, "/") != "":
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

func (c *Offer) validate(f *faults, field string, public []acl.Filter) {
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

func (c *Broker) validate(f *faults, needed bool, public []acl.Filter) {
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

func (c *Metrics) validate(f *faults) {
	if c.Listen == "" {
		return
	}
	if _, port, err := net.SplitHostPort(c.Listen); err != nil || !validPort(port) {
		f.add("metrics.listen", c.Listen, "an address with a port, such as 127.0.0.1:9464")
	}
}

func (c *Plug) validate(f *faults, field string, topics map[string]string) {
	if err := (&insight.Plug{Address: c.Address}).Validate(); err != nil {
		f.add(field+".address", c.Address, "an IP address or a host name, with or without a port, such as 192.168.1.20, or left out for discovery")
	}
	if kinds := []bool{c.Address != "" || c.UDN != "", c.Shelly != "", c.Topic != ""}; len(slices.DeleteFunc(kinds, func(b bool) bool { return !b })) > 1 {
		*f = append(*f, fmt.Errorf("%s: has several sources: must have one of address or udn, shelly, and topic", field))
	}
	if c.Shelly != "" {
		if err := (&shelly.Switch{Address: c.Shelly}).Validate(); err != nil {
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
