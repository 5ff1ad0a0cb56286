// Package rig runs the whole system on free loopback ports: a simulated ledger
// and a simulated plug, iotoll serve with its embedded store, and a real
// Mosquitto with the plugin. The demo, the end-to-end tests and the benchmarks
// start it, so that what they show is the programs that a user installs.
package rig

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/iotoll/iotoll/cmd/internal/ledgers"
)

// Options say what to run. The zero value of a field means its default.
type Options struct {
	Bin      string        // the directory that holds iotoll and iotoll.so; required
	Dir      string        // where configuration, data and logs go; must be empty; required
	Server   string        // the program in Bin that runs "serve"; default iotoll
	Ledger   string        // ledgers.Legacy or ledgers.IOTA; default Legacy
	Price    string        // of the offer "live", as the ledger writes amounts; default 500 i or 0.5 IOTA
	Period   time.Duration // what the price buys; default 1 h
	Minute   time.Duration // how much time an average covers; default 1 min
	Finality time.Duration // the simulated ledger makes payments final this often; default 1 s, or 250 ms on IOTA
}

// Rig is the running system. Its programs may be stopped and started again one
// by one; Close stops them all.
type Rig struct {
	Options

	Node, Plug, Serve, Broker *Process

	BrokerPort  int    // MQTT, on 127.0.0.1
	Socket      string // the embedded store's
	NodeURL     string // the simulated node's API
	PlugAddress string // the simulated plug, as host:port
	Deposit     string // the deposit address of the offer
	KeyFile     string // the buyer's key, which holds money
	Config      string // the configuration file of iotoll
	BrokerConf  string // mosquitto.conf

	others []*Process // clients
}

// Publisher is the account that the plug's readings are published with.
const Publisher = "iotoll"

// Start brings everything up and returns when the broker accepts clients and
// serve is ready. If it fails, nothing is left running.
func Start(ctx context.Context, o Options) (r *Rig, err error) {
	if o.Server == "" {
		o.Server = "iotoll"
	}
	if o.Ledger == "" {
		o.Ledger = ledgers.Legacy
	}
	legacy := o.Ledger == ledgers.Legacy
	example, err := ledgers.ExampleOf(o.Ledger, "local")
	if err != nil {
		return nil, err
	}
	if o.Price == "" {
		o.Price = example.Price
	}
	if o.Period == 0 {
		o.Period = time.Hour
	}
	if o.Minute == 0 {
		o.Minute = time.Minute
	}
	if o.Finality == 0 {
		o.Finality = 250 * time.Millisecond
		if legacy {
			o.Finality = time.Second
		}
	}
	r = &Rig{Options: o}
	defer func() {
		if err != nil {
			r.Close()
			r = nil
		}
	}()
	ports, err := freePorts(3)
	if err != nil {
		return r, fmt.Errorf("find free ports: %w", err)
	}
	r.BrokerPort = ports[0]
	r.NodeURL = fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	r.PlugAddress = fmt.Sprintf("127.0.0.1:%d", ports[2])
	r.Socket = filepath.Join(o.Dir, "run", "store.sock")
	r.Config = filepath.Join(o.Dir, "iotoll.yaml")
	r.BrokerConf = filepath.Join(o.Dir, "mosquitto.conf")
	r.KeyFile = filepath.Join(o.Dir, "john.key")
	if legacy {
		r.KeyFile = filepath.Join(o.Dir, "john.seed")
	}

	if err := r.StartNode(ctx); err != nil {
		return r, err
	}
	if err := r.StartPlug(ctx); err != nil {
		return r, err
	}
	if err := r.configure(ctx); err != nil {
		return r, err
	}
	// The broker first: it starts without the store just as well.
	if err := r.StartBroker(ctx); err != nil {
		return r, err
	}
	if err := r.StartServe(ctx); err != nil {
		return r, err
	}
	// What was paid before would be history.
	if err := r.Serve.waitFor(ctx, "deposit address is watched from now on"); err != nil {
		return r, err
	}
	if err := r.AddUser(ctx, "john"); err != nil {
		return r, err
	}
	return r, r.Broker.waitFor(ctx, "following the store")
}

// StartNode starts the simulated node, which forgets when it stops. On the legacy
// tangle it wants little proof of work.
func (r *Rig) StartNode(ctx context.Context) (err error) {
	listen := strings.TrimPrefix(r.NodeURL, "http://")
	args := r.iotoll("sim", "iota", "--key-file", r.KeyFile, "--listen", listen, "--checkpoint", r.Finality.String())
	if r.Ledger == ledgers.Legacy {
		args = r.iotoll("sim", "tangle", "--seed-file", r.KeyFile, "--listen", listen, "--milestone", r.Finality.String(), "--mwm", "5")
	}
	if r.Node, err = start(r.Dir, "node", args...); err != nil {
		return err
	}
	return r.Node.waitFor(ctx, "ready")
}

// StartPlug starts the simulated plug.
func (r *Rig) StartPlug(ctx context.Context) (err error) {
	if r.Plug, err = start(r.Dir, "plug", r.iotoll("sim", "plug", "--listen", r.PlugAddress)...); err != nil {
		return err
	}
	return r.Plug.waitFor(ctx, "ready")
}

// StartServe starts iotoll serve, with its store.
func (r *Rig) StartServe(ctx context.Context) (err error) {
	if r.Serve, err = start(r.Dir, "serve", filepath.Join(r.Bin, r.Server), "--config", r.Config, "serve"); err != nil {
		return err
	}
	return r.Serve.waitFor(ctx, "ready")
}

// Mosquitto returns the program to start as the broker.
func Mosquitto() string {
	if path, err := exec.LookPath("mosquitto"); err == nil {
		return path
	}
	return "/usr/sbin/mosquitto" // Debian keeps it where only root's PATH looks
}

// StartBroker starts Mosquitto with the plugin.
func (r *Rig) StartBroker(ctx context.Context) (err error) {
	if r.Broker, err = start(r.Dir, "mosquitto", Mosquitto(), "-c", r.BrokerConf); err != nil {
		return err
	}
	return r.Broker.waitListening(ctx, fmt.Sprintf("127.0.0.1:%d", r.BrokerPort))
}

func (r *Rig) iotoll(args ...string) []string {
	return append([]string{filepath.Join(r.Bin, "iotoll"), "--config", r.Config}, args...)
}

// Iotoll runs one iotoll command to its end and returns what it printed.
func (r *Rig) Iotoll(ctx context.Context, args ...string) (string, error) {
	args = r.iotoll(args...)
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	return string(out), err
}

// Pay pays an amount from the buyer's key to the deposit address, with any
// message. It returns at once, unless the flag --wait makes it wait until the
// payment is final.
func (r *Rig) Pay(ctx context.Context, amount, message string, flags ...string) (string, error) {
	return r.Iotoll(ctx, append([]string{"pay", "--node", r.NodeURL, "--key-file", r.KeyFile,
		"--address", r.Deposit, "--amount", amount, "--message", message, "--force"}, flags...)...)
}

// Client starts mosquitto_sub as a user, or anonymously if user is empty.
func (r *Rig) Client(name, user string, args ...string) (*Process, error) {
	argv := []string{"mosquitto_sub", "-h", "127.0.0.1", "-p", strconv.Itoa(r.BrokerPort), "-v"}
	if user != "" {
		argv = append(argv, "-u", user, "-P", r.Password(user))
	}
	p, err := start(r.Dir, name, append(argv, args...)...)
	if err == nil {
		r.others = append(r.others, p)
	}
	return p, err
}

// Close stops everything that still runs, clients first.
func (r *Rig) Close() {
	for _, p := range r.others {
		p.Kill()
	}
	for _, p := range []*Process{r.Broker, r.Serve, r.Plug, r.Node} {
		p.Stop()
	}
}
