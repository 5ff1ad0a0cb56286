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
	expect(s.run("", "doctor"), 1,
		`ok    configuration .*`,
		`warn  iotoll serve does not run: payments wait until it does`,
		`ok    store at .*: 0 users, 0 payments`,
		`warn  account "iotoll" does not exist: iotoll serve creates it`,
		`ok    node http://127.0.0.1:\d+: .* at \d+`,
		`FAIL  address `+depositAddress+` holds 500 i, 500 i more than the book has: payments were not seen`,
		`FAIL  broker as "iotoll": connect to mqtt://127.0.0.1:1: .*connection refused`,
		`ok    plug of sensor/live: \d+ mW`)

	startProcess(t, "--config", s.config, "serve").await("deposit address is watched from now on")
	s.await(500, "historic")
	expect(s.run("", "doctor"), 1,
		`ok    store at .*: 1 user, 1 payment`,
		`ok    account "iotoll" may publish to all topics`,
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
	s.refuses(1, "remove user iotoll: serve publishes with this account", "", "user", "remove", "iotoll")
	// serve repairs its account at once.
	s.must("", "user", "remove", "iotoll", "--force")
	eventually(t, "the account to be there again", func() bool { return strings.Contains(s.must("", "user", "list"), "iotoll ") })
	s.must("", "user", "set", "iotoll", "--right", "sensor/+=r", "--right", "sensor/live=w")
	eventually(t, "the account to have its rights again", func() bool {
		return strings.Contains(s.must("", "user", "list"), "sensor/+=r sensor/live=w sensor/1m=w sensor/status=w")
	})
	expect(s.run("", "doctor"), 1,
		`ok    account "iotoll" may publish to all topics`,
		`warn  1 payment is held: see iotoll payment list --outcome unmatched`,
		`ok    address `+depositAddress+` holds the 1000 i that the book has`)
	s.must("", "user", "disable", "iotoll")
	expect(s.run("", "doctor"), 1, `FAIL  account "iotoll" is disabled: nothing is published; iotoll user enable iotoll`)

	// An address that was watched and is no more.
	other := strings.TrimSpace(mustRun(t, "address", "--new", "--seed-file", filepath.Join(dir, "other.seed")))
	s.edit(depositAddress, other)
	expect(s.run("", "doctor"), 1, `FAIL  address `+depositAddress+` was watched before and is not configured now: payments to it are not seen; .*`)
	s.edit("address: "+other, "address: "+other+", former: ["+depositAddress+"]")
	if r := s.run("", "doctor"); strings.Contains(r.out, "not configured now") {
		t.Errorf("doctor with the former address: got\n%s", r.out)
	}
}
