package acl

import (
	"errors"
	"strings"
)

// Filter is a parsed MQTT topic filter (MQTT 5, section 4.7).
type Filter struct{ text string }

// ParseFilter parses a topic filter.
func ParseFilter(s string) (Filter, error) {
	if s == "" || len(s) > 65535 || strings.ContainsRune(s, 0) {
		return Filter{}, errors.New("not a topic filter")
	}
	return Filter{s}, nil
}

// String returns the filter as it was parsed.
func (f Filter) String() string { return f.text }
