package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/cmd/internal/secret"
)

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "iotoll")
	out := mustRun(t, "init", dir, "--ledger", "legacy", "--address", depositAddress, "--plug", "192.168.1.20")
	if !strings.Contains(out, "next: iotoll serve --config "+dir+"/iotoll.yaml") {
		t.Errorf("init: got %q, want it to say what comes next", out)
	}
	c, err := config.Load(filepath.Join(dir, "iotoll.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Ledger.Kind != ledgers.Legacy || len(c.Offers) != 1 || c.Offers[0].Address != depositAddress || c.Plugs[0].Address != "192.168.1.20" {
		t.Errorf("configuration: got offers %+v and plugs %+v", c.Offers, c.Plugs)
	}
	if got := strings.Join(c.Public, " "); got != "sensor/1m sensor/status" {
		t.Errorf("public filters: got %q", got)
	}
	broker, err := os.ReadFile(filepath.Join(dir, "mosquitto.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "\nplugin_opt_settings_file " + c.Broker.SettingsFile + "\n"; !strings.Contains(string(broker), want) {
		t.Errorf("mosquitto.conf has no %q", want)
	}
	if want := "\nplugin_opt_store_uri " + embedded.URI(c.Store.Embedded.Socket) + "\n"; !strings.Contains(string(broker), want) {
		t.Errorf("mosquitto.conf has no %q", want)
	}

	// Mosquitto gives up being root, and could then not open root's store.
	if got, want := strings.Contains(string(broker), "\nuser root\n"), os.Getuid() == 0; got != want {
		t.Errorf("mosquitto.conf keeps the broker root: got %t, want %t", got, want)
	}

	// Nor does it differ in anything else from the one that is there to be copied.
	copied, err := os.ReadFile("../../mosquitto.conf")
	if err != nil {
		t.Fatal(err)
	}
	directives := func(conf []byte) (lines []string) {
		for line := range strings.Lines(string(conf)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' && line != "user root" && !strings.Contains(line, " /") && !strings.HasPrefix(line, "plugin_opt_store_uri ") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	if got, want := directives(broker), directives(copied); !slices.Equal(got, want) {
		t.Errorf("mosquitto.conf: got %q, want %q as in the one that is there to be copied", got, want)
	}

	path := filepath.Join(dir, "broker-password")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("%s: got mode %v, want 0600", path, info.Mode())
	}
	first, err := secret.ReadFile(path)
	if err != nil || len(first.Reveal()) < 20 {
		t.Errorf("password: got %d characters, %v, want at least 20", len(first.Reveal()), err)
	}
	if h, err := password.Hash(first.Reveal()); err != nil || !password.Cheap(h) {
		t.Errorf("password: got one with a slow hash (%v), want one that iotoll recognises as random", err)
	}
	if strings.Contains(out, first.Reveal()) {
		t.Error("init printed the password")
	}

	// Again: nothing is overwritten. Elsewhere: another password.
	if r := iotoll(t, "", "init", dir); r.code != 1 || !strings.Contains(r.errOut, "is not empty, want a new or an empty directory") {
		t.Errorf("second init: got %+v, want a refusal", r)
	}
	empty := t.TempDir()
	mustRun(t, "init", empty)
	second, err := secret.ReadFile(filepath.Join(empty, "broker-password"))
	if err != nil || second == first {
		t.Errorf("two calls wrote the same password, or none: %v", err)
	}
	if _, err := config.Load(filepath.Join(empty, "iotoll.yaml")); err != nil {
		t.Errorf("without an address: %v", err)
	}
}

// TestInitLedger: a new configuration is for today's network unless it says
// otherwise.
func TestInitLedger(t *testing.T) {
	for _, test := range []struct{ flags, kind, network, node, address, price string }{
		{"", ledgers.IOTA, "local", "http://127.0.0.1:9125", iotaAddress, "0.5 IOTA"},
		{"--network mainnet", ledgers.IOTA, "mainnet", "https://graphql.mainnet.iota.cafe", iotaAddress, "0.5 IOTA"},
		{"--ledger legacy", ledgers.Legacy, "local", "http://127.0.0.1:14265", depositAddress, "500 i"},
	} {
		dir := filepath.Join(t.TempDir(), "x")
		mustRun(t, append([]string{"init", dir, "--address", test.address}, strings.Fields(test.flags)...)...)
		c, err := config.Load(filepath.Join(dir, "iotoll.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if l := c.Ledger; l.Kind != test.kind || l.Network != test.network || l.Nodes[0] != test.node || c.Offers[0].Price != test.price {
			t.Errorf("init %s: got %+v and the price %s, want %+v", test.flags, l, c.Offers[0].Price, test)
		}
	}
}

// TestInitSaysWhereMosquittoIs: an ordinary user of Debian does not find it by its
// name.
func TestInitSaysWhereMosquittoIs(t *testing.T) {
	t.Setenv("PATH", "/nonexistent")
	dir := filepath.Join(t.TempDir(), "x")
	if out, want := mustRun(t, "init", dir), "\n      /usr/sbin/mosquitto -c "+dir+"/mosquitto.conf\n"; !strings.Contains(out, want) {
		t.Errorf("init: got %q, want %q in it", out, want)
	}
}

// TestInitExamples: what stands in comments can be used by taking away the #.
func TestInitExamples(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	mustRun(t, "init", dir, "--address", iotaAddress)
	path := filepath.Join(dir, "iotoll.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	uncommented := string(text)
	for _, u := range []struct{ old, new string }{
		{"  # offers_topic: iotoll/offers", "  offers_topic: iotoll/offers"},
		{"    # events: true", "    events: true"},
		{"#  - shelly: 192.168.1.30", "  - live: kettle/live\n    average: kettle/1m\n    shelly: 192.168.1.30"},
		{"#  - topic: tele/kitchen/SENSOR", "  - live: kitchen/live\n    average: kitchen/1m\n    topic: tele/kitchen/SENSOR"},
		{"#    pointer: /ENERGY/Power", "    pointer: /ENERGY/Power"},
		{"#    scale: 1000", "    scale: 1000"},
		{"#    hold: 15s", "    hold: 15s"},
		{"# metrics: {", "metrics: {"},
	} {
		if !strings.Contains(uncommented, u.old) {
			t.Errorf("init: %q is not in\n%s", u.old, text)
		}
		uncommented = strings.Replace(uncommented, u.old, u.new, 1)
	}
	if err := os.WriteFile(path, []byte(uncommented), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Plugs) != 3 || !c.Plugs[0].Events || c.Plugs[1].Shelly == "" || c.Plugs[2].Hold != 15*time.Second || c.Metrics.Listen == "" || c.Broker.OffersTopic == "" {
		t.Errorf("configuration: got %+v", c)
	}
}

// TestInitRefuses: whatever goes wrong, nothing is left behind.
func TestInitRefuses(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--address", "X"}, `offers[0].address: address "X"`},
		{[]string{"--address", depositAddress}, "\nhint: the address is one of another ledger: --ledger legacy\n"},
		{[]string{"--ledger", "legacy", "--address", iotaAddress}, "\nhint: the address is one of another ledger: --ledger iota\n"},
		{[]string{"--ledger", "legacy", "--address", "X"}, `offers[0].address: address "X" has 1 characters`},
		{[]string{"--node", "node"}, `ledger.nodes[0]: node "node": want a URL such as`},
		{[]string{"--ledger", "legacy", "--node", "node"}, `ledger.nodes[0]: node "node": want a URL such as`},
		{[]string{"--plug", "192.168.1"}, `plugs[0]: plug address "192.168.1": want an IP address`},
		{[]string{"--node", "http://x\"\nstore: {}"}, `ledger.nodes[0]: node "http://x\"\nstore: {}": want a URL`},
		{[]string{"--store-uri-file", "/nonexistent"}, "--store-uri-file: open /nonexistent: no such file"},
		{[]string{"--store-uri-file", writeFile(t, "uri", "postgres://127.0.0.1/")}, "--store-uri-file: store URI is not usable"},
	} {
		parent := t.TempDir()
		r := iotoll(t, "", append([]string{"init", filepath.Join(parent, "x")}, test.args...)...)
		if r.code != 1 || !strings.Contains(r.errOut, test.want) {
			t.Errorf("init %q: got %+v, want exit code 1 and %s", test.args, r, test.want)
		}
		if left, _ := os.ReadDir(parent); len(left) > 0 {
			t.Errorf("init %q left %v", test.args, left)
		}
	}
}

// TestInitBrokerPort: the broker listens where the readings are published to.
func TestInitBrokerPort(t *testing.T) {
	for url, want := range map[string]string{"": "1883", "mqtt://127.0.0.1:1884": "1884", "mqtt://mosquitto": "1883"} {
		dir := filepath.Join(t.TempDir(), "x")
		args := []string{"init", dir}
		if url != "" {
			args = append(args, "--broker", url)
		}
		mustRun(t, args...)
		conf, err := os.ReadFile(filepath.Join(dir, "mosquitto.conf"))
		if err != nil || !strings.Contains(string(conf), "\nlistener "+want+"\n") {
			t.Errorf("init --broker %q: got %v and\n%s\nwant listener %s", url, err, conf, want)
		}
	}
}
