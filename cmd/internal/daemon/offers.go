package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/buyer"
	"github.com/iotoll/iotoll/wemo"
	"github.com/iotoll/iotoll/wemo/mqtt"
)

// availabilityInterval is how often the offers are compared with what the plugs
// bring. That asks neither network nor store.
const availabilityInterval = time.Second

// Offers returns what is for sale as the configuration says, without whether it is
// available.
func Offers(c *config.Config) (buyer.Offers, error) {
	document := buyer.NewOffers()
	document.Ledger, document.Network, document.Signup = c.Ledger.Kind, c.Ledger.Network, c.Signup
	document.Free = append(document.Free, c.Public...)
	if len(c.Offers) == 0 {
		return document, nil
	}
	notation, err := ledgers.Notation(c.Ledger.Kind)
	if err != nil {
		return buyer.Offers{}, err
	}
	offers, err := c.ForSale()
	if err != nil {
		return buyer.Offers{}, err
	}
	for _, o := range offers.All() {
		document.Offers = append(document.Offers, newOffer(o, notation.Currency()))
	}
	return document, nil
}

func newOffer(o tangle.Offer, money tangle.Currency) buyer.Offer {
	b := buyer.Offer{
		ID: o.ID, Price: money.Number(o.Price), Unit: money.Unit, Decimals: money.Decimals, Amount: strconv.FormatInt(o.Price, 10),
		Seconds: o.Period.Seconds(), Address: o.Address, How: buyer.HowAnybody(o.ID),
	}
	for _, f := range o.Filters {
		b.Topics = append(b.Topics, f.String())
	}
	return b
}

// offersPart returns what keeps the offers on their topic, retained. It says of
// each whether it is available; after serve has ended, that none is.
func (d *daemon) offersPart(cfg *config.Config, broker mqtt.Broker) (*part, error) {
	document, err := Offers(cfg)
	if err != nil {
		return nil, err
	}
	will, err := json.Marshal(document.Unavailable("the seller's system is not connected"))
	if err != nil {
		return nil, err
	}
	stopped, err := json.Marshal(document.Unavailable("the seller's system is switched off"))
	if err != nil {
		return nil, err
	}
	publisher := &mqtt.Publisher{Broker: broker, Status: buyer.OffersTopic, Will: will, Log: d.log.WithField("topic", buyer.OffersTopic)}
	publish := func(payload []byte) { publisher.Publish(buyer.OffersTopic, payload, true) } // Health tells of refusals
	return &part{
		name: "offers", settings: []any{string(will), broker}, offers: publisher,
		run: func(ctx context.Context) error {
			return publisher.Run(ctx, func(ctx context.Context) error {
				var last []byte
				for {
					payload, err := json.Marshal(withAvailability(document, d.metrics.view().plugs))
					if err != nil {
						return fmt.Errorf("encode offers: %w", err)
					}
					if !bytes.Equal(payload, last) {
						publish(payload)
						last = payload
					}
					if wait(ctx, availabilityInterval) != nil {
						publish(stopped)
						return nil
					}
				}
			})
		},
	}, nil
}

// withAvailability returns a copy of the offers that says of each whether it is
// available: whether every plug that publishes to its topics is online. Of topics
// that something else publishes to, nothing is known that speaks against it.
func withAvailability(document buyer.Offers, plugs []*plugMeter) buyer.Offers {
	all := make([]buyer.Offer, len(document.Offers))
	for i, o := range document.Offers {
		var reasons []string
		for _, p := range plugs {
			s := p.state()
			if s.online || !sells(o, p.live) && !sells(o, p.average) {
				continue
			}
			reasons = append(reasons, p.live+": "+plainReason(s.reason))
		}
		available := len(reasons) == 0
		o.Available, o.Reason = &available, strings.Join(reasons, "; ")
		all[i] = o
	}
	document.Offers = all
	return document
}

// sells reports whether an offer opens a topic.
func sells(o buyer.Offer, topic string) bool {
	for _, text := range o.Topics {
		if f, err := acl.ParseFilter(text); err == nil && f.Matches(topic) {
			return true
		}
	}
	return false
}

// plainReason says for buyers why a plug is not online. Its error may name devices
// of the seller and is not for them.
func plainReason(reason string) string {
	switch reason {
	case wemo.Refused:
		return "the broker refuses the readings"
	case wemo.Stale:
		return "no readings come in"
	}
	return "there are no readings yet"
}
