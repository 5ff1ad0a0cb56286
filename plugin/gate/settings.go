package gate

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/plugin/settings"
)

// Option is one plugin_opt_KEY VALUE line of mosquitto.conf.
type Option struct{ Key, Value string }

// Config is what the options say.
type Config struct {
	// storeURI is the mongodb:// URI of the store. It may contain a password, and
	// appears in no error and no log line.
	storeURI string
	database string
	// settingsFile contains more settings and is read again at every SIGHUP, since
	// Mosquitto does not tell plugins about changed options. It may be empty.
	settingsFile string
	settings.Settings
}

// optionNames are the options, as errors list them.
const optionNames = "store_uri, store_uri_file, database, " + settings.Names + ", settings_file"

// ParseOptions reads the plugin_opt_ lines. Its errors name the option and what is
// accepted.
func ParseOptions(options []Option) (Config, error) {
	c := Config{database: "mosquitto", Settings: settings.Default()}
	seen := make(map[string]bool)
	for _, o := range options {
		if seen[o.Key] && o.Key != "public" {
			return Config{}, fmt.Errorf("plugin_opt_%s: is given twice", o.Key)
		}
		seen[o.Key] = true
		if err := c.set(o.Key, strings.TrimSpace(o.Value)); err != nil {
			return Config{}, fmt.Errorf("plugin_opt_%s: %w", o.Key, err)
		}
	}
	switch {
	case seen["store_uri"] && seen["store_uri_file"]:
		return Config{}, errors.New("plugin_opt_store_uri and plugin_opt_store_uri_file: both are given; keep one")
	case c.storeURI == "":
		return Config{}, errors.New("plugin_opt_store_uri or plugin_opt_store_uri_file: required; for the store of iotoll serve: plugin_opt_store_uri mongodb://%2Frun%2Fiotoll%2Fstore.sock/")
	}
	return c, nil
}

func (c *Config) set(key, value string) (err error) {
	if value == "" {
		return errors.New("has no value")
	}
	switch key {
	case "store_uri":
		c.storeURI = value
	case "store_uri_file":
		text, err := os.ReadFile(value)
		if err != nil {
			return fmt.Errorf("%w (Mosquitto reads it as the user that it runs as)", err)
		}
		if c.storeURI = strings.TrimSpace(string(text)); c.storeURI == "" {
			return fmt.Errorf("%s is empty; want a line like mongodb://user:password@host/", value)
		}
	case "database":
		c.database = value
	case "settings_file":
		c.settingsFile = value
	default:
		if known, err := c.Settings.Set(key, value); known {
			return err
		}
		return fmt.Errorf("unknown option; the options are %s", optionNames)
	}
	return nil
}

// readSettings returns the settings of the options, overridden by those of the
// settings file. The public filters of both are public.
func (c Config) readSettings() (settings.Settings, error) {
	s := c.Settings
	if c.settingsFile == "" {
		return s, nil
	}
	text, err := os.ReadFile(c.settingsFile)
	if err != nil {
		return s, fmt.Errorf("%w (Mosquitto reads it as the user that it runs as)", err)
	}
	return s.Parse(c.settingsFile, text)
}

// OpenStore returns the store that the options name. It does not wait for the
// server.
func (c Config) OpenStore(log logrus.FieldLogger) (*mongostore.Store, error) {
	s, err := mongostore.Open(c.storeURI, c.database)
	if err != nil {
		return nil, fmt.Errorf("plugin_opt_store_uri and plugin_opt_database: open store: %w", err)
	}
	s.Log = log
	return s, nil
}
