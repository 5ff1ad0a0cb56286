package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// iotaAddress is an address of today's network.
const iotaAddress = "0x00000000000000000000000000000000000000000000000000000000000000aa"

// depositAddress is one of the legacy tangle, with its checksum.
const depositAddress = "GAPYKDJQREFSEBRUXGXQWZCPT9KYAJIEXFU99WHRQPDNAGN9MOCCYNOOLQYNWVWXJYFHSDYZQCKNKOWBXRZEFLRZJW"

func TestConfigMissing(t *testing.T) {
	t.Setenv("IOTOLL_CONFIG", "/nonexistent/iotoll.yaml")
	r := iotoll(t, "", "config", "check")
	want := `iotoll: read configuration: open /nonexistent/iotoll.yaml: no such file or directory
hint: "iotoll init DIR" writes one; --config or $IOTOLL_CONFIG says where it is
`
	if r.code != 1 || r.errOut != want {
		t.Errorf("got exit code %d and:\n%swant 1 and:\n%s", r.code, r.errOut, want)
	}
}

func TestConfigCheck(t *testing.T) {
	path := writeFile(t, "iotoll.yaml", `store: {embedded: {directory: store}}
public: [sensor/1m]
ledger: {nodes: ["http://127.0.0.1:14265"]}
offers:
  - {id: live, topics: [sensor/live], price: 500, period: 1h, address: `+depositAddress+`}
broker: {url: "mqtt://127.0.0.1:1883", username: iotoll, password_file: broker-password}
plugs:
  - {address: "192.168.1.20:49153", live: sensor/live, average: sensor/1m}
`)
	if r := iotoll(t, "", "--config", path, "config", "check"); r.code != 1 || !strings.Contains(r.errOut, "broker-password") {
		t.Errorf("without the password file: got %+v, want exit code 1 and its name", r)
	}
	password := filepath.Join(filepath.Dir(path), "broker-password")
	if err := os.WriteFile(password, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := mustRun(t, "--config", path, "config", "check"); out != "ok: 1 offer, 1 plug, 1 public filter\nnot asked: store, ledger, broker and plugs; \"iotoll doctor\" asks them\n" {
		t.Errorf("config check: got %q", out)
	}
}

// TestConfigCheckFiles: every file that cannot be used is told of, by its field.
func TestConfigCheckFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := write("iotoll.yaml", `store: {uri_file: uri}
broker: {url: "mqtt://127.0.0.1", username: iotoll, password_file: broker-password}
`)
	check := func(want ...string) {
		t.Helper()
		r := iotoll(t, "", "--config", config, "config", "check")
		for _, w := range want {
			if !strings.Contains(r.errOut, w) {
				t.Errorf("config check: got %q, want %q in it", r.errOut, w)
			}
		}
		if (r.code == 0) != (len(want) == 0) {
			t.Errorf("config check: got exit code %d, %q", r.code, r.errOut)
		}
	}
	check("store.uri_file: open "+dir+"/uri: no such file", "broker.password_file: open "+dir+"/broker-password: no such file")
	write("broker-password", "hunter2\n")
	write("uri", "")
	check("store.uri_file: read " + dir + "/uri: it is empty")
	write("uri", "postgres://jane:hunter2@127.0.0.1/\n")
	check(`store.uri_file: store URI is not usable: error parsing uri: scheme must be "mongodb"`)
	write("uri", "mongodb://jane:hunter/2@127.0.0.1/\n")
	check("store.uri_file: store URI is not usable: its user or password holds a character that must be written as %XX")
	write("uri", "mongodb://jane:hunter2@127.0.0.1:1/\n")
	check()
}
