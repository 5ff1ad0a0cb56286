package tangletest

import (
	"context"
	"sync"

	"github.com/iotoll/iotoll/tangle"
)

var _ tangle.Ledger = (*Ledger)(nil)

// Ledger is a tangle.Ledger in memory. Its zero value is ready.
type Ledger struct {
	mu       sync.Mutex
	pending  []tangle.Payment
	errs     []error
	partial  []string
	requests int
}

// Name returns "test".
func (l *Ledger) Name() string { return "test" }

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

// Requests returns how often Confirmed was called.
func (l *Ledger) Requests() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests
}

// Confirmed implements tangle.Ledger.
func (l *Ledger) Confirmed(ctx context.Context) ([]tangle.Payment, []string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		if err != nil {
			return nil, nil, err
		}
	}
	payments := l.pending
	l.pending = nil
	return payments, l.partial, nil
}
