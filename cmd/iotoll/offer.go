package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/cmd/internal/daemon"
)

func newOffer(c console, load loader) *cobra.Command {
	return group("offer", "Show what is for sale", &cobra.Command{
		Use:   "list",
		Short: "Print the offers for a buyer, one JSON object a line",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			all, err := daemon.Listings(cfg)
			if err != nil {
				return err
			}
			e := json.NewEncoder(c.out)
			for _, o := range all {
				if err := e.Encode(o); err != nil {
					return err
				}
			}
			return nil
		},
	})
}
