package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/wemo/insight"
	"github.com/iotoll/iotoll/wemo/mqtt"
	"github.com/sirupsen/logrus"
)

// depositAddress is an address with its checksum.
const depositAddress = "GAPYKDJQREFSEBRUXGXQWZCPT9KYAJIEXFU99WHRQPDNAGN9MOCCYNOOLQYNWVWXJYFHSDYZQCKNKOWBXRZEFLRZJW"

// goodConfig is a configuration in which nothing is wrong. Lines are replaced
// to break it.
const goodConfig = `store:
  database: mosquitto
  embedded: {directory: store, socket: store.sock}
ledger:
  nodes: ["http://127.0.0.1:14265"]
  poll: 250ms
public: [sensor/1m]
offers:
  - id: live
    topics: [sensor/live]
    price: 500
    period: 1h
    address: ` + depositAddress + `
broker: {url: "mqtt://127.0.0.1:1883", username: iotoll, password_file: broker-password}
plugs:
  - {address: "192.168.1.20:49153", live: sensor/live, average: sensor/1m}
`

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	path := writeFile(t, "iotoll.yaml", goodConfig)
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Store.Embedded.Directory, filepath.Join(filepath.Dir(path), "store"); got != want {
		t.Errorf("store.embedded.directory: got %s, want it relative to the file: %s", got, want)
	}
	offers, err := c.ForSale()
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := offers.Get("live"); !ok || o.Period != time.Hour || o.Filters[0].String() != "sensor/live" {
		t.Errorf("offer live: got %+v, %t", o, ok)
	}
	if got := c.Plugs[0].Status; got != "sensor/status" {
		t.Errorf("plugs[0].status: got %q", got)
	}
	minimal, err := Load(writeFile(t, "iotoll.yaml", "public: [free/#]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if e := minimal.Store.Embedded; e.Directory != "/var/lib/iotoll/store" || e.Socket != "/run/iotoll/store.sock" || minimal.Store.Database != "mosquitto" || minimal.Ledger.Poll != 250*time.Millisecond {
		t.Errorf("defaults: got %+v %+v %+v", e, minimal.Store, minimal.Ledger)
	}
}

// TestConfigFaults pins what is said of each fault.
func TestConfigFaults(t *testing.T) {
	for _, test := range []struct{ name, old, new, want string }{
		{"empty", goodConfig, "", "is empty: must at least say where the store is"},
		{"two documents", "store:", "---\nstore: {}\n---\nstore:", "holds a second YAML document: must hold one"},
		{"not YAML", "store:", "store: ]", `is not YAML: did not find expected node content`},
		{"unknown key", "price:", "prise:", "line 11: unknown key \"prise\""},
		{"key twice", "  poll: 250ms", "  poll: 250ms\n  poll: 1s", `line 7: mapping key "poll" already defined at line 6`},
		{"text for a number", "price: 500", "price: lots", `line 11: "lots": must be a whole number of iotas`},
		{"fraction", "price: 500", "price: 0.5", `line 11: "0.5": must be a whole number of iotas`},
		{"power of ten", "price: 500", "price: 1e3", `line 11: "1e3": must be a whole number of iotas`},
		{"no number", "price: 500", "price: [1]", `line 11: "": must be a whole number of iotas`},
		{"overflow", "price: 500", "price: 9223372036854775808", `line 11: "9223372036854775808": must be a whole number of iotas`},
		{"text for a duration", "period: 1h", "period: an hour", `line 12: "an hour": must be a duration such as 250ms or 1h`},
		{"list for a mapping", "broker: {url: \"mqtt://127.0.0.1:1883\", username: iotoll, password_file: broker-password}", "broker: [x]", `line 14: must be a mapping of keys to values`},
		{"text for a list", "public: [sensor/1m]", "public: sensor/1m", `line 7: "sensor/1m": must be a list`},
		{"text for a switch", "  poll: 250ms", "  from_start: maybe", `line 6: "maybe": must be true or false`},

		{"database", "database: mosquitto", "database: a b", `store.database: "a b": must be a name of 1 to 63 letters, digits, _ and -`},
		{"two stores", "database: mosquitto", "uri_file: uri", "store.embedded: must be left out when store.uri_file says which server to use"},
		{"socket of the store", "store.sock", "/run/store", `store.embedded.socket: "/run/store" does not end in .sock, by which a MongoDB driver tells a socket from a host name`},
		{"long path of the socket", "store.sock", "/run/" + strings.Repeat("x", 98) + ".sock", `store.embedded.socket: "/run/` + strings.Repeat("x", 98) + `.sock" has 108 bytes, want at most 107: that is the limit for the path of a Unix socket`},
		{"key of an earlier release", "socket: store.sock", "listen: 127.0.0.1:27117", `line 3: unknown key "listen"`},
		{"no node", `["http://127.0.0.1:14265"]`, "[]", "ledger.nodes: is missing: must list the URL of at least one node, such as http://127.0.0.1:14265"},
		{"node without scheme", "http://127.0.0.1:14265", "127.0.0.1:14265", `ledger.nodes[0]: is not a URL: must be a URL such as http://127.0.0.1:14265`},
		{"node of another scheme", "http://127.0.0.1:14265", "ftp://127.0.0.1", `ledger.nodes[0]: "ftp://127.0.0.1": must be a URL such as http://127.0.0.1:14265`},
		{"password in a URL", "http://127.0.0.1:14265", "http://me:hunter2@127.0.0.1", `ledger.nodes[0]: "http://me:xxxxx@127.0.0.1": must be without username and password`},
		{"node twice", `["http://127.0.0.1:14265"]`, `["http://127.0.0.1:14265", "http://127.0.0.1:14265/"]`, "ledger.nodes[1]: is the same as ledger.nodes[0]: must be another node"},
		{"poll", "poll: 250ms", "poll: 1ms", "ledger.poll: 1ms: must be a duration from 50ms to 1h"},
		{"poll without unit", "poll: 250ms", "poll: 250", `line 6: "250": must be a duration such as 250ms or 1h`},
		{"public filter", "[sensor/1m]", "[sensor/#/1m]", `public[0]: topic filter "sensor/#/1m": # must be the whole last level, as in a/#`},
		{"sold and given away", "public: [sensor/1m]", "public: [sensor/+]", `offers[0].topics[0]: "sensor/live": must be something that the public filter "sensor/+" does not give away for nothing`},
		{"offer ID", "id: live", "id: Live!", `offers[0].id: "Live!": must be 1 to 64 characters of a-z, 0-9 and -`},
		{"no offer ID", "id: live", "id: ''", `offers[0].id: is missing: must be 1 to 64 characters of a-z, 0-9 and -`},
		{"offer filter", "topics: [sensor/live]", "topics: [sensor/a+]", `offers[0].topics[0]: topic filter "sensor/a+": + must be a whole level, as in a/+/b`},
		{"offer of nothing", "topics: [sensor/live]", "topics: ['']", `offers[0].topics[0]: topic filter "": is empty`},
		{"no topics", "    topics: [sensor/live]\n", "", "offers[0].topics: is missing: must list the topic filters that are for sale"},
		{"price", "price: 500", "price: 0", "offers[0].price: 0: must be a number of iotas from 1 to 2779530283277761"},
		{"price of everything", "price: 500", "price: 2779530283277762", "offers[0].price: 2779530283277762: must be a number of iotas from 1 to 2779530283277761"},
		{"period", "period: 1h", "period: 1ms", "offers[0].period: 1ms: must be a duration of at least 1s, in whole milliseconds, such as 1h"},
		{"period below milliseconds", "period: 1h", "period: 1.0000001s", "offers[0].period: 1.0000001s: must be a duration of at least 1s, in whole milliseconds, such as 1h"},
		{"no address", "address: " + depositAddress, "address: ''", "offers[0].address: is missing: must be 90 trytes (A-Z and 9), the last 9 of them the checksum"},
		{"address without checksum", depositAddress, depositAddress[:81], `offers[0].address: "` + depositAddress[:81] + `": must be 90 trytes (A-Z and 9), the last 9 of them the checksum`},
		{"mistyped address", depositAddress, "A" + depositAddress[1:], `offers[0].address: "A` + depositAddress[1:] + `": must be 90 trytes whose last 9 are the checksum of the others; a letter is mistaken`},
		{"former address", "    price: 500", "    former: [X]\n    price: 500", `offers[0].former[0]: "X": must be 90 trytes (A-Z and 9), the last 9 of them the checksum`},
		{"no broker", `url: "mqtt://127.0.0.1:1883", `, "", "broker.url: is missing: must be the broker's URL, such as mqtt://127.0.0.1:1883, since there are plugs"},
		{"broker URL", "mqtt://127.0.0.1:1883", "http://127.0.0.1", `broker.url: "http://127.0.0.1": must be a URL such as mqtt://127.0.0.1:1883`},
		{"path of a broker", "mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:1883/x", `broker.url: "mqtt://127.0.0.1:1883/x": must be a URL such as mqtt://127.0.0.1:1883`},
		{"port of a broker", "mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:18830000", `broker.url: "mqtt://127.0.0.1:18830000": must be a URL such as mqtt://127.0.0.1:1883`},
		{"broker username", "username: iotoll", "username: a/b", `broker.username: username "a/b": contains + # or /, which have a meaning in topics`},
		{"no broker password", ", password_file: broker-password", "", "broker.password_file: is missing: must be a file that holds the password of broker.username"},
		{"no broker username", "username: iotoll, ", "", "broker.username: is missing: must be the account whose password is in broker.password_file"},
		{"plug address", "192.168.1.20:49153", "192.168.1.20:x", "plugs[0].address: \"192.168.1.20:x\": must be an IP address or a host name, with or without a port, such as 192.168.1.20, or left out for discovery"},
		{"plug topic", "live: sensor/live", "live: sensor/+", `plugs[0].live: topic "sensor/+": contains + or #, which only a filter may`},
		{"same topic", "average: sensor/1m", "average: sensor/live", `plugs[0].average: "sensor/live": must be another topic than that of plugs[0].live`},
		{"same status", "plugs:\n", "plugs:\n  - {live: sensor/l2, average: sensor/a2}\n", `plugs[1].status: "sensor/status": must be another topic than that of plugs[0].status`},
		{"format", ", average:", ", format: kW, average:", `plugs[0].format: "kW": must be mW, W or json`},
		{"agree", "  poll: 250ms", "  agree: 2", "ledger.agree: 2: must be a number from 1 to that of the nodes"},
		{"metrics", "store:", "metrics: {listen: 127.0.0.1}\nstore:", `metrics.listen: "127.0.0.1": must be an address with a port, such as 127.0.0.1:9464`},
		{"offers topic", "username: iotoll,", "offers_topic: iotoll/+, username: iotoll,", `broker.offers_topic: topic "iotoll/+": contains + or #, which only a filter may`},
		{"secret offers", "username: iotoll,", "offers_topic: iotoll/offers, username: iotoll,", `broker.offers_topic: "iotoll/offers": must be a topic that a public filter opens, for buyers to read`},
		{"offers on a plug's topic", "username: iotoll,", "offers_topic: sensor/1m, username: iotoll,", `plugs[0].average: "sensor/1m": must be another topic than that of broker.offers_topic`},
		{"two sources", `{address: "192.168.1.20:49153",`, `{address: "192.168.1.20:49153", shelly: "192.168.1.21",`, "plugs[0]: has several sources: must have one of address or udn, shelly, and topic"},
		{"shelly", `{address: "192.168.1.20:49153",`, `{shelly: "a b",`, `plugs[0].shelly: "a b": must be an IP address or a host name, with or without a port, such as 192.168.1.20`},
		{"switch", `{address: "192.168.1.20:49153",`, `{switch: 1,`, `plugs[0].switch: 1: must be a number from 0, beside shelly`},
		{"source topic", `{address: "192.168.1.20:49153",`, `{topic: tele/+/SENSOR,`, `plugs[0].topic: topic "tele/+/SENSOR": contains + or #, which only a filter may`},
		{"own topic", `{address: "192.168.1.20:49153",`, `{topic: sensor/live,`, `plugs[0].topic: "sensor/live": must be another topic than those that are published to`},
		{"pointer", `{address: "192.168.1.20:49153",`, `{topic: a, pointer: power,`, `plugs[0].pointer: "power": must be a JSON pointer such as /ENERGY/Power`},
		{"pointer for a plug", `{address: "192.168.1.20:49153",`, `{pointer: /power,`, `plugs[0]: has pointer or scale: must have them beside topic only`},
		{"scale", `{address: "192.168.1.20:49153",`, `{topic: a, scale: .inf,`, `plugs[0].scale: +Inf: must be a number above 0`},
		{"hold", `{address: "192.168.1.20:49153",`, `{hold: 2h,`, `plugs[0].hold: 2h0m0s: must be a duration up to 1h`},
		{"events of a Shelly", `{address: "192.168.1.20:49153",`, `{shelly: "192.168.1.21", events: true,`, `plugs[0].events: true: must be left out beside shelly and topic`},
		{"hold beside events", `{address: "192.168.1.20:49153",`, `{events: true, hold: 2s,`, `plugs[0].hold: 2s: must be at least 5s, beside events`},
		{"window", `{address: "192.168.1.20:49153",`, `{window: 1.5s,`, `plugs[0].window: 1.5s: must be whole seconds, at most 24h`},
		{"no plug topic", ", average: sensor/1m", "", `plugs[0].average: is missing: must be the topic to publish to`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(goodConfig, test.old) {
				t.Fatalf("the good configuration has no %q", test.old)
			}
			path := writeFile(t, "iotoll.yaml", strings.Replace(goodConfig, test.old, test.new, 1))
			_, err := Load(path)
			if err == nil {
				t.Fatal("Load: no error")
			}
			if got, want := err.Error(), "configuration "+path+":\n"+test.want; got != want {
				t.Errorf("Load: got error\n%s\nwant\n%s", got, want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error holds a password")
			}
		})
	}
}

// TestConfigAllFaults: nobody likes to mend one fault only to be told of the next.
func TestConfigAllFaults(t *testing.T) {
	broken := strings.NewReplacer("price: 500", "price: -1", "poll: 250ms", "poll: 2h", "id: live", "id: LIVE").Replace(goodConfig)
	_, err := Load(writeFile(t, "iotoll.yaml", broken))
	for _, field := range []string{"offers[0].price", "ledger.poll", "offers[0].id"} {
		if err == nil || !strings.Contains(err.Error(), field+": ") {
			t.Errorf("Load: got %v, want it to name %s", err, field)
		}
	}
}

func TestSourceEvents(t *testing.T) {
	for _, events := range []bool{false, true} {
		c := Plug{Address: "192.0.2.1", Events: events}
		p, ok := c.Source(mqtt.Broker{}, logrus.New()).(*insight.Plug)
		if !ok || p.Eventing != events {
			t.Errorf("source with events: %t: got %+v", events, p)
		}
	}
}
