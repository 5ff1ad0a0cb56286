package daemon

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/wemo/mqtt"
)

// Listing is an offer as a buyer's program reads it.
type Listing struct {
	ID      string   `json:"id"`
	Topics  []string `json:"topics"`
	Price   string   `json:"price"`
	Unit    string   `json:"unit"`
	Seconds float64  `json:"period_seconds"`
	Ledger  string   `json:"ledger"`
	Address string   `json:"address"`
	Message string   `json:"message"`
	Public  []string `json:"free_topics"`
}

// Listings returns the offers as they are published and printed for buyers.
func Listings(c *config.Config) ([]Listing, error) {
	all := []Listing{}
	if len(c.Offers) == 0 {
		return all, nil
	}
	notation, err := ledgers.Notation(c.Ledger.Kind)
	if err != nil {
		return nil, err
	}
	offers, err := c.ForSale()
	if err != nil {
		return nil, err
	}
	for _, o := range offers.All() {
		all = append(all, newListing(o, notation, c.Public))
	}
	return all, nil
}

// offersPublisher returns what keeps the offers on their topic, retained, until
// its context ends; nil if they are not to be published.
func (d *daemon) offersPublisher() (func(context.Context) error, error) {
	b := &d.cfg.Broker
	if b.OffersTopic == "" {
		return nil, nil
	}
	at, err := b.Connection()
	if err != nil {
		return nil, err
	}
	all, err := Listings(d.cfg)
	if err != nil {
		return nil, err
	}
	document, err := json.Marshal(all)
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

func newListing(o tangle.Offer, notation tangle.Notation, public []string) Listing {
	j := Listing{
		ID: o.ID, Price: notation.Currency().Number(o.Price), Unit: notation.Currency().Unit, Seconds: o.Period.Seconds(), Ledger: notation.Ledger(), Address: o.Address,
		Message: `{"username": "YOUR NAME", "offer": "` + o.ID + `"}`, Public: append([]string{}, public...),
	}
	for _, f := range o.Filters {
		j.Topics = append(j.Topics, f.String())
	}
	return j
}
