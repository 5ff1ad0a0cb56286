package mongostore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/iotoll/iotoll/tangle"
)

// PaymentRecord is a payment in the seller's book, and all that became of it.
type PaymentRecord struct {
	tangle.Payment
	Outcome    tangle.Outcome
	Reason     string            // why it is held, if it is
	Assignment tangle.Assignment // zero if nobody has it
	Entry      EntryRecord       // the entry that it made; Seq 0 if there is none
	Settled    time.Time         // when that was finished; zero if it was not
}

// PaymentRecord returns a payment; the error wraps [ErrNotFound] if it was never seen.
func (s *Store) PaymentRecord(ctx context.Context, payment string) (PaymentRecord, error) {
	p, err := get[paymentDocument](ctx, s.payments, payment)
	if err != nil {
		return PaymentRecord{}, fmt.Errorf("read payment %s: %w", payment, err)
	}
	if p == nil {
		return PaymentRecord{}, fmt.Errorf("payment %.100q: %w", payment, ErrNotFound)
	}
	b := newBooking(p)
	held, err := get[pendingDocument](ctx, s.pending, payment)
	if err != nil {
		return PaymentRecord{}, fmt.Errorf("read why payment %s is held: %w", payment, err)
	}
	if held != nil {
		b.Reason = held.Reason
	}
	if b.Assignment, _, err = s.Assigned(ctx, payment); err != nil {
		return PaymentRecord{}, err
	}
	settled, err := get[settlementDocument](ctx, s.settlements, payment)
	if err != nil {
		return PaymentRecord{}, fmt.Errorf("read settlement of %s: %w", payment, err)
	}
	if settled != nil {
		g, err := get[grantDocument](ctx, s.grants, settled.Grant)
		if err != nil {
			return PaymentRecord{}, fmt.Errorf("read grant %s: %w", settled.Grant, err)
		}
		if err := b.settle(settled, g); err != nil {
			return PaymentRecord{}, err
		}
	}
	return b, nil
}

// PaymentRecords returns all payments ever seen, by the time when they were.
func (s *Store) PaymentRecords(ctx context.Context) ([]PaymentRecord, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	payments, err := all[paymentDocument](ctx, s.payments, func(d *paymentDocument) string { return d.ID })
	if err != nil {
		return nil, fmt.Errorf("read payments: %w", err)
	}
	reasons, err := s.pendingReasons(ctx)
	if err != nil {
		return nil, err
	}
	assignments, err := all[assignmentDocument](ctx, s.assignments, func(d *assignmentDocument) string { return d.Payment })
	if err != nil {
		return nil, fmt.Errorf("read assignments: %w", err)
	}
	settlements, err := all[settlementDocument](ctx, s.settlements, func(d *settlementDocument) string { return d.Payment })
	if err != nil {
		return nil, fmt.Errorf("read settlements: %w", err)
	}
	// The grants last: whatever a settlement names is there.
	grants, err := all[grantDocument](ctx, s.grants, func(d *grantDocument) string { return d.ID })
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	bookings := make([]PaymentRecord, 0, len(payments))
	for id, p := range payments {
		b := newBooking(p)
		b.Reason = reasons[id]
		if a := assignments[id]; a != nil {
			b.Assignment = a.assignment()
		}
		if settled := settlements[id]; settled != nil {
			if err := b.settle(settled, grants[settled.Grant]); err != nil {
				return nil, err
			}
		}
		bookings = append(bookings, b)
	}
	slices.SortFunc(bookings, func(a, b PaymentRecord) int {
		return cmp.Or(a.Seen.Compare(b.Seen), cmp.Compare(a.Position, b.Position), cmp.Compare(a.ID, b.ID))
	})
	return bookings, nil
}

func newBooking(p *paymentDocument) PaymentRecord {
	b := PaymentRecord{Payment: p.payment(), Outcome: tangle.Unmatched}
	if p.Historic {
		b.Outcome = tangle.Historic
	}
	return b
}

func (b *PaymentRecord) settle(d *settlementDocument, grant *grantDocument) error {
	if grant == nil {
		return fmt.Errorf("settlement of %s: grant %s is missing", d.Payment, d.Grant)
	}
	var err error
	b.Outcome, b.Reason, b.Settled = tangle.Outcome(d.Outcome), "", d.At
	b.Entry, err = grant.entry()
	return err
}

// all reads a collection.
func all[T any](ctx context.Context, c *mongo.Collection, key func(*T) string) (map[string]*T, error) {
	documents := make(map[string]*T)
	err := each(ctx, c, bson.D{}, func(raw bson.Raw) error {
		d := new(T)
		if err := bson.Unmarshal(raw, d); err != nil {
			return fmt.Errorf("%s: %w", idText(raw), err)
		}
		documents[key(d)] = d
		return nil
	})
	return documents, err
}
