package wallet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// ReadKey reads the private key of today's network that a file holds, on one
// line: iotaprivkey1…. It refuses a file that others than its owner may read.
func ReadKey(path string) (txn.Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return txn.Key{}, fmt.Errorf("read key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return txn.Key{}, fmt.Errorf("read key: %w", err)
	}
	// Windows has no such modes.
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return txn.Key{}, fmt.Errorf("read key: %s: mode is %04o, want 0600: others may read the key", path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return txn.Key{}, fmt.Errorf("read key: %w", err)
	}
	key, err := txn.ParseKey(strings.TrimSpace(string(b)))
	if err != nil {
		return txn.Key{}, fmt.Errorf("read key: %s: %w", path, err)
	}
	return key, nil
}

// WriteKey writes a new random key into a file, which must not exist and which
// only its owner may read.
func WriteKey(path string) (txn.Key, error) {
	key := txn.NewKey()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return txn.Key{}, fmt.Errorf("write key: %w", err)
	}
	_, err = f.WriteString(key.Secret() + "\n")
	if err := errors.Join(err, f.Sync(), f.Close(), syncDir(filepath.Dir(path))); err != nil {
		return txn.Key{}, fmt.Errorf("write key: %w", err)
	}
	return key, nil
}

// syncDir makes the names in a directory survive a power cut.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil // cannot be done there, and need not
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
