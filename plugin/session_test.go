package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
)

// Whose time ended while he was away, with messages waiting for him, comes back
// to what is free, and to what he pays for next. Mosquitto counts the messages
// that are denied then as in flight until he goes again; that is why
// our mosquitto.conf sets no limit on those.
func TestBrokerSessionComesBackAfterItsTime(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}}})
	s.user(acl.User{Name: "john"})
	shipped, err := os.ReadFile("../mosquitto.conf")
	if err != nil {
		t.Fatal(err)
	}
	b := startBroker(t, strings.NewReplacer("listener 1883", "set_tcp_nodelay true\nlistener PORT 127.0.0.1", "/usr/lib/iotoll/iotoll.so", "PLUGIN", "mongodb://%2Frun%2Fiotoll%2Fstore.sock/", s.uri).Replace(string(shipped)))
	b.waitLog("following the store")
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	for _, version := range []byte{4, 5} {
		john := connect{user: "john", pass: "secret", id: fmt.Sprint("john", version), keepSession: true, version: version}
		c := b.connect(john)
		if code := c.subscribe("sensor/#", 1); code != 1 {
			t.Fatalf("subscribe: got %#x, want 1", code)
		}
		s.grant("john", "live", "sensor/live", 0, time.Hour)
		paid := func(payload string) {
			eventually(t, "grant", func() bool {
				jane.publish("sensor/live", payload, 1, false)
				c.sync()
				return len(c.inbox) > 0
			})
			c.sync()
			for len(c.inbox) > 0 {
				c.want("sensor/live", payload)
			}
		}
		paid("first hour")
		c.disconnect()
		for i := range 30 {
			jane.publish("sensor/live", fmt.Sprint(i), 1, false)
		}
		s.revoke("john", "live")
		eventually(t, "revocation", func() bool {
			other := b.connect(connect{user: "john", pass: "secret", id: "other"})
			defer other.disconnect()
			return other.subscribe("sensor/live", 1) == 0x80
		})
		c = b.connect(john)
		c.wantNothing()
		jane.publish("sensor/1m", "free", 1, false)
		c.want("sensor/1m", "free")
		s.grant("john", "live", "sensor/live", 0, time.Hour)
		paid("second hour")
		s.revoke("john", "live")
	}
}
