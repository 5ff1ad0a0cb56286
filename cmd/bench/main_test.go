package main

import (
	"errors"
	"io"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	b, err := parse([]string{"-only", "iotoll,allow", "-subscribers", "3", "-seconds", "1.5", "-mosquitto", "chroot /srv/sid/ mosquitto"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{floor, iotoll}; !slices.Equal(b.names, want) {
		t.Errorf("-only: got %v, want %v", b.names, want)
	}
	if !slices.Equal(b.subscribers, []int{3}) || b.length != 1500*time.Millisecond || b.rounds != 5 {
		t.Errorf("parse: got %d rounds of %s with %v subscribers", b.rounds, b.length, b.subscribers)
	}
	if got := b.program.inside("/srv/sid/tmp/x"); got != "/tmp/x" {
		t.Errorf("path inside the chroot: got %s, want /tmp/x", got)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-rounds", "0"}, "-rounds is 0, want at least 1"},
		{[]string{"-seconds", "0.1"}, "-seconds is 0.1, want 0.5 to 60"},
		{[]string{"-subscribers", "10,x"}, `-subscribers holds "x"`},
		{[]string{"-subscribers", "0"}, `-subscribers holds "0"`},
		{[]string{"-only", "iotol"}, `configuration "iotol" does not exist`},
		{[]string{"-mosquitto", "chroot /srv/sid"}, "want chroot DIR COMMAND"},
		{[]string{"-colour"}, "-colour"},
		{[]string{"more"}, `argument "more" is not expected`},
	} {
		_, err := parse(test.args, io.Discard)
		if !errors.Is(err, errUsage) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("parse(%q): got error %v, want a usage error with %q", test.args, err, test.want)
		}
	}
}

// TestRun makes each measurement once, shortly, on the real broker.
func TestRun(t *testing.T) {
	plugin := filepath.Join(t.TempDir(), "iotoll.so")
	if text, err := exec.Command("go", "build", "-buildmode=c-shared", "-o", plugin, "../../plugin").CombinedOutput(); err != nil {
		t.Fatalf("build the plugin: %v\n%s", err, text)
	}
	var out strings.Builder
	err := run(t.Context(), []string{
		"-rounds", "1", "-seconds", "0.5", "-subscribers", "3", "-plugin", plugin, "-dir", t.TempDir(),
	}, &out, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"mosquitto version 2.", "1 rounds of 500ms", "deliveries/s, 3 subscribers", "second log-in p50, ms"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("run: the output lacks %q:\n%s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), "\n  iotoll "); n != 13 {
		t.Errorf("run: got %d rows for iotoll, want 13:\n%s", n, out.String())
	}
}

func TestBusy(t *testing.T) {
	// user nice system idle iowait irq softirq steal guest guest_nice
	got, err := busy("cpu  100 2 30 9999 99 4 5 6 50 1\ncpu0 1 2 3\n")
	if want := 1470 * time.Millisecond; err != nil || got != want {
		t.Errorf("busy: got %s, error %v, want %s", got, err, want)
	}
	if _, err := busy("intr 1"); err == nil {
		t.Error("busy without a cpu line: got no error")
	}
}

func TestOthers(t *testing.T) {
	var o others
	begin := time.Now()
	// In the first second they use half a core, in the next two nothing.
	o.add(load{begin, 0, 0}, load{begin.Add(time.Second), 1500 * time.Millisecond, time.Second})
	o.add(load{begin, 0, 0}, load{begin.Add(2 * time.Second), time.Second, time.Second})
	if got, want := o.cores(), 0.5/3; math.Abs(got-want) > 1e-9 {
		t.Errorf("cores: got %v, want %v", got, want)
	}
}
