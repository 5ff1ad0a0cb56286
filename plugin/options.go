package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/iotoll/iotoll/acl"
)

// option is one plugin_opt_KEY VALUE line of the broker's configuration.
type option struct{ key, value string }

// config is what the options say.
type config struct {
	// storeURI is where the store is, mongodb://... It may hold a password:
	// it is in no error and no log line.
	storeURI string
	database string
	// settingsFile holds more settings, and is read again at every HUP: Mosquitto
	// does not tell plugins of changed options. It may be empty.
	settingsFile string
	settings
}

// settings are what may change while the broker runs.
type settings struct {
	// public are the filters whose topics everyone may read.
	public []acl.Filter
	// maxAge is how long users and grants stay in force while the store cannot
	// be reached.
	maxAge time.Duration
	// deferUnknown leaves usernames that the store does not know to the next
	// plugin. They are denied otherwise, as clients without a username always
	// are: other plugins let them read by default.
	deferUnknown bool
}

// optionNames are all options, as an error lists them.
const optionNames = "store_uri, store_uri_file, database, public, max_age, unknown_user, settings_file"

// settingNames are those of the settings file.
const settingNames = "public, max_age, unknown_user"

// parseOptions reads the plugin_opt_ lines. Every error names the option and says
// what would be right.
func parseOptions(options []option) (config, error) {
	c := config{database: "mosquitto", settings: settings{maxAge: 24 * time.Hour}}
	seen := make(map[string]bool)
	for _, o := range options {
		if seen[o.key] && o.key != "public" {
			return config{}, fmt.Errorf("plugin_opt_%s is given twice", o.key)
		}
		seen[o.key] = true
		if err := c.set(o.key, strings.TrimSpace(o.value)); err != nil {
			return config{}, fmt.Errorf("plugin_opt_%s: %w", o.key, err)
		}
	}
	switch {
	case seen["store_uri"] && seen["store_uri_file"]:
		return config{}, errors.New("plugin_opt_store_uri and plugin_opt_store_uri_file are both given; keep one")
	case c.storeURI == "":
		return config{}, errors.New("plugin_opt_store_uri or plugin_opt_store_uri_file is missing; for the store of iotoll serve: plugin_opt_store_uri mongodb://%2Frun%2Fiotoll%2Fstore.sock/")
	}
	return c, nil
}

func (c *config) set(key, value string) (err error) {
	if value == "" {
		return errors.New("has no value")
	}
	switch key {
	case "store_uri":
		c.storeURI = value
	case "store_uri_file":
		text, err := os.ReadFile(value)
		if err != nil {
			return fmt.Errorf("%w (the broker reads it as the user that it runs as)", err)
		}
		if c.storeURI = strings.TrimSpace(string(text)); c.storeURI == "" {
			return fmt.Errorf("%s is empty; want a line like mongodb://user:password@host/", value)
		}
	case "database":
		c.database = value
	case "settings_file":
		c.settingsFile = value
	default:
		if known, err := c.settings.set(key, value); known {
			return err
		}
		return fmt.Errorf("unknown option; there are %s", optionNames)
	}
	return nil
}

// set changes a setting. known tells whether there is one of that name.
func (s *settings) set(key, value string) (known bool, err error) {
	switch key {
	case "public":
		f, err := acl.ParseFilter(value)
		if err != nil {
			return true, err
		}
		s.public = append(slices.Clip(s.public), f)
	case "max_age":
		if s.maxAge, err = time.ParseDuration(value); err != nil || s.maxAge < time.Second {
			return true, fmt.Errorf("got %q, want a duration of a second or more, such as 90m or 24h", value)
		}
	case "unknown_user":
		if value != "deny" && value != "defer" {
			return true, fmt.Errorf("got %q, want deny or defer", value)
		}
		s.deferUnknown = value == "defer"
	default:
		return false, nil
	}
	return true, nil
}

// readSettings returns the settings of the options, and over them those of the
// settings file: a line for each, as "max_age 90m"; empty lines and those that
// begin with # are left out. What is public in either is public. Every error names
// the file, and the line and the key if it is about one.
func (c config) readSettings() (settings, error) {
	s := c.settings
	if c.settingsFile == "" {
		return s, nil
	}
	text, err := os.ReadFile(c.settingsFile)
	if err != nil {
		return s, fmt.Errorf("%w (the broker reads it as the user that it runs as)", err)
	}
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
			known, err = s.set(key, value)
		}
		if !known {
			err = fmt.Errorf("unknown setting; there are %s", settingNames)
		}
		if err != nil {
			return settings{}, fmt.Errorf("%s, line %d: %.80q: %w", c.settingsFile, number, key, err)
		}
		seen[key] = true
	}
	return s, nil
}
