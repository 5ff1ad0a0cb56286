package tangle

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// RecordTerms keeps what the offers cost from now on, as far as that is new:
// payments that were made before count by what was asked for then. The
// [Watcher] calls it when it begins; it may be called again at any time.
func (s *Settler) RecordTerms(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readTerms(ctx); err != nil {
		return err
	}
	for _, o := range s.Offers.All() {
		if err := s.recordTerms(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// recordTerms appends what an offer costs to its history unless that is what it
// ends with. s.mu is held.
func (s *Settler) recordTerms(ctx context.Context, o Offer) error {
	for {
		t := Terms{Offer: o.ID, Seq: 1, Price: o.Price, Period: o.Period, Since: s.now()}
		if known := s.terms[o.ID]; len(known) > 0 {
			last := known[len(known)-1]
			if last.Price == o.Price && last.Period == o.Period {
				return nil
			}
			t.Seq = last.Seq + 1
		}
		added, err := s.Store.Offer(ctx, t)
		if err != nil {
			return fmt.Errorf("record terms of offer %q: %w", o.ID, err)
		}
		if added {
			s.terms[o.ID] = append(s.terms[o.ID], t)
			return nil
		}
		if err := s.readTerms(ctx); err != nil { // other terms were written first
			return err
		}
	}
}

// readTerms reads the history of all offers. s.mu is held.
func (s *Settler) readTerms(ctx context.Context) error {
	all, err := s.Store.Offered(ctx)
	if err != nil {
		return fmt.Errorf("read terms of offers: %w", err)
	}
	s.terms = make(map[string][]Terms)
	for _, t := range all {
		s.terms[t.Offer] = append(s.terms[t.Offer], t)
	}
	return nil
}

// termsAt returns what an offer cost at an instant. Nothing is sold of an offer
// before it has a history: that is how [Settler.Close] knows of every account.
func (s *Settler) termsAt(ctx context.Context, o Offer, at time.Time) (Terms, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.terms[o.ID]) == 0 {
		if err := s.readTerms(ctx); err != nil {
			return Terms{}, err
		}
	}
	known := s.terms[o.ID]
	if len(known) == 0 || known[len(known)-1].Price == 0 {
		if err := s.recordTerms(ctx, o); err != nil {
			return Terms{}, err
		}
		known = s.terms[o.ID]
	}
	return inForce(known, at), nil
}

// inForce returns the terms that hold at an instant: before the first that are
// known, those.
func inForce(history []Terms, at time.Time) Terms {
	history = slices.DeleteFunc(slices.Clone(history), func(t Terms) bool { return t.Price <= 0 })
	for _, t := range slices.Backward(history) {
		if !t.Since.After(at) {
			return t
		}
	}
	return history[0]
}

// offerIDs returns the offers that anything can have been sold of, sorted.
func (s *Settler) offerIDs(ctx context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readTerms(ctx); err != nil {
		return nil, err
	}
	var ids []string
	for id := range s.terms {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}
