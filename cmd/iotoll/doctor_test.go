package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestDoctor(t *testing.T) {
	t.Parallel()
	node, seed := startTangle(t)
	plug := strings.TrimPrefix(background(t, "", "sim", "plug", "--listen", "127.0.0.1:0")[0], "plug ")
	s := newSite(t, node, fmt.Sprintf(`plugs:
  - {address: %q, live: sensor/live, average: sensor/1m}
broker: {url: "mqtt://127.0.0.1:1", username: iotoll, password_file: broker-password}
`, plug))
	dir := filepath.Dir(s.config)
	password := filepath.Join(dir, "broker-password")
	if err := os.WriteFile(password, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := func(public string, more ...string) string {
		return writeFile(t, "mosquitto.conf", "listener 1883\nplugin iotoll.so\nplugin_opt_public "+public+"\n"+strings.Join(more, "\n"))
	}
	pay := func() {
		t.Helper()
		s.must("", "pay", "--node", node, "--seed-file", seed, "--mwm", "1", "--address", depositAddress,
			"--amount", "500", "--message", `{"username": "john"}`, "--wait")
	}
	expect := func(r result, code int, lines ...string) {
		t.Helper()
		for _, line := range lines {
			if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(r.out) {
				t.Errorf("doctor printed no line %q, but\n%s", line, r.out)
			}
		}
		if r.code != code || strings.Contains(r.out+r.errOut, "hunter2") {
			t.Errorf("doctor: got exit code %d, want %d and no password\n%s%s", r.code, code, r.out, r.errOut)
		}
	}

	pay()
	expect(s.run("", "doctor", "--mosquitto-conf", conf("sensor/#")), 1,
		`ok    configuration .*`,
		`FAIL  .*/mosquitto.conf has the public filters \["sensor/#"\], the configuration has \["sensor/1m"\]: must be the same`,
		`warn  iotoll serve does not run: payments wait until it does`,
		`ok    store at .*: 0 users, 0 payments`,
		`warn  account "iotoll" does not exist: iotoll serve creates it`,
		`ok    node http://127.0.0.1:\d+: .* at \d+`,
		`FAIL  address `+depositAddress+` holds 500 i, 500 i more than the book has: payments were not seen`,
		`FAIL  broker as "iotoll": connect to mqtt://127.0.0.1:1: .*connection refused`,
		`ok    plug of sensor/live: \d+ mW`)

	// What the plugin's settings file gives away is given away.
	settings := writeFile(t, "settings", "# may change\npublic sensor/1m\npublic sensor/+\nmax_age 24h\n")
	expect(s.run("", "doctor", "--mosquitto-conf", conf("sensor/1m", "plugin_opt_settings_file "+settings)), 1,
		`FAIL  .*/mosquitto.conf has the public filters \["sensor/\+" "sensor/1m"\], the configuration has \["sensor/1m"\]: must be the same`)
	expect(s.run("", "doctor", "--mosquitto-conf", conf("sensor/1m", "plugin_opt_settings_file /nonexistent")), 1,
		`FAIL  plugin_opt_settings_file: open /nonexistent: no such file or directory`)

	background(t, "", "--config", s.config, "serve")
	s.await(500, "historic")
	expect(s.run("", "doctor", "--mosquitto-conf", conf("sensor/1m")), 1,
		`ok    .*/mosquitto.conf has the same public filters as the configuration`,
		`ok    store at .*: 1 users, 1 payments`,
		`ok    account "iotoll" may publish what it has to`,
		`ok    address `+depositAddress+` holds the 500 i that the book has`)
	if err := os.Chmod(password, 0o644); err != nil {
		t.Fatal(err)
	}
	expect(s.run("", "doctor"), 1, `warn  broker.password_file: everybody on this machine may read .*/broker-password, mode 0644: want 0600, or 0640 for a group`)
	if err := os.Chmod(password, 0o640); err != nil {
		t.Fatal(err)
	}
	if r := s.run("", "doctor"); strings.Contains(r.out, "everybody") {
		t.Errorf("doctor: got\n%swant no word on a file of a group", r.out)
	}
	pay()
	s.await(500, "unmatched")
	s.must("", "user", "remove", "iotoll")
	s.must("hunter2", "user", "add", "iotoll", "--right", "sensor/+=r", "--right", "sensor/live=w")
	expect(s.run("", "doctor"), 1,
		`FAIL  account "iotoll" may not publish to \["sensor/1m" "sensor/status"\]: remove it, .*`,
		`warn  1 payments are held: see iotoll payment list --outcome unmatched`,
		`ok    address `+depositAddress+` holds the 1000 i that the book has`)
}
