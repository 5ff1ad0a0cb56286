package tangle

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/iotoll/iotoll/acl"
)

// Refusals of manual acts.
var (
	ErrNoUser   = errors.New("there is no user of that name")
	ErrUser     = errors.New("the user cannot be given anything")
	ErrNoOffer  = errors.New("there is no offer of that name")
	ErrAssigned = errors.New("the payment is assigned to another user")
	ErrFree     = errors.New("the payment is not assigned")
	ErrConsumed = errors.New("what the payment bought is in use")
	ErrRefunded = errors.New("the payment is refunded")
	ErrNothing  = errors.New("the account is empty")
)

// NewCause returns a fresh ID for a manual act. No payment has one like it.
func NewCause() string { return "manual/" + strings.ToLower(rand.Text()) }

// Assign settles a recorded payment for a subject and an offer that the seller
// chose; by names the seller in the book. A payment that was dismissed or taken
// back may be assigned. The error wraps ErrAssigned if the payment is assigned to
// another user or offer: [Settler.Release] comes first. It wraps ErrRefunded if the payment was
// paid back. It may be called again after an error.
func (s *Settler) Assign(ctx context.Context, p Payment, subject, offer, by string) (Result, error) {
	if err := s.known(ctx, subject, offer); err != nil {
		return Result{}, fmt.Errorf("assign payment %s: %w", p.ID, err)
	}
	for {
		d, written, err := s.assignment(ctx, p, subject, offer, by)
		if err != nil {
			return Result{}, fmt.Errorf("assign payment %s: %w", p.ID, err)
		}
		r, err := s.credit(ctx, p, d, written, Claim{})
		var h held
		switch {
		case errors.Is(err, errDecided):
		case errors.As(err, &h) && h.former:
			// The seller means who bears the name now.
			if _, err := s.Release(ctx, p, by, h.reason); err != nil {
				return Result{}, err
			}
		case errors.As(err, &h):
			return s.hold(ctx, p, d.Cause(), h)
		default:
			return r, err
		}
	}
}

// assignment returns the decision by which the seller assigns a payment, and
// whether it is written already.
func (s *Settler) assignment(ctx context.Context, p Payment, subject, offer, by string) (d Decision, written bool, err error) {
	d, err = s.decided(ctx, p.ID)
	if err != nil {
		return Decision{}, false, err
	}
	switch d.Verdict {
	case PaidBack:
		return Decision{}, false, ErrRefunded
	case AssignedTo:
		over, err := s.over(ctx, d)
		if err != nil {
			return Decision{}, false, err
		}
		if over {
			break
		}
		if d.Subject != subject || d.Offer != offer {
			return Decision{}, false, fmt.Errorf("%w: %q, offer %q, by %q", ErrAssigned, d.Subject, d.Offer, d.By)
		}
		return d, true, nil
	}
	return Decision{Payment: p.ID, Seq: d.Seq + 1, Verdict: AssignedTo, Subject: subject, Offer: offer, By: by}, false, nil
}

// decided returns the decision in force on a payment.
func (s *Settler) decided(ctx context.Context, payment string) (Decision, error) {
	d, err := s.Store.Decided(ctx, payment)
	if err != nil {
		return Decision{}, fmt.Errorf("read decision on payment %s: %w", payment, err)
	}
	return d, nil
}

// over reports whether an assignment was taken back already, although the
// decision that says so is still to be written.
func (s *Settler) over(ctx context.Context, d Decision) (bool, error) {
	for _, cause := range []string{d.Cause(), undoing(d)} {
		done, ok, err := s.Store.Settled(ctx, cause)
		if err != nil {
			return false, fmt.Errorf("read settlement of %s: %w", cause, err)
		}
		if ok && done.Entry.Kind == Released {
			return true, nil
		}
	}
	return false, nil
}

// undoing is the cause of the entry that takes back what an assignment entered.
func undoing(d Decision) string { return "release/" + d.Cause() }

// Release takes back the assignment of a payment, which is then held for the
// seller. It can do so as long as nothing of the payment was used: it is not
// entered yet, or it only carries credit, or its time has not begun, and nothing
// was entered in the account after it. Otherwise the error wraps ErrConsumed. It
// wraps ErrFree if the payment is not assigned. It may be called again.
func (s *Settler) Release(ctx context.Context, p Payment, by, reason string) (Decision, error) {
	d, err := s.decided(ctx, p.ID)
	if err != nil {
		return Decision{}, err
	}
	switch d.Verdict {
	case TakenBack:
		return d, s.reopen(ctx, p, d)
	case AssignedTo:
	default:
		return Decision{}, fmt.Errorf("release payment %s: %w", p.ID, ErrFree)
	}
	if err := s.takeBack(ctx, p, d, reason); err != nil {
		return Decision{}, fmt.Errorf("release payment %s: %w", p.ID, err)
	}
	next, err := s.decide(ctx, Decision{Payment: p.ID, Seq: d.Seq + 1, Verdict: TakenBack, By: by, Reason: reason})
	if err != nil {
		return Decision{}, err
	}
	return next, s.reopen(ctx, p, next)
}

// reopen makes a payment that was taken back pending again.
func (s *Settler) reopen(ctx context.Context, p Payment, d Decision) error {
	if err := s.Store.Hold(ctx, p.ID, "it was taken back: "+d.Reason); err != nil {
		return fmt.Errorf("hold payment %s: %w", p.ID, err)
	}
	return nil
}

// takeBack makes sure that an assignment has no effect on the account, now or
// later. Its cause can be entered once: either the payment has it or the release.
func (s *Settler) takeBack(ctx context.Context, p Payment, d Decision, reason string) error {
	entered, err := s.append(ctx, d.Subject, d.Offer, d.Cause(), func(head Entry, now time.Time) (Entry, error) {
		return Entry{
			Kind: Released, Payment: p.ID, Reason: reason, Filters: []acl.Filter{},
			Credit: head.Credit, Remainder: head.Remainder, NotBefore: now, NotAfter: now, End: head.End,
		}, nil
	})
	if err != nil && !errors.Is(err, errReplayed) {
		return err
	}
	if entered.Kind == Released {
		return nil
	}
	_, err = s.append(ctx, d.Subject, d.Offer, undoing(d), func(head Entry, now time.Time) (Entry, error) {
		if head.Seq != entered.Seq || head.Outcome() == Credited && !head.NotBefore.After(now) {
			return Entry{}, ErrConsumed
		}
		before := Entry{}
		if head.Seq > 1 {
			if before, err = s.Store.Entry(ctx, d.Subject, d.Offer, head.Seq-1); err != nil {
				return Entry{}, fmt.Errorf("read entry %d of %q for %q: %w", head.Seq-1, d.Subject, d.Offer, err)
			}
		}
		return Entry{
			Kind: Released, Payment: p.ID, Undoes: head.Seq, Reason: reason, Filters: []acl.Filter{},
			Credit: before.Credit, Remainder: before.Remainder, NotBefore: now, NotAfter: now, End: before.End,
		}, nil
	})
	if errors.Is(err, errReplayed) {
		return nil
	}
	return err
}

// Dismiss sets a payment aside, with a reason: nobody gets anything for it, and
// nobody is reminded of it. It can be assigned later. An assignment that had no
// effect is taken back first; see [Settler.Release] for when that is refused. It
// may be called again.
func (s *Settler) Dismiss(ctx context.Context, p Payment, by, reason string) (Decision, error) {
	return s.conclude(ctx, p, Decision{Verdict: SetAside, By: by, Reason: reason})
}

// Refund notes that the seller paid a payment back by hand, and by which
// transfer. That is final. An assignment that had no effect is taken back first;
// see [Settler.Release] for when that is refused. It may be called again.
func (s *Settler) Refund(ctx context.Context, p Payment, by, reference string) (Decision, error) {
	return s.conclude(ctx, p, Decision{Verdict: PaidBack, By: by, Reason: reference})
}

func (s *Settler) conclude(ctx context.Context, p Payment, verdict Decision) (Decision, error) {
	d, err := s.decided(ctx, p.ID)
	if err != nil {
		return Decision{}, err
	}
	switch d.Verdict {
	case AssignedTo:
		if d, err = s.Release(ctx, p, verdict.By, verdict.Reason); err != nil {
			return Decision{}, err
		}
	case PaidBack:
		if verdict.Verdict != PaidBack {
			return Decision{}, fmt.Errorf("dismiss payment %s: %w: %s", p.ID, ErrRefunded, d.Reason)
		}
	}
	if d.Verdict == verdict.Verdict {
		return s.decide(ctx, d) // again, in case that a crash left it pending
	}
	verdict.Payment, verdict.Seq = p.ID, d.Seq+1
	return s.decide(ctx, verdict)
}

// decide writes a decision, or makes sure that it is written. The error wraps
// ErrAssigned if another one was written first.
func (s *Settler) decide(ctx context.Context, d Decision) (Decision, error) {
	if d.At.IsZero() {
		d.At = s.now()
	}
	added, err := s.Store.Decide(ctx, d)
	if err != nil {
		return Decision{}, fmt.Errorf("write decision on payment %s: %w", d.Payment, err)
	}
	if added {
		return d, nil
	}
	other, err := s.decided(ctx, d.Payment)
	if err != nil {
		return Decision{}, err
	}
	if other.Seq != d.Seq || other.Verdict != d.Verdict {
		return Decision{}, fmt.Errorf("write decision on payment %s: %w: %s by %q meanwhile", d.Payment, errDecided, other.Verdict, other.By)
	}
	return other, nil
}

// Grant gives a subject the time d of an offer, after what the account has
// already. cause is from NewCause; with the same one it may be called again
// after an error and still gives the time once.
func (s *Settler) Grant(ctx context.Context, subject, offer string, d time.Duration, reason, cause string) (Entry, error) {
	if d <= 0 || d%time.Millisecond != 0 {
		return Entry{}, fmt.Errorf("grant: time is %s, want whole milliseconds above 0, such as 1h", d)
	}
	o, ok := s.Offers.Get(offer)
	if !ok {
		return Entry{}, fmt.Errorf("grant: offer %s: %w", quote(offer), ErrNoOffer)
	}
	if _, err := s.termsAt(ctx, o, s.now()); err != nil { // as in credit
		return Entry{}, fmt.Errorf("grant: %w", err)
	}
	g, err := s.append(ctx, subject, offer, cause, func(head Entry, now time.Time) (Entry, error) {
		if err := s.ready(ctx, subject); err != nil {
			return Entry{}, err
		}
		return given(head, now, d.Milliseconds(), o.Filters, reason)
	})
	if err != nil && !errors.Is(err, errReplayed) {
		return Entry{}, fmt.Errorf("grant: %w", err)
	}
	return g, nil
}

// given returns the entry that adds time to an account by hand.
func given(head Entry, now time.Time, ms int64, filters []acl.Filter, reason string) (Entry, error) {
	from, to, err := interval(head.End, now, ms)
	return Entry{
		Kind: Manual, Reason: reason, Filters: filters,
		Credit: head.Credit, Remainder: head.Remainder,
		NotBefore: from, NotAfter: to, End: to,
	}, err
}

// Revoke ends at once all time that a subject has of an offer. Credit stays. The
// error wraps ErrNothing if the account is empty. cause is as for Grant.
func (s *Settler) Revoke(ctx context.Context, subject, offer, reason, cause string) (Entry, error) {
	g, err := s.append(ctx, subject, offer, cause, func(head Entry, now time.Time) (Entry, error) {
		if head.Seq == 0 {
			return Entry{}, ErrNothing
		}
		return ending(Revoked, head, now, reason), nil
	})
	if err != nil && !errors.Is(err, errReplayed) {
		return Entry{}, fmt.Errorf("revoke offer %q of %q: %w", offer, subject, err)
	}
	return g, nil
}

// ending returns the entry that ends all time of an account.
func ending(kind Kind, head Entry, now time.Time, reason string) Entry {
	end := head.End
	if end.After(now) {
		end = now
	}
	return Entry{
		Kind: kind, Reason: reason, Filters: []acl.Filter{},
		Credit: head.Credit, Remainder: head.Remainder,
		NotBefore: now, NotAfter: now, End: end,
	}
}

// Restore gives back the time that the last revocation of an account took. It
// begins now, or when what was bought since ends. A revocation is undone once,
// however often this is called. The error wraps ErrNothing if there is no
// revocation, or none that took anything.
func (s *Settler) Restore(ctx context.Context, subject, offer, reason string) (Entry, error) {
	g, err := s.restore(ctx, subject, offer, reason)
	if err != nil {
		return Entry{}, fmt.Errorf("restore offer %q of %q: %w", offer, subject, err)
	}
	return g, nil
}

func (s *Settler) restore(ctx context.Context, subject, offer, reason string) (Entry, error) {
	o, ok := s.Offers.Get(offer)
	if !ok {
		return Entry{}, fmt.Errorf("offer %s: %w", quote(offer), ErrNoOffer)
	}
	revoked, err := s.Store.Last(ctx, subject, offer)
	for err == nil && revoked.Seq > 0 && revoked.Kind != Revoked && revoked.Kind != Closed {
		if revoked.Seq == 1 {
			return Entry{}, ErrNothing
		}
		revoked, err = s.Store.Entry(ctx, subject, offer, revoked.Seq-1)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("read account of %q for %q: %w", subject, offer, err)
	}
	if revoked.Kind != Revoked || revoked.Seq == 1 {
		return Entry{}, ErrNothing
	}
	before, err := s.Store.Entry(ctx, subject, offer, revoked.Seq-1)
	if err != nil {
		return Entry{}, fmt.Errorf("read account of %q for %q: %w", subject, offer, err)
	}
	took := before.End.Sub(revoked.At).Milliseconds()
	if took <= 0 {
		return Entry{}, ErrNothing
	}
	g, err := s.append(ctx, subject, offer, "restore/"+revoked.Cause, func(head Entry, now time.Time) (Entry, error) {
		if head.Life != revoked.Life {
			return Entry{}, ErrNothing
		}
		if err := s.ready(ctx, subject); err != nil {
			return Entry{}, err
		}
		return given(head, now, took, o.Filters, reason)
	})
	if errors.Is(err, errReplayed) {
		err = nil
	}
	return g, err
}

// Close ends all accounts of a name, since its user is being removed: the
// remaining time is over and the credit is gone, on the record, and a new user of
// that name starts with nothing. A payment that was assigned and not entered yet
// is held from then on.
//
// Removing a user is done in this order: disable it, Close, delete it. Then
// nothing is credited to the name in between. It may be called again. It also
// writes to accounts that are empty: another process may be about to write their
// first entry.
func (s *Settler) Close(ctx context.Context, subject, reason string) error {
	ids, err := s.offerIDs(ctx)
	if err != nil {
		return fmt.Errorf("close accounts of %s: %w", quote(subject), err)
	}
	for _, offer := range ids {
		_, err := s.append(ctx, subject, offer, NewCause(), func(head Entry, now time.Time) (Entry, error) {
			g := ending(Closed, head, now, reason)
			g.Credit, g.Remainder = 0, 0
			return g, nil
		})
		if err != nil {
			return fmt.Errorf("close account of %s for %q: %w", quote(subject), offer, err)
		}
	}
	return nil
}

// known returns an error unless there is such an offer and a user who can be
// given something.
func (s *Settler) known(ctx context.Context, subject, offer string) error {
	if _, ok := s.Offers.Get(offer); !ok {
		return fmt.Errorf("offer %s: %w", quote(offer), ErrNoOffer)
	}
	return s.ready(ctx, subject)
}

// ready returns an error unless there is a user who can be given something.
func (s *Settler) ready(ctx context.Context, subject string) error {
	state, err := s.Store.UserState(ctx, subject)
	if err != nil {
		return fmt.Errorf("look up user %s: %w", quote(subject), err)
	}
	switch state {
	case UserReady:
		return nil
	case UserUnknown:
		return fmt.Errorf("user %s: %w", quote(subject), ErrNoUser)
	}
	return fmt.Errorf("%w: %s", ErrUser, state.refusal(subject))
}
