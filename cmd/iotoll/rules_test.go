package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestImports: commands know no ledger. Package ledgers constructs them.
func TestImports(t *testing.T) {
	for dir, forbidden := range map[string][]string{
		".":                  {"/tangle/legacy", "/tangle/rebased", "iotaledger/"}, // sim writes keys with tangle/wallet
		"../internal/config": {"/tangle/legacy", "/tangle/rebased", "/tangle/wallet", "iotaledger/"},
		"../internal/daemon": {"/tangle/legacy", "/tangle/rebased", "/tangle/wallet", "iotaledger/"},
	} {
		out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, dir).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range forbidden {
			if strings.Contains(string(out), f) {
				t.Errorf("%s imports %s", dir, f)
			}
		}
	}
}

// TestOneRule: a value that one part of the program refuses is refused by all, in
// the same words, before anything is started.
func TestOneRule(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		old, new string // in the configuration
		init     string // the flag of init that sets the same, or its directory
		want     string
	}{
		{"database: mosquitto", "database: 9lives", "", `database name "9lives"`},
		{"database: mosquitto", "database: a b", "", `database name "a b"`},
		{"directory: store", "directory: 'C# projects/x'", "C# projects/x", "contains one of ? #"},
		{"live: sensor/live", "live: $x", "", "does not begin with $"},
		{"live: sensor/live", "live: sensor/+", "", "without + # and NUL"},
		{"average: sensor/1m", "average: ''", "", "average topic"},
		{"window: 1m", "window: 1.5s", "", "window 1.5s"},
		{"window: 1m", "format: kW", "", "format"},
		{"topics: [sensor/live]", "topics: ['sensor/a+']", "", "+ must be a whole level"},
		{"topics: [sensor/live]", "topics: []", "", "topics: required"},
		{"id: live", "id: Live!", "", `id: "Live!"`},
		{"id: live", "id: ''", "", `id: ""`},
		{"price: 500", "price: 0", "", "price: 0"},
		{"price: 500", "price: 0.5", "", `amount "0.5"`},
		{"period: 1h", "period: 1.0000001s", "", "period: 1.0000001s"},
		{"address: " + depositAddress, "address: " + depositAddress[:81], "--address=" + depositAddress[:81], "has no checksum"},
		{"address: " + depositAddress, "address: A" + depositAddress[1:], "--address=A" + depositAddress[1:], "checksum mismatch"},
		{"http://127.0.0.1:1", "node", "--node=node", `node "node"`},
		{"http://127.0.0.1:1", "http://me:hunter2@127.0.0.1", "--node=http://me:hunter2@127.0.0.1", "contains a username"},
		{"mqtt://127.0.0.1:1", "http://127.0.0.1", "--broker=http://127.0.0.1", `broker URL "http://127.0.0.1"`},
		{"username: iotoll", "username: a/b", "", `username "a/b"`},
		{"192.168.1.20", "192.168.1", "--plug=192.168.1", `plug address "192.168.1"`},
	} {
		s := newSite(t, "http://127.0.0.1:1", `broker: {url: "mqtt://127.0.0.1:1", username: iotoll, password_file: broker-password}
plugs:
  - {address: 192.168.1.20, live: sensor/live, average: sensor/1m, window: 1m}
`)
		if err := os.WriteFile(filepath.Join(filepath.Dir(s.config), "broker-password"), []byte("hunter2"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.edit("store:\n", "store:\n  database: mosquitto\n")
		s.must("", "config", "check")
		s.edit(test.old, test.new)
		for _, command := range []string{"config check", "serve", "user list", "doctor"} {
			s.refuses(1, test.want, "", strings.Fields(command)...)
		}
		if test.init != "" {
			dir, flags := filepath.Join(t.TempDir(), "x"), []string{test.init}
			if !strings.HasPrefix(test.init, "--") {
				dir, flags = filepath.Join(filepath.Dir(dir), test.init), nil
			}
			s.refuses(1, test.want, "", append([]string{"init", dir, "--ledger", "legacy"}, flags...)...)
		}
	}
}
