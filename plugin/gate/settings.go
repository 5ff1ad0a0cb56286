package gate

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/mongostore"
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
	settings
}

// settings may change while the broker runs.
type settings struct {
	// public are the filters whose topics everyone may read.
	public []acl.Filter
	// maxAge is how long users and grants stay in force while the store is
	// unreachable.
	maxAge time.Duration
	// deferUnknown leaves usernames that the store does not know to the next
	// plugin. Otherwise they are denied. Clients without a username are always
	// denied, since other plugins let them read by default.
	deferUnknown bool
	// refuseUnpaid refuses the subscription of a user to what is for sale until it
	// is paid for. Otherwise it is accepted, and only its deliveries wait.
	refuseUnpaid bool
}

// The options and the settings, as errors list them.
const (
	optionNames  = "store_uri, store_uri_file, database, public, max_age, unknown_user, unpaid_subscribe, settings_file"
	settingNames = "public, max_age, unknown_user, unpaid_subscribe"
)

// ParseOptions reads the plugin_opt_ lines. Its errors name the option and what is
// accepted.
func ParseOptions(options []Option) (Config, error) {
	c := Config{database: "mosquitto", settings: settings{maxAge: 24 * time.Hour}}
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
		if known, err := c.settings.set(key, value); known {
			return err
		}
		return fmt.Errorf("unknown option; the options are %s", optionNames)
	}
	return nil
}

// set changes a setting. known is false if there is no setting of that name.
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
	case "unpaid_subscribe":
		if value != "allow" && value != "refuse" {
			return true, fmt.Errorf("got %q, want allow or refuse", value)
		}
		s.refuseUnpaid = value == "refuse"
	default:
		return false, nil
	}
	return true, nil
}

// readSettings returns the settings of the options, overridden by those of the
// settings file. The file has one setting a line, such as "max_age 90m". Empty lines
// and lines that begin with # are ignored. The public filters of both are public.
// Errors name the file, the line and the key.
func (c Config) readSettings() (settings, error) {
	s := c.settings
	if c.settingsFile == "" {
		return s, nil
	}
	text, err := os.ReadFile(c.settingsFile)
	if err != nil {
		return s, fmt.Errorf("%w (Mosquitto reads it as the user that it runs as)", err)
	}
	return s.parse(c.settingsFile, text)
}

// Settings are the settings of a file that decide what clients may do.
type Settings struct {
	Public       []acl.Filter // what everyone may read
	RefuseUnpaid bool         // see [acl.Snapshot.RefuseUnpaid]
}

// ParseSettings returns the settings in the text of a settings file. Errors name the
// file, the line and the key.
func ParseSettings(file string, text []byte) (Settings, error) {
	s, err := settings{}.parse(file, text)
	return Settings{s.public, s.refuseUnpaid}, err
}

// parse returns the settings, overridden by those in the text of a settings file.
func (s settings) parse(file string, text []byte) (settings, error) {
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
			err = fmt.Errorf("unknown setting; the settings are %s", settingNames)
		}
		if err != nil {
			return settings{}, fmt.Errorf("%s, line %d: %.80q: %w", file, number, key, err)
		}
		seen[key] = true
	}
	return s, nil
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
