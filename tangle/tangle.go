// Package tangle turns payments confirmed by an IOTA ledger into grants, each
// payment exactly once.
//
// It knows nothing of nodes, bundles or databases: a [Ledger] says what was
// paid, a [Store] remembers. The packages below it implement the first,
// acl/mongostore the second.
package tangle

import (
	"context"
	"errors"
	"time"

	"github.com/iotoll/iotoll/acl"
)

// Offer is what is for sale: the topics of some filters, for a period, at a
// price. Once something was sold under an ID, its terms do not change; a new
// price is a new offer.
type Offer struct {
	ID      string        // names the offer in messages, grants and logs
	Filters []acl.Filter  // the topics that it opens
	Price   int64         // base units (iotas on the legacy tangle) for one Period
	Period  time.Duration // whole milliseconds
	Address string        // the deposit address, in the ledger's own notation
	Former  []string      // deposit addresses of earlier days: what is still paid to them counts
}

// Payment is one confirmed transfer to a deposit address.
type Payment struct {
	ID        string    // the ledger's identification; the idempotency key
	Ledger    string    // which ledger it was seen on, such as "legacy"
	Address   string    // the deposit address, as in the Offer
	Amount    int64     // base units, the sum of the transfer's outputs to Address
	Message   []byte    // as received: any bytes, possibly none
	Reference string    // what else identifies it on the ledger (a bundle hash), for the book
	Sender    string    // the address that paid, if the ledger names one
	Position  int64     // the ledger's order (a milestone index, a checkpoint) when it was seen final; 0 if unknown
	Claimed   time.Time // the sender's timestamp: free text, only for the book
	Final     time.Time // when the ledger made it final, by the ledger's own clock; zero if it has none
	Seen      time.Time // when we first saw it, confirmed or not
	Confirmed time.Time // when we saw that the ledger confirmed it
}

// Outcome is what settling a payment did. The set is closed.
type Outcome string

// The outcomes of a payment.
const (
	Credited  Outcome = "credited"  // it bought time
	Underpaid Outcome = "underpaid" // kept as credit for the subject's next payment
	Replayed  Outcome = "replayed"  // it had been settled before; nothing was done
	Unmatched Outcome = "unmatched" // held for the seller: it names nobody, or nobody we know
	Historic  Outcome = "historic"  // on the address when it was first read; never settles by itself
)

// Kind says what made a grant.
type Kind string

// The kinds of grants.
const (
	Paid    Kind = "paid"    // a payment
	Manual  Kind = "manual"  // the seller gave time
	Revoked Kind = "revoked" // the seller took the remaining time back; it has no interval
)

// Entry is one entry in the account of a subject for an offer. The entries of
// an account are numbered from 1 without gaps and never change, but for the
// mark of a revocation. An entry whose interval is empty only carries credit.
type Entry struct {
	Subject string
	Offer   string
	Seq     int64 // position in the account; (Subject, Offer, Seq) is unique in the store
	Kind    Kind
	Cause   string // the payment's ID, or the ID of the manual act; unique in the store
	Amount  int64  // base units that the payment brought

	Credit    int64 // base units kept for the next payment, after this entry
	Remainder int64 // what pro rata left over, in base units × milliseconds of period, below the price

	Filters   []acl.Filter // the offer's, when this was written
	NotBefore time.Time    // start of the time that this entry bought
	NotAfter  time.Time    // its end; equal to NotBefore when it bought none
	End       time.Time    // end of all time bought in this account so far; zero if none

	At     time.Time // when it was written
	Reason string    // why, for a manual act
}

// Assignment says whose a payment is. It is made once and never changes.
type Assignment struct {
	Payment string // Payment.ID
	Subject string
	Offer   string
	By      string // "message", or who assigned it by hand
	At      time.Time
}

// Settlement is the final word on a payment: which grant it became.
type Settlement struct {
	Payment string  // the Cause of the Grant: a payment's ID, or that of a manual act
	Outcome Outcome // the Grant's: Credited or Underpaid
	Entry   Entry
}

// Outcome says what the cause of an entry achieved: Credited if the entry has
// an interval, Underpaid if it only carries credit.
func (g Entry) Outcome() Outcome {
	if g.NotAfter.After(g.NotBefore) {
		return Credited
	}
	return Underpaid
}

// ErrConflict is returned by [Store.Append] when the position is taken.
var ErrConflict = errors.New("position in the account is taken")

// Store remembers payments, whose they are, and what they bought.
//
// Everything that must happen once is the insertion of one document under a
// unique key: the only operation that is atomic on every server we support
// (FerretDB 1 reads, modifies and writes back without a lock).
type Store interface {
	// Marks returns the mark of each watched address of a ledger: those whose
	// earlier history is recorded, so that new payments to them count.
	Marks(ctx context.Context, ledger string) (map[string]Mark, error)
	// SetMark notes an address as watched, and that every payment up to the mark
	// is recorded. A mark may be lost, so that payments are read again, but the
	// address stays watched.
	SetMark(ctx context.Context, ledger, address string, mark Mark) error

	// Record keeps a payment; recording it again changes nothing. It reports
	// whether the payment was new. outcome is Historic or, for one that is to be
	// settled, Unmatched until it is.
	Record(ctx context.Context, p Payment, outcome Outcome) (added bool, err error)
	// Unsettled returns recorded payments of a ledger that are neither historic
	// nor settled: those held, and those whose settling was interrupted.
	Unsettled(ctx context.Context, ledger string) ([]Payment, error)
	// Hold notes why a payment cannot be settled now, for the seller to read.
	Hold(ctx context.Context, payment, reason string) error

	Users
	// Assign makes an assignment unless the payment has one, and returns the
	// one in force.
	Assign(ctx context.Context, a Assignment) (Assignment, error)
	// Assigned returns the assignment in force; ok is false if there is none.
	Assigned(ctx context.Context, payment string) (a Assignment, ok bool, err error)

	// Last returns the newest entry of an account; one with Seq 0 if it has none.
	Last(ctx context.Context, subject, offer string) (Entry, error)
	// Append writes an entry. It returns an error wrapping ErrConflict, and
	// changes nothing, if there is an entry with that Seq.
	Append(ctx context.Context, g Entry) error
	// Complete finishes an appended entry. If it is Revoked, the earlier entries
	// of its account are marked first, so that none opens anything from g.At on.
	// Then those who follow the store are told of what changed. Last of all it
	// writes the settlement of g.Cause, whatever the Kind. Doing it again does
	// no harm, and carries on where a crash interrupted it.
	Complete(ctx context.Context, g Entry) error
	// Settled returns the settlement of a payment or manual act; ok is false if
	// there is none.
	Settled(ctx context.Context, payment string) (s Settlement, ok bool, err error)
}
