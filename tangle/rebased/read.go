package rebased

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"time"
	"unicode/utf8"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/rebased/graphql"
	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// transaction is a TransactionBlock as documents.go asks for it. Whatever may be
// null in the schema is a pointer.
type transaction struct {
	Digest *string
	Sender *struct{ Address string }
	Kind   *struct {
		Inputs *struct{ Nodes []struct{ Bytes *string } }
	}
	Effects *struct {
		Status         *string
		Timestamp      *string
		Checkpoint     *struct{ SequenceNumber int64 }
		BalanceChanges *changes
	}
}

// changes is a page of balance changes.
type changes struct {
	PageInfo struct {
		HasNextPage bool
		EndCursor   *string
	}
	Nodes []struct {
		Amount   *string
		CoinType *struct{ Repr string }
		Owner    *struct{ Address string }
	}
}

// position returns the checkpoint; ok is false if it is not known.
func (t *transaction) position() (checkpoint int64, ok bool) {
	if t == nil || t.Effects == nil || t.Effects.Checkpoint == nil {
		return 0, false
	}
	return t.Effects.Checkpoint.SequenceNumber, true
}

// record is what a transaction means to one deposit address.
type record struct {
	digest   string
	position int64
	final    time.Time
	sender   string // empty for a transaction of the system
	amount   int64  // net, in nanos; not above 0 for what is no payment
	message  []byte
}

// Faults of a transaction, for errors.Is.
var (
	errIncomplete = errors.New("details are missing from the answer")
	errPending    = errors.New("no checkpoint includes it yet")
	errMore       = errors.New("its balance changes go on")
	errUnknown    = errors.New("the transaction is unknown or cannot be answered for")
	errAgree      = errors.New("too few nodes say the same of it")
)

// read returns what a transaction means to an address. more is true if the amount
// depends on further pages of balance changes; the record then lacks it.
func (t *transaction) read(to txn.Address) (r record, more bool, err error) {
	if t == nil || t.Effects == nil || t.Digest == nil || t.Effects.Status == nil || t.Effects.BalanceChanges == nil {
		return record{}, false, errIncomplete
	}
	r.digest = *t.Digest
	if t.Effects.Checkpoint == nil {
		return r, false, errPending
	}
	r.position = t.Effects.Checkpoint.SequenceNumber
	if t.Sender != nil {
		r.sender = t.Sender.Address
		if a, err := txn.ParseAddress(r.sender); err == nil {
			r.sender = a.String()
		}
	}
	switch *t.Effects.Status {
	case "SUCCESS":
	case "FAILURE":
		return r, false, nil
	default:
		return r, false, fmt.Errorf("%w: status %.40q", graphql.ErrAnswer, *t.Effects.Status)
	}
	if t.Effects.Timestamp == nil || t.Kind == nil {
		return r, false, errIncomplete
	}
	if r.final, err = time.Parse(time.RFC3339, *t.Effects.Timestamp); err != nil {
		return r, false, fmt.Errorf("%w: timestamp %.40q", graphql.ErrAnswer, *t.Effects.Timestamp)
	}
	r.final = r.final.UTC()
	found, err := t.Effects.BalanceChanges.add(&r, to)
	if err != nil {
		return r, false, err
	}
	if t.Kind.Inputs != nil && (r.amount == 0 || r.amount >= dust) { // nobody reads the memo of dust
		if r.message, err = memo(t.Kind.Inputs.Nodes); err != nil {
			return r, false, err
		}
	}
	// There is one change for each owner and coin type.
	return r, !found && t.Effects.BalanceChanges.PageInfo.HasNextPage, nil
}

// add adds the address's changes of IOTA on this page to r; found is false if
// there are none. Other coins do not count.
func (c *changes) add(r *record, to txn.Address) (found bool, err error) {
	for _, n := range c.Nodes {
		if n.Owner == nil || !to.Same(n.Owner.Address) {
			continue
		}
		if n.CoinType == nil || n.Amount == nil {
			return false, errIncomplete
		}
		// A type that cannot be parsed is not IOTA.
		if coin, err := txn.ParseCoinType(n.CoinType.Repr); err != nil || coin != txn.IOTA {
			continue
		}
		amount, ok := new(big.Int), false
		if len(*n.Amount) <= 40 {
			_, ok = amount.SetString(*n.Amount, 10)
		}
		if ok {
			amount.Add(amount, big.NewInt(r.amount))
		}
		if !ok || !amount.IsInt64() {
			return false, fmt.Errorf("%w: amount %.60q", graphql.ErrAnswer, *n.Amount)
		}
		r.amount = amount.Int64()
		found = true
	}
	return found, nil
}

// memo returns the message in a transaction's inputs: the first input that is a
// string in BCS and that [tangle.ParseMessage] accepts. If a later input holds a
// different message, memo returns both, one after the other. That cannot be
// parsed, so that the payment is held for the seller. If no input is accepted, memo
// returns the first that looks like one, so that the seller learns what is wrong with
// it.
func memo(inputs []struct{ Bytes *string }) ([]byte, error) {
	var message, rejected []byte
	var said tangle.Message
	for _, in := range inputs {
		if in.Bytes == nil { // an object
			continue
		}
		b, err := base64.StdEncoding.DecodeString(*in.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: an input is not base64", graphql.ErrAnswer)
		}
		text, ok := txn.Pure(b).Text()
		if !ok || !utf8.Valid(text) {
			continue
		}
		m, err := tangle.ParseMessage(text)
		switch {
		case err != nil:
			if rejected == nil && bytes.HasPrefix(text, []byte("{")) {
				rejected = text
			}
		case message == nil:
			message, said = text, m
		case m != said:
			return append(append(message, '\n'), text...), nil
		}
	}
	if message == nil {
		return rejected, nil
	}
	return message, nil
}

// equal reports whether two nodes gave the same record.
func (r record) equal(o record) bool {
	return r.digest == o.digest && r.position == o.position && r.final.Equal(o.final) && r.sender == o.sender &&
		r.amount == o.amount && bytes.Equal(r.message, o.message)
}

// payment returns the payment that a record is.
func (r record) payment(address string, now time.Time) tangle.Payment {
	return tangle.Payment{
		// The ID must not depend on how many addresses are configured.
		ID: r.digest + "/" + address, Ledger: name, Address: address, Amount: r.amount, Message: r.message,
		Reference: r.sender, Sender: r.sender, Position: r.position, Final: r.final, Seen: now, Confirmed: now,
	}
}
