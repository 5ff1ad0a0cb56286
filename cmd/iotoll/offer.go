package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/tangle"
)

// offerJSON is an offer as a buyer's program reads it.
type offerJSON struct {
	ID      string   `json:"id"`
	Topics  []string `json:"topics"`
	Price   int64    `json:"price"`
	Unit    string   `json:"unit"`
	Seconds float64  `json:"period_seconds"`
	Ledger  string   `json:"ledger"`
	Address string   `json:"address"`
	Message string   `json:"message"`
	Public  []string `json:"free_topics"`
}

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
			if len(cfg.Offers) == 0 {
				return nil
			}
			offers, err := cfg.offers()
			if err != nil {
				return err
			}
			e := json.NewEncoder(c.out)
			for _, o := range offers.All() {
				if err := e.Encode(newOfferJSON(o, cfg.Public)); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

func newOfferJSON(o tangle.Offer, public []string) offerJSON {
	j := offerJSON{
		ID: o.ID, Price: o.Price, Unit: "iota", Seconds: o.Period.Seconds(), Ledger: "legacy", Address: o.Address,
		Message: `{"username": "YOUR NAME", "offer": "` + o.ID + `"}`, Public: append([]string{}, public...),
	}
	for _, f := range o.Filters {
		j.Topics = append(j.Topics, f.String())
	}
	return j
}
