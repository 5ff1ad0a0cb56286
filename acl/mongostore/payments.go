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

// paymentDocument is what was paid. It is written once.
type paymentDocument struct {
	ID         string    `bson:"_id"`
	Ledger     string    `bson:"ledger"`
	Address    string    `bson:"address"`
	Amount     int64     `bson:"amount"`
	Message    []byte    `bson:"message"`
	Unreadable string    `bson:"unreadable,omitempty"`
	Reference  string    `bson:"reference,omitempty"`
	Sender     string    `bson:"sender,omitempty"`
	Position   int64     `bson:"position,omitempty"`
	Claimed    time.Time `bson:"claimed,omitempty"`
	Final      time.Time `bson:"final,omitempty"`
	Seen       time.Time `bson:"seen"`
	Confirmed  time.Time `bson:"confirmed"`
	Historic   bool      `bson:"historic"`
}

func (d *paymentDocument) payment() tangle.Payment {
	return tangle.Payment{
		ID: d.ID, Ledger: d.Ledger, Address: d.Address, Amount: d.Amount, Message: d.Message, Unreadable: d.Unreadable,
		Reference: d.Reference, Sender: d.Sender, Position: d.Position, Claimed: d.Claimed, Final: d.Final, Seen: d.Seen, Confirmed: d.Confirmed,
	}
}

// pendingDocument is there before its payment is, and until the payment is
// settled. So the unsettled ones are found without reading all payments.
type pendingDocument struct {
	Payment string `bson:"_id"`
	Reason  string `bson:"reason"` // why it is held; empty if it is not
}

type assignmentDocument struct {
	Payment string    `bson:"_id"`
	Subject string    `bson:"subject"`
	Offer   string    `bson:"offer"`
	By      string    `bson:"by"`
	At      time.Time `bson:"at"`
}

func (d *assignmentDocument) assignment() tangle.Assignment {
	return tangle.Assignment{Payment: d.Payment, Subject: d.Subject, Offer: d.Offer, By: d.By, At: d.At}
}

// settlementDocument says what became of a payment or manual act.
type settlementDocument struct {
	Payment string    `bson:"_id"` // the cause
	Outcome string    `bson:"outcome"`
	Grant   string    `bson:"grant"` // the grant's _id
	At      time.Time `bson:"at"`
}

// addressDocument is a deposit address that is watched on a ledger.
type addressDocument struct {
	ID       string    `bson:"_id"` // see addressID
	Ledger   string    `bson:"ledger"`
	Address  string    `bson:"address"`
	Chain    string    `bson:"chain"`
	Position int64     `bson:"position"`
	Since    time.Time `bson:"since"` // when watching began
}

// addressID makes the _id of a watched address. A ledger's name has no slash, so
// no two addresses share one.
func addressID(ledger, address string) string { return ledger + "/" + address }

// Marks implements [tangle.Store].
func (s *Store) Marks(ctx context.Context, ledger string) (map[string]tangle.Mark, error) {
	marks := make(map[string]tangle.Mark)
	err := each(ctx, s.addresses, bson.D{{Key: "ledger", Value: ledger}}, func(raw bson.Raw) error {
		var d addressDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("%s: %w", idText(raw), err)
		}
		marks[d.Address] = tangle.Mark{Chain: d.Chain, Position: d.Position}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read watched addresses of ledger %q: %w", ledger, err)
	}
	return marks, nil
}

// SetMark implements [tangle.Store].
func (s *Store) SetMark(ctx context.Context, ledger, address string, mark tangle.Mark) error {
	id := addressID(ledger, address)
	added, err := insert(ctx, s.addresses, addressDocument{
		ID: id, Ledger: ledger, Address: address, Chain: mark.Chain, Position: mark.Position, Since: s.now(),
	})
	if err == nil && !added {
		_, err = set(ctx, s.addresses, id, bson.D{{Key: "chain", Value: mark.Chain}, {Key: "position", Value: mark.Position}})
	}
	if err != nil {
		return fmt.Errorf("write mark of address %s: %w", address, err)
	}
	return nil
}

// Record implements [tangle.Store].
func (s *Store) Record(ctx context.Context, p tangle.Payment, outcome tangle.Outcome) (added bool, err error) {
	if p.ID == "" {
		return false, fmt.Errorf("record payment: ID is empty")
	}
	d, err := get[paymentDocument](ctx, s.payments, p.ID)
	if err != nil {
		return false, fmt.Errorf("read payment %s: %w", p.ID, err)
	}
	if d != nil {
		return false, nil
	}
	if outcome != tangle.Historic {
		// Before the payment, so that one that is there is never forgotten.
		if _, err := insert(ctx, s.pending, pendingDocument{Payment: p.ID}); err != nil {
			return false, fmt.Errorf("insert %s into pending: %w", p.ID, err)
		}
	}
	added, err = insert(ctx, s.payments, paymentDocument{
		ID: p.ID, Ledger: p.Ledger, Address: p.Address, Amount: p.Amount, Message: p.Message, Unreadable: textOf(p.Unreadable),
		Reference: textOf(p.Reference), Sender: textOf(p.Sender), Position: p.Position,
		Claimed: p.Claimed, Final: p.Final, Seen: p.Seen, Confirmed: p.Confirmed,
		Historic: outcome == tangle.Historic,
	})
	if err != nil {
		return false, fmt.Errorf("insert payment %s: %w", p.ID, err)
	}
	return added, nil
}

// Unsettled implements [tangle.Store]. The payments come in the ledger's order.
// Its cost grows with what is unsettled, not with what was settled.
func (s *Store) Unsettled(ctx context.Context, ledger string) ([]tangle.Payment, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	ids, err := s.pendingReasons(ctx)
	if err != nil {
		return nil, err
	}
	var payments []tangle.Payment
	for id := range ids {
		settled, err := get[settlementDocument](ctx, s.settlements, id)
		if err != nil {
			return nil, fmt.Errorf("read settlement of %s: %w", id, err)
		}
		if settled != nil { // and a crash kept it from being removed
			if _, err := remove(ctx, s.pending, id); err != nil {
				return nil, fmt.Errorf("remove %s from pending: %w", id, err)
			}
			continue
		}
		d, err := get[paymentDocument](ctx, s.payments, id)
		if err != nil {
			return nil, fmt.Errorf("read payment %s: %w", id, err)
		}
		// Else it is about to be recorded, or was recorded as historic by another watcher.
		if d != nil && !d.Historic && d.Ledger == ledger {
			payments = append(payments, d.payment())
		}
	}
	slices.SortFunc(payments, func(a, b tangle.Payment) int {
		return cmp.Or(cmp.Compare(a.Position, b.Position), a.Confirmed.Compare(b.Confirmed), cmp.Compare(a.ID, b.ID))
	})
	return payments, nil
}

// pendingReasons returns the IDs of payments that may be unsettled, and why they
// are held.
func (s *Store) pendingReasons(ctx context.Context) (map[string]string, error) {
	reasons := make(map[string]string)
	err := each(ctx, s.pending, bson.D{}, func(raw bson.Raw) error {
		var d pendingDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			return err
		}
		reasons[d.Payment] = d.Reason
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read pending payments: %w", err)
	}
	return reasons, nil
}

// Hold implements [tangle.Store].
func (s *Store) Hold(ctx context.Context, payment, reason string) error {
	if _, err := set(ctx, s.pending, payment, bson.D{{Key: "reason", Value: textOf(reason)}}); err != nil {
		return fmt.Errorf("note why payment %s is held: %w", payment, err)
	}
	return nil
}

// Assign implements [tangle.Store].
func (s *Store) Assign(ctx context.Context, a tangle.Assignment) (tangle.Assignment, error) {
	d := assignmentDocument{Payment: a.Payment, Subject: a.Subject, Offer: a.Offer, By: a.By, At: a.At}
	if _, err := insert(ctx, s.assignments, d); err != nil {
		return tangle.Assignment{}, fmt.Errorf("insert assignment of payment %s: %w", a.Payment, err)
	}
	// Read it back, whoever made it: it is given out as the store has it.
	inForce, ok, err := s.Assigned(ctx, a.Payment)
	if err == nil && !ok {
		err = fmt.Errorf("assignment of payment %s was removed", a.Payment)
	}
	return inForce, err
}

// Assigned implements [tangle.Store].
func (s *Store) Assigned(ctx context.Context, payment string) (a tangle.Assignment, ok bool, err error) {
	d, err := get[assignmentDocument](ctx, s.assignments, payment)
	if err != nil {
		return a, false, fmt.Errorf("read assignment of payment %s: %w", payment, err)
	}
	if d == nil {
		return a, false, nil
	}
	return d.assignment(), true, nil
}

// Settled implements [tangle.Store].
func (s *Store) Settled(ctx context.Context, payment string) (settled tangle.Settlement, ok bool, err error) {
	d, err := get[settlementDocument](ctx, s.settlements, payment)
	if err != nil {
		return settled, false, fmt.Errorf("read settlement of %s: %w", payment, err)
	}
	if d == nil {
		return settled, false, nil
	}
	grant, err := get[grantDocument](ctx, s.grants, d.Grant)
	if err != nil {
		return settled, false, fmt.Errorf("read grant %s: %w", d.Grant, err)
	}
	if grant == nil {
		return settled, false, fmt.Errorf("settlement of %s: grant %s is missing", payment, d.Grant)
	}
	g, err := grant.grant()
	if err != nil {
		return settled, false, err
	}
	return tangle.Settlement{Payment: d.Payment, Outcome: tangle.Outcome(d.Outcome), Entry: g}, true, nil
}
