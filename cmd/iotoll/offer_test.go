package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/iotoll/iotoll/tangle/buyer"
)

// conforms returns what a schema of the directory docs says against a document.
func conforms(t *testing.T, schema string, document []byte) error {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile(filepath.Join("../../docs", schema))
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(document)))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

// newPublishingSite is a site that publishes to a Mosquitto without our plugin.
func newPublishingSite(t *testing.T, node, more string) (s *site, port string) {
	t.Helper()
	port = startMosquitto(t)
	s = newSite(t, node, fmt.Sprintf("broker: {url: \"mqtt://127.0.0.1:%s\", username: iotoll, password_file: broker-password}\n%s", port, more))
	if err := os.WriteFile(filepath.Join(filepath.Dir(s.config), "broker-password"), []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, port
}

// retained returns the retained message of a topic, or nil.
func retained(port, topic string) []byte {
	out, err := exec.Command("mosquitto_sub", "-h", "127.0.0.1", "-p", port, "-t", topic, "--retained-only", "-C", "1", "-W", "1").Output()
	if err != nil {
		return nil
	}
	return out
}

// TestOffersTopic: serve publishes what there is to buy, and says before and after
// whether it arrives.
func TestOffersTopic(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	plug := startProcess(t, "sim", "plug", "--listen", address)
	plug.await("ready")
	s, port := newPublishingSite(t, "http://127.0.0.1:1", fmt.Sprintf("plugs:\n  - {address: %q, live: sensor/live, average: sensor/1m, hold: 1s}\n", address))
	s.edit("offers:\n", "offers:\n  - {id: else, topics: [else/#], price: 1, period: 90s, address: "+depositAddress+"}\n")
	p := startProcess(t, "--config", s.config, "serve")

	var document []byte
	var o buyer.Offers
	read := func() bool {
		document = retained(port, buyer.OffersTopic)
		var err error
		o, err = buyer.ParseOffers(document)
		return err == nil && len(o.Offers) == 2
	}
	eventually(t, "the offer to be available", func() bool { return read() && *o.Offers[1].Available })
	if err := conforms(t, "offers.schema.json", document); err != nil {
		t.Errorf("%s: %v", document, err)
	}
	if live := o.Offers[1]; live.Price != "500" || live.Amount != "500" || live.Address != depositAddress || live.Reason != "" || o.Ledger != "legacy" || o.Network != "local" {
		t.Errorf("offers: got %s", document)
	}
	var listed buyer.Offers
	if err := json.Unmarshal([]byte(s.must("", "offer", "list")), &listed); err != nil || listed.Offers[1].ID != "live" || listed.Offers[1].Available != nil {
		t.Errorf("offer list: got %+v, %v, want the same without availability", listed, err)
	}
	// The account was made, and may publish there.
	if out := s.must("", "user", "list", "--json"); !strings.Contains(out, `"iotoll/offers=w"`) {
		t.Errorf("user list: got %s, want the right to publish the offers", out)
	}

	url := "mqtt://127.0.0.1:" + port
	want := fmt.Sprintf(`else: 1 i for 1m30s, available
  topics   else/#
  pay to   %[1]s
  message  {"username":"YOUR NAME","offer":"else"}
live: 500 i for 1h, available
  topics   sensor/live
  pay to   %[1]s
  message  {"username":"YOUR NAME","offer":"live"}
free: sensor/1m
ledger: legacy, local
account: ask the seller for one
`, depositAddress)
	if got := mustRun(t, "offers", url); got != want {
		t.Errorf("offers: got\n%s\nwant\n%s", got, want)
	}
	if got := mustRun(t, "offers", url, "--json"); got != string(document) {
		t.Errorf("offers --json: got %q, want %q", got, document)
	}

	unavailable := func(why string) {
		t.Helper()
		eventually(t, why, func() bool {
			return read() && *o.Offers[1].Available == false && o.Offers[1].Reason == why
		})
		if err := conforms(t, "offers.schema.json", document); err != nil {
			t.Errorf("%s: %v", document, err)
		}
	}
	plug.end(syscall.SIGKILL)
	unavailable("sensor/live: no readings come in")
	if !*o.Offers[0].Available {
		t.Errorf("got %s, want that the plug does not matter to the other offer", document)
	}
	if got := mustRun(t, "offers", url); !strings.Contains(got, "live: 500 i for 1h, not available: sensor/live: no readings come in\n") {
		t.Errorf("offers: got\n%s", got)
	}
	p.end(syscall.SIGTERM)
	unavailable("the seller's system is switched off")
	p = startProcess(t, "--config", s.config, "serve")
	unavailable("sensor/live: there are no readings yet")
	p.end(syscall.SIGKILL)
	unavailable("the seller's system is not connected")
}

// TestOffersSchema: the schema refuses what breaks its promises.
func TestOffersSchema(t *testing.T) {
	const good = `{"v":1,"ledger":"iota","network":"testnet","free_topics":["sensor/1m"],"signup":false,"offers":[{"id":"live","topics":["sensor/live"],` +
		`"price":"0.5","unit":"IOTA","decimals":9,"amount":"500000000","period_seconds":3600,"address":"0x1","how":"{}","available":true}]}`
	if err := conforms(t, "offers.schema.json", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][2]string{{`"v":1`, `"v":2`}, {`"price":"0.5"`, `"price":0.5`}, {`"amount":"500000000"`, `"amount":"0"`}, {`,"available":true`, ``}, {`"ledger":"iota"`, `"ledger":"x"`}} {
		if err := conforms(t, "offers.schema.json", []byte(strings.Replace(good, bad[0], bad[1], 1))); err == nil {
			t.Errorf("%s in place of %s: got no error", bad[1], bad[0])
		}
	}
}

// TestOffersRefuses: whatever is on the topic of a broker, it is not believed, and
// a terminal is not told what to do.
func TestOffersRefuses(t *testing.T) {
	t.Parallel()
	port := startMosquitto(t)
	url := "mqtt://127.0.0.1:" + port
	publish := func(text string) {
		t.Helper()
		cmd := exec.Command("mosquitto_pub", "-h", "127.0.0.1", "-p", port, "-t", buyer.OffersTopic, "-q", "1", "-r", "-s")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub: %v\n%s", err, out)
		}
	}
	for _, test := range []struct{ text, want string }{
		{"on sale", "parse offers: invalid character"},
		{`{"v":2,"offers":[]}`, "parse offers: document has version 2, want 1"},
		{`{"v":1,"offers":[{"id":"live","amount":"0.5","period_seconds":1}]}`, "parse offers: offers[0]: want an id, an amount and a period above 0"},
		{`{"v":1,"offers":[{"id":"live","amount":"1","period_seconds":1e300}]}`, "parse offers: offers[0]: want an id, an amount and a period above 0"},
	} {
		publish(test.text)
		if r := iotoll(t, "", "offers", url); r.code != 1 || !strings.Contains(r.errOut, test.want) {
			t.Errorf("%s: got %+v, want %q", test.text, r, test.want)
		}
	}
	publish("{\"v\":1,\"signup\":true,\r\n\"offers\":[{\"id\":\"\\u001b[2J\",\"amount\":\"1\",\"period_seconds\":1}]}")
	if out := mustRun(t, "offers", url); strings.Contains(out, "\x1b") || !strings.Contains(out, "account: a payment can open one\n") {
		t.Errorf("offers: got %q, want no control characters", out)
	}
	if out := mustRun(t, "offers", "--json", url); strings.Count(out, "\n") != 1 || strings.Contains(out, "\r") {
		t.Errorf("offers --json: got %q, want one line", out)
	}
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"http://h"}, 2, "want mqtt://HOST:PORT"},
		{[]string{url, "--ca", "/nonexistent"}, 1, "read --ca: open /nonexistent"},
		{[]string{url, "--ca", "offers.go"}, 2, "broker CA: want certificates in PEM"},
		{[]string{"mqtt://127.0.0.1:1"}, 1, "connection refused"},
	} {
		if r := iotoll(t, "", append([]string{"offers"}, test.args...)...); r.code != test.code || !strings.Contains(r.errOut, test.want) {
			t.Errorf("offers %q: got %+v, want %d and %q", test.args, r, test.code, test.want)
		}
	}
}
