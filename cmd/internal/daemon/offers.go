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

// offersPart returns what keeps the offers on their topic, retained.
func (d *daemon) offersPart(cfg *config.Config, broker mqtt.Broker) (*part, error) {
	all, err := Listings(cfg)
	if err != nil {
		return nil, err
	}
	document, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	topic := cfg.Broker.OffersTopic
	publisher := &mqtt.Publisher{Broker: broker, Log: d.log.WithField("topic", topic)}
	return &part{
		name: "offers", settings: []any{topic, string(document), broker}, offers: publisher,
		run: func(ctx context.Context) error {
			return publisher.Run(ctx, func(ctx context.Context) error {
				// Retained: it is sent again on each new connection.
				if err := publisher.Publish(topic, document, true); err != nil {
					return fmt.Errorf("publish offers: %w", err)
				}
				<-ctx.Done()
				return nil
			})
		},
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
