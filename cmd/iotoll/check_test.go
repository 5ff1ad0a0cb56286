package main

import (
	"strings"
	"testing"
)

// TestCheckUntil: check tells when a grant ends, and of what has no end it tells
// none.
func TestCheckUntil(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://127.0.0.1:1", "")
	s.must("hunter2", "user", "add", "john", "--right", "kitchen/#=r")
	given := strings.TrimSpace(s.must("", "grant", "add", "john", "live", "12h", "--reason", "test"))
	_, end, _ := strings.Cut(given, " until ")
	for topic, want := range map[string]string{
		"sensor/live":  "permit: grant live/00000000000000000001/john, until " + end,
		"kitchen/live": "permit: static right",
		"sensor/1m":    "permit: public",
	} {
		if got, _, _ := strings.Cut(s.must("", "check", "john", "read", topic), "\n"); got != want {
			t.Errorf("check john read %s: got %q, want %q", topic, got, want)
		}
	}
}
