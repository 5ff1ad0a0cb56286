//go:build amd64

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/iotoll/iotoll/acl"
)

// wallClock is the wall clock of a broker's process, see testdata/clock.c.
type wallClock struct {
	env    []string // puts the broker on this clock
	offset *atomic.Int64
}

func newWallClock(t *testing.T) *wallClock {
	t.Helper()
	library := filepath.Join(t.TempDir(), "clock.so")
	if text, err := exec.Command("cc", "-O2", "-Wall", "-fno-stack-protector", "-shared", "-fPIC", "-o", library, "testdata/clock.c").CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, text)
	}
	path := filepath.Join(t.TempDir(), "offset")
	if err := os.WriteFile(path, make([]byte, 8), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	memory, err := syscall.Mmap(int(file.Fd()), 0, 8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatalf("map %s: %v", path, err)
	}
	// It stays mapped: the store reads this clock until the test's last cleanup.
	return &wallClock{
		env:    []string{"LD_PRELOAD=" + library, "IOTOLL_CLOCK=" + path},
		offset: (*atomic.Int64)(unsafe.Pointer(&memory[0])),
	}
}

// now is the time of the clock.
func (c *wallClock) now() time.Time { return time.Now().Round(0).Add(time.Duration(c.offset.Load())) }

// After the wall clock was set, sessions end, first logins are answered and grants are
// decided by the new time.
func TestBrokerClockSet(t *testing.T) {
	t.Parallel()
	for what, step := range map[string]time.Duration{"back": -3 * time.Hour, "ahead": 3 * time.Hour} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, clock := startStore(t), newWallClock(t)
			s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Write}}})
			s.user(acl.User{Name: "john"})
			s.user(acl.User{Name: "mary"})
			s.grant("john", "live", "sensor/#", -time.Hour, time.Hour)
			b := launch(t, conf(s.uri), build(t, ""), clock.env...)
			b.WaitListening(b.Port)
			b.waitLog("following the store")
			jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
			john := b.connect(connect{user: "john", pass: "secret", id: "john"})
			member := b.connect(connect{user: "john", pass: "secret", id: "member"})
			if a, b := john.subscribe("sensor/live", 1), member.subscribe("$share/g/sensor/live", 1); a != 1 || b != 1 {
				t.Fatalf("subscribe: got %#x and %#x, want 1", a, b)
			}
			jane.publish("sensor/live", "before", 1, false)
			john.want("sensor/live", "before")

			clock.offset.Store(int64(step))
			member.wantClosed("the member whose time is over by the new clock")
			jane.publish("sensor/live", "after", 1, false)
			john.wantNothing()
			b.connect(connect{user: "mary", pass: "secret", id: "mary"})
			if err := s.SetPassword(t.Context(), "john", otherHash(t, "other")); err != nil {
				t.Fatal(err)
			}
			john.wantClosed("new password")
		})
	}
}
