package mongostore

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// dialer connects to servers. It checks the path of a Unix socket before each
// connection: a user who can create the socket while the store is down could hand
// the broker a superuser.
type dialer struct{ net.Dialer }

// DialContext implements the driver's options.ContextDialer.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if network == "unix" {
		if err := checkSocket(address, os.Geteuid()); err != nil {
			return nil, fmt.Errorf("connect to store: %w", err)
		}
	}
	return d.Dialer.DialContext(ctx, network, address)
}

// maxSteps bounds how many names and links of a path are followed.
const maxSteps = 256

// checkSocket returns an error unless only trusted users can have created the socket
// at a path: root, the user self, and the owners of directories that trusted users
// created. It walks down from the root of the file system: in a directory that only
// its owner can write to, all entries are the owner's or root's work; in a sticky
// one that others can write to, those that root, self or its owner own.
func checkSocket(path string, self int) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("socket %q: want an absolute path", path)
	}
	at, here, err := look("/")
	names := split(path)
	for steps := 0; err == nil && len(names) > 0; steps++ {
		if steps > maxSteps {
			return fmt.Errorf("socket %s: too many symbolic links", path)
		}
		name := names[0]
		names = names[1:]
		if name == ".." {
			at, here, err = look(filepath.Dir(at))
			continue
		}
		next, entry, lookErr := look(filepath.Join(at, name))
		if lookErr != nil {
			return lookErr
		}
		if reason := replaceable(here, entry, self); reason != "" {
			return fmt.Errorf("socket %s: others may have made %s: directory %s %s", path, next, at, reason)
		}
		if entry.Mode().Type() != fs.ModeSymlink {
			at, here = next, entry
			continue
		}
		target, linkErr := os.Readlink(next)
		if linkErr != nil {
			return linkErr
		}
		names = append(split(target), names...)
		if filepath.IsAbs(target) {
			at, here, err = look("/")
		}
	}
	if err != nil {
		return err
	}
	if here.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is not a socket", path)
	}
	return nil
}

func look(path string) (string, fs.FileInfo, error) {
	info, err := os.Lstat(path)
	return path, info, err
}

// split returns the names in a path.
func split(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(name string) bool { return name == "" || name == "." })
}

// replaceable says why others than root, self and the owner of a directory may
// have made what is in it; it is empty if they cannot.
func replaceable(directory, entry fs.FileInfo, self int) string {
	d, e := directory.Sys().(*syscall.Stat_t), entry.Sys().(*syscall.Stat_t)
	mode := directory.Mode()
	// Of a group that has its owner's number, as Debian makes one for each user,
	// nobody else is a member.
	writable := mode&0o002 != 0 || mode&0o020 != 0 && d.Gid != d.Uid
	switch {
	case !writable:
		return ""
	case mode&fs.ModeSticky == 0:
		return fmt.Sprintf("has mode %#o, want nobody but its owner to write to it", mode.Perm())
	case e.Uid != 0 && int(e.Uid) != self && e.Uid != d.Uid:
		return fmt.Sprintf("can be written to by others, and user %d made it", e.Uid)
	}
	return ""
}
