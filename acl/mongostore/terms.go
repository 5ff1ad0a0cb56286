package mongostore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/tangle"
)

// termsDocument is what an offer cost from an instant on.
type termsDocument struct {
	ID       string    `bson:"_id"` // see termsID
	Offer    string    `bson:"offer"`
	Seq      int64     `bson:"seq"`
	Price    int64     `bson:"price"`
	PeriodMS int64     `bson:"period_ms"`
	Since    time.Time `bson:"since,omitempty"`
}

// termsID makes the _id of terms. An offer's ID has no slash.
func termsID(offer string, seq int64) string { return fmt.Sprintf("%s/%020d", offer, seq) }

// Offered implements [tangle.History]. There are few terms: it reads them all.
func (s *Store) Offered(ctx context.Context) ([]tangle.Terms, error) {
	var terms []tangle.Terms
	err := each(ctx, s.offers, bson.D{}, func(raw bson.Raw) error {
		var d termsDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("%s: %w", idText(raw), err)
		}
		terms = append(terms, tangle.Terms{
			Offer: d.Offer, Seq: d.Seq, Price: d.Price, Period: time.Duration(d.PeriodMS) * time.Millisecond, Since: d.Since,
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read terms of offers: %w", err)
	}
	slices.SortFunc(terms, func(a, b tangle.Terms) int {
		return cmp.Or(cmp.Compare(a.Offer, b.Offer), cmp.Compare(a.Seq, b.Seq))
	})
	return terms, nil
}

// Offer implements [tangle.History].
func (s *Store) Offer(ctx context.Context, t tangle.Terms) (added bool, err error) {
	added, err = insert(ctx, s.offers, termsDocument{
		ID: termsID(t.Offer, t.Seq), Offer: t.Offer, Seq: t.Seq, Price: t.Price, PeriodMS: t.Period.Milliseconds(), Since: t.Since,
	})
	if err != nil {
		return false, fmt.Errorf("insert terms %d of offer %q: %w", t.Seq, t.Offer, err)
	}
	return added, nil
}

// nameOffer makes sure that an offer has terms before its first account is begun:
// that is how the accounts of a subject are found. The Settler has recorded them
// long before; else what it cost is not known.
func (s *Store) nameOffer(ctx context.Context, offer string) error {
	s.mu.Lock()
	known := s.named[offer]
	s.mu.Unlock()
	if known {
		return nil
	}
	if _, err := s.Offer(ctx, tangle.Terms{Offer: offer, Seq: 1}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.named == nil {
		s.named = make(map[string]bool)
	}
	s.named[offer] = true
	return nil
}
