// Command demo plays the whole story of iotoll with a simulated ledger and a
// simulated plug: John reads what is free, pays, reads what he paid for, and
// loses it when his time is over. With -keep it brings the same system up and
// keeps it, for you to play the story yourself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/cmd/internal/rig"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	bin := flags.String("bin", "build", "directory that holds iotoll and iotoll.so")
	ledger := flags.String("ledger", ledgers.Legacy, "legacy, the tangle of 2017, or iota, today's network")
	keep := flags.Bool("keep", false, "keep the system up instead of playing the story")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b, err := filepath.Abs(*bin)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "iotoll-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	o := rig.Options{Bin: b, Dir: dir, Ledger: *ledger, Minute: 5 * time.Second}
	if *keep {
		return show(ctx, o, out, keepUp)
	}
	o.Period = 8 * time.Second
	return show(ctx, o, out, tell)
}

// money is what the live readings cost, for people.
var money = map[string]string{ledgers.Legacy: "500 iotas", ledgers.IOTA: "0.5 IOTA"}

// show starts the system for what is to be shown.
func show(ctx context.Context, o rig.Options, out io.Writer, what func(context.Context, *rig.Rig, io.Writer) error) error {
	simulated := "IOTA network"
	if o.Ledger == ledgers.Legacy {
		simulated = "tangle"
	}
	fmt.Fprintf(out, "Starting a simulated %s and plug, iotoll serve with its own store, and Mosquitto …\n", simulated)
	start, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := rig.Start(start, o)
	if err != nil {
		return err
	}
	defer r.Close()
	return what(ctx, r, out)
}

// tell plays the story.
func tell(ctx context.Context, r *rig.Rig, out io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 90*time.Second, errors.New("the story took more than 90 seconds"))
	defer cancel()
	s := story{r: r, out: out, price: money[r.Ledger]}
	if err := s.play(ctx); err != nil {
		return fmt.Errorf("%w\nserve said:\n%s", err, r.Serve.Output())
	}
	return nil
}

// keepUp tells a second terminal what to type, and waits for the first thing
// to end.
func keepUp(ctx context.Context, r *rig.Rig, out io.Writer) error {
	amount, _, _ := strings.Cut(r.Price, " ")
	fmt.Fprintf(out, `
Everything is up. In a second terminal:

  # anyone, without an account (a value every %[7]s here, every minute in real life)
  mosquitto_sub -p %[1]d -t sensor/1m -v

  # John, who has an account, on all he may read: only the free topic at first
  mosquitto_sub -p %[1]d -u john -P %[2]s -t 'sensor/#' -v

  # John pays for an hour of sensor/live
  %[3]s pay --node %[4]s --key-file %[5]s --address %[6]s --amount %[9]s --username john

  # the seller's book
  %[3]s --config %[8]s payment list
  %[3]s --config %[8]s grant list

Ctrl-C stops everything.
`, r.BrokerPort, r.Password("john"), filepath.Join(r.Bin, "iotoll"), r.NodeURL, r.KeyFile, r.Deposit, r.Minute, r.Config, amount)
	select {
	case <-ctx.Done():
		return nil
	case <-r.Broker.Done():
		return fmt.Errorf("mosquitto ended:\n%s", r.Broker.Output())
	case <-r.Serve.Done():
		return fmt.Errorf("iotoll serve ended:\n%s", r.Serve.Output())
	case <-r.Node.Done():
		return fmt.Errorf("the simulated node ended:\n%s", r.Node.Output())
	case <-r.Plug.Done():
		return fmt.Errorf("the simulated plug ended:\n%s", r.Plug.Output())
	}
}
