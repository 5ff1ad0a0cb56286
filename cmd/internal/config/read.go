package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/cmd/internal/secret"
	"github.com/iotoll/iotoll/plugin/gate"
	"github.com/iotoll/iotoll/wemo"
)

// SystemPath is where the configuration is unless --config or $IOTOLL_CONFIG
// says otherwise.
const SystemPath = "/etc/iotoll/iotoll.yaml"

// DefaultPath returns where the configuration is unless --config says otherwise:
// $IOTOLL_CONFIG, else SystemPath.
func DefaultPath() string {
	if path := os.Getenv("IOTOLL_CONFIG"); path != "" {
		return path
	}
	return SystemPath
}

// Load returns the configuration in a file. The error names every fault.
func Load(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, hint.Add(fmt.Errorf("read configuration: %w", err),
			`"iotoll init DIR" writes one; --config or $IOTOLL_CONFIG says where it is`)
	} else if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	c, err := Parse(text, filepath.Dir(path), os.ReadFile)
	if err != nil {
		return nil, fmt.Errorf("configuration %s:\n%w", path, err)
	}
	c.Path = path
	return c, nil
}

// Parse returns the configuration that text contains. File names in it are
// relative to dir; readFile reads the plugin's settings. The error names every
// fault.
func Parse(text []byte, dir string, readFile func(path string) ([]byte, error)) (*Config, error) {
	c, err := decode(text)
	if err != nil {
		return nil, err
	}
	if err := c.resolve(dir); err != nil {
		return nil, err
	}
	c.inline = len(c.Public) > 0
	if name := c.Broker.SettingsFile; name != "" && !c.inline {
		text, err := readFile(name)
		if err != nil {
			return nil, fmt.Errorf("broker.settings_file: %w", err)
		}
		settings, err := gate.ParseSettings(name, text)
		if err != nil {
			return nil, fmt.Errorf("broker.settings_file: %w", err)
		}
		for _, f := range settings.Public {
			c.Public = append(c.Public, f.String())
		}
		c.RefuseUnpaid = settings.RefuseUnpaid
	}
	return c, c.validate()
}

// decode reads YAML, strictly, over the defaults.
func decode(text []byte) (*Config, error) {
	c := &Config{Store: Store{Database: "mosquitto"}}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(c); errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty, want at least where the store is")
	} else if err != nil {
		return nil, err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("the file contains a second YAML document, want one")
	}
	c.Ledger.SetDefaults()
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

// resolve makes file names absolute that are relative to dir.
func (c *Config) resolve(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	names := []*string{&c.Store.URIFile, &c.Broker.PasswordFile, &c.Broker.SettingsFile}
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

// CheckFiles reads the secrets that the configuration names. The error names
// every file that cannot be used.
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
		return fmt.Errorf("configuration %s:\n%w", c.Path, f.join())
	}
	return nil
}
