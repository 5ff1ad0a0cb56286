// Package embedded runs a document store inside this process, for those who
// have no MongoDB server: FerretDB 1.24 on SQLite, which speaks MongoDB's wire
// protocol on a Unix socket. Package mongostore uses it like any other server.
//
// The store keeps every acknowledged write across a killed process and a power
// cut: SQLite syncs its log before a write returns (journal_mode WAL,
// synchronous FULL).
//
// The store asks for no password. The permissions of the socket decide who may
// read and change everything: the user that runs the store, root, and the members
// of the socket's group.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// Config says where a store keeps its files and where it listens.
type Config struct {
	// Directory holds the store's files. Nobody but its owner may enter it.
	Directory string
	// Socket is the path of the Unix socket, ending in .sock. If it is empty, the
	// store listens on one in Directory, which only its owner can reach.
	Socket string
	// Group is the name or number of the group whose members may connect. If it is
	// empty, it is the group of this process.
	Group string
}

// Server is a store that listens. It answers once it runs.
type Server struct {
	ferret    *ferretdb.FerretDB
	guard     *guard
	entry     *os.File // the directory
	lock      *os.File
	directory string
	socket    string
	log       logrus.FieldLogger
}

// Open locks a directory, which it creates if it does not exist, and listens on
// a socket. The caller must call [Server.Run], which also releases them.
//
// It returns an error wrapping [ErrInUse] if the directory is open already, or
// [ErrDamaged] if SQLite finds a file inconsistent.
func Open(c Config, log logrus.FieldLogger) (_ *Server, err error) {
	directory, err := makeDirectory(c.Directory)
	if err != nil {
		return nil, err
	}
	s := &Server{directory: directory, socket: c.Socket, log: log}
	if s.socket == "" {
		s.socket = filepath.Join(directory, "private.sock")
	}
	if s.lock, err = lockDirectory(directory); err != nil {
		return nil, err
	}
	if s.entry, err = os.Open(directory); err != nil {
		return nil, errors.Join(fmt.Errorf("directory of the embedded store: %w", err), s.lock.Close())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if err := check(context.Background(), directory); err != nil {
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	if err := repair(context.Background(), directory); err != nil {
		return nil, fmt.Errorf("embedded store: %w", err)
	}
	listener, err := listenOn(s.socket, c.Group)
	if err != nil {
		return nil, fmt.Errorf("listen for the embedded store: %w", err)
	}
	s.guard = &guard{listener: listener, backend: s.backend(), log: log}
	if s.ferret, err = start(directory, s.backend(), log); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return s, nil
}

// backend is the path of FerretDB's own socket, which lies in the store's
// directory. The path leads there through a descriptor, so that it is short
// however long the directory's path is.
func (s *Server) backend() string {
	return fmt.Sprintf("/proc/self/fd/%d/ferretdb.sock", s.entry.Fd())
}

func (s *Server) release() error { return errors.Join(s.entry.Close(), s.lock.Close()) }

// URI returns the store's address for a MongoDB driver.
func (s *Server) URI() string { return URI(s.socket) }

// Run answers until ctx ends. Then it waits up to three seconds for clients that
// are still connected, closes the store and releases the directory. If ctx has
// ended already, it only releases what Open took.
func (s *Server) Run(ctx context.Context) error {
	passing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var helpers sync.WaitGroup
	helpers.Go(func() { s.keepIndexed(ctx) })
	helpers.Go(func() { s.guard.run(ctx, passing) })
	err := s.ferret.Run(ctx)
	stop()
	helpers.Wait()
	if err := errors.Join(err, s.release()); err != nil {
		return fmt.Errorf("run embedded store: %w", err)
	}
	return nil
}

// making is locked while FerretDB is constructed. A process may open several stores.
var making sync.Mutex

func start(directory, socket string, log logrus.FieldLogger) (*ferretdb.FerretDB, error) {
	// A socket that exists is stale, since this process holds the lock.
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open embedded store in %s: %w", directory, err)
	}
	making.Lock() // New writes to a variable of its package
	defer making.Unlock()
	ferret, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{Unix: socket},
		Logger:    newLogger(log),
		Handler:   "sqlite",
		SQLiteURL: "file:" + directory + "/?" + url.Values{"_pragma": {"synchronous(full)"}}.Encode(),
	})
	if err != nil {
		return nil, fmt.Errorf("open embedded store in %s: %w", directory, err)
	}
	return ferret, nil
}

// CheckDirectory returns an error unless a store can be kept in a directory of
// that name.
func CheckDirectory(directory string) error {
	if strings.ContainsAny(directory, `?#%*[\`) {
		// FerretDB passes the path to SQLite unescaped as part of a URI, and finds
		// existing files by a glob pattern.
		return fmt.Errorf(`directory %q of the embedded store contains one of ? # %% * [ \, which it cannot use`, directory)
	}
	return nil
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
	if err := CheckDirectory(directory); err != nil {
		return "", err
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
// caches the list of collections and would miss those of the other process. The
// kernel releases the lock when the process ends.
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
