package daemon

import (
	"context"

	"github.com/iotoll/iotoll/acl"
)

// announceOffers tells the plugin which topics are for sale: it lets users subscribe to
// them before they have paid.
func (d *daemon) announceOffers(ctx context.Context) error {
	cfg := d.config()
	var offers []acl.Offer
	if len(cfg.Offers) > 0 {
		all, err := cfg.ForSale()
		if err != nil {
			return fatal{err}
		}
		for _, o := range all.All() {
			offers = append(offers, acl.Offer{ID: o.ID, Filters: o.Filters})
		}
	}
	return d.store.SetForSale(ctx, offers)
}
