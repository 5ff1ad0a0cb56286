package mongostore

import (
	"context"
	"fmt"
	"time"

	"github.com/iotoll/iotoll/tangle"
)

// decisionDocument is a decision on a payment. It is in the collection
// assignments, where releases before schema version 2 kept one for each payment:
// whose it is. Their documents have no seq and no verdict.
type decisionDocument struct {
	ID      string    `bson:"_id"` // see decisionID
	Payment string    `bson:"payment,omitempty"`
	Seq     int64     `bson:"seq,omitempty"`
	Verdict string    `bson:"verdict,omitempty"`
	Subject string    `bson:"subject"`
	Offer   string    `bson:"offer"`
	Life    int64     `bson:"life,omitempty"`
	By      string    `bson:"by"`
	Reason  string    `bson:"reason,omitempty"`
	At      time.Time `bson:"at"`
}

// decisionID makes the _id of a decision: the payment's ID for the first, so that
// most payments are found by it. No ledger has a # in its IDs.
func decisionID(payment string, seq int64) string {
	return tangle.Decision{Payment: payment, Seq: seq}.Cause()
}

func (d *decisionDocument) decision() tangle.Decision {
	decision := tangle.Decision{
		Payment: d.Payment, Seq: d.Seq, Verdict: tangle.Verdict(d.Verdict), Subject: d.Subject, Offer: d.Offer,
		Life: d.Life, By: d.By, Reason: d.Reason, At: d.At,
	}
	if d.Seq == 0 {
		decision.Payment, decision.Seq, decision.Verdict = d.ID, 1, tangle.AssignedTo
	}
	return decision
}

// final reports whether a decision ends a payment without any entry.
func final(d tangle.Decision) bool {
	return d.Verdict == tangle.SetAside || d.Verdict == tangle.PaidBack
}

// Decide implements [tangle.Decisions].
func (s *Store) Decide(ctx context.Context, d tangle.Decision) (added bool, err error) {
	if d.Payment == "" || d.Seq < 1 || d.Verdict == "" {
		return false, fmt.Errorf("decide on payment: %+v is not complete", d)
	}
	added, err = insert(ctx, s.decisions, decisionDocument{
		ID: decisionID(d.Payment, d.Seq), Payment: d.Payment, Seq: d.Seq, Verdict: string(d.Verdict), Subject: d.Subject, Offer: d.Offer,
		Life: d.Life, By: textOf(d.By), Reason: textOf(d.Reason), At: d.At,
	})
	if err != nil {
		return false, fmt.Errorf("insert decision %d on payment %s: %w", d.Seq, d.Payment, err)
	}
	if final(d) { // also if it was there: perhaps a crash came before this
		inForce, err := s.Decided(ctx, d.Payment)
		if err != nil {
			return false, err
		}
		if final(inForce) {
			if _, err := remove(ctx, s.pending, d.Payment); err != nil {
				return false, fmt.Errorf("remove %s from pending: %w", d.Payment, err)
			}
		}
	}
	return added, nil
}

// Decided implements [tangle.Decisions].
func (s *Store) Decided(ctx context.Context, payment string) (tangle.Decision, error) {
	d, err := last(nil, 0, func(seq int64) (*decisionDocument, error) {
		return get[decisionDocument](ctx, s.decisions, decisionID(payment, seq))
	})
	if err != nil {
		return tangle.Decision{}, fmt.Errorf("read decision on payment %s: %w", payment, err)
	}
	if d == nil {
		return tangle.Decision{}, nil
	}
	return d.decision(), nil
}
