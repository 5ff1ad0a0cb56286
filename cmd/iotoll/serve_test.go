package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// site is a seller's directory: configuration and store.
type site struct {
	t      *testing.T
	config string
	socket string
}

// newSite writes a configuration with an offer at depositAddress and a store of
// its own. node is the URL of the ledger's node; more is further YAML.
func newSite(t *testing.T, node, more string) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, config: filepath.Join(dir, "iotoll.yaml"), socket: filepath.Join(dir, "run", "store.sock")}
	text := fmt.Sprintf(`store:
  embedded: {directory: store, socket: %q}
ledger: {nodes: ["%s"], poll: 50ms}
public: [sensor/1m]
offers:
  - {id: live, topics: [sensor/live], price: 500, period: 1h, address: %s}
%s`, s.socket, node, depositAddress, more)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// edit replaces a text in the configuration.
func (s *site) edit(old, new string) {
	s.t.Helper()
	text, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		s.t.Fatalf("the configuration has no %q", old)
	}
	if err := os.WriteFile(s.config, []byte(strings.Replace(string(text), old, new, 1)), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// run runs a command with the site's configuration and some standard input.
func (s *site) run(stdin string, args ...string) result {
	s.t.Helper()
	return iotoll(s.t, stdin, append([]string{"--config", s.config}, args...)...)
}

// must runs a command that has to succeed without a word on stderr, and returns
// its output.
func (s *site) must(stdin string, args ...string) string {
	s.t.Helper()
	r := s.run(stdin, args...)
	if r.code != 0 || r.errOut != "" {
		s.t.Fatalf("iotoll %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.errOut)
	}
	return r.out
}

// refuses runs a command that has to fail with a code and words on stderr.
func (s *site) refuses(code int, want, stdin string, args ...string) {
	s.t.Helper()
	r := s.run(stdin, args...)
	if r.code != code || !strings.Contains(r.errOut, want) {
		s.t.Errorf("iotoll %s: got exit code %d, stdout %q, stderr %q; want %d and %q", strings.Join(args, " "), r.code, r.out, r.errOut, code, want)
	}
}

// prints runs a command and compares what it prints.
func (s *site) prints(want string, args ...string) {
	s.t.Helper()
	if got := s.must("", args...); got != want {
		s.t.Errorf("iotoll %s: got\n%swant\n%s", strings.Join(args, " "), got, want)
	}
}

// answers runs check and compares its answer up to a time.
func (s *site) answers(want string, args ...string) {
	s.t.Helper()
	r := s.run("", append([]string{"check"}, args...)...)
	code := 1
	if strings.HasPrefix(want, "permit") {
		code = 0
	}
	got, rest, _ := strings.Cut(r.out, "\n")
	got, _, _ = strings.Cut(got, ", until ")
	if got != want || r.code != code || !strings.HasPrefix(rest, "public filters, from "+s.config+": sensor/1m\n") || r.errOut != "" {
		s.t.Errorf("check %s: got exit code %d, %q, stderr %q; want %d and %q", strings.Join(args, " "), r.code, r.out, r.errOut, code, want)
	}
}

// payments returns the book.
func (s *site) payments() []paymentJSON {
	s.t.Helper()
	var all []paymentJSON
	for d := json.NewDecoder(strings.NewReader(s.must("", "payment", "list", "--json"))); d.More(); {
		var p paymentJSON
		if err := d.Decode(&p); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// await waits until the book has a payment of that amount with that outcome.
func (s *site) await(amount int64, outcome string) paymentJSON {
	s.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		all := s.payments()
		for _, p := range all {
			if p.Amount == strconv.FormatInt(amount, 10) && p.Outcome == outcome && (outcome != "unmatched" || p.Reason != "") {
				return p
			}
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("no payment of %d is %s; the book: %+v", amount, outcome, all)
		}
	}
}

// TestStory is the main job on the command line: users, payments, grants and
// what is permitted, with the real store, watcher and a simulated tangle.
func TestStory(t *testing.T) {
	t.Parallel()
	node, seed := startTangle(t)
	s := newSite(t, node, "")
	pay := func(iotas, message string) {
		t.Helper()
		s.must("", "pay", "--node", node, "--seed-file", seed, "--mwm", "1", "--address", depositAddress,
			"--amount", iotas, "--message", message, "--wait")
	}

	// Before serve ever ran: the command opens the store itself.
	s.must("hunter2\n", "user", "add", "john")
	serve := startProcess(t, "--config", s.config, "serve")
	serve.await("iotoll is ready: 1 offer, 0 plugs, store at " + s.socket + "\n")
	serve.await("deposit address is watched from now on")

	s.answers("permit: public", "-", "read", "sensor/1m")
	s.answers("deny: anonymous", "", "read", "sensor/live")
	s.answers("permit: for sale", "john", "subscribe", "sensor/live")
	s.answers("deny: no right", "john", "subscribe", "sensor/other")
	s.answers("deny: anonymous", "-", "subscribe", "sensor/live")
	s.answers("permit: public", "john", "subscribe", "sensor/#")
	s.answers("deny: unknown user", "bob", "read", "sensor/live")

	// 200 grant nothing yet; a further 300 complete the price.
	pay("200", `{"username": "john"}`)
	if p := s.await(200, "underpaid"); p.User != "john" || p.Credit != "200" || p.Until != nil {
		t.Errorf("200 iotas: got %+v, want a credit of 200", p)
	}
	s.answers("deny: no right", "john", "read", "sensor/live")
	pay("300", `{"username": "john"}`)
	if p := s.await(300, "credited"); p.Until.Sub(*p.From) != time.Hour || p.Credit != "0" {
		t.Errorf("300 iotas more: got %+v, want an hour", p)
	}
	s.answers("permit: grant live/00000000000000000002/john", "john", "read", "sensor/live")
	s.answers("deny: no right", "john", "write", "sensor/live")
	pay("1250", `{"username": "john"}`)
	if p := s.await(1250, "credited"); p.Until.Sub(*p.From) != 150*time.Minute {
		t.Errorf("1,250 iotas: got %+v, want two hours and a half", p)
	}

	// For somebody who is not there yet: held, and settled when he is.
	pay("501", `{"username": "jane"}`)
	if p := s.await(501, "unmatched"); p.Reason != `there is no user "jane"` {
		t.Errorf("payment for jane: got %+v", p)
	}
	s.must("hunter3\n", "user", "add", "jane")
	s.await(501, "credited")
	s.answers("permit: grant live/00000000000000000001/jane", "jane", "read", "sensor/live")

	// For nobody: held until it is assigned, which happens once.
	s.run("", "pay", "--node", node, "--seed-file", seed, "--mwm", "1", "--address", depositAddress,
		"--amount", "502", "--message", "for my friend", "--force", "--wait")
	held := s.await(502, "unmatched")
	s.refuses(1, "there is no user of that name", "", "payment", "assign", held.Payment, "bob")
	s.refuses(1, "there is no offer of that name", "", "payment", "assign", held.Payment, "john", "gold")
	if out := s.must("", "payment", "assign", held.Payment[:10], "john"); !strings.HasPrefix(out, "john has live from ") {
		t.Errorf("payment assign: got %q", out)
	}
	s.refuses(1, "assigned to another user", "", "payment", "assign", held.Payment, "jane")
	if p := s.await(502, "credited"); p.User != "john" || p.By != operator() || p.Message != "for my friend" {
		t.Errorf("assigned payment: got %+v", p)
	}
	if out := s.must("", "payment", "show", held.Payment); !strings.Contains(out, "\nmessage      for my friend\n") {
		t.Errorf("payment show: got\n%s", out)
	}
	if n := len(strings.Split(s.must("", "payment", "list", "--user", "john", "--outcome", "credited"), "\n")); n != 5 {
		t.Errorf("payment list with filters: got %d lines, want a title, 3 payments and the end", n)
	}
	for _, test := range []struct {
		flags string
		want  int
	}{
		{"--since 1h", 5}, {"--since 0s", 0}, {"--until 1h", 0}, {"--since 2026-01-01 --until 0s", 5}, {"--until 2026-01-01T00:00:00+01:00", 0},
		{"--offer live", 5}, {"--offer gold", 0}, {"--offer live --user jane --since 24h", 1},
	} {
		if out := s.must("", append([]string{"payment", "list", "--json"}, strings.Fields(test.flags)...)...); strings.Count(out, "\n") != test.want {
			t.Errorf("payment list %s: got %d payments, want %d", test.flags, strings.Count(out, "\n"), test.want)
		}
	}
	s.refuses(2, `--since "yesterday": must be a day such as 2026-11-22, an instant`, "", "payment", "list", "--since", "yesterday")
	s.refuses(2, `--until "-1h": must be a day`, "", "payment", "list", "--until=-1h")
	if out := s.must("", "payment", "list", "--csv"); !strings.HasPrefix(out, "payment,ledger,") || strings.Count(out, "\n") != 6 {
		t.Errorf("payment list --csv: got\n%s", out)
	}

	// Held for ever: set aside, or paid back.
	pay = func(amount, message string) {
		t.Helper()
		s.must("", "pay", "--node", node, "--seed-file", seed, "--mwm", "1", "--address", depositAddress, "--amount", amount, "--message", message, "--force", "--wait")
	}
	pay("503", "nobody's")
	pay("504", "nobody's")
	aside, back := s.await(503, "unmatched"), s.await(504, "unmatched")
	s.refuses(2, `--reason "": required: why, for the book`, "", "payment", "dismiss", aside.Payment, "--reason", "")
	s.prints("dismissed payment "+aside.Payment[:12]+"\n", "payment", "dismiss", aside.Payment, "--reason", "spam")
	s.prints("refunded payment "+back.Payment[:12]+"\n", "payment", "refund", back.Payment, "--reference", "bundle X")
	if p := s.await(503, "dismissed"); p.Reason != "spam" {
		t.Errorf("dismissed payment: got %+v", p)
	}
	s.await(504, "refunded")
	s.refuses(1, "refunded", "", "payment", "assign", back.Payment, "john")
	s.must("", "payment", "assign", aside.Payment, "john")
	s.must("", "payment", "release", aside.Payment, "--reason", "wrong one")
	s.await(503, "unmatched")

	// By hand.
	if out := s.must("", "grant", "add", "jane", "live", "30m", "--reason", "the plug was away"); !strings.HasPrefix(out, "jane has live from ") {
		t.Errorf("grant add: got %q", out)
	}
	if out := s.must("", "grant", "extend", "jane", "live", "15m", "--reason", "and once more"); !strings.HasPrefix(out, "jane has live from ") {
		t.Errorf("grant extend: got %q", out)
	}
	s.refuses(2, `required flag(s) "reason" not set`, "", "grant", "extend", "jane", "live", "15m")
	s.must("", "grant", "revoke", "jane", "live", "--reason", "asked for it")
	s.answers("deny: grant ended live/00000000000000000001/jane", "jane", "read", "sensor/live")
	if out := s.must("", "grant", "restore", "jane", "live", "--reason", "a mistake"); !strings.HasPrefix(out, "jane has live from ") {
		t.Errorf("grant restore: got %q", out)
	}
	if r := s.run("", "check", "jane", "read", "sensor/live"); r.code != 0 {
		t.Errorf("check after grant restore: got %+v", r)
	}
	s.must("", "grant", "revoke", "jane", "live", "--reason", "asked for it")
	if out := s.must("", "grant", "list", "--user", "jane"); strings.Count(out, "\n") != 7 || strings.Count(out, " revoked ") != 6 {
		t.Errorf("grant list: got\n%s", out)
	}
	if out := s.must("", "grant", "list", "--live"); strings.Count(out, "\n") != 2 || !strings.Contains(out, "john  live   2   paid  live ") {
		t.Errorf("grant list --live: got\n%s", out)
	}
	for d := json.NewDecoder(strings.NewReader(s.must("", "grant", "list", "--json"))); d.More(); {
		var g grantJSON
		if err := d.Decode(&g); err != nil || g.ID == "" || g.User == "" {
			t.Fatalf("grant list --json: got %+v, %v", g, err)
		}
	}
	if out := s.must("", "audit"); strings.Count(out, "\n") != 13 || !strings.Contains(out, "grant revoke") || !strings.Contains(out, "asked for it") {
		t.Errorf("audit: got\n%s", out)
	}

	// check answers by the broker's settings.
	s.must("hunter4\n", "user", "add", "mary")
	s.answers("permit: for sale", "mary", "subscribe", "sensor/live")
	s.edit("public: [sensor/1m]\n", "broker: {settings_file: broker-settings}\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(s.config), "broker-settings"), []byte("public sensor/1m\nunpaid_subscribe refuse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.answers("deny: no right", "mary", "subscribe", "sensor/live")
}

// TestIOTAStory is the main job on the other ledger: init, serve, pay, and a doctor
// that finds the payment in the book.
func TestIOTAStory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := filepath.Join(dir, "john.key")
	lines := background(t, "", "sim", "iota", "--listen", "127.0.0.1:0", "--key-file", key)
	node := strings.TrimPrefix(lines[0], "node ")
	address := strings.TrimSpace(mustRun(t, "address", "--new", "--key-file", filepath.Join(dir, "seller.key")))
	mustRun(t, "init", filepath.Join(dir, "x"), "--address", address, "--node", node)
	s := &site{t: t, config: filepath.Join(dir, "x", "iotoll.yaml")}
	s.must("hunter2", "user", "add", "john")
	p := startProcess(t, "--config", s.config, "serve")
	p.await("deposit address is watched from now on")
	out := s.must("", "pay", "--node", node, "--key-file", key, "--address", address, "--amount", "0.75 IOTA", "--username", "john", "--offer", "live", "--wait")
	if !strings.HasPrefix(out, "sent 0.75 IOTA\npayment ") || !strings.Contains(out, "\nfinal after ") {
		t.Errorf("pay: got %q", out)
	}
	var credited paymentJSON
	eventually(t, "the payment to be credited", func() bool {
		for _, b := range s.payments() {
			credited = b
		}
		return credited.Outcome == "credited"
	})
	if credited.Amount != "0.75" || credited.Unit != "IOTA" || credited.User != "john" || credited.Final == nil || credited.Until.Sub(*credited.From) != 90*time.Minute || !strings.Contains(out, "payment "+credited.Payment+"\n") {
		t.Errorf("the book: got %+v, pay printed %s", credited, out)
	}
	doctor := func(lines ...string) {
		t.Helper()
		out := s.run("", "doctor").out
		for _, line := range lines {
			if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(out) {
				t.Errorf("doctor printed no line %q, but\n%s", line, out)
			}
		}
	}
	doctor(`ok    node `+node+`: iota-graphql-rpc .* at \d+`, `ok    ledger iota: chain [0-9a-f]{8} at \d+, \S+ ago`,
		`ok    address `+address+` holds the 0.75 IOTA that the book has`)
	held := s.must("", "balance", "--node", node, "--key-file", key)
	if !regexp.MustCompile(`^address 0x[0-9a-f]{64}\nbalance 999\.24\d* IOTA\n$`).MatchString(held) {
		t.Errorf("balance of 1000 IOTA less 0.75 and gas: got %q", held)
	}
	seller := filepath.Join(dir, "seller.key")
	if out := s.must("", "balance", "--json", "--node", node, "--key-file", seller); out != `{"ledger":"iota","address":"`+address+`","amount":"0.75","unit":"IOTA"}`+"\n" {
		t.Errorf("balance of the seller: got %q", out)
	}
	// What the owner spends is no fault.
	s.must("", "pay", "--node", node, "--key-file", seller, "--address", held[len("address "):][:66], "--amount", "0.25", "--username", "jane", "--wait")
	doctor(`ok    address ` + address + ` holds 0\.49\d* IOTA of the 0\.75 IOTA that the book has: 0\.25\d* IOTA spent or moved by the owner`)
	if out := s.must("", "offer", "list"); !strings.Contains(out, `"price":"0.5","unit":"IOTA"`) {
		t.Errorf("offer list: got %s", out)
	}
}
