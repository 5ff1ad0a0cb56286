package main

import (
	"errors"
	"strings"
	"testing"
)

// full is a standard output on a disk that is full.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestAuditWithoutOutput: what was done is in the audit trail also when nobody could
// be told.
func TestAuditWithoutOutput(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://127.0.0.1:1", "")
	s.must("hunter2", "user", "add", "john")
	err := run(t.Context(), []string{"--config", s.config, "user", "disable", "john"}, strings.NewReader(""), full{}, new(logBuffer))
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("user disable: got %v, want that it could not be told", err)
	}
	if out := s.must("", "audit"); !strings.Contains(out, "user disable") {
		t.Errorf("audit: got\n%swant user disable in it", out)
	}
}
