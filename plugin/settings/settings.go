// Package settings reads the settings of the broker's plugin that may change while the
// broker runs. The plugin puts them in force; iotoll reads the public filters from the
// same file.
package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/iotoll/iotoll/acl"
)

// Names are the settings, as errors list them.
const Names = "public, max_age, unknown_user, unpaid_subscribe"

// Settings may change while the broker runs.
type Settings struct {
	// Public are the filters whose topics everyone may read.
	Public []acl.Filter
	// MaxAge is how long users and grants stay in force while the store is
	// unreachable.
	MaxAge time.Duration
	// DeferUnknown leaves usernames that the store does not know to the next
	// plugin. Otherwise they are denied. Clients without a username are always
	// denied, since other plugins let them read by default.
	DeferUnknown bool
	// RefuseUnpaid refuses the subscription of a user to what is for sale until it
	// is paid for. Otherwise it is accepted, and only its deliveries wait.
	RefuseUnpaid bool
}

// Default returns the settings that are in force unless others are set.
func Default() Settings { return Settings{MaxAge: 24 * time.Hour} }

// Set changes a setting. known is false if there is no setting of that name.
func (s *Settings) Set(key, value string) (known bool, err error) {
	switch key {
	case "public":
		f, err := acl.ParseFilter(value)
		if err != nil {
			return true, err
		}
		s.Public = append(slices.Clip(s.Public), f)
	case "max_age":
		if s.MaxAge, err = time.ParseDuration(value); err != nil || s.MaxAge < time.Second {
			return true, fmt.Errorf("got %q, want a duration of a second or more, such as 90m or 24h", value)
		}
	case "unknown_user":
		if value != "deny" && value != "defer" {
			return true, fmt.Errorf("got %q, want deny or defer", value)
		}
		s.DeferUnknown = value == "defer"
	case "unpaid_subscribe":
		if value != "allow" && value != "refuse" {
			return true, fmt.Errorf("got %q, want allow or refuse", value)
		}
		s.RefuseUnpaid = value == "refuse"
	default:
		return false, nil
	}
	return true, nil
}

// Parse returns the settings, overridden by those in the text of a settings file. It has
// one setting a line, such as "max_age 90m". Empty lines and lines that begin with # are
// ignored, and public filters are added. Errors name the file, the line and the key.
func (s Settings) Parse(file string, text []byte) (Settings, error) {
	seen := make(map[string]bool)
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, _ := strings.Cut(line, " ")
		value = strings.TrimSpace(value)
		known, err := true, error(nil)
		switch {
		case value == "":
			err = errors.New("has no value; want KEY VALUE")
		case seen[key] && key != "public":
			err = errors.New("is given twice")
		default:
			known, err = s.Set(key, value)
		}
		if !known {
			err = fmt.Errorf("unknown setting; the settings are %s", Names)
		}
		if err != nil {
			return Settings{}, fmt.Errorf("%s, line %d: %.80q: %w", file, number, key, err)
		}
		seen[key] = true
	}
	return s, nil
}
