package tangletest

import (
	"context"
	"errors"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/iotoll/iotoll/tangle"
)

var _ tangle.Ledger = (*Ledger)(nil)

// Ledger is a tangle.Ledger in memory. Its zero value is ready.
type Ledger struct {
	Notation
	Dust int64 // Currency.Dust; set before the first use

	mu       sync.Mutex
	pending  []tangle.Payment
	errs     []error
	partial  []string
	marks    map[string]tangle.Mark
	from     map[string]tangle.Mark
	requests int
	clock    func() time.Time
}

// Currency returns that of Notation with the dust limit.
func (l *Ledger) Currency() tangle.Currency {
	c := l.Notation.Currency()
	c.Dust = l.Dust
	return c
}

// Clock sets the clock that Batch.Time is read from.
func (l *Ledger) Clock(now func() time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock = now
}

// Notation is the notation of a Ledger: whole units, any address that is not empty.
type Notation struct{}

// Ledger returns "test".
func (Notation) Ledger() string { return "test" }

// Currency returns whole units, "u".
func (Notation) Currency() tangle.Currency { return tangle.Currency{Unit: "u", Max: math.MaxInt64} }

// ParseAddress returns text; it errs if that is empty.
func (Notation) ParseAddress(text string) (string, error) {
	if text == "" {
		return "", errors.New("address: required")
	}
	return text, nil
}

// Confirm makes payments confirmed: the next call returns them.
func (l *Ledger) Confirm(payments ...tangle.Payment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = append(l.pending, payments...)
}

// Fail makes the next calls fail, one for each error; nil is a call that works.
func (l *Ledger) Fail(errs ...error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, errs...)
}

// Partial says of which addresses calls answer that there may be more.
func (l *Ledger) Partial(addresses ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = addresses
}

// Marks sets the marks that calls return, as a ledger with a total order does.
func (l *Ledger) Marks(marks map[string]tangle.Mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marks = marks
}

// From returns the marks that the last call was given.
func (l *Ledger) From() map[string]tangle.Mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.from
}

// Requests returns how often Confirmed was called.
func (l *Ledger) Requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests
}

// Confirmed implements tangle.Ledger.
func (l *Ledger) Confirmed(ctx context.Context, from map[string]tangle.Mark) (tangle.Batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	l.from = maps.Clone(from)
	if err := ctx.Err(); err != nil {
		return tangle.Batch{}, err
	}
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		if err != nil {
			return tangle.Batch{}, err
		}
	}
	batch := tangle.Batch{Payments: l.pending, Partial: l.partial, Marks: maps.Clone(l.marks)}
	l.pending = nil
	if l.clock != nil {
		batch.Time = l.clock()
	}
	return batch, nil
}
