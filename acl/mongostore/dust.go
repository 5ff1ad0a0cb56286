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

// dustDocument is a sum of payments that were too small to count.
type dustDocument struct {
	ID      string    `bson:"_id"` // see dustID
	Ledger  string    `bson:"ledger"`
	Address string    `bson:"address"`
	Chain   string    `bson:"chain"`
	Seq     int64     `bson:"seq"`
	To      int64     `bson:"to"`
	Day     time.Time `bson:"day"`
	Count   int64     `bson:"count"`
	Sum     int64     `bson:"sum"`
}

// dustID makes the _id of a sum. Neither the name of a ledger nor that of a chain
// has a slash.
func dustID(ledger, address, chain string, seq int64) string {
	return fmt.Sprintf("%s/%s/%020d/%s", ledger, chain, seq, address)
}

func (d *dustDocument) dust() tangle.Dust {
	return tangle.Dust{
		Ledger: d.Ledger, Address: d.Address, Chain: d.Chain, Seq: d.Seq, To: d.To, Day: d.Day, Count: d.Count, Sum: d.Sum,
	}
}

// LastDust implements [tangle.DustBook].
func (s *Store) LastDust(ctx context.Context, ledger, address, chain string) (tangle.Dust, error) {
	d, err := last(nil, 0, func(seq int64) (*dustDocument, error) {
		return get[dustDocument](ctx, s.dust, dustID(ledger, address, chain, seq))
	})
	if err != nil {
		return tangle.Dust{}, fmt.Errorf("read dust of address %s: %w", address, err)
	}
	if d == nil {
		return tangle.Dust{}, nil
	}
	return d.dust(), nil
}

// AddDust implements [tangle.DustBook].
func (s *Store) AddDust(ctx context.Context, d tangle.Dust) (added bool, err error) {
	added, err = insert(ctx, s.dust, dustDocument{
		ID: dustID(d.Ledger, d.Address, d.Chain, d.Seq), Ledger: d.Ledger, Address: d.Address, Chain: d.Chain, Seq: d.Seq,
		To: d.To, Day: d.Day, Count: d.Count, Sum: d.Sum,
	})
	if err != nil {
		return false, fmt.Errorf("insert dust %d of address %s: %w", d.Seq, d.Address, err)
	}
	return added, nil
}

// Dust returns what was paid to each address on each day in amounts that are too
// small to count, by ledger, address and day. To, Seq and Chain are not set.
func (s *Store) Dust(ctx context.Context) ([]tangle.Dust, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	sums := make(map[tangle.Dust]*tangle.Dust)
	err := each(ctx, s.dust, bson.D{}, func(raw bson.Raw) error {
		var d dustDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("%s: %w", idText(raw), err)
		}
		key := tangle.Dust{Ledger: d.Ledger, Address: d.Address, Day: d.Day}
		if sums[key] == nil {
			sum := key
			sums[key] = &sum
		}
		sums[key].Count += d.Count
		sums[key].Sum += d.Sum
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read dust: %w", err)
	}
	var all []tangle.Dust
	for _, sum := range sums {
		all = append(all, *sum)
	}
	slices.SortFunc(all, func(a, b tangle.Dust) int {
		return cmp.Or(cmp.Compare(a.Ledger, b.Ledger), cmp.Compare(a.Address, b.Address), a.Day.Compare(b.Day))
	})
	return all, nil
}
