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
	// Outcome is Settling until the payment is settled or held, and Unmatched
	// while it is held.
	Outcome    tangle.Outcome
	Reason     string          // why it is held, dismissed, or by which transfer it was refunded
	Assignment tangle.Decision // the decision in force if it assigns the payment; else zero
	Decision   tangle.Decision // the decision in force; Seq 0 if there is none
	Entry      EntryRecord     // the entry that it made; Seq 0 if there is none
	Settled    time.Time       // when that was finished, or it was dismissed or refunded; zero if it was not
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
	pending, err := get[pendingDocument](ctx, s.pending, payment)
	if err != nil {
		return PaymentRecord{}, fmt.Errorf("read why payment %s is held: %w", payment, err)
	}
	d, err := s.Decided(ctx, payment)
	if err != nil {
		return PaymentRecord{}, err
	}
	settled, err := get[settlementDocument](ctx, s.settlements, causeOf(payment, d))
	if err != nil {
		return PaymentRecord{}, fmt.Errorf("read settlement of %s: %w", payment, err)
	}
	var g *grantDocument
	if settled != nil {
		if g, err = get[grantDocument](ctx, s.grants, settled.Grant); err != nil {
			return PaymentRecord{}, fmt.Errorf("read grant %s: %w", settled.Grant, err)
		}
	}
	return newRecord(p, pending, d, settled, g)
}

// PaymentRecords returns all payments ever seen, by the time when they were.
func (s *Store) PaymentRecords(ctx context.Context) ([]PaymentRecord, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	payments, err := all[paymentDocument](ctx, s.payments, func(d *paymentDocument) string { return d.ID })
	if err != nil {
		return nil, fmt.Errorf("read payments: %w", err)
	}
	pending, err := all[pendingDocument](ctx, s.pending, func(d *pendingDocument) string { return d.Payment })
	if err != nil {
		return nil, fmt.Errorf("read pending payments: %w", err)
	}
	documents, err := all[decisionDocument](ctx, s.decisions, func(d *decisionDocument) string { return d.ID })
	if err != nil {
		return nil, fmt.Errorf("read decisions: %w", err)
	}
	decisions := make(map[string]tangle.Decision)
	for _, document := range documents {
		if d := document.decision(); d.Seq > decisions[d.Payment].Seq {
			decisions[d.Payment] = d
		}
	}
	settlements, err := all[settlementDocument](ctx, s.settlements, func(d *settlementDocument) string { return d.Cause })
	if err != nil {
		return nil, fmt.Errorf("read settlements: %w", err)
	}
	// The grants last: every grant that a settlement names is there.
	grants, err := all[grantDocument](ctx, s.grants, func(d *grantDocument) string { return d.ID })
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	records := make([]PaymentRecord, 0, len(payments))
	for id, p := range payments {
		settled := settlements[causeOf(id, decisions[id])]
		var g *grantDocument
		if settled != nil {
			g = grants[settled.Grant]
		}
		r, err := newRecord(p, pending[id], decisions[id], settled, g)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	sortRecords(records)
	return records, nil
}

// Received returns what was ever paid to each deposit address, in base units, by
// the book: historic payments and dust included.
func (s *Store) Received(ctx context.Context) (map[string]int64, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	sums := make(map[string]int64)
	for _, c := range []struct {
		name       string
		collection *mongo.Collection
		amount     string
	}{{"payments", s.payments, "amount"}, {"dust", s.dust, "sum"}} {
		err := each(ctx, c.collection, bson.D{}, func(raw bson.Raw) error {
			address, isText := raw.Lookup("address").StringValueOK()
			amount, isNumber := raw.Lookup(c.amount).AsInt64OK()
			if !isText || !isNumber {
				return fmt.Errorf("%s: want an address and %s", idText(raw), c.amount)
			}
			sums[address] += amount
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", c.name, err)
		}
	}
	return sums, nil
}

// PaymentRecordsOf returns the payments that are assigned to a subject, by the
// time when they were seen. Its cost does not grow with the payments of others.
func (s *Store) PaymentRecordsOf(ctx context.Context, subject string) ([]PaymentRecord, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	ids := make(map[string]bool)
	entries, err := s.Entries(ctx, subject, "")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Payment != "" {
			ids[e.Payment] = true
		}
	}
	pending, err := all[pendingDocument](ctx, s.pending, func(d *pendingDocument) string { return d.Payment })
	if err != nil {
		return nil, fmt.Errorf("read pending payments: %w", err)
	}
	for id := range pending {
		if d, err := s.Decided(ctx, id); err != nil {
			return nil, err
		} else if d.Subject == subject {
			ids[id] = true
		}
	}
	var records []PaymentRecord
	for id := range ids {
		r, err := s.PaymentRecord(ctx, id)
		if err != nil {
			return nil, err
		}
		if r.Assignment.Subject == subject {
			records = append(records, r)
		}
	}
	sortRecords(records)
	return records, nil
}

func sortRecords(records []PaymentRecord) {
	slices.SortFunc(records, func(a, b PaymentRecord) int {
		return cmp.Or(a.Seen.Compare(b.Seen), cmp.Compare(a.Position, b.Position), cmp.Compare(a.ID, b.ID))
	})
}

// causeOf returns the cause of the entry that a payment makes by a decision, or
// made without one: so some of the first release's did.
func causeOf(payment string, d tangle.Decision) string {
	return tangle.Decision{Payment: payment, Seq: d.Seq}.Cause()
}

func newRecord(p *paymentDocument, pending *pendingDocument, d tangle.Decision, settled *settlementDocument, g *grantDocument) (PaymentRecord, error) {
	r := PaymentRecord{Payment: p.payment(), Outcome: tangle.Settling, Decision: d}
	if p.Historic {
		r.Outcome = tangle.Historic
	}
	if pending != nil && pending.Reason != "" {
		r.Outcome, r.Reason = tangle.Unmatched, pending.Reason
	}
	switch d.Verdict {
	case tangle.SetAside:
		r.Outcome, r.Reason, r.Settled = tangle.Dismissed, d.Reason, d.At
		return r, nil
	case tangle.PaidBack:
		r.Outcome, r.Reason, r.Settled = tangle.Refunded, d.Reason, d.At
		return r, nil
	case tangle.TakenBack:
		r.Outcome = tangle.Unmatched
		return r, nil
	case tangle.AssignedTo:
		r.Assignment = d
	}
	if settled == nil {
		return r, nil
	}
	if g == nil {
		return r, fmt.Errorf("settlement of %s: grant %s is missing", settled.Cause, settled.Grant)
	}
	var err error
	if r.Entry, err = g.entry(); err != nil || r.Entry.Kind != tangle.Paid {
		return r, err
	}
	r.Outcome, r.Reason, r.Settled = tangle.Outcome(settled.Outcome), "", settled.At
	return r, nil
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
