package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestLostStore checks that a store that was lost is not replaced by an empty one
// without a word, and that a backup brings it back.
func TestLostStore(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://127.0.0.1:1", "")
	dir := filepath.Dir(s.config)
	backup, store := filepath.Join(dir, "backup"), filepath.Join(dir, "store")
	s.must("hunter2", "user", "add", "john")
	p := startProcess(t, "--config", s.config, "serve")
	p.await("is ready")
	s.must("", "store", "backup", backup)
	s.refuses(1, "exists", "", "store", "backup", backup)
	s.refuses(1, "in use", "", "store", "restore", backup)
	p.end(syscall.SIGINT)
	s.refuses(1, "holds a store", "", "store", "restore", backup)

	if err := os.Rename(store, store+".lost"); err != nil {
		t.Fatal(err)
	}
	id, err := os.ReadFile(filepath.Join(dir, "iotoll.store-id"))
	if err != nil {
		t.Fatal(err)
	}
	s.refuses(1, strings.TrimSpace(string(id))+"\nhint: ", "hunter3", "user", "add", "jane")
	s.refuses(1, "not the store that was used before", "", "serve")

	s.must("", "store", "restore", backup)
	if out := s.must("", "user", "list"); !strings.Contains(out, "john") {
		t.Errorf("user list after restore: got %q, want john in it", out)
	}

	// Another site's store is refused too, until the seller says that it is meant.
	if err := os.WriteFile(filepath.Join(dir, "iotoll.store-id"), []byte("ANOTHER\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.refuses(1, "want ID ANOTHER", "", "serve")
	if err := os.Remove(filepath.Join(dir, "iotoll.store-id")); err != nil {
		t.Fatal(err)
	}
	s.must("", "user", "list")
}
