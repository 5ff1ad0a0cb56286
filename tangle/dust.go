package tangle

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// dustBin holds payments of one address that are too small to count, until their
// sum is in the store.
//
// Why each is in one sum. The ledger has returned all of an address up to its
// mark, so a sum up to the mark is complete, and the next one starts after it. A
// sum is the insertion of one document after the last, and what the last one
// includes is not added again, however often the ledger returns it. The mark is stored after the sum, so that what is not in a sum is
// read again after a crash.
type dustBin struct {
	payments map[string]speck // by ID
}

// speck is what a sum needs of a payment.
type speck struct {
	position int64
	amount   int64
	day      time.Time
}

func (b *dustBin) add(p Payment) {
	if b.payments == nil {
		b.payments = make(map[string]speck)
	}
	b.payments[p.ID] = speck{position: p.Position, amount: p.Amount, day: p.paid().UTC().Truncate(24 * time.Hour)}
}

// total returns the sum of what is not in the store yet.
func (b *dustBin) total() (sum int64) {
	for _, s := range b.payments {
		sum += s.amount
	}
	return sum
}

// book writes the sums of all up to a mark.
func (b *dustBin) book(ctx context.Context, store DustBook, ledger, address string, mark Mark) error {
	for {
		if _, any := b.sum(mark.Position); !any {
			return nil
		}
		last, err := store.LastDust(ctx, ledger, address, mark.Chain)
		if err != nil {
			return fmt.Errorf("read dust of address %s: %w", address, err)
		}
		maps.DeleteFunc(b.payments, func(_ string, s speck) bool { return s.position <= last.To })
		next, ok := b.sum(mark.Position)
		if !ok {
			return nil
		}
		next.Ledger, next.Address, next.Chain, next.Seq = ledger, address, mark.Chain, last.Seq+1
		// If another watcher wrote a sum first, that is the last one now.
		if _, err := store.AddDust(ctx, next); err != nil {
			return fmt.Errorf("write dust of address %s: %w", address, err)
		}
	}
}

// sum returns the sum of the first day that has dust up to a position; ok is false
// if there is none. It reaches up to the next day's dust.
func (b *dustBin) sum(to int64) (d Dust, ok bool) {
	var specks []speck
	for _, s := range b.payments {
		if s.position <= to {
			specks = append(specks, s)
		}
	}
	if len(specks) == 0 {
		return Dust{}, false
	}
	slices.SortFunc(specks, func(a, b speck) int { return cmp.Compare(a.position, b.position) })
	d = Dust{Day: specks[0].day, To: to}
	for i, s := range specks {
		// The payments of one position stay together, since To divides.
		if !s.day.Equal(d.Day) && s.position > specks[i-1].position {
			d.To = specks[i-1].position
			break
		}
		d.Count++
		d.Sum += s.amount
	}
	return d, true
}
