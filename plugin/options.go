package main

import (
	"errors"
	"fmt"
	"os"
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
const optionNames = "store_uri, store_uri_file, database, public, max_age, unknown_user"

// parseOptions reads the plugin_opt_ lines. Every error names the option and says
// what would be right.
func parseOptions(options []option) (config, error) {
	c := config{database: "mosquitto", maxAge: 24 * time.Hour}
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
		return config{}, errors.New("plugin_opt_store_uri or plugin_opt_store_uri_file is missing; for the store of iotoll serve: plugin_opt_store_uri mongodb://127.0.0.1:27117/")
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
	case "public":
		f, err := acl.ParseFilter(value)
		if err != nil {
			return err
		}
		c.public = append(c.public, f)
	case "max_age":
		if c.maxAge, err = time.ParseDuration(value); err != nil || c.maxAge < time.Second {
			return fmt.Errorf("got %q, want a duration of a second or more, such as 90m or 24h", value)
		}
	case "unknown_user":
		switch value {
		case "deny":
		case "defer":
			c.deferUnknown = true
		default:
			return fmt.Errorf("got %q, want deny or defer", value)
		}
	default:
		return fmt.Errorf("unknown option; there are %s", optionNames)
	}
	return nil
}
