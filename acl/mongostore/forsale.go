package mongostore

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
)

// forSaleID is the _id, in meta, of the document that says what is for sale.
const forSaleID = "for_sale"

// forSaleDocument is all that is for sale. It is one document, so that readers never
// see half of a change.
type forSaleDocument struct {
	ID     string          `bson:"_id"`
	Offers []offerDocument `bson:"offers"`
}

// offerDocument is the part of an offer that a decision needs.
type offerDocument struct {
	ID      string   `bson:"id"`
	Filters []string `bson:"filters"`
}

// SetForSale makes known what is for sale from now on, instead of what was before.
// Followers learn it from [Store.Changes].
func (s *Store) SetForSale(ctx context.Context, offers []acl.Offer) error {
	d := forSaleDocument{ID: forSaleID, Offers: []offerDocument{}}
	for _, o := range offers {
		texts := []string{}
		for _, f := range o.Filters {
			texts = append(texts, f.String())
		}
		d.Offers = append(d.Offers, offerDocument{ID: o.ID, Filters: texts})
	}
	// If another process inserts it first, the second attempt finds it.
	for written := false; !written; {
		found, err := set(ctx, s.meta, forSaleID, bson.D{{Key: "offers", Value: d.Offers}})
		if written = found; err == nil && !found {
			written, err = insert(ctx, s.meta, d)
		}
		if err != nil {
			return fmt.Errorf("write what is for sale: %w", err)
		}
	}
	// Announce it also if nothing changed: an earlier attempt may have ended here.
	return s.announce(ctx, offersChanged, forSaleID, "")
}

// ForSale returns what is for sale, in the order of SetForSale; nothing if that was
// never called. An offer that cannot be read is logged and left out.
func (s *Store) ForSale(ctx context.Context) ([]acl.Offer, error) {
	d, err := get[bson.Raw](ctx, s.meta, forSaleID)
	if err != nil {
		return nil, fmt.Errorf("read what is for sale: %w", err)
	}
	if d == nil {
		return nil, nil
	}
	list, _ := d.Lookup("offers").ArrayOK()
	values, err := list.Values()
	if err != nil {
		s.Log.WithError(err).Warn("offers in the store are not readable")
	}
	var offers []acl.Offer
	for _, v := range values {
		var o offerDocument
		err := v.Unmarshal(&o)
		var filters []acl.Filter
		if err == nil {
			filters, err = parseFilters(o.Filters)
		}
		if err != nil {
			s.Log.WithError(err).WithField("id", o.ID).Warn("offer in the store is not readable")
			continue
		}
		offers = append(offers, acl.Offer{ID: o.ID, Filters: filters})
	}
	return offers, nil
}
