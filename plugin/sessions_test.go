package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/password"
)

// otherHash returns the stored hash of another password.
func otherHash(t *testing.T, pass string) string {
	t.Helper()
	h, err := password.Hash(pass)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (c *client) wantClosed(what string) {
	c.t.Helper()
	select {
	case <-c.closed:
	case <-time.After(5 * time.Second):
		c.t.Errorf("%s: still connected", what)
	}
}

func (c *client) wantOpen(what string) {
	c.t.Helper()
	select {
	case <-c.closed:
		c.t.Errorf("%s: connection closed", what)
	default:
		c.sync()
	}
}

// connectNew connects as a user who was just added.
func (b *broker) connectNew(o connect) (c *client) {
	b.t.Helper()
	eventually(b.t, "login as "+o.user, func() bool {
		var code int
		c, code = b.tryConnect(o)
		return code == 0
	})
	return c
}

// A new password, disabling and removing end a user's connections. A change of
// rights does not.
func TestBrokerEndsSessions(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}}})
	b := startBroker(t, conf(s.uri))
	b.waitLog("following the store")
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	for what, end := range map[string]func(string) error{
		"new password": func(name string) error { return s.SetPassword(t.Context(), name, otherHash(t, "other")) },
		"disabled":     func(name string) error { return s.SetDisabled(t.Context(), name, true) },
		"removed":      func(name string) error { return s.RemoveUser(t.Context(), name) },
	} {
		name := strings.ReplaceAll(what, " ", "-")
		s.user(acl.User{Name: name})
		clients := []*client{
			b.connectNew(connect{user: name, pass: "secret", id: name}),
			b.connect(connect{user: name, pass: "secret", id: name + "5", version: 5}),
			b.connect(connect{user: name, pass: "secret", id: name + "keep", keepSession: true, will: name + "/will", willMsg: "x"}),
		}
		// A grant changes what the user may do, and no connection.
		for _, c := range clients {
			c.subscribe("free/x", 1)
		}
		s.grant(name, "live", "live/"+name, 0, time.Hour)
		eventually(t, "grant", func() bool { return clients[0].subscribe("live/"+name, 0) == 0 })
		for _, c := range clients {
			c.wantOpen(what + ", before")
		}
		if err := end(name); err != nil {
			t.Fatal(err)
		}
		changed := time.Now()
		for _, c := range clients {
			c.wantClosed(what)
		}
		if took := time.Since(changed); took > 2*time.Second {
			t.Errorf("%s: connections closed after %v, want at most 2 s", what, took)
		}
		if _, code := b.tryConnect(connect{user: name, pass: "secret", id: name}); code != 5 && code != -1 {
			t.Errorf("%s: login with the old password: got %d, want it refused", what, code)
		}
		if what == "new password" {
			b.connect(connect{user: name, pass: "other", id: name})
		}
	}
	jane.wantOpen("another user")
}

// Logins with the old password that are in progress while it changes do not slip in.
func TestBrokerEndsSessionsOfLoginsInProgress(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	const n = 4
	for i := range n {
		s.user(acl.User{Name: fmt.Sprint("u", i)})
	}
	other := otherHash(t, "other")
	b := startBroker(t, conf(s.uri))
	b.waitLog("following the store")
	var wg sync.WaitGroup
	for i := range n {
		name := fmt.Sprint("u", i)
		changed := make(chan struct{})
		wg.Go(func() {
			var clients []*client
			for k := 0; ; k++ {
				c, code := b.tryConnect(connect{user: name, pass: "secret", id: fmt.Sprint(name, "-", k)})
				if code == 0 {
					clients = append(clients, c)
				}
				select {
				case <-changed:
				default:
					if k == 20 {
						go func() {
							defer close(changed)
							if err := s.SetPassword(context.Background(), name, other); err != nil {
								t.Error(err)
							}
						}()
					}
					continue
				}
				if code == 5 {
					break
				}
			}
			for _, c := range clients {
				c.wantClosed(name + " with the old password")
			}
		})
	}
	wg.Wait()
}

// A client that starts before the store gets in by itself once the store is there,
// in the same process.
func TestBrokerClientWaitsForTheStore(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}}})
	s.user(acl.User{Name: "john"})
	s.grant("john", "live", "sensor/live", 0, time.Hour)
	s.stop()
	b := startBroker(t, conf(s.uri))
	type run struct {
		out  bytes.Buffer
		done chan error
	}
	runs := make(map[string]*run)
	for _, version := range []string{"mqttv311", "mqttv5"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		sub := exec.CommandContext(ctx, "mosquitto_sub", "-V", version, "-p", fmt.Sprint(b.Port), "-u", "john", "-P", "secret", "-t", "sensor/live", "-C", "1", "-q", "1")
		r := &run{done: make(chan error, 1)}
		sub.Stdout, sub.Stderr = &r.out, &r.out
		if err := sub.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { r.done <- sub.Wait() }()
		runs[version] = r
	}
	b.waitLog("cannot follow the store")
	time.Sleep(time.Second) // long enough for a refused client to give up
	for version, r := range runs {
		select {
		case err := <-r.done:
			t.Fatalf("%s: mosquitto_sub gave up while the store was away: %v\n%s", version, err, &r.out)
		default:
		}
	}
	s.start()
	b.waitLog("following the store")
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	for version, r := range runs {
		for done := false; !done; {
			jane.publish("sensor/live", "reading", 1, false)
			select {
			case err := <-r.done:
				if done = true; err != nil || !strings.HasSuffix(strings.TrimSpace(r.out.String()), "reading") {
					t.Errorf("%s: mosquitto_sub ended with %v, want it to receive a reading:\n%s", version, err, &r.out)
				}
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// Nine anonymous clients ask to share sensor/+, of which they may read one topic. A
// payer in that group receives everything.
func TestBrokerAnonymousMembersStarveNobody(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Write}}})
	s.user(acl.User{Name: "john"})
	s.grant("john", "all", "sensor/#", 0, time.Hour)
	b := startBroker(t, conf(s.uri))
	b.waitLog("following the store")
	for i := range 9 {
		c := b.connect(connect{anonymous: true, id: fmt.Sprint("anonymous", i)})
		if code := c.subscribe("$share/g/sensor/+", 0); code != 0x80 {
			t.Errorf("anonymous client subscribes to $share/g/sensor/+: got %#x, want 0x80", code)
		}
	}
	john := b.connect(connect{user: "john", pass: "secret", id: "john"})
	if code := john.subscribe("$share/g/sensor/+", 1); code != 1 {
		t.Fatalf("john subscribes to $share/g/sensor/+: got %#x, want 1", code)
	}
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	for i := range 12 {
		jane.publish("sensor/live", fmt.Sprint(i), 1, false)
	}
	for i := range 12 {
		john.want("sensor/live", fmt.Sprint(i))
	}
}

// Two payers share a subscription. Once the time of one is over, the other receives every
// message, for every kind of session that the first one may have.
func TestBrokerEndedMemberStarvesNobody(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}}})
	b := startBroker(t, conf(s.uri, "max_queued_messages 100000"))
	b.waitLog("following the store")
	for name, c := range map[string]struct {
		connect
		offline, takenOver, revoked bool
	}{
		"v3":           {connect: connect{version: 4}},
		"v5":           {connect: connect{version: 5}},
		"persistent":   {connect: connect{version: 4, keepSession: true}},
		"persistent5":  {connect: connect{version: 5, keepSession: true}},
		"offline":      {connect: connect{version: 4, keepSession: true}, offline: true},
		"offline5":     {connect: connect{version: 5, keepSession: true}, offline: true},
		"taken-over":   {connect: connect{version: 4, keepSession: true}, takenOver: true},
		"revoked":      {connect: connect{version: 4}, revoked: true},
		"offline-gone": {connect: connect{version: 4}, offline: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &broker{b.Broker, t}
			short, long, topic := "short-"+name, "long-"+name, name+"/live"
			s.user(acl.User{Name: short})
			s.user(acl.User{Name: long})
			s.grant(short, "live", name+"/#", 0, 3*time.Second)
			s.grant(long, "live", name+"/#", 0, time.Hour)
			end := s.account(short, "live").NotAfter
			jane := b.connect(connect{user: "jane", pass: "secret", id: "jane-" + name})
			other := b.connectNew(connect{user: long, pass: "secret", id: long})
			o := c.connect
			o.user, o.pass, o.id = short, "secret", short
			member := b.connectNew(o)
			for _, x := range []*client{member, other} {
				eventually(t, "grant", func() bool { return x.subscribe("$share/g/"+name+"/+", 1) == 1 })
			}
			for i := range 20 {
				jane.publish(topic, fmt.Sprint("both", i), 1, false)
			}
			member.sync()
			other.sync()
			if a, b := len(member.inbox), len(other.inbox); a != 10 || b != 10 {
				t.Errorf("before the end: got %d and %d messages, want 10 each", a, b)
			}
			switch {
			case c.offline:
				member.disconnect()
			case c.takenOver:
				b.connect(connect{anonymous: true, id: short, keepSession: true})
				end = time.Now().Add(200 * time.Millisecond) // at once
			case c.revoked:
				s.revoke(short, "live")
				member.wantClosed("revoked member")
				end = time.Now()
			}
			time.Sleep(time.Until(end))
			// Two members take turns. Three messages in a row for one of them mean that
			// the other has gone.
			swallowed, inRow := 0, 0
			for inRow < 3 && time.Since(end) < 5*time.Second {
				for len(other.inbox) > 0 {
					<-other.inbox
				}
				jane.publish(topic, "probe", 1, false)
				if other.sync(); len(other.inbox) > 0 {
					inRow++
				} else {
					swallowed, inRow = swallowed+1, 0
				}
			}
			took := time.Since(end)
			t.Logf("%d messages were lost before the other member was alone, %v after the end", swallowed, took)
			if took > 2*time.Second {
				t.Errorf("the ended member was removed %v after its end, want at most 2 s", took)
			}
			for len(other.inbox) > 0 {
				<-other.inbox
			}
			for i := range 30 {
				jane.publish(topic, fmt.Sprint("one", i), 1, false)
				if other.want(topic, fmt.Sprint("one", i)); t.Failed() {
					return
				}
			}
			other.wantOpen("the other member")
			if !c.offline {
				member.wantClosed("the member whose time has ended")
			}
			// Who pays again may share again.
			s.grant(short, "live", name+"/#", 0, time.Hour)
			member = b.connect(connect{user: short, pass: "secret", id: short})
			eventually(t, "second grant", func() bool { return member.subscribe("$share/g/"+name+"/+", 1) == 1 })
		})
	}
}

// shipped returns our mosquitto.conf for a test.
func shipped(t *testing.T, s *testStore, more ...string) string {
	t.Helper()
	text, err := os.ReadFile("../mosquitto.conf")
	if err != nil {
		t.Fatal(err)
	}
	settings, err := os.ReadFile("../cmd/iotoll/init_broker-settings") // what init writes
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "broker-settings")
	if err := os.WriteFile(file, settings, 0o600); err != nil {
		t.Fatal(err)
	}
	conf := strings.NewReplacer("listener 1883", "set_tcp_nodelay true\nlistener PORT 127.0.0.1", "/usr/lib/iotoll/iotoll.so", "PLUGIN",
		"mongodb://%2Frun%2Fiotoll%2Fstore.sock/", s.uri, "/etc/iotoll/broker-settings", file).Replace(string(text))
	return conf + strings.Join(more, "\n") + "\npersistence_location " + t.TempDir() + "/\n"
}

// A retained average survives a restart of the broker.
func TestBrokerKeepsRetainedMessages(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "sensor/#", Access: acl.Write}}})
	b := startBroker(t, shipped(t, s))
	b.waitLog("following the store")
	b.connect(connect{user: "jane", pass: "secret", id: "jane"}).publish("sensor/1m", "230", 1, true)
	b.Stop()
	b.Restart()
	eventually(t, "retained message", func() bool {
		c := b.connect(connect{anonymous: true, id: "anyone"})
		defer c.disconnect()
		c.subscribe("sensor/1m", 0)
		c.sync()
		return len(c.inbox) == 1
	})
}

// A buyer's time ended while he was away and messages waited for him, as many as
// mosquitto.conf allows. He comes back to what is free, and to what he pays for next.
// Mosquitto counts the denied messages as in flight until he reconnects, so that with a
// low max_inflight_messages nothing more would reach him.
func TestBrokerSessionComesBackAfterItsTime(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}}})
	s.user(acl.User{Name: "john"})
	b := startBroker(t, shipped(t, s))
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
		for i := range 1100 {
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
		for range 1100 { // more than may be in flight besides those
			if paid("second hour"); t.Failed() {
				return
			}
		}
		s.revoke("john", "live")
	}
}

// A client without an account cannot fill the broker's memory by not reading, nor by
// not acknowledging, what it has subscribed to.
func TestBrokerMemoryIsBounded(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "sensor/#", Access: acl.Read | acl.Write}}})
	const size, length = 1000, 20_000
	// grown returns by how many KiB the broker grows.
	grown := func(conf string) int {
		b := startBroker(t, conf)
		b.waitLog("following the store")
		jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
		deaf := b.connect(connect{anonymous: true, id: "deaf"})
		mute := b.connect(connect{anonymous: true, id: "mute"})
		if a, b := deaf.subscribe("sensor/1m", 0), mute.subscribe("sensor/1m", 1); a != 0 || b != 1 {
			t.Fatalf("subscribe: got %#x and %#x, want 0 and 1", a, b)
		}
		deaf.deaf.Store(true)
		mute.mute.Store(true)
		before := b.rss()
		for range length {
			jane.publish("sensor/1m", strings.Repeat("x", size), 1, false)
		}
		after := b.rss()
		b.Stop()
		return after - before
	}
	quiet := "log_type information"
	bounded := grown(shipped(t, s, quiet))
	unlimited := grown(strings.Replace(shipped(t, s, quiet), "max_inflight_messages 2000", "max_inflight_messages 0", 1))
	t.Logf("%d messages of %d bytes for 2 clients: the broker grows by %d KiB, without a limit by %d KiB", length, size, bounded, unlimited)
	if bounded > 14<<10 {
		t.Errorf("the broker grew by %d KiB, want at most 14 MiB", bounded)
	}
	if unlimited < 20<<10 {
		t.Errorf("without a limit it grew by %d KiB: this test proves nothing", unlimited)
	}
}
