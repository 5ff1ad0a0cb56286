package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxSocketPath is how many bytes the path of a socket may have: sun_path of
// unix(7) has 108, the last of them NUL.
const maxSocketPath = 107

// URI returns the URI under which a MongoDB driver finds a store that listens
// on a socket.
func URI(socket string) string { return "mongodb://" + url.PathEscape(socket) + "/" }

// CheckSocket returns an error unless a store can listen on a path and a
// MongoDB driver can find it there.
func CheckSocket(path string) error {
	switch {
	case path == "":
		return errors.New("is empty, want a path such as /run/iotoll/store.sock")
	case !filepath.IsAbs(path):
		return fmt.Errorf("%q is not an absolute path, want for instance /run/iotoll/store.sock", path)
	case !strings.HasSuffix(path, ".sock"):
		return fmt.Errorf("%q does not end in .sock, by which a MongoDB driver tells a socket from a host name", path)
	case len(path) > maxSocketPath:
		return fmt.Errorf("%q has %d bytes, want at most %d: that is the limit for the path of a Unix socket", path, len(path), maxSocketPath)
	}
	return nil
}

// listenOn listens on a socket that its owner and the members of a group may
// connect to. It creates the socket's directory if it does not exist. An empty
// group means the one of this process, or of a directory that hands its group
// down.
func listenOn(path, group string) (*net.UnixListener, error) {
	if err := CheckSocket(path); err != nil {
		return nil, err
	}
	gid, err := groupID(group)
	if err != nil {
		return nil, err
	}
	if err := socketDirectory(filepath.Dir(path), gid); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	return bind(path, gid)
}

// bind creates the socket. Nobody else can connect before its group is set: Linux
// gives the file the mode that the socket has when it is bound.
func bind(path string, gid int) (*net.UnixListener, error) {
	socket, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	file := os.NewFile(uintptr(socket), path)
	defer file.Close() // net.FileListener works on a copy
	if err := syscall.Fchmod(socket, 0o600); err != nil {
		return nil, fmt.Errorf("set mode of socket: %w", err)
	}
	if err := syscall.Bind(socket, &syscall.SockaddrUnix{Name: path}); err != nil {
		return nil, fmt.Errorf("bind socket to %s: %w", path, err)
	}
	l, err := startListening(file, path, gid)
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	l.SetUnlinkOnClose(true)
	return l, nil
}

func startListening(file *os.File, path string, gid int) (*net.UnixListener, error) {
	if gid >= 0 {
		if err := os.Chown(path, -1, gid); err != nil {
			return nil, fmt.Errorf("%w\nhint: only root and the members of a group can give a socket to it", err)
		}
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, err
	}
	if err := syscall.Listen(int(file.Fd()), syscall.SOMAXCONN); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l.(*net.UnixListener), nil
}

// groupID returns the number of a group, given by name or number; -1 for none.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if n, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(n), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("group %q: %w", group, err)
	}
	return strconv.Atoi(g.Gid)
}

// socketDirectory creates the directory of a socket, or checks that nobody but its
// owner can replace its files.
func socketDirectory(directory string, gid int) error {
	if err := os.MkdirAll(filepath.Dir(directory), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(directory, 0o750)
	switch {
	case errors.Is(err, fs.ErrExist):
	case err != nil:
		return err
	default:
		err := os.Chmod(directory, 0o750) // independent of the umask
		if err == nil && gid >= 0 {
			err = os.Chown(directory, -1, gid)
		}
		if err != nil {
			return errors.Join(err, os.Remove(directory))
		}
	}
	info, err := os.Stat(directory)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("directory %s has mode %#o: others could put a socket of theirs there; want 0750", directory, mode)
	}
	if owner := ownerOf(info); owner != 0 && owner != os.Geteuid() {
		return fmt.Errorf("directory %s belongs to user %d, who could put another socket there; want it to belong to user %d or root", directory, owner, os.Geteuid())
	}
	return nil
}

func ownerOf(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// removeStale removes the socket of a process that was killed. It returns an error
// if the path is anything else.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	if owner := ownerOf(info); owner != os.Geteuid() && owner != 0 {
		return fmt.Errorf("socket %s belongs to user %d, want user %d", path, owner, os.Geteuid())
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return fmt.Errorf("another process listens on %s", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}
