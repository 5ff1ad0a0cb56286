package e2e

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/iotoll/iotoll/cmd/internal/rig"
)

// TestGreen: doctor asks the running broker what buyers ask, so that public filters
// that the broker does not have yet, or has too many of, are found.
func TestGreen(t *testing.T) {
	r := newRig(t, rig.Options{})
	doctor := func() string {
		t.Helper()
		out, _ := r.Iotoll(t.Context(), "doctor")
		return out
	}
	settings := func(text string) {
		t.Helper()
		if err := os.WriteFile(r.Settings(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(lines ...string) {
		t.Helper()
		out := doctor()
		for _, line := range lines {
			if !strings.Contains(out, line) {
				t.Errorf("doctor: got\n%s\nwant %q in it", out, line)
			}
		}
	}
	expect("ok    anyone may read sensor/1m\n", "ok    sensor/live is not readable without paying\n", `ok    account "iotoll" may publish to all topics`)

	settings("public sensor/1m\npublic weather/+\n")
	expect("FAIL  broker refuses weather/iotoll-doctor to anonymous clients although weather/+ is public: send Mosquitto a SIGHUP")
	r.Broker.Signal(syscall.SIGHUP)
	eventually(t, "the broker to have read its settings", func() bool { return strings.Contains(doctor(), "ok    anyone may read weather/+\n") })

	// The broker gives away more than the file that iotoll reads says.
	settings("public sensor/#\n")
	r.Broker.Signal(syscall.SIGHUP)
	anyone := client(t, r, "anyone", "", "-t", "sensor/live")
	receives(t, anyone, "sensor/live", 1)
	settings("public sensor/1m\n")
	expect("FAIL  broker lets anonymous clients read sensor/live, which is for sale")
}
