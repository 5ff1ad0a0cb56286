package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/iotoll/iotoll/cmd/internal/daemon"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
	"github.com/iotoll/iotoll/tangle/devnet/rebased"
	"github.com/iotoll/iotoll/tangle/wallet"
	"github.com/iotoll/iotoll/wemo/simulator"
)

func newSim(c console) *cobra.Command {
	return group("sim", "Simulate a plug or a ledger, to try things out", newSimPlug(c), newSimTangle(c), newSimIOTA(c))
}

func newSimPlug(c console) *cobra.Command {
	cfg := simulator.Config{Name: "Simulated plug"}
	cmd := &cobra.Command{
		Use:   "plug",
		Short: "Run a simulated WeMo Insight until interrupted",
		Long: `plug runs a smart plug that answers like a real one and measures a plausible
household. It takes commands on its standard input, one a line:

` + simulator.Commands,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Log = newLog(c.err)
			plug, err := simulator.Listen(cfg)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.out, "plug %s\nready\n", plug.Addr())
			// In the background of a terminal, reading it is to fail, not to stop the plug.
			signal.Ignore(syscall.SIGTTIN)
			// A read of the terminal cannot be interrupted, so nobody waits for
			// this: it ends with stdin, or with the process.
			go func() {
				lines := bufio.NewScanner(c.in)
				for lines.Scan() {
					if err := plug.Command(lines.Text()); err != nil {
						fmt.Fprintln(c.err, "iotoll:", err)
					}
				}
			}()
			return plug.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Address, "listen", "127.0.0.1:49153", "`address` of its HTTP server; port 0 takes a free one")
	f.BoolVar(&cfg.Multicast, "discoverable", false, "answer searches on the network, as a real plug does")
	return cmd
}

func newSimTangle(c console) *cobra.Command {
	var listen, control, seedFile string
	var cfg devlegacy.Config
	var supply uint64
	cmd := &cobra.Command{
		Use:   "tangle",
		Short: "Run a simulated tangle until interrupted",
		Long: `tangle runs one node of a simulated legacy tangle: it speaks the HTTP API of IRI,
checks signatures, keeps balances, and confirms payments by milestones. It
forgets everything when it stops.

The seed in --seed-file owns all iotas; if there is no such file, it is written
with a new random seed. Pay from it with "iotoll pay".

With --control it can be told to misbehave as real nodes do, each command a POST:

  curl -X POST 'http://127.0.0.1:14266/stall?on=true'           no more milestones
  curl -X POST 'http://127.0.0.1:14266/break?fault=html'        a page for an answer
  curl -X POST 'http://127.0.0.1:14266/break?fault='            all is well again

The package documentation of tangle/devnet/legacy lists all of them.`,
		Example: `  iotoll sim tangle --seed-file john.seed &
  iotoll pay --node http://127.0.0.1:14265 --seed-file john.seed ...`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if at, err := netip.ParseAddrPort(control); control != "" && (err != nil || !at.Addr().IsLoopback()) {
				return &usageError{err: fmt.Errorf("--control %q: must be a loopback address with a port, such as 127.0.0.1:14266", control)}
			}
			if cfg.Milestone <= 0 {
				return &usageError{err: fmt.Errorf("--milestone %s: must be a duration above 0", cfg.Milestone)}
			}
			if _, err := os.Stat(seedFile); errors.Is(err, fs.ErrNotExist) {
				if err := ledgers.NewKey(ledgers.Legacy, seedFile); err != nil {
					return err
				}
			}
			seed, err := ledgers.ReadSeed(seedFile)
			if err != nil {
				return err
			}
			if cfg.Genesis, err = devlegacy.SeedGenesis(seed.Reveal(), supply); err != nil {
				return fmt.Errorf("give %d iotas to the seed in %s: %w", supply, seedFile, err)
			}
			cfg.Log = newLog(c.err)
			node, err := devlegacy.New(cfg)
			if err != nil {
				return err
			}
			return runNode(cmd.Context(), c, node, listen, control, func(at net.Addr) string {
				return fmt.Sprintf("node http://%s\nseed %s owns %d iotas\n", at, seedFile, supply)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:14265", "`address` of the node; port 0 takes a free one")
	f.StringVar(&control, "control", "", "loopback `address` on which it takes commands; none if left out")
	f.StringVar(&seedFile, "seed-file", "", "`file` that holds the seed of the buyer")
	f.DurationVar(&cfg.Milestone, "milestone", time.Second, "time between two milestones, which confirm payments")
	f.IntVar(&cfg.MWM, "mwm", 9, "minimum weight magnitude: how much proof of work the network wants")
	f.Uint64Var(&supply, "iotas", 1_000_000_000, "how many iotas the seed owns")
	cmd.MarkFlagRequired("seed-file")
	return cmd
}

func newSimIOTA(c console) *cobra.Command {
	const coins = 5 // of the key, so that paying with several can be tried
	var listen, control, keyFile string
	var iotas uint64
	cfg := rebased.Config{Execution: 400 * time.Millisecond, Lag: 300 * time.Millisecond}
	conflicts := string(rebased.Certificates)
	cmd := &cobra.Command{
		Use:   "iota",
		Short: "Run a simulated node of today's IOTA network until interrupted",
		Long: `iota runs a node of a simulated IOTA network ("Rebased"): it speaks GraphQL and
JSON-RPC, checks signatures, keeps coins, charges gas, and finalizes payments in
checkpoints. It forgets everything when it stops.

The key in --key-file owns --iota in 5 coins; if there is no such file, it is
written with a new random key. Pay from it with "iotoll pay". The faucet at /gas
gives 10 IOTA to anybody.

With --control it can be told to misbehave as real nodes do, each command a POST:

  curl -X POST 'http://127.0.0.1:9126/stopindexer?on=true'          lists stand still
  curl -X POST 'http://127.0.0.1:9126/misbehave?how=executed-lost'  paid, and no answer
  curl -X POST 'http://127.0.0.1:9126/break?fault=html'             a page for an answer
  curl -X POST 'http://127.0.0.1:9126/break?fault='                 all is well again

The package documentation of tangle/devnet/rebased lists all of them.`,
		Example: `  iotoll sim iota --key-file john.key &
  iotoll pay --node http://127.0.0.1:9125 --key-file john.key ...`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if at, err := netip.ParseAddrPort(control); control != "" && (err != nil || !at.Addr().IsLoopback()) {
				return &usageError{err: fmt.Errorf("--control %q: must be a loopback address with a port, such as 127.0.0.1:9126", control)}
			}
			if cfg.Checkpoint < 200*time.Millisecond {
				return &usageError{err: fmt.Errorf("--checkpoint %s: must be a duration of 200ms or more", cfg.Checkpoint)}
			}
			if cfg.Epoch <= 0 {
				return &usageError{err: fmt.Errorf("--epoch %s: must be a duration above 0", cfg.Epoch)}
			}
			if iotas > maxSimIOTA {
				return &usageError{err: fmt.Errorf("--iota %d: must be at most %d", iotas, uint64(maxSimIOTA))}
			}
			cfg.Conflicts = rebased.Conflicts(conflicts)
			if cfg.Conflicts != rebased.Certificates && cfg.Conflicts != rebased.PCool {
				return &usageError{err: fmt.Errorf("--conflicts %q: must be certificates or pcool", conflicts)}
			}
			cfg.Log = newLog(c.err)
			node, err := rebased.New(cfg)
			if err != nil {
				return err
			}
			key, err := wallet.ReadKey(keyFile)
			if errors.Is(err, fs.ErrNotExist) {
				key, err = wallet.WriteKey(keyFile)
			}
			if err != nil {
				return err
			}
			for range coins {
				node.Fund(key.Address(), iotas*1_000_000_000/coins)
			}
			return runNode(cmd.Context(), c, node, listen, control, func(at net.Addr) string {
				return fmt.Sprintf("node http://%s\nfaucet http://%[1]s/gas\nchain %s\nkey %s owns %d IOTA at %s\n", at, node.ChainID(), keyFile, iotas, key.Address())
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:9125", "`address` of the node; port 0 takes a free one")
	f.StringVar(&control, "control", "", "loopback `address` on which it takes commands; none if left out")
	f.StringVar(&keyFile, "key-file", "", "`file` that holds the key of the buyer, iotaprivkey1…")
	f.DurationVar(&cfg.Checkpoint, "checkpoint", 250*time.Millisecond, "time between two checkpoints, which make payments final")
	f.DurationVar(&cfg.Epoch, "epoch", 24*time.Hour, "how long an epoch lasts")
	f.StringVar(&conflicts, "conflicts", conflicts, "what becomes of two transactions that use one coin: certificates or pcool")
	f.Uint64Var(&iotas, "iota", 1000, "how many IOTA the key owns")
	cmd.MarkFlagRequired("key-file")
	return cmd
}

// maxSimIOTA is about the supply of the real network.
const maxSimIOTA = 5_000_000_000

// simulatedNode is a node of a simulated ledger.
type simulatedNode interface {
	http.Handler
	Run(context.Context) error
	Control() http.Handler
}

// runNode serves a simulated node until ctx ends, and takes commands for it unless
// control is empty. It prints what intro says of the address, and then that it is ready.
func runNode(ctx context.Context, c console, node simulatedNode, listen, control string, intro func(net.Addr) string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	fmt.Fprint(c.out, intro(l.Addr()))
	if control != "" {
		commands, err := net.Listen("tcp", control)
		if err != nil {
			l.Close()
			return err
		}
		fmt.Fprintf(c.out, "control http://%s\n", commands.Addr())
		g.Go(func() error { return daemon.ServeHTTP(ctx, commands, node.Control()) })
	}
	fmt.Fprintln(c.out, "ready")
	g.Go(func() error { return node.Run(ctx) })
	g.Go(func() error { return daemon.ServeHTTP(ctx, l, node) })
	return g.Wait()
}
