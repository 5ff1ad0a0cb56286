// Command iotoll sells live MQTT topics for IOTA: it watches a ledger for
// payments, turns each into a grant that the broker's plugin enforces, and
// publishes the readings of smart plugs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(report(os.Stderr, run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)))
}

// usageError is a mistake in the command line.
type usageError struct {
	err     error
	command string // whose --help says how to do it right
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// errDenied is what check returns for "deny": it has printed its answer, and
// the exit code says the rest.
var errDenied = errors.New("denied")

// report writes what went wrong and returns the exit code: 0 for success, 2
// for a mistake in the command line, 1 for every other failure.
func report(stderr io.Writer, err error) int {
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errDenied):
		return 1
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "iotoll: %v\nhint: %s --help\n", err, usage.command)
		return 2
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "iotoll: interrupted")
	default:
		fmt.Fprintf(stderr, "iotoll: %v\n", err)
	}
	if text := hint.Of(err); text != "" {
		fmt.Fprintf(stderr, "hint: %s\n", text)
	}
	return 1
}

// console is where a command reads and writes.
type console struct {
	in       io.Reader
	out, err io.Writer
}

// run executes one command line, without the program's name. It returns when
// the command is done or, soon after, when ctx ends.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	c := console{in: stdin, out: stdout, err: stderr}
	root := newRoot(c)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)

	// An error before a command's own code runs is a mistake in the command line:
	// cobra has no type for those errors.
	started := false
	forEach(root, func(cmd *cobra.Command) {
		if body := cmd.RunE; body != nil {
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				started = true
				return body(cmd, args)
			}
		}
	})
	cmd, err := root.ExecuteContextC(ctx)
	var usage *usageError
	var invalid *pflag.InvalidValueError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		return &usageError{err: plainFlag(invalid), command: cmd.CommandPath()}
	case errors.As(err, &usage):
		usage.command = cmd.CommandPath()
	case !started:
		return &usageError{err: err, command: cmd.CommandPath()}
	}
	return err
}

// plainFlag says what is wrong with a flag in words for those who type it, not in
// those of Go's parsers.
func plainFlag(err *pflag.InvalidValueError) error {
	want, ok := map[string]string{
		"bool":     "true or false",
		"duration": "a duration such as 250ms or 1h",
		"int":      "a whole number",
		"int64":    "a whole number up to 9223372036854775807",
		"uint64":   "a whole number from 0 to 18446744073709551615",
	}[err.GetFlag().Value.Type()]
	if !ok {
		return err
	}
	return fmt.Errorf("--%s %q: want %s", err.GetFlag().Name, err.GetValue(), want)
}

func forEach(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, sub := range cmd.Commands() {
		forEach(sub, do)
	}
}

// newRoot builds the command tree. Each command is in the file of its name.
func newRoot(c console) *cobra.Command {
	root := &cobra.Command{
		Use:   "iotoll",
		Short: "Sell live MQTT topics for IOTA",
		Long: `iotoll sells live MQTT topics for IOTA.

A seller runs "iotoll init" once and "iotoll serve" from then on. Buyers pay to an
offer's address and name themselves in the message; within a second of the
payment's confirmation their connected MQTT client receives what they bought.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	var path string
	root.PersistentFlags().StringVar(&path, "config", config.DefaultPath(),
		"configuration `file`; $IOTOLL_CONFIG if left out, else "+config.SystemPath)
	root.PersistentFlags().Lookup("config").DefValue = "" // the text says it
	load := func() (*config.Config, error) { return config.Load(path) }

	root.AddGroup(&cobra.Group{ID: "seller", Title: "For the seller:"},
		&cobra.Group{ID: "buyer", Title: "For the buyer:"},
		&cobra.Group{ID: "other", Title: "Other:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, cmd := range commands {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	add("seller",
		newInit(c),
		newServe(c, load),
		newUser(c, load),
		newStoreCommand(c, load),
		newGrant(c, load),
		newPayment(c, load),
		newOffer(c, load),
		newCheck(c, load),
		newAudit(c, load),
		newDoctor(c, load),
		newPlug(c),
		newConfig(c, load),
	)
	add("buyer",
		newOffers(c),
		newStatus(c),
		newPay(c),
		newBalance(c),
		newAddress(c),
	)
	add("other",
		newSim(c),
		newVersion(c),
	)
	root.SetHelpCommandGroupID("other")
	return root
}

// group returns a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	names := make([]string, len(commands))
	for i, cmd := range commands {
		names[i] = cmd.Name()
	}
	g := &cobra.Command{
		Use:   use,
		Short: short,
		// Without these two, cobra answers a misspelt subcommand with the
		// help text and exit code 0.
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q of %s: must be one of %s", args[0], use, strings.Join(names, ", "))
			}
			return fmt.Errorf("%s needs a command: one of %s", use, strings.Join(names, ", "))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	g.AddCommand(commands...)
	return g
}

// exactly demands one argument for each name.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("missing argument: %s", strings.Join(names[len(args):], " "))
		case len(args) > len(names):
			return fmt.Errorf("unexpected argument: %q", args[len(names)])
		}
		return nil
	}
}

// loader reads the configuration that --config names.
type loader func() (*config.Config, error)
