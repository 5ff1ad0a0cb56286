package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/cmd/internal/daemon"
)

func newOffer(c console, load loader) *cobra.Command {
	return group("offer", "Show what is for sale", &cobra.Command{
		Use:   "list",
		Short: "Print the offers for a buyer, as JSON",
		Long: `list prints the offers of the configuration as serve publishes them on iotoll/offers,
but for whether they are available. Buyers read that topic with "iotoll offers URL".`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			offers, err := daemon.Offers(cfg)
			if err != nil {
				return err
			}
			return json.NewEncoder(c.out).Encode(offers)
		},
	})
}
