package mongostore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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

// PaymentQuery selects payments of the book. Zero fields select everything.
type PaymentQuery struct {
	Subject      string    // to whom they are assigned
	Held         bool      // they wait for somebody's decision
	Since, Until time.Time // when they were confirmed: [Since, Until)
}

// FindPayments returns the payments that a query selects, by the time when they were
// seen. With a subject or Held, its cost does not grow with other payments; with
// times alone, every payment is read but little else. A query that selects
// everything is [Store.PaymentRecords].
func (s *Store) FindPayments(ctx context.Context, q PaymentQuery) ([]PaymentRecord, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	var records []PaymentRecord
	var err error
	switch {
	case q.Subject != "":
		records, err = s.recordsOfSubject(ctx, q.Subject)
	case q.Held:
		records, err = s.heldRecords(ctx)
	case !q.Since.IsZero() || !q.Until.IsZero():
		records, err = s.recordsBetween(ctx, q.Since, q.Until)
	default:
		return s.PaymentRecords(ctx)
	}
	return slices.DeleteFunc(records, func(r PaymentRecord) bool {
		return q.Held && r.Outcome != tangle.Unmatched || r.Confirmed.Before(q.Since) || !q.Until.IsZero() && !r.Confirmed.Before(q.Until)
	}), err
}

// heldRecords returns the payments that are held.
func (s *Store) heldRecords(ctx context.Context) ([]PaymentRecord, error) {
	pending, err := all[pendingDocument](ctx, s.pending, func(d *pendingDocument) string { return d.Payment })
	if err != nil {
		return nil, fmt.Errorf("read pending payments: %w", err)
	}
	return s.recordsOf(ctx, slices.Collect(maps.Keys(pending)))
}

// recordsBetween returns the payments that were confirmed in [since, until); a zero
// until is no bound.
func (s *Store) recordsBetween(ctx context.Context, since, until time.Time) ([]PaymentRecord, error) {
	bounds := bson.D{{Key: "$gte", Value: since}}
	if !until.IsZero() {
		bounds = append(bounds, bson.E{Key: "$lt", Value: until})
	}
	var ids []string
	err := each(ctx, s.payments, bson.D{{Key: "confirmed", Value: bounds}}, func(raw bson.Raw) error {
		ids = append(ids, raw.Lookup("_id").StringValue())
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read payments: %w", err)
	}
	payments, err := count(ctx, s.payments)
	if err != nil {
		return nil, err
	}
	if lookupCost*int64(len(ids)) > payments { // then reading everything is faster
		return s.PaymentRecords(ctx)
	}
	return s.recordsOf(ctx, ids)
}

// recordsOf returns payments by their IDs, as far as they are there.
func (s *Store) recordsOf(ctx context.Context, ids []string) ([]PaymentRecord, error) {
	var records []PaymentRecord
	for _, id := range ids {
		r, err := s.PaymentRecord(ctx, id)
		switch {
		case errors.Is(err, ErrNotFound): // pending, and not recorded yet
		case err != nil:
			return nil, err
		default:
			records = append(records, r)
		}
	}
	sortRecords(records)
	return records, nil
}

// PaymentIDs returns the IDs of payments that begin with a text, in no order.
func (s *Store) PaymentIDs(ctx context.Context, prefix string) ([]string, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	var ids []string
	err := each(ctx, s.payments, bson.D{}, func(raw bson.Raw) error {
		if id, ok := raw.Lookup("_id").StringValueOK(); ok && strings.HasPrefix(id, prefix) {
			ids = append(ids, id)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read payments: %w", err)
	}
	return ids, nil
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

// recordsOfSubject returns the payments that are assigned to a subject.
func (s *Store) recordsOfSubject(ctx context.Context, subject string) ([]PaymentRecord, error) {
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
	records, err := s.recordsOf(ctx, slices.Collect(maps.Keys(ids)))
	return slices.DeleteFunc(records, func(r PaymentRecord) bool { return r.Assignment.Subject != subject }), err
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
