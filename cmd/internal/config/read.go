package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/cmd/internal/secret"
	"github.com/iotoll/iotoll/wemo"
)

// SystemPath is where the configuration is unless --config or
// $IOTOLL_CONFIG says otherwise.
const SystemPath = "/etc/iotoll/iotoll.yaml"

// DefaultPath returns where the configuration is unless --config says otherwise:
// $IOTOLL_CONFIG, else SystemPath.
func DefaultPath() string {
	if path := os.Getenv("IOTOLL_CONFIG"); path != "" {
		return path
	}
	return SystemPath
}

// Load reads and checks a configuration file. Its error names every
// fault that was found.
func Load(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, hint.Add(fmt.Errorf("read configuration: %w", err),
			`"iotoll init DIR" writes one; --config or $IOTOLL_CONFIG says where it is`)
	} else if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	c, err := Parse(text, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	c.Path = path
	return c, nil
}

// Parse returns the configuration that text holds. File names in it are relative
// to dir. The error names every fault.
func Parse(text []byte, dir string) (*Config, error) {
	c, err := decode(text)
	if err != nil {
		return nil, err
	}
	if err := c.resolve(dir); err != nil {
		return nil, err
	}
	return c, c.validate()
}

// decode reads YAML, strictly, over the defaults.
func decode(text []byte) (*Config, error) {
	c := &Config{
		Store:  Store{Database: "mosquitto"},
		Ledger: Ledger{Poll: 250 * time.Millisecond},
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(c); errors.Is(err, io.EOF) {
		return nil, errors.New("is empty: must at least say where the store is")
	} else if err != nil {
		return nil, plainYAML(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds a second YAML document: must hold one")
	}
	if c.Store.URIFile == "" {
		if c.Store.Embedded == nil {
			c.Store.Embedded = new(Embedded)
		}
		e := c.Store.Embedded
		if e.Directory == "" {
			e.Directory = "/var/lib/iotoll/store"
		}
		if e.Socket == "" {
			e.Socket = "/run/iotoll/store.sock"
		}
	}
	for i := range c.Plugs {
		if p := &c.Plugs[i]; p.Status == "" && p.Live != "" {
			p.Status = wemo.StatusTopic(p.Live)
		}
	}
	return c, nil
}

var (
	yamlUnknown = regexp.MustCompile(`field (\S+) not found in type \S+`)
	yamlType    = regexp.MustCompile("cannot unmarshal !!\\S+(?: `(.*)`)? into (\\S+)")
)

// plainYAML says what the decoder found in the words of the file, not in those
// of its Go types.
func plainYAML(err error) error {
	var faults *yaml.TypeError
	if !errors.As(err, &faults) {
		return errors.New("is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var all []error
	for _, text := range faults.Errors {
		text = yamlUnknown.ReplaceAllString(text, `unknown key "$1"`)
		text = yamlType.ReplaceAllStringFunc(text, func(s string) string {
			m := yamlType.FindStringSubmatch(s)
			want, ok := map[string]string{
				"string":        "a text",
				"bool":          "true or false",
				"int":           "a whole number",
				"float64":       "a number",
				"time.Duration": "a duration such as 250ms or 1h",
			}[m[2]]
			switch {
			case ok:
			case strings.HasPrefix(m[2], "[]"):
				want = "a list"
			default:
				want = "a mapping of keys to values"
			}
			if m[1] == "" {
				return "must be " + want
			}
			return fmt.Sprintf("%q: must be %s", m[1], want)
		})
		all = append(all, errors.New(text))
	}
	return errors.Join(all...)
}

// resolve makes file names absolute that are relative to dir.
func (c *Config) resolve(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	names := []*string{&c.Store.URIFile, &c.Broker.PasswordFile}
	if c.Store.Embedded != nil {
		names = append(names, &c.Store.Embedded.Directory, &c.Store.Embedded.Socket)
	}
	for _, name := range names {
		if *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(dir, *name)
		}
	}
	return nil
}

// UnmarshalYAML refuses 0.5 and 1e3, of which the decoder would make the
// integers 0 and 1000.
func (i *iotas) UnmarshalYAML(n *yaml.Node) error {
	v, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil || n.ShortTag() != "!!int" {
		// In this type, the decoder adds it to the faults it found elsewhere.
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %.40q: must be a whole number of iotas", n.Line, n.Value)}}
	}
	*i = iotas(v)
	return nil
}

// CheckFiles reads the files that the configuration names. Its error names every
// one that cannot be used.
func (c *Config) CheckFiles() error {
	var f faults
	if name := c.Store.URIFile; name != "" {
		uri, err := secret.ReadFile(name)
		if err == nil {
			err = mongostore.CheckURI(uri.Reveal())
		}
		f.addErr("store.uri_file", err)
	}
	if name := c.Broker.PasswordFile; name != "" {
		_, err := secret.ReadFile(name)
		f.addErr("broker.password_file", err)
	}
	if len(f) > 0 {
		return fmt.Errorf("configuration %s:\n%w", c.Path, errors.Join(f...))
	}
	return nil
}
