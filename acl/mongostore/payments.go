package mongostore

import (
	"context"
	"fmt"
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
	Ledger  string `bson:"ledger"`
	Reason  string `bson:"reason"` // why it is held; empty if it is not
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

// Marks implements [tangle.Marks].
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

// SetMark implements [tangle.Marks].
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

// Record implements [tangle.Payments].
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
		if _, err := insert(ctx, s.pending, pendingDocument{Payment: p.ID, Ledger: p.Ledger}); err != nil {
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

// Pending implements [tangle.Payments].
func (s *Store) Pending(ctx context.Context, ledger string) (map[string]string, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	reasons := make(map[string]string)
	err := each(ctx, s.pending, bson.D{}, func(raw bson.Raw) error {
		var d pendingDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("%s: %w", idText(raw), err)
		}
		if d.Ledger == ledger {
			reasons[d.Payment] = d.Reason
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read pending payments: %w", err)
	}
	return reasons, nil
}

// Unsettled implements [tangle.Payments]. What a crash left among the pending
// payments although it is settled is removed from them.
func (s *Store) Unsettled(ctx context.Context, payment string) (tangle.Payment, bool, error) {
	p, err := get[paymentDocument](ctx, s.payments, payment)
	if err != nil {
		return tangle.Payment{}, false, fmt.Errorf("read payment %s: %w", payment, err)
	}
	if p == nil { // it is about to be recorded
		return tangle.Payment{}, false, nil
	}
	d, err := s.Decided(ctx, payment)
	if err != nil {
		return tangle.Payment{}, false, err
	}
	over := p.Historic && d.Seq == 0 || final(d)
	if !over && d.Verdict != tangle.TakenBack {
		cause := tangle.Decision{Payment: payment, Seq: d.Seq}.Cause()
		done, ok, err := s.Settled(ctx, cause)
		if err != nil {
			return tangle.Payment{}, false, err
		}
		over = ok && done.Entry.Kind == tangle.Paid
	}
	if over {
		if _, err := remove(ctx, s.pending, payment); err != nil {
			return tangle.Payment{}, false, fmt.Errorf("remove %s from pending: %w", payment, err)
		}
		return tangle.Payment{}, false, nil
	}
	return p.payment(), true, nil
}

// Hold implements [tangle.Payments].
func (s *Store) Hold(ctx context.Context, payment, reason string) error {
	found, err := set(ctx, s.pending, payment, bson.D{{Key: "reason", Value: textOf(reason)}})
	if err != nil {
		return fmt.Errorf("note why payment %s is held: %w", payment, err)
	}
	if found {
		return nil
	}
	p, err := get[paymentDocument](ctx, s.payments, payment)
	if err != nil {
		return fmt.Errorf("read payment %s: %w", payment, err)
	}
	if p == nil {
		return fmt.Errorf("hold payment %s: it was never recorded", payment)
	}
	if _, err := insert(ctx, s.pending, pendingDocument{Payment: payment, Ledger: p.Ledger, Reason: textOf(reason)}); err != nil {
		return fmt.Errorf("insert %s into pending: %w", payment, err)
	}
	return nil
}
