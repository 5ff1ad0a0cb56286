package tangle

import (
	"context"
	"time"
)

// Notation is what can be said of a ledger without asking it: its name, its
// money, and how addresses are written. A configuration is validated with it.
type Notation interface {
	// Ledger returns the ledger's name, as in Payment.Ledger.
	Ledger() string
	// Currency returns the money that the ledger moves.
	Currency() Currency
	// ParseAddress returns the canonical form of a deposit address. The error
	// names what is wrong with text and what is accepted.
	ParseAddress(text string) (string, error)
}

// Ledger is a read-only view of a distributed ledger.
type Ledger interface {
	Notation
	// Confirmed returns the payments to the deposit addresses that the ledger has
	// made final and that no earlier call returned. It may return a payment again
	// but never leaves one out for good: payments that come with an error count
	// as returned. When nothing is new it costs one cheap request.
	//
	// from holds the mark of each address that was read before, in this process
	// or an earlier one. A ledger without a total order ignores it.
	Confirmed(ctx context.Context, from map[string]Mark) (Batch, error)
}

// Batch is what one call of [Ledger.Confirmed] read.
type Batch struct {
	Payments []Payment // in the ledger's order, oldest first
	// Partial lists addresses whose history may be incomplete; with a non-nil
	// error, treat every address as incomplete.
	Partial []string
	// Marks holds how far each address was read, for a ledger that orders
	// totally; nil for others. An address without a mark in from is read for the
	// first time: its mark is then the ledger's tip, and nothing before counts.
	Marks map[string]Mark
	// Time is the ledger's own time, that of its newest position, when this call
	// returned; zero if the ledger has none.
	Time time.Time
	// NodeTime is what the clock of a node said when this call returned; zero if no
	// node tells.
	NodeTime time.Time
}

// Mark says that everything up to a position was read.
type Mark struct {
	Chain    string // which instance of the ledger Position counts in; empty if the ledger has no name for it
	Position int64  // as Payment.Position; 0 is the beginning
}

// NodeHealth tells how one node of a ledger fares.
type NodeHealth struct {
	Node        string    // its URL, without a password
	App         string    // the software that it runs; empty if it never said
	Position    int64     // its newest position, as Payment.Position
	Frozen      bool      // the position stands still for longer than the ledger's rules allow
	Behind      int64     // positions that another node is ahead
	Pruned      int64     // the first position that it still has; 0 if unknown
	LastSuccess time.Time // of a request; zero if none succeeded
	Err         error     // of the last request; nil if it succeeded
	Since       time.Time // since when requests fail; zero if they do not
}

// Balance is what a node says of a deposit address.
type Balance struct {
	Address string // as configured
	Amount  int64  // final, in base units
	Spent   bool   // the key was used in a way that puts later payments at risk
	// Spendable means that the owner may spend without any risk, so that less than
	// was received is no fault.
	Spendable bool
	Node      string // which node says so, without a password
	Position  int64  // as of which position
}

// Inspector is a [Ledger] that an operator can look into.
type Inspector interface {
	Ledger
	// Health returns how each node fares, in the order of the configuration. It
	// may be called at any time.
	Health() []NodeHealth
	// Balances returns the balance of each deposit address, in the order of the
	// configuration, as the first node that answers knows it. It is for the
	// goroutine that calls Confirmed.
	Balances(ctx context.Context) ([]Balance, error)
}

// Ordered is an [Inspector] of a ledger that orders totally. Its methods may be
// called at any time.
type Ordered interface {
	Inspector
	// Tip returns the newest position that any node reported; the zero value if
	// none did.
	Tip() Tip
	// Unread returns the transactions that cannot be read now, by digest.
	Unread() []Unread
}

// Tip is the newest position of a ledger.
type Tip struct {
	Chain    string    // as in Mark.Chain
	Position int64     // as Payment.Position
	Time     time.Time // by the ledger's clock; zero if unknown
	Read     time.Time // by ours, when a node last reported it
}

// Unread is a transaction that affects a deposit address and cannot be read, or
// that too few nodes agree on.
type Unread struct {
	Digest, Address string
	Since           time.Time
	Err             error // why, at the last attempt
}
