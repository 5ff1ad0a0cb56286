package tangle

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// recheck is what a Watcher knows of payments that were recorded and not settled:
// those held, and those whose settling was interrupted. Most are held for a name
// that does not exist, and asking for a name costs the same however many payments
// wait for it.
type recheck struct {
	held map[string]heldPayment
	// waits are the held payments by the username that they wait for.
	waits map[string]map[string]bool

	queue  []string        // payments to settle again, by ID
	queued map[string]bool // the same
	names  []string        // usernames to ask for
	at     time.Time       // when the store is asked what is pending
	allAt  time.Time       // when every held payment is settled again
}

// heldPayment is a payment that waits.
type heldPayment struct {
	payment Payment
	known   bool      // payment is set; else only its ID and reason are known
	reason  string    // as in the store
	waits   string    // as Result.Waits
	state   UserState // of waits, when it was held
}

func newRecheck() recheck {
	now := time.Now()
	return recheck{
		held: make(map[string]heldPayment), waits: make(map[string]map[string]bool), queued: make(map[string]bool),
		at: now, allAt: now.Add(retryEvery),
	}
}

// user asks to settle what waits for a user, before anything else.
func (r *recheck) user(name string) {
	for id := range r.waits[name] {
		r.queue = slices.Insert(r.queue, 0, id)
		r.queued[id] = true
	}
}

// all asks to settle everything that is held.
func (r *recheck) all() {
	for _, id := range sortedIDs(r.held) {
		r.enqueue(id)
	}
}

func (r *recheck) enqueue(id string) {
	if !r.queued[id] {
		r.queue = append(r.queue, id)
		r.queued[id] = true
	}
}

// soon asks the store what is pending before the minute is over.
func (r *recheck) soon(in time.Duration) {
	if at := time.Now().Add(in); at.Before(r.at) {
		r.at = at
	}
}

// hold keeps a payment that has to wait.
func (r *recheck) hold(p Payment, result Result) {
	r.drop(p.ID)
	r.held[p.ID] = heldPayment{payment: p, known: true, reason: result.Reason, waits: result.Waits, state: result.state}
	if result.Waits == "" {
		return
	}
	if r.waits[result.Waits] == nil {
		r.waits[result.Waits] = make(map[string]bool)
	}
	r.waits[result.Waits][p.ID] = true
}

// drop forgets a payment.
func (r *recheck) drop(id string) {
	name := r.held[id].waits
	delete(r.held, id)
	delete(r.waits[name], id)
	if len(r.waits[name]) == 0 {
		delete(r.waits, name)
	}
}

// pending takes over what the store says is pending, without what the watcher is
// settling anyway. Payments whose settling was interrupted come first.
func (r *recheck) pending(reasons map[string]string, fresh map[string]bool) {
	for id := range r.held {
		if _, ok := reasons[id]; !ok {
			r.drop(id) // settled or dismissed elsewhere
		}
	}
	found := make(map[string]heldPayment)
	for id, reason := range reasons {
		if _, ok := r.held[id]; !ok && !fresh[id] {
			found[id] = heldPayment{reason: reason}
		}
	}
	for _, id := range sortedIDs(found) {
		if found[id].reason == "" {
			r.enqueue(id)
			continue
		}
		r.held[id] = found[id]
		r.enqueue(id)
	}
}

// sortedIDs returns the IDs of payments, interrupted ones first.
func sortedIDs(payments map[string]heldPayment) []string {
	ids := make([]string, 0, len(payments))
	for id := range payments {
		ids = append(ids, id)
	}
	held := func(id string) int {
		if payments[id].reason == "" {
			return 0
		}
		return 1
	}
	slices.SortFunc(ids, func(a, b string) int { return cmp.Or(held(a)-held(b), cmp.Compare(a, b)) })
	return ids
}

// settleHeld goes on with what was recorded earlier, for a short time at most:
// new payments never wait for it longer than that.
func (w *Watcher) settleHeld(ctx context.Context) (tried bool, err error) {
	now := time.Now()
	if now.Before(w.store.until) || w.clockErr != nil || !w.termsKept {
		return false, nil
	}
	r := &w.recheck
	if !now.Before(r.at) {
		tried = true
		if err := w.readPending(ctx); err != nil {
			return true, err
		}
	}
	failures := 0
	for until := now.Add(recheckSlice); failures < maxFailures && ctx.Err() == nil; {
		var more bool
		var itsErr error
		switch {
		case len(r.queue) > 0:
			id := r.queue[0]
			r.queue = r.queue[1:]
			delete(r.queued, id)
			if more, itsErr = true, w.settleAgain(ctx, id); itsErr != nil {
				r.enqueue(id)
			}
		case len(r.names) > 0:
			name := r.names[0]
			r.names = r.names[1:]
			more, itsErr = true, w.ask(ctx, name)
		}
		if !more {
			break
		}
		tried = true
		if itsErr != nil {
			err = itsErr
			failures++
			r.soon(BackOff(w.Interval, maxBackOff, w.store.fails))
		} else {
			failures = 0
		}
		if !time.Now().Before(until) {
			break
		}
	}
	return tried, err
}

// readPending asks the store what is pending, and plans what to do about it.
func (w *Watcher) readPending(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	r := &w.recheck
	now := time.Now()
	r.at = now.Add(recheckEvery)
	reasons, err := w.Store.Pending(ctx, w.Ledger.Ledger())
	if err != nil {
		r.soon(BackOff(w.Interval, maxBackOff, w.store.fails))
		return fmt.Errorf("read pending payments: %w", err)
	}
	fresh := make(map[string]bool)
	for _, f := range w.fresh {
		fresh[f.payment.ID] = true
	}
	r.pending(reasons, fresh)
	if !now.Before(r.allAt) {
		r.allAt = now.Add(retryEvery)
		r.all()
	}
	if len(r.names) == 0 {
		for name := range r.waits {
			r.names = append(r.names, name)
		}
		slices.Sort(r.names)
	}
	return nil
}

// settleAgain settles a payment that was recorded earlier.
func (w *Watcher) settleAgain(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	h := w.recheck.held[id]
	if !h.known {
		p, ok, err := w.Store.Unsettled(ctx, id)
		if err != nil {
			return fmt.Errorf("read pending payment %s: %w", id, err)
		}
		if !ok {
			w.recheck.drop(id)
			return nil
		}
		h.payment = p
	}
	return w.settle(ctx, h.payment, h.reason, false)
}

// ask asks for the state of a user whom payments wait for, and settles them again
// if it changed.
func (w *Watcher) ask(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	state, err := w.Store.UserState(ctx, name)
	if err != nil {
		return fmt.Errorf("look up user %s: %w", quote(name), err)
	}
	for id := range w.recheck.waits[name] {
		if state != w.recheck.held[id].state {
			w.recheck.enqueue(id)
		}
	}
	return nil
}
