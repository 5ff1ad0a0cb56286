package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/wemo/mqtt"
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

// offersDocument returns what is published for buyers: a JSON array of the offers
// as "offer list" prints them.
func (c *Config) offersDocument() ([]byte, error) {
	all := []offerJSON{}
	if len(c.Offers) > 0 {
		offers, err := c.offers()
		if err != nil {
			return nil, err
		}
		for _, o := range offers.All() {
			all = append(all, newOfferJSON(o, c.Public))
		}
	}
	return json.Marshal(all)
}

// offersPublisher returns what keeps the offers on their topic, retained, until
// its context ends; nil if they are not to be published.
func (d *daemon) offersPublisher() (func(context.Context) error, error) {
	b := &d.cfg.Broker
	if b.OffersTopic == "" {
		return nil, nil
	}
	at, err := b.broker()
	if err != nil {
		return nil, err
	}
	document, err := d.cfg.offersDocument()
	if err != nil {
		return nil, err
	}
	broker := &mqtt.Publisher{Broker: at, Log: d.log.WithField("topic", b.OffersTopic)}
	d.meters.offers = broker
	return func(ctx context.Context) error {
		return broker.Run(ctx, func(ctx context.Context) error {
			// Retained: it goes out with each connection that there will be.
			if err := broker.Publish(b.OffersTopic, document, true); err != nil {
				return fmt.Errorf("publish offers: %w", err)
			}
			<-ctx.Done()
			return nil
		})
	}, nil
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
