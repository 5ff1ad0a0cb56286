package main

import (
	"encoding/csv"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/iotaledger/iota.go/bundle"

	"github.com/iotoll/iotoll/tangle"
	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
)

// trytes writes any bytes as wallets write ASCII: two trytes each, the lower one
// first.
func trytes(text string) string {
	const alphabet = "9ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	var b strings.Builder
	for _, c := range []byte(text) {
		b.WriteByte(alphabet[c%27])
		b.WriteByte(alphabet[c/27])
	}
	return b.String()
}

// TestBadPayments: whatever strangers write into their payments, and whatever a
// node answers, each payment is in the book with a reason that can be read, and
// the next good one is credited.
func TestBadPayments(t *testing.T) {
	t.Parallel()
	genesis, err := devlegacy.SeedGenesis(devlegacy.DemoSeed, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	node, err := devlegacy.New(devlegacy.Config{Genesis: genesis})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(node)
	t.Cleanup(server.Close) // after those that ask it have ended
	send := func(iotas uint64, message string) {
		t.Helper()
		signed, err := devlegacy.Spend{Seed: devlegacy.DemoSeed, To: bundle.Transfers{{Address: depositAddress, Value: iotas, Message: message}}}.Sign()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := node.Send(signed); err != nil {
			t.Fatal(err)
		}
	}
	confirm := func() {
		t.Helper()
		if _, err := node.Milestone(); err != nil {
			t.Fatal(err)
		}
	}

	listen := freeAddress(t)
	s := newSite(t, server.URL, fmt.Sprintf("metrics: {listen: %q}\n", listen))
	s.must("hunter2", "user", "add", "john")
	p := startProcess(t, "--config", s.config, "serve")
	p.await("deposit address is watched from now on")

	long := strings.Repeat("x", 70_000)
	bad := []struct{ message, want string }{
		{"", "there is no message"},
		{trytes("\xff\xfe\x00\x80"), "not UTF-8"},
		{trytes("{\"username\": \"j\xf6hn\"}"), "not UTF-8"},
		{"ZZZZZZ", ""},           // trytes that stand for no byte
		{trytes("john")[1:], ""}, // half of a byte
		{trytes(`{"username": "` + long[:5000] + `"}`), "bytes"},
		{trytes(`{"username": "` + long + `"}`), "bytes"},
		{trytes(strings.Repeat("[", 4000)), "not a JSON object"},
		{trytes(`{"x": ` + strings.Repeat(`{"x": `, 600)), "not JSON"},
		{trytes(`{"username": "john", "username": "eve"}`), `"username" twice`},
		{trytes(`{"username": "jo\u0000hn"}`), "NUL"},
		{trytes(`{"username": "a+b"}`), `no user "a+b"`},
		{trytes(`{"username": "#"}`), `no user "#"`},
		{trytes(`{"username": "../a/b"}`), `no user "../a/b"`},
		{trytes(`{"username": "\u001b[31m\u202ered"}`), "no user"},
		{trytes(`{"username": "=1+1"}`), `no user "=1+1"`},
		{trytes(`{"username": "john", "offer": "gold"}`), "gold"},
		{trytes(`{"username": {"$ne": ""}}`), "not a string"},
		{trytes(`{"username": "$where"}`), `no user "$where"`},
	}
	for i, b := range bad {
		send(uint64(600+i), b.message)
	}
	confirm()
	for i, b := range bad {
		held := s.await(int64(600+i), "unmatched")
		if !strings.Contains(held.Reason, b.want) {
			t.Errorf("message %.60q: held because %q, want %q in it", b.message, held.Reason, b.want)
		}
		if len(held.Message) > 3*5000 || !utf8.ValidString(held.Message) {
			t.Errorf("message %.60q: got %d bytes of it in the book, valid: %t", b.message, len(held.Message), utf8.ValidString(held.Message))
		}
		show := s.must("", "payment", "show", held.Payment)
		for _, r := range show {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("payment show of %.60q prints %q", b.message, r)
			}
		}
	}
	list := s.must("", "payment", "list")
	for _, r := range list {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("payment list prints %q", r)
		}
	}
	if n := strings.Count(list, "\n"); n != len(bad)+1 {
		t.Errorf("payment list: got %d lines, want %d", n, len(bad)+1)
	}
	rows, err := csv.NewReader(strings.NewReader(s.must("", "payment", "list", "--csv"))).ReadAll()
	if err != nil || len(rows) != len(bad)+1 {
		t.Errorf("payment list --csv: got %d rows, %v, want %d", len(rows), err, len(bad)+1)
	}
	s.must("", "doctor")

	// The node turns into a proxy's error page, as if all were well, and what
	// is paid meanwhile is credited when it is a node again.
	if err := node.Break("", devlegacy.HTML200); err != nil {
		t.Fatal(err)
	}
	send(500, trytes(`{"username": "john", "note": {"any": ["thing"]}}`))
	confirm()
	eventually(t, "serve not to be ready", func() bool {
		_, r := ready(t, "http://"+listen)
		return !r.Ready && r.Dependencies[1].Name == "ledger" && r.Dependencies[1].Error != ""
	})
	s.refuses(1, " failed", "", "doctor")
	if out := s.run("", "doctor").out; !strings.Contains(out, "FAIL  node "+server.URL+": ") {
		t.Errorf("doctor: got\n%s", out)
	}
	if err := node.Break("", ""); err != nil {
		t.Fatal(err)
	}
	if credited := s.await(500, string(tangle.Credited)); credited.User != "john" {
		t.Errorf("the good payment: got %+v", credited)
	}
	eventually(t, "serve to be ready", func() bool { code, _ := ready(t, "http://"+listen); return code == 200 })
	s.answers("permit: grant live/00000000000000000001/john", "john", "read", "sensor/live")
	if out := p.out.String(); strings.Contains(out, "panic") || strings.Contains(out, long[:5000]) {
		t.Errorf("serve printed:\n%.5000s", out)
	}
}

// TestBadCheck: no name and no topic breaks check, or is permitted anything.
func TestBadCheck(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://127.0.0.1:1", "")
	s.must("hunter2", "user", "add", "john")
	for _, name := range []string{"john/", "john\x00", "+", "#", "john+", "\xff", strings.Repeat("x", 70_000)} {
		s.answers("deny: unknown user", name, "read", "sensor/live")
	}
	for _, topic := range []string{"sensor/\x00live", "sensor/\xff", "sensor/+", strings.Repeat("x", 70_000), ""} {
		s.answers("deny: malformed", "john", "read", topic)
	}
}
