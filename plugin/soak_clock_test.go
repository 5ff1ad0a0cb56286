//go:build soak

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
