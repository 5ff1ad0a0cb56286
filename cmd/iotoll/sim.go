package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/iotoll/iotoll/cmd/internal/daemon"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
	"github.com/iotoll/iotoll/wemo/simulator"
)

func newSim(c console) *cobra.Command {
	return group("sim", "Simulate a plug or a tangle, to try things out", newSimPlug(c), newSimTangle(c))
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
			seed, err := ledgers.ReadKey(ledgers.Legacy, seedFile)
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
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return err
			}
			g, ctx := errgroup.WithContext(cmd.Context())
			fmt.Fprintf(c.out, "node http://%s\nseed %s owns %d iotas\n", l.Addr(), seedFile, supply)
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
