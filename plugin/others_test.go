package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/internal/mosquitto"
)

// Static rights, patterns, a superuser and a disabled user, in the real broker.
func TestBrokerStaticRights(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "root", Superuser: true})
	s.user(acl.User{Name: "off", Disabled: true, Rights: []acl.Right{{Pattern: "#", Access: acl.Read}}})
	s.user(acl.User{Name: "dev", Rights: []acl.Right{
		{Pattern: "dev/%u/#", Access: acl.Write}, {Pattern: "cmd/%u", Access: acl.Read}, {Pattern: "in/%c/x", Access: acl.Read | acl.Write}, {Pattern: "mnt/a", Access: acl.Read},
	}})
	mounted := mosquitto.FreePort(t)
	b := startBroker(t, conf(s.uri, fmt.Sprintf("listener %d 127.0.0.1\nmount_point mnt/", mounted)))
	b.waitLog("following the store")
	if _, code := b.retryConnect(connect{user: "off", pass: "secret", id: "off"}); code != 5 {
		t.Errorf("connect as a disabled user: got %d, want 5", code)
	}
	root := b.connect(connect{user: "root", pass: "secret", id: "root", version: 5})
	for _, f := range []string{"#", "$SYS/#", "$share/g/x/+"} {
		if code := root.subscribe(f, 0); code != 0 {
			t.Errorf("superuser subscribes to %s: got %#x, want 0", f, code)
		}
	}
	for _, c := range []struct {
		id, topic  string
		write, sub int
	}{
		{"c1", "dev/dev/a", 0, 0x87}, {"c1", "dev/john/a", 0x87, 0x87}, {"c1", "cmd/dev", 0x87, 0}, {"c1", "in/c1/x", 0, 0}, {"c1", "in/c2/x", 0x87, 0x87},
		{"c2", "in/c2/x", 0, 0}, {"c2", "in/c1/x", 0x87, 0x87}, {"c1", "in/c1/x", 0, 0},
		{"+", "in/c1/x", 0x87, 0x87}, {"a/b", "in/a/b/x", 0x87, 0x87}, {"$SYS", "$SYS/x", 0x87, 0x87},
	} {
		dev := b.connect(connect{user: "dev", pass: "secret", id: c.id, version: 5})
		if code := dev.publish(c.topic, "x", 1, false); code != c.write {
			t.Errorf("dev as client %s publishes to %s: got %#x, want %#x", c.id, c.topic, code, c.write)
		}
		if code := dev.subscribe(c.topic, 0); code != c.sub {
			t.Errorf("dev as client %s subscribes to %s: got %#x, want %#x", c.id, c.topic, code, c.sub)
		}
		dev.disconnect()
	}
	// Behind a mount point, "a" is mnt/a.
	b.WaitListening(mounted)
	b.Port = mounted
	dev := b.connect(connect{user: "dev", pass: "secret", id: "m", version: 5})
	for topic, want := range map[string]int{"a": 0, "b": 0x87, "cmd/dev": 0x87, "mnt/a": 0x87, "../cmd/dev": 0x87} {
		if code := dev.subscribe(topic, 0); code != want {
			t.Errorf("subscribe to %s behind a mount point: got %#x, want %#x", topic, code, want)
		}
	}
}

// No unusual character opens a topic. What MQTT forbids closes the connection (-1) or is
// denied, and the broker goes on.
func TestBrokerCleverTopics(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Superuser: true})
	s.user(acl.User{Name: "all", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}, {Pattern: "+/y", Access: acl.Read | acl.Write}}})
	s.user(acl.User{Name: "some", Rights: []acl.Right{
		{Pattern: "$x/y", Access: acl.Read | acl.Write}, {Pattern: "a//b", Access: acl.Read | acl.Write}, {Pattern: "/c", Access: acl.Read | acl.Write}, {Pattern: "\u00e9", Access: acl.Read | acl.Write}, {Pattern: "own/%u", Access: acl.Read | acl.Write},
	}})
	s.written("some ", bson.A{bson.M{"filter": "own/%u", "access": "rw"}, bson.M{"filter": "%u/#", "access": "r"}})
	for _, name := range []string{"%u", "%c", "$SYS", "\u00e9"} {
		s.user(acl.User{Name: name, Rights: []acl.Right{{Pattern: "own/%u", Access: acl.Read | acl.Write}, {Pattern: "%u/#", Access: acl.Read}}})
	}
	b := startBroker(t, conf(s.uri))
	b.waitLog("following the store")
	const denied, closed = 0x87, -1
	for _, c := range []struct {
		user, topic string
		want        int // of PUBLISH and of SUBSCRIBE
	}{
		{"all", "x/y", 0}, {"all", "$x/y", denied}, {"all", "$SYS/broker/uptime", denied}, {"some", "$x/y", 0}, {"some", "$x/z", denied}, {"some", "x/y", denied},
		{"some", "a//b", 0}, {"some", "a/b", denied}, {"some", "a///b", denied}, {"some", "a//b/", denied}, {"some", "/a//b", denied},
		{"some", "/c", 0}, {"some", "c", denied}, {"some", "//c", denied}, {"some", "/C", denied}, {"some", "/c ", denied},
		{"some", "\u00e9", 0}, {"some", "e\u0301", denied}, {"some", "\u00c9", denied}, {"some", "own/some", 0}, {"some", "own/some ", denied}, {"some", "own/%u", denied}, {"some", "own/$SYS", denied},
		{"%u", "own/%u", 0}, {"%u", "own/some", denied}, {"%c", "own/%c", 0}, {"%c", "own/id", denied}, {"$SYS", "own/$SYS", 0}, {"$SYS", "$SYS/broker/uptime", denied},
		{"\u00e9", "own/\u00e9", 0}, {"\u00e9", "own/e\u0301", denied}, {"some ", "own/some ", 0}, {"some ", "own/some", denied},
		{"some", "own/some\x00", closed}, {"some", "own/\xff", closed}, {"some", "own/\xed\xa0\x80", closed}, {"some", "own/\xc0\xaf", closed}, {"some", "", closed}, {"some", "own/\U0010ffff", closed}, {"some", "own/\u200bsome", denied},
	} {
		try := func(what string, do func(*client) int) {
			client := b.connect(connect{user: c.user, pass: "secret", id: "id", version: 5})
			got := do(client)
			if got != c.want && !(c.want == closed && got == denied) {
				t.Errorf("%q %s %q: got %#x, want %#x", c.user, what, c.topic, got, c.want)
			}
			client.drop()
		}
		try("publishes to", func(client *client) int {
			client.send(0x32, append(append(str(c.topic), 0, 1, 0), 'x'))
			return code(client.ack(0x40))
		})
		if c.user == "$SYS" && c.want == denied {
			continue // he may read what his %u/# is for
		}
		try("subscribes to", func(client *client) int {
			client.send(0x82, append(append([]byte{0, 1, 0}, str(c.topic)...), 0))
			return code(client.ack(0x90))
		})
	}
}

// code returns the reason code of an MQTT 5 acknowledgement, -1 if the connection was
// closed instead.
func code(ack []byte, err error) int {
	switch {
	case err != nil || len(ack) < 2:
		return -1
	case len(ack) == 2:
		return 0
	case ack[2] != 0 && ack[2] != 0x10:
		return int(ack[2])
	case len(ack) > 3:
		return int(ack[len(ack)-1])
	}
	return 0
}

// With check_retain_source false, a retained message outlives its author's right to
// publish it.
func TestBrokerRetainedWithoutAuthor(t *testing.T) {
	t.Parallel()
	for _, asks := range []bool{true, false} {
		s := startStore(t)
		s.user(acl.User{Name: "author", Rights: []acl.Right{{Pattern: "free/#", Access: acl.Write}}})
		b := startBroker(t, fmt.Sprintf("check_retain_source %t\n", asks)+conf(s.uri))
		b.waitLog("following the store")
		b.connect(connect{user: "author", pass: "secret", id: "author"}).publish("free/a", "x", 1, true)
		retained := func() bool {
			c := b.connect(connect{anonymous: true, id: "anyone"})
			defer c.disconnect()
			c.subscribe("free/a", 0)
			c.sync()
			return len(c.inbox) == 1
		}
		if !retained() {
			t.Errorf("check_retain_source %t: retained message of one who may publish: not delivered", asks)
		}
		for _, barred := range []bool{true, false} {
			if err := s.SetDisabled(t.Context(), "author", barred); err != nil {
				t.Fatal(err)
			}
			want := !barred || !asks
			if want {
				time.Sleep(500 * time.Millisecond) // until the broker knows, or it tells nothing
			}
			eventually(t, fmt.Sprintf("check_retain_source %t, author barred %t: delivered %t", asks, barred, want), func() bool { return retained() == want })
		}
	}
}

// allow_anonymous decides about clients without a username.
func TestBrokerAnonymous(t *testing.T) {
	t.Parallel()
	for allow, want := range map[string]int{"true": 0, "false": 5} {
		b := startBroker(t, strings.Replace(conf(nowhere), "allow_anonymous true", "allow_anonymous "+allow, 1))
		if _, code := b.tryConnect(connect{anonymous: true, id: "a"}); code != want {
			t.Errorf("anonymous with allow_anonymous %s: got %d, want %d", allow, code, want)
		}
		// Mosquitto takes an empty username for none.
		if _, code := b.tryConnect(connect{user: "", pass: "x", id: "b"}); code != want {
			t.Errorf("empty username with allow_anonymous %s: got %d, want %d", allow, code, want)
		}
	}
}

// Two instances with different options run in one process.
func TestBrokerPerListenerSettings(t *testing.T) {
	t.Parallel()
	first, second := startStore(t), startStore(t)
	first.user(acl.User{Name: "john", Rights: []acl.Right{{Pattern: "a", Access: acl.Read | acl.Write}}})
	second.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "b", Access: acl.Read | acl.Write}}})
	other := mosquitto.FreePort(t)
	b := startBroker(t, "per_listener_settings true\n"+conf(first.uri)+
		fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\nplugin PLUGIN\nplugin_opt_store_uri %s\nplugin_opt_public other\n", other, second.uri)+
		"") // launch replaces PLUGIN in all of it
	john := b.connect(connect{user: "john", pass: "secret", id: "john"})
	if _, code := b.retryConnect(connect{user: "jane", pass: "secret", id: "jane"}); code != 5 {
		t.Errorf("jane at john's listener: got %d, want 5", code)
	}
	for topic, want := range map[string]int{"a": 0, "b": 0x80, "sensor/1m": 0, "other": 0x80} {
		if code := john.subscribe(topic, 0); code != want {
			t.Errorf("john subscribes to %s: got %#x, want %#x", topic, code, want)
		}
	}
	b.waitLog("following the store") // by way of a login, since 2.0.11 has no TICK here
	b.WaitListening(other)
	b.Port = other
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	for topic, want := range map[string]int{"a": 0x80, "b": 0, "sensor/1m": 0x80, "other": 0} {
		if code := jane.subscribe(topic, 0); code != want {
			t.Errorf("jane subscribes to %s: got %#x, want %#x", topic, code, want)
		}
	}
}

// dynamicSecurity returns the lines that load the dynamic-security plugin. Its only user
// is carl, who may do everything.
func dynamicSecurity(t *testing.T) string {
	t.Helper()
	dynsec := filepath.Join(t.TempDir(), "dynsec.json")
	if out, err := exec.Command("mosquitto_ctrl", "dynsec", "init", dynsec, "carl", "secret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_ctrl dynsec init: %v\n%s", err, out)
	}
	var doc map[string]any
	text, err := os.ReadFile(dynsec)
	if err == nil {
		err = json.Unmarshal(text, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	doc["defaultACLAccess"] = map[string]bool{"publishClientSend": false, "publishClientReceive": false, "subscribe": false, "unsubscribe": true}
	text, _ = json.Marshal(doc)
	if err := os.WriteFile(dynsec, text, 0o600); err != nil {
		t.Fatal(err)
	}
	so := "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so"
	if found, _ := filepath.Glob("/usr/lib/*/mosquitto_dynamic_security.so"); len(found) > 0 {
		so = found[0]
	}
	return "plugin " + so + "\nplugin_opt_config_file " + dynsec + "\n"
}

// The plugin works before and after the dynamic-security plugin, with different users.
func TestBrokerLivesWithDynamicSecurity(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "john"})
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "sensor/#", Access: acl.Write}}})
	s.grant("john", "live", "sensor/live", 0, time.Hour)
	theirs := dynamicSecurity(t)
	ours := "plugin PLUGIN\nplugin_opt_store_uri " + s.uri + "\nplugin_opt_public sensor/1m\nplugin_opt_unknown_user defer\n"
	for order, plugins := range map[string]string{"ours first": ours + theirs, "theirs first": theirs + ours} {
		b := startBroker(t, "listener PORT 127.0.0.1\nallow_anonymous true\n"+plugins)
		b.waitLog("following the store")
		for user, want := range map[string]int{"john": 0, "carl": 0, "nobody": 5} {
			if _, code := b.retryConnect(connect{user: user, pass: "secret", id: "try" + user}); code != want {
				t.Errorf("%s: connect as %s: got %d, want %d", order, user, code, want)
			}
			if _, code := b.retryConnect(connect{user: user, pass: "wrong", id: "wrong" + user}); code != 5 {
				t.Errorf("%s: connect as %s with a wrong password: got %d, want 5", order, user, code)
			}
		}
		john := b.connect(connect{user: "john", pass: "secret", id: "john"})
		carl := b.connect(connect{user: "carl", pass: "secret", id: "carl"})
		anyone := b.connect(connect{anonymous: true, id: "anyone"})
		jane := b.connect(connect{user: "jane", pass: "secret", id: "jane", version: 5})
		john.subscribe("#", 0)
		anyone.subscribe("#", 0)
		if code := carl.subscribe("other/#", 0); code != 0 {
			t.Errorf("%s: carl subscribes: got %#x, want 0", order, code)
		}
		for topic, want := range map[string]int{"sensor/live": 0, "sensor/1m": 0, "sensor/other": 0, "other/x": 0x87} {
			if code := jane.publish(topic, "x", 1, false); code != want {
				t.Errorf("%s: jane publishes to %s: got %#x, want %#x", order, topic, code, want)
			}
		}
		got := func(c *client) (topics []string) {
			for c.sync(); len(c.inbox) > 0; {
				topics = append(topics, (<-c.inbox).topic)
			}
			return topics
		}
		if g := fmt.Sprint(got(anyone)); g != "[sensor/1m]" {
			t.Errorf("%s: anyone received %s, want [sensor/1m]", order, g)
		}
		if g := got(john); len(g) != 2 {
			t.Errorf("%s: john received %v, want sensor/live and sensor/1m", order, g)
		}
		b.Stop()
	}
}

// The plugin reports its state, and repeated deliveries do not enter Go.
func TestBrokerReport(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}, {Pattern: "$SYS/#", Access: acl.Read}}})
	s.grant("jane", "live", "x", 0, time.Hour)
	b := startBroker(t, conf(s.uri))
	b.waitLog("following the store")
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	jane.subscribe("a", 0)
	for range 1000 {
		jane.publish("a", "x", 0, false)
	}
	jane.sync()
	for range 1000 {
		jane.want("a", "x")
	}
	if code := jane.subscribe("$SYS/broker/iotoll/#", 0); code != 0 {
		t.Fatalf("subscribe: got %#x, want 0", code)
	}
	b.Signal(syscall.SIGHUP) // reports at once
	got := make(map[string]string)
	for got["cache/hits"] == "" || got["panics"] == "" {
		select {
		case d := <-jane.inbox:
			got[strings.TrimPrefix(d.topic, "$SYS/broker/iotoll/")] = d.payload
		case <-time.After(5 * time.Second):
			t.Fatalf("no report in 5 s: got %v", got)
		}
	}
	t.Log(got)
	for topic, want := range map[string]string{"snapshot/users": "1", "snapshot/grants": "1", "store/state": "ok", "panics": "0", "cache/evictions": "0"} {
		if got[topic] != want {
			t.Errorf("%s: got %s, want %s", topic, got[topic], want)
		}
	}
	number := func(topic string) float64 {
		n, err := strconv.ParseFloat(got[topic], 64)
		if err != nil {
			t.Errorf("%s: got %q, want a number", topic, got[topic])
		}
		return n
	}
	if hits, misses := number("cache/hits"), number("cache/misses"); hits < 1900 || misses > 100 {
		t.Errorf("cache: got %v hits and %v misses for 2000 checks of 2 kinds", hits, misses)
	}
	if age := number("snapshot/age"); age < 0 || age > 5 {
		t.Errorf("snapshot/age: got %v s", age)
	}
	if n := number("checks/static-right"); n < 2000 {
		t.Errorf("checks/static-right: got %v, want 2000 and more", n)
	}
}
