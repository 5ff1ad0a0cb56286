package tangle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Settler turns payments and manual acts into account entries. Any number of
// them may work on one store at once, in any number of processes.
type Settler struct {
	Store  Store
	Offers *Offers
	Rules  []Rule           // whose a payment is, in the order of asking; nil means by its message
	Now    func() time.Time // when an entry is written; time.Now if nil

	mu    sync.Mutex
	terms map[string][]Terms // the price history by offer, once it was read
}

// Result is what settling did.
type Result struct {
	Outcome Outcome
	Reason  string // why it is held, if Unmatched
	Waits   string // the username whose state must change before it can settle; empty if it waits for something else
	Entry   Entry  // the entry, if there is one

	state UserState // of Waits, when it was held
}

// held is the error that ends the settling of a payment that has to wait.
type held struct {
	reason string
	waits  string // as Result.Waits
	state  UserState
	former bool // it is assigned to an earlier holder of the name
	open   bool // it is certain that the payment is not settled
}

func (h held) Error() string { return h.reason }

// errDecided means that another decision on the payment was written first.
var errDecided = errors.New("decided meanwhile")

// errReplayed comes with an entry that an earlier attempt wrote and completed.
var errReplayed = errors.New("settled before")

// Settle settles a recorded payment, or holds it and says why. It may be
// called again at any time, after an error and after a crash: the payment
// counts once.
func (s *Settler) Settle(ctx context.Context, p Payment) (Result, error) {
	return s.settle(ctx, p, "", false)
}

// settle is Settle for a payment that is known to be held for the reason
// before: if that is still so, there is nothing to write. fresh says that it was
// recorded just now, so that nothing is decided yet as far as we know.
func (s *Settler) settle(ctx context.Context, p Payment, before string, fresh bool) (Result, error) {
	var d Decision
	for {
		if !fresh {
			var err error
			if d, err = s.Store.Decided(ctx, p.ID); err != nil {
				return Result{}, fmt.Errorf("read decision on payment %s: %w", p.ID, err)
			}
		}
		fresh = false
		r, err := s.follow(ctx, p, d)
		var h held
		switch {
		case errors.Is(err, errDecided):
			continue
		case !errors.As(err, &h):
			return r, err
		case h.reason == before:
			return Result{Outcome: Unmatched, Reason: h.reason, Waits: h.waits, state: h.state}, nil
		}
		return s.hold(ctx, p, Decision{Payment: p.ID, Seq: d.Seq}.Cause(), h)
	}
}

// follow does what was decided about a payment, or decides by the rules.
func (s *Settler) follow(ctx context.Context, p Payment, d Decision) (Result, error) {
	switch d.Verdict {
	case AssignedTo:
		return s.credit(ctx, p, d, true, Claim{})
	case TakenBack:
		return Result{}, held{reason: "it was taken back: " + d.Reason}
	case SetAside:
		return Result{Outcome: Dismissed}, nil
	case PaidBack:
		return Result{Outcome: Refunded}, nil
	}
	c, reason, err := s.whose(ctx, p)
	if err != nil {
		return Result{}, err
	}
	if reason != "" {
		return Result{}, held{reason: reason}
	}
	return s.credit(ctx, p, Decision{Payment: p.ID, Seq: 1, Verdict: AssignedTo, Subject: c.Subject, Offer: c.Offer, By: c.By}, false, c)
}

// hold notes why a payment waits, unless what it was to cause was settled before.
func (s *Settler) hold(ctx context.Context, p Payment, cause string, h held) (Result, error) {
	if !h.open {
		done, ok, err := s.Store.Settled(ctx, cause)
		switch {
		case err != nil:
			return Result{}, fmt.Errorf("read settlement of payment %s: %w", p.ID, err)
		case ok && done.Entry.Kind == Paid:
			return Result{Outcome: Replayed, Entry: done.Entry}, nil
		}
	}
	if err := s.Store.Hold(ctx, p.ID, h.reason); err != nil {
		return Result{}, fmt.Errorf("hold payment %s: %w", p.ID, err)
	}
	return Result{Outcome: Unmatched, Reason: h.reason, Waits: h.waits, state: h.state}, nil
}

// credit enters a payment in the account that a decision names. If the decision
// is not written yet, it is on the way; claim is what it rests on, or zero if the
// seller decided. The error is held if the payment has to wait, and errDecided if
// another decision was written first.
//
// What is checked here is checked after the head of the account was read and
// before the entry is appended to it. Since removing a user disables it, then
// closes its accounts, and only then deletes it, an entry that is appended
// belongs to the holder of the name who was found ready: after a Closed entry
// that we did not see, our position is taken.
func (s *Settler) credit(ctx context.Context, p Payment, d Decision, written bool, claim Claim) (Result, error) {
	o, configured := s.Offers.Get(d.Offer)
	var terms Terms
	if configured { // before the head is read: Close finds the accounts by the offers that have terms
		var err error
		if terms, err = s.termsAt(ctx, o, p.paid()); err != nil {
			return Result{}, fmt.Errorf("settle payment %s: %w", p.ID, err)
		}
	}
	g, err := s.append(ctx, d.Subject, d.Offer, d.Cause(), func(head Entry, now time.Time) (Entry, error) {
		switch {
		case written && head.Life != d.Life:
			return Entry{}, held{former: true, reason: fmt.Sprintf("it was assigned to %s, who was removed since", quote(d.Subject))}
		case !written && claim.Subject != "" && head.Life > 0 && p.paid().Before(head.Born):
			return Entry{}, held{reason: fmt.Sprintf("it names %s, who was removed after it was paid", quote(d.Subject))}
		case !configured:
			return Entry{}, held{reason: fmt.Sprintf("it is for the offer %q, which is not in the configuration", d.Offer)}
		case p.Amount <= 0:
			return Entry{}, held{reason: fmt.Sprintf("its amount is %d, not above 0", p.Amount)}
		}
		if err := s.admit(ctx, d, head, terms.Price, claim); err != nil {
			return Entry{}, err
		}
		g, err := entryOf(p, o, terms, head, now)
		if err != nil {
			return Entry{}, err
		}
		if written {
			return g, nil
		}
		d.Life, d.At = head.Life, now
		switch added, err := s.Store.Decide(ctx, d); {
		case err != nil:
			return Entry{}, fmt.Errorf("assign payment %s: %w", p.ID, err)
		case !added:
			return Entry{}, errDecided
		}
		written = true
		return g, nil
	})
	var h held
	switch {
	case errors.As(err, &h):
		h.open = true // append has read the settlement
		return Result{}, h
	case errors.Is(err, errDecided):
		return Result{}, err
	case errors.Is(err, ErrTooMuch):
		return Result{}, held{reason: err.Error(), open: true}
	case (err == nil || errors.Is(err, errReplayed)) && g.Kind == Released:
		// Between taking it back and deciding so.
		return Result{}, held{reason: "it was taken back: " + g.Reason}
	case errors.Is(err, errReplayed):
		return Result{Outcome: Replayed, Entry: g}, nil
	case err != nil:
		return Result{}, fmt.Errorf("settle payment %s: %w", p.ID, err)
	}
	return Result{Outcome: g.Outcome(), Entry: g}, nil
}

// admit returns nil if a user can be credited, and held if not. It makes the user
// if the claim says so. The error wraps ErrConflict if head is outdated.
func (s *Settler) admit(ctx context.Context, d Decision, head Entry, price int64, claim Claim) error {
	subject := d.Subject
	lookup := func(err error) error { return fmt.Errorf("look up user %s: %w", quote(subject), err) }
	if claim.Admit == nil {
		state, err := s.Store.UserState(ctx, subject)
		if err != nil {
			return lookup(err)
		}
		return refuse(subject, state, "")
	}
	state, reason, err := claim.Admit.State(ctx)
	if err != nil {
		return lookup(err)
	}
	if state != UserUnknown {
		return refuse(subject, state, reason)
	}
	// The name is free, so whoever had it before is removed completely.
	open, err := s.openAccount(ctx, d, head)
	if err != nil {
		return err
	}
	if open != "" {
		if state, _, err = claim.Admit.State(ctx); err != nil {
			return lookup(err)
		}
		if state != UserUnknown {
			return ErrConflict // another process made the user meanwhile
		}
		return held{
			reason: fmt.Sprintf("%s was removed by other means than iotoll, and the account for %q was not closed", quote(subject), open),
			waits:  subject, state: state,
		}
	}
	if reason, err = claim.Admit.Create(ctx, price); err != nil {
		return fmt.Errorf("create user %s: %w", quote(subject), err)
	}
	if reason != "" {
		return held{reason: reason, waits: subject, state: UserUnknown}
	}
	return nil
}

// refuse returns held unless a user is ready and there is no other reason.
func refuse(subject string, state UserState, reason string) error {
	if refusal := state.refusal(subject); refusal != "" {
		reason = refusal
	}
	if reason == "" {
		return nil
	}
	return held{reason: reason, waits: subject, state: state}
}

// openAccount returns an offer for which a name has an account that is neither empty
// nor closed, "" if there is none: then a new user of the name starts with nothing.
// It reads the accounts after the name was found free, since removing a user closes
// them before it frees the name. The error wraps ErrConflict if head, of the account
// that a decision names, was read before that.
func (s *Settler) openAccount(ctx context.Context, d Decision, head Entry) (open string, err error) {
	offers, err := s.offerIDs(ctx)
	if err != nil {
		return "", err
	}
	for _, offer := range offers {
		last, err := s.Store.Last(ctx, d.Subject, offer)
		switch {
		case err != nil:
			return "", fmt.Errorf("read account of %q for %q: %w", d.Subject, offer, err)
		case offer == d.Offer && last.Seq != head.Seq:
			return "", ErrConflict
		case last.Seq > 0 && last.Kind != Closed:
			open = offer
		}
	}
	return open, nil
}

// paid returns when a payment was made: by the ledger's clock if it has one.
func (p Payment) paid() time.Time {
	if p.Final.IsZero() {
		return p.Confirmed
	}
	return p.Final
}

// entryOf returns what a payment makes of an account with that head.
func entryOf(p Payment, o Offer, terms Terms, head Entry, now time.Time) (Entry, error) {
	o.Price, o.Period = terms.Price, terms.Period
	bought, err := o.Buy(head.Credit, head.Remainder, p.Amount)
	if err != nil {
		return Entry{}, err
	}
	g := Entry{
		Kind: Paid, Payment: p.ID, Amount: p.Amount, Filters: o.Filters, Price: o.Price, Period: o.Period,
		Credit: bought.Credit, Remainder: bought.Remainder,
		NotBefore: now, NotAfter: now, End: head.End,
	}
	if bought.Milliseconds > 0 {
		if g.NotBefore, g.NotAfter, err = interval(head.End, now, bought.Milliseconds); err != nil {
			return Entry{}, err
		}
		g.End = g.NotAfter
	}
	return g, nil
}

// append writes the entry that cause makes of an account, once. next says what
// follows head.
//
// Why once. Suppose the entry stands at position k already. Reading head, we find
//
//   - a head before k: then k was written after we read, position head+1 is
//     taken, and our own write is refused;
//   - k itself: it bears our cause;
//   - a head after k: the Settler that wrote k+1 had completed k before, hence
//     written the settlement, and we read that after reading head.
//
// So nothing is entered twice, wherever a Settler crashes or sleeps. It rests on
// the order: head first, then the settlement; and complete the head
// before writing after it.
func (s *Settler) append(ctx context.Context, subject, offer, cause string, next func(head Entry, now time.Time) (Entry, error)) (Entry, error) {
	for {
		head, err := s.Store.Last(ctx, subject, offer)
		if err != nil {
			return Entry{}, fmt.Errorf("read account of %q for %q: %w", subject, offer, err)
		}
		ours := head.Seq > 0 && head.Cause == cause
		if head.Seq > 0 && !ours {
			if err := s.complete(ctx, head); err != nil {
				return Entry{}, err
			}
		}
		done, ok, err := s.Store.Settled(ctx, cause)
		switch {
		case err != nil:
			return Entry{}, fmt.Errorf("read settlement of %s: %w", cause, err)
		case ok:
			return done.Entry, errReplayed
		case ours: // a crash kept it from being completed
			return head, s.complete(ctx, head)
		}
		now := s.now()
		g, err := next(head, now)
		if errors.Is(err, ErrConflict) {
			continue // next saw another entry
		}
		if err != nil {
			return Entry{}, err
		}
		g.Subject, g.Offer, g.Seq, g.Cause, g.At = subject, offer, head.Seq+1, cause, now
		g.Life, g.Born = head.Life, head.Born
		if g.Kind == Closed {
			g.Life, g.Born = head.Life+1, now
		}
		switch err := s.Store.Append(ctx, g); {
		case errors.Is(err, ErrConflict):
			continue // another entry was written first: begin again with that one
		case err != nil:
			return Entry{}, fmt.Errorf("append to account of %q for %q: %w", subject, offer, err)
		}
		return g, s.complete(ctx, g)
	}
}

// complete finishes an entry that another Settler may not have finished.
func (s *Settler) complete(ctx context.Context, g Entry) error {
	if err := s.Store.Complete(ctx, g); err != nil {
		return fmt.Errorf("complete entry %d of %q for %q: %w", g.Seq, g.Subject, g.Offer, err)
	}
	return nil
}

// now is truncated to the millisecond: that is what a BSON datetime holds, and
// what was written must read back the same.
func (s *Settler) now() time.Time {
	if s.Now == nil {
		return time.Now().UTC().Truncate(time.Millisecond)
	}
	return s.Now().UTC().Truncate(time.Millisecond)
}

// quote writes what others sent into a text for people.
func quote(s string) string { return fmt.Sprintf("%.80q", s) }
