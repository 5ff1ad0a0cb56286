package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/internal/mosquitto"
)

// forSale offers the topics of each filter from now on.
func (s *testStore) forSale(filters ...string) {
	s.t.Helper()
	var offers []acl.Offer
	for _, text := range filters {
		f, err := acl.ParseFilter(text)
		if err != nil {
			s.t.Fatal(err)
		}
		offers = append(offers, acl.Offer{ID: fmt.Sprint("o", len(offers)), Filters: []acl.Filter{f}})
	}
	if err := s.SetForSale(context.Background(), offers); err != nil {
		s.t.Fatal(err)
	}
}

// wantStarts publishes to a topic until a client receives it, and wantStops until it no
// longer does.
func (c *client) wantStarts(what string, publisher *client, topic string) {
	c.t.Helper()
	eventually(c.t, what, func() bool {
		publisher.publish(topic, "x", 1, false)
		return c.received() > 0
	})
}

func (c *client) wantStops(what string, publisher *client, topic string) {
	c.t.Helper()
	eventually(c.t, what, func() bool {
		publisher.publish(topic, "x", 1, false)
		return c.received() == 0
	})
}

// received empties the inbox and returns how many messages it held.
func (c *client) received() (n int) {
	c.t.Helper()
	for c.sync(); len(c.inbox) > 0; n++ {
		<-c.inbox
	}
	return n
}

// A user subscribes to what is for sale before paying. Deliveries begin with the
// payment, end with the time that it bought, and begin again when it is renewed, all on
// one connection. After the end, a new connection may subscribe too.
func TestBrokerSubscribeBeforePaying(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Write}}})
	for _, name := range []string{"exact4", "exact5", "wildcard4", "wildcard5", "off"} {
		s.user(acl.User{Name: name, Disabled: name == "off"})
	}
	s.forSale("sold/exact", "sold/rooms/+/power")
	b := startBroker(t, conf(s.uri))
	b.waitLog("following the store")
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	for _, version := range []byte{4, 5} {
		denied := map[byte]int{4: 0x80, 5: 0x87}[version]
		anyone := b.connect(connect{anonymous: true, id: fmt.Sprint("anyone", version), version: version})
		for _, filter := range []string{"sold/exact", "sold/#", "sold/rooms/+/power", "$share/g/sold/exact"} {
			if code := anyone.subscribe(filter, 0); code != denied {
				t.Errorf("an anonymous client subscribes to %s: got %#x, want %#x", filter, code, denied)
			}
		}
		for _, test := range []struct{ name, filter, topic, unpaid string }{
			{"exact", "sold/exact", "sold/exact", "sold/other"},
			{"wildcard", "sold/rooms/#", "sold/rooms/kitchen/power", "sold/rooms/kitchen/light"},
		} {
			name := fmt.Sprint(test.name, version)
			c := b.connect(connect{user: name, pass: "secret", id: name, version: version})
			for filter, want := range map[string]int{test.filter: 0, "other/#": denied, "$share/g/" + test.topic: denied, "$share/g/" + test.filter: denied} {
				if code := c.subscribe(filter, 0); code != want {
					t.Errorf("%s subscribes to %s before paying: got %#x, want %#x", name, filter, code, want)
				}
			}
			jane.publish(test.topic, "x", 1, true)
			jane.publish(test.unpaid, "x", 1, false)
			c.wantNothing()
			for _, what := range []string{"first payment", "second payment"} {
				s.grant(name, "live", test.topic, 0, time.Hour)
				c.wantStarts(name+", "+what, jane, test.topic)
				jane.publish(test.unpaid, "x", 1, false)
				c.wantNothing()
				s.revoke(name, "live")
				c.wantStops(name+", end of "+what, jane, test.topic)
			}
			again := b.connect(connect{user: name, pass: "secret", id: name + "again", version: version})
			if code := again.subscribe(test.filter, 0); code != 0 {
				t.Errorf("%s subscribes to %s on a new connection after the end: got %#x, want 0", name, test.filter, code)
			}
			again.wantNothing() // not the retained message either
			s.grant(name, "live", test.topic, 0, time.Hour)
			again.wantStarts(name+", renewed", jane, test.topic)
			c.wantStarts(name+", renewed, old connection", jane, test.topic)
		}
	}

	// What is no longer for sale is refused as before. What is paid for stays open.
	s.forSale()
	c := b.connect(connect{user: "exact4", pass: "secret", id: "later"})
	eventually(t, "nothing for sale", func() bool { return c.subscribe("sold/rooms/x/power", 0) == 0x80 })
	if code := c.subscribe("sold/exact", 0); code != 0 {
		t.Errorf("subscribe to what is paid for: got %#x, want 0", code)
	}
}

// A persistent session, made before the payment, goes on when it is renewed, without a
// new SUBSCRIBE.
func TestBrokerPersistentSessionGoesOn(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Write}}})
	s.forSale("sold/+")
	b := startBroker(t, shipped(t, s))
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	for _, version := range []byte{4, 5} {
		name := fmt.Sprint("john", version)
		s.user(acl.User{Name: name})
		john := connect{user: name, pass: "secret", id: name, keepSession: true, version: version}
		c := b.connectNew(john)
		if code := c.subscribe("sold/live", 1); code != 1 {
			t.Fatalf("%s subscribes before paying: got %#x, want 1", name, code)
		}
		s.grant(name, "live", "sold/live", 0, time.Hour)
		c.wantStarts(name+" paid", jane, "sold/live")
		c.disconnect()
		s.revoke(name, "live")
		c = b.connect(john)
		c.wantStops(name+", end", jane, "sold/live")
		s.grant(name, "live", "sold/live", 0, time.Hour)
		c.wantStarts(name+" renewed", jane, "sold/live")
	}
}

// A Mosquitto that bridges subscribes once, before the payment. It receives all that is
// paid for from then on.
func TestBrokerBridgeSubscribesBeforePaying(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Write}}})
	s.user(acl.User{Name: "john"})
	s.forSale("sold/live")
	b := startBroker(t, conf(s.uri))
	b.waitLog("following the store")
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	home := &broker{mosquitto.Start(t, fmt.Sprintf(`listener PORT 127.0.0.1
allow_anonymous true
connection jane
address 127.0.0.1:%d
remote_username john
remote_password secret
topic sold/live in 0
`, b.Port)), t}
	local := home.connect(connect{anonymous: true, id: "local"})
	if code := local.subscribe("sold/live", 0); code != 0 {
		t.Fatalf("subscribe at home: got %#x, want 0", code)
	}
	b.waitLog("sold/live (QoS 0)") // the bridge's SUBSCRIBE
	for _, what := range []string{"paid", "renewed"} {
		s.grant("john", "live", "sold/live", 0, time.Hour)
		local.wantStarts(what, jane, "sold/live")
		s.revoke("john", "live")
		local.wantStops("end of what was "+what, jane, "sold/live")
	}
}

// With unpaid_subscribe refuse, a subscription is refused until it is paid for.
func TestBrokerRefusesUnpaid(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "john"})
	s.forSale("sold/live")
	b := startBroker(t, conf(s.uri, "plugin_opt_unpaid_subscribe refuse"))
	b.waitLog("following the store")
	john := b.connect(connect{user: "john", pass: "secret", id: "john"})
	if code := john.subscribe("sold/live", 0); code != 0x80 {
		t.Errorf("subscribe before paying: got %#x, want 0x80", code)
	}
	s.grant("john", "live", "sold/live", 0, time.Hour)
	eventually(t, "grant", func() bool { return john.subscribe("sold/live", 0) == 0 })
}

// Each user reads its own account, and only whoever has a static right reads those of
// others. Everybody reads the offers, which only a write right lets publish.
func TestBrokerAccountTopics(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "iotoll", Rights: []acl.Right{{Pattern: "iotoll/account/+", Access: acl.Write}, {Pattern: "iotoll/offers", Access: acl.Write}}})
	s.user(acl.User{Name: "admin", Rights: []acl.Right{{Pattern: "#", Access: acl.Read}}})
	s.user(acl.User{Name: "john"})
	s.user(acl.User{Name: "mary"})
	s.grant("mary", "all", "#", 0, time.Hour)
	b := startBroker(t, conf(s.uri, "plugin_opt_public #"))
	b.waitLog("following the store")
	iotoll := b.connect(connect{user: "iotoll", pass: "secret", id: "iotoll", version: 5})
	for _, name := range []string{"john", "mary"} {
		if code := iotoll.publish("iotoll/account/"+name, name, 1, true); code != 0 {
			t.Errorf("iotoll publishes the account of %s: got %#x, want 0", name, code)
		}
	}
	if code := iotoll.publish("iotoll/offers", "offers", 1, true); code != 0 {
		t.Errorf("iotoll publishes offers: got %#x, want 0", code)
	}
	for _, test := range []struct {
		user, filter string
		code         int
		want         map[string]bool
	}{
		{"", "#", 0, map[string]bool{"iotoll/offers": true}},
		{"", "iotoll/account/john", 0x87, nil},
		{"", "iotoll/account/+", 0x87, nil},
		{"john", "#", 0, map[string]bool{"iotoll/offers": true, "iotoll/account/john": true}},
		{"john", "iotoll/account/+", 0, map[string]bool{"iotoll/account/john": true}},
		{"john", "iotoll/account/mary", 0x87, nil},
		{"mary", "iotoll/account/#", 0, map[string]bool{"iotoll/account/mary": true}},
		{"mary", "$share/g/iotoll/account/+", 0x87, nil},
		{"admin", "iotoll/account/+", 0, map[string]bool{"iotoll/account/john": true, "iotoll/account/mary": true}},
	} {
		c := b.connect(connect{user: test.user, pass: "secret", anonymous: test.user == "", id: "reader", version: 5})
		if code := c.subscribe(test.filter, 0); code != test.code {
			t.Errorf("%q subscribes to %s: got %#x, want %#x", test.user, test.filter, code, test.code)
		}
		got := make(map[string]bool)
		for c.sync(); len(c.inbox) > 0; {
			got[(<-c.inbox).topic] = true
		}
		if fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%q reads of %s: got %v, want %v", test.user, test.filter, got, test.want)
		}
		if test.user != "" {
			for _, topic := range []string{"iotoll/offers", "iotoll/account/" + test.user} {
				if code := c.publish(topic, "forged", 1, true); code != 0x87 {
					t.Errorf("%s publishes to %s: got %#x, want 0x87", test.user, topic, code)
				}
			}
		}
		c.disconnect()
	}
}
