package embedded

import (
	"context"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/sirupsen/logrus"
)

// TestSocketPermissions checks who can reach a store: its owner and a group.
func TestSocketPermissions(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	gid := os.Getegid()
	if os.Geteuid() == 0 {
		gid = 4711
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	socket := filepath.Join(t.TempDir(), "run", "store.sock")
	// Twice: what the first leaves behind is replaced.
	for range 2 {
		s, err := Open(Config{Directory: filepath.Join(t.TempDir(), "store"), Socket: socket, Group: strconv.Itoa(gid)}, log)
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]fs.FileMode{socket: 0o660 | fs.ModeSocket, filepath.Dir(socket): 0o750 | fs.ModeDir} {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode(); got != want {
				t.Errorf("mode of %s: got %v, want %v", path, got, want)
			}
			if got := int(info.Sys().(*syscall.Stat_t).Gid); got != gid {
				t.Errorf("group of %s: got %d, want %d", path, got, gid)
			}
		}
		s.guard.listener.SetUnlinkOnClose(false) // as if this process was killed
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := net.Dial("unix", socket); err == nil {
			t.Fatal("a store that has ended accepts connections")
		}
	}
}
