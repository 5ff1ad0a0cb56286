package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/cmd/internal/secret"
)

var (
	//go:embed init_iotoll.yaml
	initConfigText string
	initConfig     = template.Must(template.New("iotoll.yaml").Parse(initConfigText))

	//go:embed init_mosquitto.conf
	initBrokerText string
	initBroker     = template.Must(template.New("mosquitto.conf").Parse(initBrokerText))

	//go:embed init_broker-settings
	initSettings string
)

// initValues is what goes into the files that init writes.
type initValues struct {
	Directory string // where the files go
	Ledger    string // kind
	Network   string
	Price     string
	Address   string // deposit address; empty: the offer is written as a comment
	Node      string
	Plug      string // address of the plug; empty: discovered
	Plugin    string // path of iotoll.so
	Broker    string // URL that readings are published to
	Port      string // of the broker
	URIFile   string // holds the URI of a MongoDB server; empty: the embedded store
	System    bool   // Directory is the one in /etc, whose files iotoll and broker do not write

	StoreURI string // of the embedded store
	Root     bool   // only root can open the embedded store
}

func newInit(c console) *cobra.Command {
	var v initValues
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Write a configuration and random passwords into a new directory",
		Long: `init writes four files into DIR, which must be new or empty, or hold a broker-settings
that is kept:

  iotoll.yaml       the configuration, with comments
  mosquitto.conf    a broker configuration that loads the plugin
  broker-settings   what everybody may read, for the plugin and for iotoll
  broker-password   a random password for the account that publishes the readings

"iotoll serve" creates that account at its first start.`,
		Example: `  iotoll init ~/iotoll --network mainnet --address "$(iotoll address --key-file seller.key)"`,
		Args:    exactly("DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			example, err := ledgers.ExampleOf(v.Ledger, v.Network)
			if err != nil {
				return &usageError{err: fmt.Errorf("--ledger and --network: %w", err)}
			}
			v.Price = example.Price
			if v.Node == "" {
				v.Node = example.Node
			}
			v.Plugin = pluginPath()
			return initialize(c, args[0], v)
		},
	}
	f := cmd.Flags()
	f.StringVar(&v.Ledger, "ledger", ledgers.IOTA, "`kind` of ledger that payments come from: iota, or legacy for a private tangle")
	f.StringVar(&v.Network, "network", "local", "`name` of the network: mainnet, testnet, devnet or local")
	f.StringVar(&v.Address, "address", "", "deposit address of the first offer")
	f.StringVar(&v.Node, "node", "", "`URL` of a node of the ledger; the public one of the network if left out, or one on this machine")
	f.StringVar(&v.Broker, "broker", "mqtt://127.0.0.1:1883", "`URL` of the broker that readings are published to")
	f.StringVar(&v.URIFile, "store-uri-file", "", "`file` that holds the URI of a MongoDB server, to use instead of the embedded store")
	f.StringVar(&v.Plug, "plug", "", "IP address of the smart plug, if it is not to be discovered")
	return cmd
}

// pluginPath is where the broker finds the plugin: beside this program if it
// is there, as after "make build", and otherwise where packages install it.
func pluginPath() string {
	if program, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(program), "iotoll.so")
		if _, err := os.Stat(beside); err == nil {
			return beside
		}
	}
	return "/usr/lib/iotoll/iotoll.so"
}

// initialize writes the files of init. They appear in dir all at once, or not
// at all.
func initialize(c console, dir string, v initValues) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The package of the broker's plugin brings this one.
	filters := []byte(initSettings)
	if len(entries) == 1 && entries[0].Name() == "broker-settings" {
		if filters, err = os.ReadFile(filepath.Join(dir, "broker-settings")); err != nil {
			return err
		}
		entries = nil
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty, want a new or an empty directory: nothing is overwritten", dir)
	}
	if v.URIFile != "" {
		// The broker reads it too, and has another working directory.
		if v.URIFile, err = filepath.Abs(v.URIFile); err != nil {
			return err
		}
		uri, err := secret.ReadFile(v.URIFile)
		if err == nil {
			err = mongostore.CheckURI(uri.Reveal())
		}
		if err != nil {
			return fmt.Errorf("--store-uri-file: %w", err)
		}
	}
	v.System = dir == filepath.Dir(config.SystemPath)
	v.StoreURI = embedded.URI(filepath.Join(dir, "run", "store.sock"))
	if v.System {
		v.StoreURI = embedded.URI(config.DefaultSocket)
	}
	v.Root = v.URIFile == "" && os.Getuid() == 0
	v.Directory, v.Port = dir, "1883"
	if u, err := url.Parse(v.Broker); err == nil && u.Scheme == "mqtt" && u.Port() != "" {
		v.Port = u.Port()
	}
	var settings, broker strings.Builder
	if err := initConfig.Execute(&settings, v); err != nil {
		return err
	}
	if err := initBroker.Execute(&broker, v); err != nil {
		return err
	}
	// The flags came unchecked: what would be refused later is refused now.
	if _, err := config.Parse([]byte(settings.String()), dir, func(string) ([]byte, error) { return filters, nil }); err != nil {
		err = fmt.Errorf("write configuration:\n%w", err)
		if kind := ledgers.KindOfAddress(v.Address); kind != "" && kind != v.Ledger {
			err = hint.Add(err, "the address is one of another ledger: --ledger %s", kind)
		}
		return err
	}

	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	stage, err := os.MkdirTemp(parent, ".iotoll-init-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage) // gone by then, if all went well
	for _, file := range []struct {
		name, text string
		mode       fs.FileMode
	}{
		{"iotoll.yaml", settings.String(), 0o644},
		{"mosquitto.conf", broker.String(), 0o644},
		{"broker-settings", string(filters), 0o644},
		{"broker-password", password.Generate() + "\n", 0o600},
	} {
		if err := os.WriteFile(filepath.Join(stage, file.name), []byte(file.text), file.mode); err != nil {
			return err
		}
	}
	if !v.System {
		if err := os.Mkdir(filepath.Join(stage, "mosquitto"), 0o700); err != nil { // the broker's memory of retained messages
			return err
		}
	}
	if err := replaceDirectory(dir, stage); err != nil {
		return err
	}
	next := "iotoll serve --config " + filepath.Join(dir, "iotoll.yaml")
	if v.Address == "" {
		next = "put an offer with your deposit address into iotoll.yaml, then: " + next
	}
	if v.System {
		_, err = fmt.Fprintf(c.out, `wrote %[1]s/iotoll.yaml, mosquitto.conf, broker-settings and broker-password
next: %[2]s
      cp %[1]s/mosquitto.conf /etc/mosquitto/conf.d/iotoll.conf && systemctl restart mosquitto
`, dir, strings.Replace(next, "iotoll serve --config "+filepath.Join(dir, "iotoll.yaml"), "systemctl enable --now iotoll", 1))
		return err
	}
	mosquitto := "mosquitto"
	if _, err := exec.LookPath(mosquitto); err != nil {
		mosquitto = "/usr/sbin/mosquitto" // Debian keeps it where only root's PATH looks
	}
	_, err = fmt.Fprintf(c.out, `wrote %[1]s/iotoll.yaml, mosquitto.conf, broker-settings and broker-password
next: %[2]s
      %[3]s -c %[1]s/mosquitto.conf
`, dir, next, mosquitto)
	return err
}

// replaceDirectory moves stage to dir, which may exist without other files than
// broker-settings. Owner, group and mode of dir stay, and what is in it gets them: if
// only a group may read dir, as in packages, its members may read the password.
func replaceDirectory(dir, stage string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.Chmod(stage, 0o755); err != nil {
			return err
		}
		return os.Rename(stage, dir)
	case err != nil:
		return err
	}
	mode := info.Mode().Perm()
	if mode&0o040 != 0 && mode&0o007 == 0 {
		if err := os.Chmod(filepath.Join(stage, "broker-password"), 0o640); err != nil {
			return err
		}
	}
	owner := info.Sys().(*syscall.Stat_t)
	err = filepath.WalkDir(stage, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, int(owner.Uid), int(owner.Gid))
	})
	if err != nil {
		return err
	}
	if err := os.Chmod(stage, mode); err != nil {
		return err
	}
	// Remove takes only an empty directory, and Rename none that exists.
	if err := os.Remove(filepath.Join(dir, "broker-settings")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(dir); err != nil {
		return err
	}
	return os.Rename(stage, dir)
}
