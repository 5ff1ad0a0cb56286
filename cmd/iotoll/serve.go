package main

import (
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

Whatever is away for a while (a node, the broker, a plug, the MongoDB server) is
tried again and holds up nothing else.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			return daemon.Run(cmd.Context(), cfg, c.out, newLog(c.err))
		},
	}
}
