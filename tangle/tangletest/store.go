// Package tangletest helps to test what uses package tangle: a Store and a
// Ledger in memory that fail on demand, and the test that every Store must pass.
package tangletest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/iotoll/iotoll/tangle"
)

var _ tangle.Store = (*Store)(nil)

// Point is a moment in a call of a Store.
type Point struct {
	Op    string // the method's name
	After bool   // the write was done, but the caller does not know yet
}

// Store is a tangle.Store in memory. It keeps the promises of the interface and
// nothing beyond them. Its zero value is ready.
type Store struct {
	// Fault, if set, is called at the start of each call and again after each
	// write. It may block, it may panic to crash the caller, and an error from
	// it becomes the call's. It is called without a lock held. For Complete it
	// is called after the announcement as well, with Op "Complete/announced".
	Fault func(Point) error

	mu          sync.Mutex
	users       map[string]tangle.UserState
	marks       map[[2]string]tangle.Mark
	payments    map[string]tangle.Payment
	order       []string
	outcomes    map[string]tangle.Outcome
	reasons     map[string]string
	decisions   map[string][]tangle.Decision
	terms       []tangle.Terms
	dust        map[[3]string][]tangle.Dust
	accounts    map[[2]string][]tangle.Entry
	revoked     map[[2]string]map[int64]tangle.Entry // by account and Seq: the revoking entry
	settlements map[string]tangle.Settlement
	announced   []tangle.Entry
	calls       map[string]int
	signups     signups
}

type faultKey struct{}

// WithFault returns a context with which calls meet a Fault of their own, for
// one of several that use a store at once.
func WithFault(ctx context.Context, fault func(Point) error) context.Context {
	return context.WithValue(ctx, faultKey{}, fault)
}

// AddUser adds a user who can log in.
func (s *Store) AddUser(name string) { s.SetUser(name, tangle.UserReady) }

// SetUser sets the state of a name.
func (s *Store) SetUser(name string, state tangle.UserState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == nil {
		s.users = make(map[string]tangle.UserState)
	}
	s.users[name] = state
}

// Account returns the entries of an account, in order.
func (s *Store) Account(subject, offer string) []tangle.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.accounts[[2]string{subject, offer}])
}

// RevokedBy returns the entry that marked entry seq of an account as revoked.
func (s *Store) RevokedBy(subject, offer string, seq int64) (by tangle.Entry, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	by, ok = s.revoked[[2]string{subject, offer}][seq]
	return by, ok
}

// Announced returns the entries that followers were told of, repetitions included.
func (s *Store) Announced() []tangle.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.announced)
}

// Payments returns the recorded payments, in order.
func (s *Store) Payments() []tangle.Payment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []tangle.Payment
	for _, id := range s.order {
		all = append(all, s.payments[id])
	}
	return all
}

// Outcome returns what became of a payment and, if it is held, why; "" if it
// was never recorded.
func (s *Store) Outcome(id string) (tangle.Outcome, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if outcome := s.settledAs(id); outcome != "" {
		return outcome, ""
	}
	if s.outcomes[id] == tangle.Settling && s.reasons[id] != "" {
		return tangle.Unmatched, s.reasons[id]
	}
	return s.outcomes[id], s.reasons[id]
}

// settledAs returns the final outcome of a payment, "" if it has none.
func (s *Store) settledAs(id string) tangle.Outcome {
	d := s.decided(id)
	switch d.Verdict {
	case tangle.SetAside:
		return tangle.Dismissed
	case tangle.PaidBack:
		return tangle.Refunded
	case tangle.TakenBack:
		return ""
	}
	d.Payment = id
	if done, ok := s.settlements[d.Cause()]; ok && done.Entry.Kind == tangle.Paid {
		return done.Outcome
	}
	return ""
}

func (s *Store) decided(payment string) tangle.Decision {
	if all := s.decisions[payment]; len(all) > 0 {
		return all[len(all)-1]
	}
	return tangle.Decision{}
}

// Decisions returns all decisions on a payment, in order.
func (s *Store) Decisions(payment string) []tangle.Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.decisions[payment])
}

// Dust returns all sums of an address, in order.
func (s *Store) Dust(ledger, address, chain string) []tangle.Dust {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.dust[[3]string{ledger, address, chain}])
}

// Calls returns how often a method was called.
func (s *Store) Calls(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// enter begins a call.
func (s *Store) enter(ctx context.Context, op string) error {
	s.mu.Lock()
	if s.calls == nil {
		s.calls = make(map[string]int)
	}
	s.calls[op]++
	s.mu.Unlock()
	if err := s.fault(ctx, Point{Op: op}); err != nil {
		return err
	}
	return ctx.Err()
}

func (s *Store) fault(ctx context.Context, p Point) error {
	if fault, ok := ctx.Value(faultKey{}).(func(Point) error); ok {
		return fault(p)
	}
	if s.Fault == nil {
		return nil
	}
	return s.Fault(p)
}

// write does f under the lock, and then lets the fault strike.
func (s *Store) write(ctx context.Context, op string, f func() error) error {
	if err := s.enter(ctx, op); err != nil {
		return err
	}
	if err := s.locked(f); err != nil {
		return err
	}
	return s.fault(ctx, Point{Op: op, After: true})
}

func (s *Store) locked(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f()
}

// Marks implements tangle.Store.
func (s *Store) Marks(ctx context.Context, ledger string) (map[string]tangle.Mark, error) {
	if err := s.enter(ctx, "Marks"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	marks := make(map[string]tangle.Mark)
	for at, mark := range s.marks {
		if at[0] == ledger {
			marks[at[1]] = mark
		}
	}
	return marks, nil
}

// SetMark implements tangle.Store.
func (s *Store) SetMark(ctx context.Context, ledger, address string, mark tangle.Mark) error {
	return s.write(ctx, "SetMark", func() error {
		if s.marks == nil {
			s.marks = make(map[[2]string]tangle.Mark)
		}
		s.marks[[2]string{ledger, address}] = mark
		return nil
	})
}

// Record implements tangle.Store.
func (s *Store) Record(ctx context.Context, p tangle.Payment, outcome tangle.Outcome) (added bool, err error) {
	err = s.write(ctx, "Record", func() error {
		if _, ok := s.payments[p.ID]; ok {
			return nil
		}
		if s.payments == nil {
			s.payments = make(map[string]tangle.Payment)
			s.outcomes = make(map[string]tangle.Outcome)
			s.reasons = make(map[string]string)
		}
		s.payments[p.ID] = p
		s.outcomes[p.ID] = outcome
		if outcome != tangle.Historic {
			s.outcomes[p.ID] = tangle.Settling
		}
		s.order = append(s.order, p.ID)
		added = true
		return nil
	})
	return added && err == nil, err
}

// Pending implements tangle.Store.
func (s *Store) Pending(ctx context.Context, ledger string) (map[string]string, error) {
	if err := s.enter(ctx, "Pending"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reasons := make(map[string]string)
	for id := range s.payments {
		if s.pending(id) && s.payments[id].Ledger == ledger {
			reasons[id] = s.reasons[id]
		}
	}
	return reasons, nil
}

func (s *Store) pending(id string) bool {
	_, recorded := s.payments[id]
	return recorded && s.outcomes[id] != tangle.Historic && s.settledAs(id) == ""
}

// Unsettled implements tangle.Store.
func (s *Store) Unsettled(ctx context.Context, payment string) (tangle.Payment, bool, error) {
	if err := s.enter(ctx, "Unsettled"); err != nil {
		return tangle.Payment{}, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.payments[payment], s.pending(payment), nil
}

// Hold implements tangle.Store.
func (s *Store) Hold(ctx context.Context, payment, reason string) error {
	return s.write(ctx, "Hold", func() error {
		if _, ok := s.payments[payment]; !ok {
			return fmt.Errorf("hold payment %s: it was never recorded", payment)
		}
		s.reasons[payment] = reason
		return nil
	})
}

// UserState implements tangle.Users.
func (s *Store) UserState(ctx context.Context, name string) (tangle.UserState, error) {
	if err := s.enter(ctx, "UserState"); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if state, ok := s.users[name]; ok {
		return state, nil
	}
	return tangle.UserUnknown, nil
}

// Decide implements tangle.Store.
func (s *Store) Decide(ctx context.Context, d tangle.Decision) (added bool, err error) {
	err = s.write(ctx, "Decide", func() error {
		n := int64(len(s.decisions[d.Payment]))
		switch {
		case d.Seq >= 1 && d.Seq <= n:
			return nil
		case d.Seq != n+1:
			return fmt.Errorf("decision %d on payment %s: it has %d", d.Seq, d.Payment, n)
		}
		if s.decisions == nil {
			s.decisions = make(map[string][]tangle.Decision)
		}
		s.decisions[d.Payment] = append(s.decisions[d.Payment], d)
		added = true
		return nil
	})
	return added && err == nil, err
}

// Decided implements tangle.Store.
func (s *Store) Decided(ctx context.Context, payment string) (tangle.Decision, error) {
	if err := s.enter(ctx, "Decided"); err != nil {
		return tangle.Decision{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.decided(payment), nil
}

// Entry implements tangle.Store.
func (s *Store) Entry(ctx context.Context, subject, offer string, seq int64) (tangle.Entry, error) {
	if err := s.enter(ctx, "Entry"); err != nil {
		return tangle.Entry{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	account := s.accounts[[2]string{subject, offer}]
	if seq < 1 || seq > int64(len(account)) {
		return tangle.Entry{}, nil
	}
	return account[seq-1], nil
}

// LastWritten implements tangle.Store.
func (s *Store) LastWritten(ctx context.Context) (newest time.Time, err error) {
	if err := s.enter(ctx, "LastWritten"); err != nil {
		return time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, account := range s.accounts {
		for _, g := range account {
			if g.At.After(newest) {
				newest = g.At
			}
		}
	}
	return newest, nil
}

// Offered implements tangle.Store.
func (s *Store) Offered(ctx context.Context) ([]tangle.Terms, error) {
	if err := s.enter(ctx, "Offered"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.terms)
	slices.SortFunc(all, func(a, b tangle.Terms) int {
		return cmp.Or(cmp.Compare(a.Offer, b.Offer), cmp.Compare(a.Seq, b.Seq))
	})
	return all, nil
}

// Offer implements tangle.Store.
func (s *Store) Offer(ctx context.Context, t tangle.Terms) (added bool, err error) {
	err = s.write(ctx, "Offer", func() error {
		for _, known := range s.terms {
			if known.Offer == t.Offer && known.Seq == t.Seq {
				return nil
			}
		}
		s.terms = append(s.terms, t)
		added = true
		return nil
	})
	return added && err == nil, err
}

// LastDust implements tangle.Store.
func (s *Store) LastDust(ctx context.Context, ledger, address, chain string) (tangle.Dust, error) {
	if err := s.enter(ctx, "LastDust"); err != nil {
		return tangle.Dust{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if all := s.dust[[3]string{ledger, address, chain}]; len(all) > 0 {
		return all[len(all)-1], nil
	}
	return tangle.Dust{}, nil
}

// AddDust implements tangle.Store.
func (s *Store) AddDust(ctx context.Context, d tangle.Dust) (added bool, err error) {
	err = s.write(ctx, "AddDust", func() error {
		key := [3]string{d.Ledger, d.Address, d.Chain}
		n := int64(len(s.dust[key]))
		switch {
		case d.Seq >= 1 && d.Seq <= n:
			return nil
		case d.Seq != n+1:
			return fmt.Errorf("dust %d of %s: it has %d", d.Seq, d.Address, n)
		}
		if s.dust == nil {
			s.dust = make(map[[3]string][]tangle.Dust)
		}
		s.dust[key] = append(s.dust[key], d)
		added = true
		return nil
	})
	return added && err == nil, err
}

// Last implements tangle.Store.
func (s *Store) Last(ctx context.Context, subject, offer string) (tangle.Entry, error) {
	if err := s.enter(ctx, "Last"); err != nil {
		return tangle.Entry{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	account := s.accounts[[2]string{subject, offer}]
	if len(account) == 0 {
		return tangle.Entry{Subject: subject, Offer: offer}, nil
	}
	return account[len(account)-1], nil
}

// Append implements tangle.Store.
func (s *Store) Append(ctx context.Context, g tangle.Entry) error {
	return s.write(ctx, "Append", func() error {
		key := [2]string{g.Subject, g.Offer}
		n := int64(len(s.accounts[key]))
		if g.Seq >= 1 && g.Seq <= n {
			return fmt.Errorf("append entry %d of %q for %q: %w", g.Seq, g.Subject, g.Offer, tangle.ErrConflict)
		}
		if g.Seq != n+1 {
			return fmt.Errorf("append entry %d of %q for %q: the account has %d", g.Seq, g.Subject, g.Offer, n)
		}
		if s.accounts == nil {
			s.accounts = make(map[[2]string][]tangle.Entry)
		}
		s.accounts[key] = append(s.accounts[key], g)
		return nil
	})
}

// Complete implements tangle.Store.
func (s *Store) Complete(ctx context.Context, g tangle.Entry) error {
	if err := s.enter(ctx, "Complete"); err != nil {
		return err
	}
	key := [2]string{g.Subject, g.Offer}
	finished := false
	err := s.locked(func() error {
		if _, finished = s.settlements[g.Cause]; finished {
			return nil
		}
		if g.Seq < 1 || g.Seq > int64(len(s.accounts[key])) {
			return errors.New("complete an entry that was never appended")
		}
		if first, last := g.Cuts(); last > 0 {
			if s.revoked == nil {
				s.revoked = make(map[[2]string]map[int64]tangle.Entry)
			}
			if s.revoked[key] == nil {
				s.revoked[key] = make(map[int64]tangle.Entry)
			}
			for _, old := range s.accounts[key][first-1 : last] {
				if _, ok := s.revoked[key][old.Seq]; !ok && old.NotAfter.After(g.At) {
					s.revoked[key][old.Seq] = g
					s.announced = append(s.announced, old)
				}
			}
		}
		s.announced = append(s.announced, g)
		return nil
	})
	if err != nil || finished {
		return err
	}
	if err := s.fault(ctx, Point{Op: "Complete/announced", After: true}); err != nil {
		return err
	}
	err = s.locked(func() error {
		if s.settlements == nil {
			s.settlements = make(map[string]tangle.Settlement)
		}
		if _, ok := s.settlements[g.Cause]; !ok {
			s.settlements[g.Cause] = tangle.Settlement{Cause: g.Cause, Outcome: g.Outcome(), Entry: g}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.fault(ctx, Point{Op: "Complete", After: true})
}

// Settled implements tangle.Store.
func (s *Store) Settled(ctx context.Context, cause string) (tangle.Settlement, bool, error) {
	if err := s.enter(ctx, "Settled"); err != nil {
		return tangle.Settlement{}, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	done, ok := s.settlements[cause]
	return done, ok, nil
}
