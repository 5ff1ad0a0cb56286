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
	"fmt"
	"time"

	"github.com/iotoll/iotoll/acl"
)

// Offer is what is for sale: the topics of some filters, for a period, at a
// price. The price may change; what was paid before counts by the [Terms] of the
// time when it was paid.
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
	ID      string // the ledger's identification; the idempotency key
	Ledger  string // which ledger it was seen on, such as "legacy"
	Address string // the deposit address, as in the Offer
	Amount  int64  // base units, the sum of the transfer's outputs to Address
	Message []byte // as received: any bytes, possibly none
	// Unreadable says why the ledger could not decode the message, so that the
	// payment is held; Message is then in the ledger's encoding. Empty otherwise.
	Unreadable string
	Reference  string    // what else identifies it on the ledger (a bundle hash), for the book
	Sender     string    // the address that paid, if the ledger names one
	Position   int64     // the ledger's order (a milestone index, a checkpoint) when it was seen final; 0 if unknown
	Claimed    time.Time // the sender's timestamp: free text, only for the book
	Final      time.Time // when the ledger made it final, by the ledger's own clock; zero if it has none
	Seen       time.Time // when we first saw it, confirmed or not
	Confirmed  time.Time // when we saw that the ledger confirmed it
}

// Outcome is what became of a payment. The set is closed.
type Outcome string

// The outcomes of a payment.
const (
	Settling  Outcome = "settling"  // recorded, and about to be settled or held
	Credited  Outcome = "credited"  // it bought time
	Underpaid Outcome = "underpaid" // kept as credit for the subject's next payment
	Replayed  Outcome = "replayed"  // it had been settled before; nothing was done
	Unmatched Outcome = "unmatched" // held: it names nobody who can be credited
	Dismissed Outcome = "dismissed" // the seller set it aside, with a reason
	Refunded  Outcome = "refunded"  // the seller paid it back by hand
	Historic  Outcome = "historic"  // on the address when it was first read; never settles by itself
)

// Kind says what made an entry.
type Kind string

// The kinds of entries.
const (
	Paid     Kind = "paid"     // a payment
	Manual   Kind = "manual"   // the seller gave time
	Revoked  Kind = "revoked"  // the seller took the remaining time back; it has no interval
	Released Kind = "released" // the seller took a payment back before any of it was used; no interval
	Closed   Kind = "closed"   // the user was removed: time and credit end here; no interval
)

// Entry is one entry in the account of a subject for an offer. The entries of
// an account are numbered from 1 without gaps and never change, except that a
// later entry can cut their interval short. An entry whose interval is empty
// only carries credit.
type Entry struct {
	Subject string
	Offer   string
	Seq     int64 // position in the account; (Subject, Offer, Seq) is unique in the store
	Kind    Kind
	Cause   string // Decision.Cause of the payment, or the ID of the manual act; unique in the store
	Payment string // the payment's ID; empty for a manual act
	Amount  int64  // base units that the payment brought
	Undoes  int64  // Seq of the entry that a Released one takes back; 0 if the payment never got an entry

	Price  int64         // base units for one Period, by which the payment was counted; 0 for a manual act
	Period time.Duration // whole milliseconds

	Credit    int64 // base units kept for the next payment, after this entry
	Remainder int64 // what pro rata left over, in base units × milliseconds of period, below the price

	Filters   []acl.Filter // the offer's, when this was written
	NotBefore time.Time    // start of the time that this entry bought
	NotAfter  time.Time    // its end; equal to NotBefore when it bought none
	End       time.Time    // end of all time bought in this account so far; zero if none

	Life int64     // how many holders of the name came before: the number of Closed entries up to here
	Born time.Time // date of the last Closed entry up to here; zero if there is none

	At     time.Time // when it was written
	Reason string    // why, for a manual act
}

// Outcome says what the cause of an entry achieved: Credited if the entry has
// an interval, Underpaid if it only carries credit.
func (g Entry) Outcome() Outcome {
	if g.NotAfter.After(g.NotBefore) {
		return Credited
	}
	return Underpaid
}

// Cuts returns the first and the last number of the earlier entries that open
// nothing from g.At on, because of g. It returns 0, 0 if there are none.
func (g Entry) Cuts() (first, last int64) {
	switch {
	case (g.Kind == Revoked || g.Kind == Closed) && g.Seq > 1:
		return 1, g.Seq - 1
	case g.Kind == Released && g.Undoes > 0:
		return g.Undoes, g.Undoes
	}
	return 0, 0
}

// Verdict is what was decided about a payment. The set is closed.
type Verdict string

// The verdicts on a payment.
const (
	AssignedTo Verdict = "assigned"  // it is for a subject and an offer
	TakenBack  Verdict = "released"  // the seller took an assignment back; it is held
	SetAside   Verdict = "dismissed" // nobody gets anything for it
	PaidBack   Verdict = "refunded"  // the seller paid it back by hand
)

// Decision says what is to become of a payment. The decisions on a payment are
// numbered from 1 without gaps and never change; the last one is in force. Most
// payments have one: whose they are.
type Decision struct {
	Payment string // Payment.ID
	Seq     int64  // (Payment, Seq) is unique in the store; 0 means that nothing was decided
	Verdict Verdict
	Subject string // if AssignedTo
	Offer   string // if AssignedTo
	Life    int64  // which holder of the name Subject is meant, as Entry.Life
	By      string // the rule that decided, such as "message", or the seller's name
	Reason  string // why; for PaidBack the reference of the transfer back
	At      time.Time
}

// Cause returns the Cause of the entry that an assignment makes. Each has one of
// its own, so that one that was taken back can never be entered afterwards.
func (d Decision) Cause() string {
	if d.Seq <= 1 {
		return d.Payment
	}
	return fmt.Sprintf("%s#%d", d.Payment, d.Seq)
}

// Settlement is the final word on a cause: which entry it became.
type Settlement struct {
	Cause   string // Entry.Cause
	Outcome Outcome
	Entry   Entry
}

// Terms are what an offer cost from an instant on. The terms of an offer are
// numbered from 1 without gaps and never change.
type Terms struct {
	Offer  string
	Seq    int64         // (Offer, Seq) is unique in the store
	Price  int64         // base units for one Period; 0 if not known, for what was sold before terms were kept
	Period time.Duration // whole milliseconds
	Since  time.Time     // when they came into force
}

// Dust is a sum of payments to an address that are each too small to count. The
// sums of an address are numbered from 1 without gaps and never change.
type Dust struct {
	Ledger  string
	Address string
	Chain   string    // as Mark.Chain
	Seq     int64     // (Ledger, Address, Chain, Seq) is unique in the store
	To      int64     // all dust after the sum before, up to this position, is in here
	Day     time.Time // midnight UTC of the day on which it was paid
	Count   int64     // payments
	Sum     int64     // base units
}

// ErrConflict is returned by [Accounts.Append] when the position is taken, and by
// an [Admitter] whose user changed meanwhile.
var ErrConflict = errors.New("position in the account is taken")

// Store remembers payments, whose they are, and what they bought. It is all that
// package tangle needs of one; what needs less says so.
//
// Everything that must happen once is the insertion of one document under a
// unique key: the only operation that is atomic on every server we support
// (FerretDB 1 reads, modifies and writes back without a lock).
type Store interface {
	Marks
	Payments
	Users
	Decisions
	Accounts
	History
	DustBook
}

// Marks says how far each deposit address was read. The [Watcher] keeps it.
type Marks interface {
	// Marks returns the mark of each watched address of a ledger: those whose
	// earlier history is recorded, so that new payments to them count.
	Marks(ctx context.Context, ledger string) (map[string]Mark, error)
	// SetMark notes an address as watched, and that every payment up to the mark
	// is recorded. A mark may be lost, so that payments are read again, but the
	// address stays watched.
	SetMark(ctx context.Context, ledger, address string, mark Mark) error
}

// Payments are what was paid. The [Watcher] records them.
type Payments interface {
	// Record keeps a payment; recording it again changes nothing. It reports
	// whether the payment was new. One that is Historic is kept for the book only;
	// any other outcome is Settling.
	Record(ctx context.Context, p Payment, outcome Outcome) (added bool, err error)
	// Pending returns the recorded payments of a ledger that may be unsettled, by
	// ID, with the reason why each is held, or "" if its settling was interrupted.
	// It returns all that are unsettled, and perhaps some that are not. Its cost
	// does not grow with what was settled.
	Pending(ctx context.Context, ledger string) (reasons map[string]string, err error)
	// Unsettled returns a payment that is to be settled; ok is false if there is
	// none, or if it is historic, settled, dismissed or refunded.
	Unsettled(ctx context.Context, payment string) (p Payment, ok bool, err error)
	// Hold notes why a payment cannot be settled now, for the seller to read. One
	// that was settled before and taken back is pending from then on.
	Hold(ctx context.Context, payment, reason string) error
}

// Decisions say what is to become of each payment. The [Settler] makes them.
type Decisions interface {
	// Decide writes a decision, and reports whether it did: it changes nothing if
	// there is one with that Seq. A payment that was dismissed or refunded is no
	// longer pending.
	Decide(ctx context.Context, d Decision) (added bool, err error)
	// Decided returns the decision in force; Seq is 0 if there is none.
	Decided(ctx context.Context, payment string) (Decision, error)
}

// Accounts hold what was bought. The [Settler] writes them.
type Accounts interface {
	// Last returns the newest entry of an account; one with Seq 0 if it has none.
	Last(ctx context.Context, subject, offer string) (Entry, error)
	// Entry returns an entry of an account; one with Seq 0 if there is none.
	Entry(ctx context.Context, subject, offer string, seq int64) (Entry, error)
	// Append writes an entry. It returns an error wrapping ErrConflict, and
	// changes nothing, if there is an entry with that Seq.
	Append(ctx context.Context, g Entry) error
	// Complete finishes an appended entry. Earlier entries that it cuts are marked
	// first, so that none opens anything from g.At on. Then those who follow the
	// store are told of what changed. Last of all it writes the settlement of
	// g.Cause, for every Kind, and the payment of a Paid entry is no longer
	// pending. Doing it again does no harm, and carries on where a crash
	// interrupted it. It is cheap if the store knows the entry to be finished.
	Complete(ctx context.Context, g Entry) error
	// Settled returns the settlement of a cause; ok is false if there is none.
	Settled(ctx context.Context, cause string) (s Settlement, ok bool, err error)
	// LastWritten returns when the newest entry was written; zero if there is none.
	LastWritten(ctx context.Context) (time.Time, error)
}

// History is what offers cost over time.
type History interface {
	// Offered returns the terms of every offer that anything was ever sold of, by
	// offer and Seq.
	Offered(ctx context.Context) ([]Terms, error)
	// Offer writes terms, and reports whether it did: it changes nothing if there
	// are terms with that Seq.
	Offer(ctx context.Context, t Terms) (added bool, err error)
}

// DustBook holds the sums of payments that are too small to count.
type DustBook interface {
	// LastDust returns the newest sum of an address; Seq is 0 if there is none.
	LastDust(ctx context.Context, ledger, address, chain string) (Dust, error)
	// AddDust writes a sum, and reports whether it did: it changes nothing if there
	// is one with that Seq.
	AddDust(ctx context.Context, d Dust) (added bool, err error)
}
