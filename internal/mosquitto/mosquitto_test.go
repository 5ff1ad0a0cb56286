package mosquitto

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestBroker(t *testing.T) {
	b := Start(t, "listener PORT 127.0.0.1\nallow_anonymous true\n")
	if want := fmt.Sprintf("Opening ipv4 listen socket on port %d", b.Port); !strings.Contains(b.Log(), want) {
		t.Errorf("log: got %s, want %q", b.Log(), want)
	}
	b.Signal(syscall.SIGSTOP)
	b.Stop()
	if b.Running() {
		t.Error("the broker runs after Stop")
	}
	b.Restart()
	b.Kill()
	b.Stop() // does nothing
	if n := strings.Count(b.Log(), " starting\n"); n != 2 {
		t.Errorf("log: got %d starts, want 2:\n%s", n, b.Log())
	}
}

// failing is a test that notes how it fails.
type failing struct {
	*testing.T
	said string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.said += fmt.Sprintf(format, args...)
	panic(f)
}
func (f *failing) Errorf(format string, args ...any) { f.said += fmt.Sprintf(format, args...) }

// What is wrong fails the test, and none is skipped.
func TestBrokerFails(t *testing.T) {
	fails := func(conf string) string {
		f := &failing{T: t}
		func() {
			defer func() {
				if v := recover(); v != nil && v != any(f) {
					panic(v)
				}
			}()
			Start(f, conf)
		}()
		return f.said
	}
	if got := fails("listener PORT 127.0.0.1\nno_such_option true\n"); !strings.Contains(got, "before it listened") || !strings.Contains(got, "no_such_option") {
		t.Errorf("unknown option: got %q, want the broker's reason", got)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mosquitto"), []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if got := fails(""); !strings.Contains(got, "start Mosquitto: ") {
		t.Errorf("no Mosquitto: got %q, want why it cannot be started", got)
	}
}
