// Package embedded runs a document store inside this process, for those who
// have no MongoDB server: FerretDB 1.24 on SQLite, which speaks MongoDB's wire
// protocol on a loopback port. Package mongostore uses it as it uses any server.
//
// What the store has acknowledged is on disk: SQLite writes its log, and syncs
// it, before a write returns (journal_mode WAL, synchronous FULL), so neither a
// killed process nor a power cut loses it.
//
// The store asks for no password. Whoever can connect to the loopback interface
// of this machine can read and change it; give it a MongoDB server with users
// and passwords where strangers may log in.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
	"github.com/sirupsen/logrus"
)

// ErrInUse is returned by [Open] if another process, or another Server of this
// one, has the directory open.
var ErrInUse = errors.New("in use")

// Server is a store that listens. It answers once it runs.
type Server struct {
	ferret    *ferretdb.FerretDB
	lock      *os.File
	directory string
	log       logrus.FieldLogger
}

// Open takes hold of a directory, which it creates if need be, and of a
// loopback address with a port; port 0 takes a free one. The caller must call
// [Server.Run], which also releases them.
//
// It returns an error wrapping [ErrInUse] if the directory is open already.
func Open(directory, listen string, log logrus.FieldLogger) (*Server, error) {
	listen, err := checkListen(listen)
	if err != nil {
		return nil, err
	}
	directory, err = makeDirectory(directory)
	if err != nil {
		return nil, err
	}
	lock, err := lockDirectory(directory)
	if err != nil {
		return nil, err
	}
	if err := repair(context.Background(), directory); err != nil {
		return nil, errors.Join(fmt.Errorf("embedded store: %w", err), lock.Close())
	}
	ferret, err := start(directory, listen, log)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &Server{ferret: ferret, lock: lock, directory: directory, log: log}, nil
}

// URI returns the store's address for a MongoDB driver.
func (s *Server) URI() string { return s.ferret.MongoDBURI() }

// Run answers until ctx ends. Then it waits up to three seconds for clients that
// are still connected, closes the store and lets go of the directory. If ctx has
// ended already, it only releases what Open took.
func (s *Server) Run(ctx context.Context) error {
	var indexing sync.WaitGroup
	indexing.Go(func() { s.keepIndexed(ctx) })
	err := s.ferret.Run(ctx)
	indexing.Wait()
	if err := errors.Join(err, s.lock.Close()); err != nil {
		return fmt.Errorf("run embedded store: %w", err)
	}
	return nil
}

// making is held while a store is made. There may be several in one process.
var making sync.Mutex

func start(directory, listen string, log logrus.FieldLogger) (*ferretdb.FerretDB, error) {
	// FerretDB leaves its files open if it cannot listen: find that out before.
	probe, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("listen for the embedded store: %w", err)
	}
	if err := probe.Close(); err != nil {
		return nil, fmt.Errorf("listen for the embedded store: %w", err)
	}
	making.Lock() // New writes to a variable of its package
	defer making.Unlock()
	ferret, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: listen},
		Logger:    newLogger(log),
		Handler:   "sqlite",
		SQLiteURL: "file:" + directory + "/?" + url.Values{"_pragma": {"synchronous(full)"}}.Encode(),
	})
	if err != nil {
		return nil, fmt.Errorf("open embedded store in %s: %w", directory, err)
	}
	return ferret, nil
}

// checkListen refuses an address that other machines can reach.
func checkListen(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fmt.Errorf("listen address %q of the embedded store: %w; want for instance 127.0.0.1:27117", listen, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("listen address %q of the embedded store: port %q is not a number up to 65535", listen, port)
	} else {
		port = strconv.FormatUint(n, 10)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.IsLoopback() {
		return "", fmt.Errorf("listen address %q of the embedded store is not on the loopback interface: "+
			"it asks for no password; want for instance 127.0.0.1:27117", listen)
	}
	return net.JoinHostPort(host, port), nil
}

// makeDirectory returns the absolute path of a directory that only its owner
// can enter.
func makeDirectory(directory string) (string, error) {
	if directory == "" {
		return "", errors.New("directory of the embedded store is not set")
	}
	directory, err := filepath.Abs(directory)
	if err != nil {
		return "", fmt.Errorf("directory of the embedded store: %w", err)
	}
	if strings.ContainsAny(directory, `?#%*[\`) {
		// FerretDB hands it to SQLite as part of a URI, without escaping it, and
		// finds the files that are there by a pattern: it would not see them again.
		return "", fmt.Errorf(`directory %q of the embedded store contains one of ? # %% * [ \, which it cannot use`, directory)
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return "", fmt.Errorf("make directory of the embedded store: %w", err)
	}
	info, err := os.Stat(directory)
	if err != nil {
		return "", fmt.Errorf("directory of the embedded store: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("directory %s of the embedded store has mode %#o: others could read password hashes; want 0700", directory, mode)
	}
	return directory, nil
}

// lockDirectory keeps a second process from opening the same files: FerretDB
// caches what collections there are, and would not see the other's. The lock
// ends with the process, however it ends.
func lockDirectory(directory string) (*os.File, error) {
	path := filepath.Join(directory, "lock")
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("directory %s of the embedded store is not writable: %w", directory, err)
	}
	if err != nil {
		return nil, fmt.Errorf("lock directory of the embedded store: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer lock.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		owner := make([]byte, 20)
		n, _ := lock.Read(owner) // only for the message
		return nil, fmt.Errorf("directory %s of the embedded store is %w by process %s", directory, ErrInUse, owner[:n])
	}
	err = lock.Truncate(0)
	if err == nil {
		_, err = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), lock.Close())
	}
	return lock, nil
}
