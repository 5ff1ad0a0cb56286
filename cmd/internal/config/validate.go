package config

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/wemo"
	"github.com/iotoll/iotoll/wemo/mqtt"
)

// faults collects what is wrong with a configuration. A value's rules belong to
// the package that uses it; here they are only assigned to a key.
type faults []error

func (f *faults) add(key, format string, args ...any) {
	*f = append(*f, fmt.Errorf("%s: %w", key, fmt.Errorf(format, args...)))
}

// addErr adds an error, or each of those that it joins, under a key.
func (f *faults) addErr(key string, err error) { f.addEach(key+": ", err) }

// addSection adds errors that begin with a key, as those of a section.
func (f *faults) addSection(section string, err error) { f.addEach(section+".", err) }

func (f *faults) addEach(prefix string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			f.addEach(prefix, err)
		}
	} else if err != nil {
		*f = append(*f, fmt.Errorf("%s%w", prefix, err))
	}
}

func (f faults) join() error { return errors.Join(f...) }

// validate returns every fault of the configuration, each with its key, joined
// into one error.
func (c *Config) validate() error {
	var f faults
	c.Store.validate(&f)
	if len(c.Offers) > 0 || c.Ledger.Nodes != nil {
		f.addSection("ledger", c.Ledger.Validate())
	}
	for i, text := range c.Public {
		_, err := acl.ParseFilter(text)
		f.addErr(fmt.Sprintf("public[%d]", i), err)
	}
	if notation, err := ledgers.Notation(c.Ledger.Kind); err == nil {
		c.validateOffers(&f, notation)
	}
	c.validateBroker(&f)
	if c.Metrics.Listen != "" {
		if _, port, err := net.SplitHostPort(c.Metrics.Listen); err != nil || !isPort(port) {
			f.add("metrics.listen", "%q, want an address with a port, such as 127.0.0.1:9464", c.Metrics.Listen)
		}
	}
	topics := make(map[string]string)
	if c.Broker.OffersTopic != "" {
		topics[c.Broker.OffersTopic] = "broker.offers_topic"
	}
	for i := range c.Plugs {
		c.validatePlug(&f, i, topics)
	}
	return f.join()
}

func (c *Store) validate(f *faults) {
	f.addErr("store.database", mongostore.CheckDatabase(c.Database))
	switch {
	case c.Embedded == nil:
	case c.URIFile != "":
		f.add("store.embedded", "must be left out beside store.uri_file")
	default:
		f.addErr("store.embedded.directory", embedded.CheckDirectory(c.Embedded.Directory))
		f.addErr("store.embedded.socket", embedded.CheckSocket(c.Embedded.Socket))
	}
}

func (c *Config) validateOffers(f *faults, notation tangle.Notation) {
	ids := make(map[string]int)
	for i := range c.Offers {
		key := fmt.Sprintf("offers[%d]", i)
		o, err := c.Offers[i].offer(notation)
		f.addSection(key, err)
		if first, twice := ids[o.ID]; twice {
			f.add(key+".id", "%q duplicates offers[%d].id", o.ID, first)
		} else {
			ids[o.ID] = i
		}
		for j, filter := range o.Filters {
			for _, free := range c.PublicFilters() {
				if free.Covers(filter) {
					f.add(fmt.Sprintf("%s.topics[%d]", key, j), "%q is free: the public filter %q covers it", filter, free)
				}
			}
		}
	}
}

func (c *Config) validateBroker(f *faults) {
	b := &c.Broker
	if b.OffersTopic != "" {
		if err := wemo.ValidateTopic(b.OffersTopic); err != nil {
			f.add("broker.offers_topic", "%q: %w", b.OffersTopic, err)
		} else if public := acl.NewSnapshot(c.PublicFilters(), 0); !public.Decide(acl.Request{Topic: b.OffersTopic, Access: acl.Read}, time.Time{}).Permit {
			f.add("broker.offers_topic", "%q, want iotoll/offers or a topic that a public filter matches: buyers read it without an account", b.OffersTopic)
		}
	}
	if b.URL != "" {
		f.addErr("broker.url", mqtt.Broker{URL: b.URL}.Validate())
	} else if len(c.Published()) > 0 {
		f.add("broker.url", "required: the broker's URL, such as mqtt://127.0.0.1:1883")
	}
	if b.Username != "" {
		f.addErr("broker.username", acl.CheckName(b.Username))
		if b.PasswordFile == "" {
			f.add("broker.password_file", "required: a file that holds the password of broker.username")
		}
	} else if b.PasswordFile != "" {
		f.add("broker.username", "required: the account whose password is in broker.password_file")
	}
	if b.SettingsFile != "" && c.inline {
		f.add("public", "must be left out beside broker.settings_file, whose lines \"public FILTER\" take its place")
	}
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// validatePlug adds what is wrong with a plug. topics maps each topic that is
// published to by what comes before to its key.
func (c *Config) validatePlug(f *faults, i int, topics map[string]string) {
	p, key := &c.Plugs[i], fmt.Sprintf("plugs[%d]", i)
	for _, other := range []struct {
		name        string
		set, beside bool
	}{
		{"address or udn", p.Address != "" || p.UDN != "", p.Shelly == "" && p.Topic == ""},
		{"events", p.Events, p.Shelly == "" && p.Topic == ""},
		{"shelly", p.Shelly != "", p.Topic == ""},
		{"switch", p.Switch != 0, p.Shelly != ""},
		{"pointer or scale", p.Pointer != "" || p.Scale != 0, p.Topic != ""},
	} {
		if other.set && !other.beside {
			f.add(key, "%s belongs to another kind of source, want the keys of one kind", other.name)
		}
	}
	poller := p.Poller(logrus.New())
	poller.Source = p.Source(mqtt.Broker{URL: "mqtt://127.0.0.1"}, logrus.New())
	if v, ok := poller.Source.(interface{ Validate() error }); ok {
		f.addErr(key, v.Validate())
	}
	f.addErr(key, poller.Validate())
	if p.Hold > time.Hour || p.Events && p.Hold > 0 && p.Hold < 5*time.Second {
		f.add(key, "hold %s, want at most 1h, and at least 5s beside events", p.Hold)
	}
	for _, t := range []struct{ key, topic string }{{key + ".live", p.Live}, {key + ".average", p.Average}, {key + ".status", p.Status}} {
		if t.topic == "" {
			continue
		} else if t.topic == p.Topic {
			f.add(key+".topic", "%q duplicates %s", p.Topic, t.key)
		} else if other, taken := topics[t.topic]; !taken {
			topics[t.topic] = t.key
		} else if !strings.HasPrefix(other, key+".") { // Poller.Validate told of its own
			f.add(t.key, "%q duplicates %s", t.topic, other)
		}
	}
}
