package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/iotoll/iotoll/cmd/internal/daemon"
	"github.com/spf13/cobra"
)

func newServe(c console, load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Watch the ledger, settle payments, publish the plugs' readings",
		Long: `serve runs until it is interrupted. It watches the ledger for payments and turns
each into a grant, exactly once; it reads the plugs and publishes what they
measure; and it runs the embedded store, unless store.uri_file names a server.

A node, the broker, a plug or the MongoDB server that is unreachable is tried again
and delays nothing else.

On SIGHUP serve reads the configuration and the public filters again: offers,
ledger, broker and plugs change while it runs. The log names settings that need a
restart. A configuration with a fault is refused, and the old one stays in force.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			reload := make(chan os.Signal, 1)
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			return daemon.Run(cmd.Context(), daemon.Options{Load: load, Reload: reload, Out: c.out, Log: newLog(c.err)})
		},
	}
}
