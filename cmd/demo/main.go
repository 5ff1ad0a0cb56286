// Command demo plays the whole story of iotoll with a simulated tangle and a
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
	"syscall"
	"time"

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

	o := rig.Options{Bin: b, Dir: dir, Minute: 5 * time.Second}
	if !*keep {
		o.Period = 8 * time.Second
	}
	fmt.Fprintln(out, "Starting a simulated tangle and plug, iotoll serve with its own store, and Mosquitto …")
	start, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := rig.Start(start, o)
	if err != nil {
		return err
	}
	defer r.Close()
	if *keep {
		return keepUp(ctx, r, out)
	}
	ctx, cancel = context.WithTimeoutCause(ctx, 90*time.Second, errors.New("the story took more than 90 seconds"))
	defer cancel()
	s := story{r: r, out: out}
	if err := s.play(ctx); err != nil {
		return fmt.Errorf("%w\nserve said:\n%s", err, r.Serve.Output())
	}
	return nil
}

// keepUp tells a second terminal what to type, and waits for the first thing
// to end.
func keepUp(ctx context.Context, r *rig.Rig, out io.Writer) error {
	fmt.Fprintf(out, `
Everything is up. In a second terminal:

  # anyone, without an account (a value every %[7]s here, every minute in real life)
  mosquitto_sub -p %[1]d -t sensor/1m -v

  # John, who has an account, on all he may read: only the free topic at first
  mosquitto_sub -p %[1]d -u john -P %[2]s -t 'sensor/#' -v

  # John pays for an hour of sensor/live
  %[3]s pay --node %[4]s --seed-file %[5]s --address %[6]s --amount 500 --username john

  # the seller's book
  %[3]s --config %[8]s payment list
  %[3]s --config %[8]s grant list

Ctrl-C stops everything.
`, r.BrokerPort, r.Password("john"), filepath.Join(r.Bin, "iotoll"), r.NodeURL, r.SeedFile, r.Deposit, r.Minute, r.Config)
	select {
	case <-ctx.Done():
		return nil
	case <-r.Broker.Done():
		return fmt.Errorf("mosquitto ended:\n%s", r.Broker.Output())
	case <-r.Serve.Done():
		return fmt.Errorf("iotoll serve ended:\n%s", r.Serve.Output())
	case <-r.Tangle.Done():
		return fmt.Errorf("the simulated tangle ended:\n%s", r.Tangle.Output())
	case <-r.Plug.Done():
		return fmt.Errorf("the simulated plug ended:\n%s", r.Plug.Output())
	}
}
