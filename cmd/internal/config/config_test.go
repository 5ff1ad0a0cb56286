package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/wemo/insight"
	"github.com/iotoll/iotoll/wemo/mqtt"
	"github.com/sirupsen/logrus"
)

// iotaAddress is an address of today's network.
const iotaAddress = "0x00000000000000000000000000000000000000000000000000000000000000aa"

// depositAddress is an address with its checksum.
const depositAddress = "GAPYKDJQREFSEBRUXGXQWZCPT9KYAJIEXFU99WHRQPDNAGN9MOCCYNOOLQYNWVWXJYFHSDYZQCKNKOWBXRZEFLRZJW"

// goodConfig is a configuration in which nothing is wrong. Lines are replaced
// to break it.
const goodConfig = `store:
  database: mosquitto
  embedded: {directory: store, socket: store.sock}
ledger:
  kind: legacy
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
	if o, _ := offers.Get("live"); o.Price != 500 {
		t.Errorf("price of live: got %d, want 500", o.Price)
	}
	minimal, err := Load(writeFile(t, "iotoll.yaml", "public: [free/#]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if e := minimal.Store.Embedded; e.Directory != "/var/lib/iotoll/store" || e.Socket != "/run/iotoll/store.sock" || minimal.Store.Database != "mosquitto" || minimal.Ledger.Poll != 250*time.Millisecond {
		t.Errorf("defaults: got %+v %+v %+v", e, minimal.Store, minimal.Ledger)
	}
}

// TestConfigFaults pins the text about each fault that is found here. The test of
// "config check" has those that the values' owners find.
func TestConfigFaults(t *testing.T) {
	for _, test := range []struct{ name, old, new, want string }{
		{"empty", goodConfig, "", "the file is empty, want at least where the store is"},
		{"two documents", "store:", "---\nstore: {}\n---\nstore:", "the file contains a second YAML document, want one"},
		{"not YAML", "store:", "store: ]", `yaml: did not find expected node content`},
		{"unknown key", "price:", "prise:", "yaml: unmarshal errors:\n  line 12: field prise not found in type config.Offer"},
		{"key twice", "  poll: 250ms", "  poll: 250ms\n  poll: 1s", "yaml: unmarshal errors:\n  line 8: mapping key \"poll\" already defined at line 7"},
		{"no number", "price: 500", "price: [1]", "yaml: unmarshal errors:\n  line 12: cannot unmarshal !!seq into string"},
		{"text for a duration", "period: 1h", "period: an hour", "yaml: unmarshal errors:\n  line 13: cannot unmarshal !!str `an hour` into time.Duration"},
		{"key of an earlier release", "socket: store.sock", "listen: 127.0.0.1:27117", "yaml: unmarshal errors:\n  line 3: field listen not found in type config.Embedded"},

		{"two stores", "database: mosquitto", "uri_file: uri", "store.embedded: must be left out beside store.uri_file"},
		{"socket of the store", "store.sock", "/run/store", `store.embedded.socket: "/run/store" does not end in .sock, by which a MongoDB driver tells a socket from a host name`},
		{"kind", "kind: legacy", "kind: bitcoin", `ledger.kind: "bitcoin", want legacy or iota`},
		{"network", "kind: legacy", "network: mainnet", `ledger.network: "mainnet", want local: the legacy tangle has no public network`},
		{"no node", `["http://127.0.0.1:14265"]`, "[]", "ledger.nodes: required: at least one URL such as http://127.0.0.1:14265"},
		{"node of another scheme", "http://127.0.0.1:14265", "ftp://127.0.0.1", `ledger.nodes[0]: node "ftp://127.0.0.1": want a URL such as http://127.0.0.1:14265`},
		{"password in a URL", "http://127.0.0.1:14265", "http://me:hunter2@127.0.0.1", `ledger.nodes[0]: "http://me:xxxxx@127.0.0.1" contains a username, want a URL without`},
		{"node twice", `["http://127.0.0.1:14265"]`, `["http://127.0.0.1:14265", "http://127.0.0.1:14265/"]`, `ledger.nodes[1]: "http://127.0.0.1:14265/" duplicates nodes[0]`},
		{"poll", "poll: 250ms", "poll: 1ms", "ledger.poll: 1ms, want 50ms to 1h"},
		{"agree", "  poll: 250ms", "  agree: 2", "ledger.agree: 2, want 1 to the number of nodes, which is 1"},
		{"public filter", "[sensor/1m]", "[sensor/#/1m]", `public[0]: topic filter "sensor/#/1m": # must be the whole last level, as in a/#`},
		{"sold and given away", "public: [sensor/1m]", "public: [sensor/+]", `offers[0].topics[0]: "sensor/live" is free: the public filter "sensor/+" covers it`},
		{"public in two places", "username: iotoll,", "settings_file: broker-settings, username: iotoll,", "public: must be left out beside broker.settings_file, whose lines \"public FILTER\" take its place"},
		{"text for a number", "price: 500", "price: lots", `offers[0].price: amount "lots" is not a number, want a whole number such as 500 i`},
		{"fraction", "price: 500", "price: 0.5", `offers[0].price: amount "0.5" has 1 decimals, want at most 0`},
		{"power of ten", "price: 500", "price: 1e3", `offers[0].price: amount "1e3" is not a number, want a whole number such as 500 i`},
		{"unit of another ledger", "price: 500", "price: 500 IOTA", `offers[0].price: amount "500 IOTA": unit "IOTA" is unknown, want a whole number such as 500 i`},
		{"price of everything", "price: 500", "price: 2779530283277762", `offers[0].price: amount "2779530283277762" is out of range, want at most 2779530283277761 i`},
		{"offer twice", "offers:\n", "offers:\n  - {id: live, topics: [a], price: 1, period: 1h, address: ADDRESS}\n", `offers[1].id: "live" duplicates offers[0].id`},
		{"no broker", `url: "mqtt://127.0.0.1:1883", `, "", "broker.url: required: the broker's URL, such as mqtt://127.0.0.1:1883"},
		{"no broker password", ", password_file: broker-password", "", "broker.password_file: required: a file that holds the password of broker.username"},
		{"no broker username", "username: iotoll, ", "", "broker.username: required: the account whose password is in broker.password_file"},
		{"same status", "plugs:\n", "plugs:\n  - {live: sensor/l2, average: sensor/a2}\n", `plugs[1].status: "sensor/status" duplicates plugs[0].status`},
		{"metrics", "store:", "metrics: {listen: 127.0.0.1}\nstore:", `metrics.listen: "127.0.0.1", want an address with a port, such as 127.0.0.1:9464`},
		{"secret offers", "username: iotoll,", "offers_topic: iotoll/secret, username: iotoll,", `broker.offers_topic: "iotoll/secret", want iotoll/offers or a topic that a public filter matches: buyers read it without an account`},
		{"offers on a plug's topic", "username: iotoll,", "offers_topic: sensor/1m, username: iotoll,", `plugs[0].average: "sensor/1m" duplicates broker.offers_topic`},
		{"two sources", `{address: "192.168.1.20:49153",`, `{address: "192.168.1.20:49153", shelly: "192.168.1.21",`, "plugs[0]: address or udn belongs to another kind of source, want the keys of one kind"},
		{"switch", `{address: "192.168.1.20:49153",`, `{switch: 1,`, `plugs[0]: switch belongs to another kind of source, want the keys of one kind`},
		{"own topic", `{address: "192.168.1.20:49153",`, `{topic: sensor/live,`, `plugs[0].topic: "sensor/live" duplicates plugs[0].live`},
		{"pointer for a plug", `{address: "192.168.1.20:49153",`, `{pointer: /power,`, `plugs[0]: pointer or scale belongs to another kind of source, want the keys of one kind`},
		{"events of a Shelly", `{address: "192.168.1.20:49153",`, `{shelly: "192.168.1.21", events: true,`, `plugs[0]: events belongs to another kind of source, want the keys of one kind`},
		{"hold beside events", `{address: "192.168.1.20:49153",`, `{events: true, hold: 2s,`, `plugs[0]: hold 2s, want at most 1h, and at least 5s beside events`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(goodConfig, test.old) {
				t.Fatalf("the good configuration has no %q", test.old)
			}
			path := writeFile(t, "iotoll.yaml", strings.Replace(goodConfig, test.old, strings.Replace(test.new, "ADDRESS", depositAddress, 1), 1))
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

// TestSettingsFile: the plugin's settings say what is public.
func TestSettingsFile(t *testing.T) {
	text := strings.NewReplacer("public: [sensor/1m]\n", "", "username: iotoll,", "settings_file: broker-settings, username: iotoll,").Replace(goodConfig)
	path := writeFile(t, "iotoll.yaml", text)
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "broker.settings_file: open ") {
		t.Errorf("Load without the settings: got %v", err)
	}
	for settings, want := range map[string]string{
		"# free\npublic sensor/1m\n  public   sensor/status \nmax_age 24h\n": "sensor/1m sensor/status",
		"": "",
		"unpaid_subscribe refuse\npublic sensor/1m\n": "sensor/1m",
	} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), "broker-settings"), []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.Public, " "); got != want || len(c.PublicFilters()) != len(c.Public) {
			t.Errorf("public filters of %q: got %q, want %q", settings, got, want)
		}
		if want := strings.Contains(settings, "refuse"); c.RefuseUnpaid != want {
			t.Errorf("RefuseUnpaid of %q: got %t, want %t", settings, c.RefuseUnpaid, want)
		}
	}
}

// TestSettingsFaults: what the plugin refuses in its settings is refused here, in
// its words.
func TestSettingsFaults(t *testing.T) {
	text := strings.NewReplacer("public: [sensor/1m]\n", "", "username: iotoll,", "settings_file: broker-settings, username: iotoll,").Replace(goodConfig)
	for settings, want := range map[string]string{
		"public sensor/#/x\n":       `broker-settings, line 1: "public": topic filter "sensor/#/x"`,
		"\npublik sensor/1m\n":      `broker-settings, line 2: "publik": unknown setting`,
		"max_age 24h\nmax_age 1h\n": `broker-settings, line 2: "max_age": is given twice`,
	} {
		_, err := Parse([]byte(text), t.TempDir(), func(string) ([]byte, error) { return []byte(settings), nil })
		if err == nil || !strings.HasPrefix(err.Error(), "broker.settings_file: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("settings %q: got %v, want %s", settings, err, want)
		}
	}
}

// TestLowPrice: a price of which gas is a large part is refused unless the seller
// insists.
func TestLowPrice(t *testing.T) {
	for _, test := range []struct{ price, want string }{
		{"0.1 IOTA", ""},
		{"0.09 IOTA", "offers[0].price: 0.09 IOTA is low, want at least 0.1 IOTA: each payment costs the buyer gas as well"},
		{"0.000000001, low_price: true", ""},
		{"0, low_price: true", "offers[0].price: 0, want a whole number of base units above 0"},
	} {
		_, err := Parse([]byte("ledger: {kind: iota, network: local}\noffers:\n  - {id: live, topics: [a], period: 1h, address: \""+iotaAddress+"\", price: "+test.price+"}\n"), t.TempDir(), nil)
		if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
			t.Errorf("price %s: got %v, want %q", test.price, err, test.want)
		}
		if strings.Contains(test.want, "is low") && hint.Of(err) != "offers[].low_price: true permits it all the same" {
			t.Errorf("price %s: got the hint %q, want one that names the key", test.price, hint.Of(err))
		}
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
