package legacy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/iotaledger/iota.go/checksum"
)

func TestNewRefuses(t *testing.T) {
	good := Config{Nodes: []string{"http://127.0.0.1:14265"}, Addresses: []string{addressOf(t, janeSeed, 0)}}
	address := good.Addresses[0]
	slip := "A" + address[1:]
	if address[0] == 'A' {
		slip = "B" + address[1:]
	}
	// Its last trit is not zero. The checksum is that of the same with a zero.
	odd, err := checksum.AddChecksum(strings.Repeat("A", 80)+"D", true, 9)
	if err != nil {
		t.Fatal(err)
	}
	odd = odd[:80] + "M" + odd[81:]
	for _, test := range []struct {
		make func(*Config)
		want string
	}{
		{func(c *Config) { c.Nodes = nil }, "nodes: required"},
		{func(c *Config) { c.Nodes = []string{"127.0.0.1:14265"} }, "want a URL"},
		{func(c *Config) { c.Nodes = []string{"ftp://host"} }, "want a URL"},
		{func(c *Config) { c.Nodes = []string{"http://"} }, "want a URL"},
		{func(c *Config) { c.Nodes = []string{"http://a", "http://a"} }, "duplicates nodes[0]"},
		{func(c *Config) { c.Nodes = []string{"http://a", "http://a/"} }, "duplicates nodes[0]"},
		{func(c *Config) { c.Addresses = nil }, "addresses are missing"},
		{func(c *Config) { c.Addresses = []string{address[:81]} }, "has no checksum"},
		{func(c *Config) { c.Addresses = []string{slip} }, "checksum"},
		{func(c *Config) { c.Addresses = []string{odd} }, "checksum"}, // nobody can spend from it
		{func(c *Config) { c.Addresses = []string{strings.ToLower(address)} }, "other characters"},
		{func(c *Config) { c.Addresses = []string{address[:89]} }, "89 characters"},
		{func(c *Config) { c.Addresses = []string{address[:89] + "é"} }, "91 characters"},
		{func(c *Config) { c.Addresses = []string{""} }, "0 characters"},
		{func(c *Config) { c.Addresses = []string{address, address} }, "given twice"},
		{func(c *Config) { c.Agree = 2 }, "agree: 2"},
		{func(c *Config) { c.Agree = -1 }, "agree: -1"},
		{func(c *Config) { c.Timeout = -1 }, "timeout"},
	} {
		c := good
		c.Log = new(world).quiet()
		test.make(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want an error with %q", err, test.want)
		}
	}
	if _, err := New(good); err == nil {
		t.Error("without a log: got no error")
	}
}

// TestSecrets: a password in a node's URL shows nowhere.
func TestSecrets(t *testing.T) {
	w := newWorld(t)
	url := strings.Replace(w.node.URL, "http://", "http://jane:sesame@", 1)
	l := w.read(Config{Nodes: []string{url}, Addresses: []string{w.jane}})
	w.node.Close()
	_, _, err := confirmed(l, t.Context())
	if err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("got error %v", err)
	}
	for _, e := range w.log.AllEntries() {
		if line, _ := e.String(); strings.Contains(line, "sesame") {
			t.Errorf("logged %s", line)
		}
	}
	if h := l.Health()[0]; strings.Contains(h.Node+fmt.Sprint(h.Err), "sesame") {
		t.Errorf("Health: got %+v", h)
	}
	for _, bad := range []string{"http://jane:sesame@", "jane:sesame@host", "http://jane:sesame@ho st/"} {
		if _, err := New(Config{Nodes: []string{bad}, Addresses: []string{w.jane}, Log: w.quiet()}); err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("New(%q): got %v", bad, err)
		}
	}
}
