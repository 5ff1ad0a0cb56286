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

// Settler turns payments and manual acts into account entries. Any number of
// them may work on one store at once, in any number of processes.
type Settler struct {
	Store  Store
	Offers *Offers
	Now    func() time.Time // when an entry is written; time.Now if nil
}

// Result is what settling did.
type Result struct {
	Outcome Outcome
	Reason  string // why it is held, if Unmatched
	Entry   Entry  // the entry, unless Unmatched
}

// Refusals of manual acts.
var (
	ErrNoUser   = errors.New("there is no user of that name")
	ErrUser     = errors.New("the user cannot be given anything")
	ErrNoOffer  = errors.New("there is no offer of that name")
	ErrAssigned = errors.New("the payment is assigned to somebody else")
	ErrNothing  = errors.New("the account is empty")
)

// Settle settles a recorded payment, or holds it and says why. It may be
// called again at any time, after an error and after a crash: the payment
// counts once.
func (s *Settler) Settle(ctx context.Context, p Payment) (Result, error) {
	return s.settle(ctx, p, "")
}

// settle is Settle for a payment that is known to be held for the reason
// before: if that is still so, there is nothing to write.
func (s *Settler) settle(ctx context.Context, p Payment, before string) (Result, error) {
	if r, ok, err := s.replayed(ctx, p.ID); err != nil || ok {
		return r, err
	}
	a, ok, err := s.Store.Assigned(ctx, p.ID)
	if err != nil {
		return Result{}, fmt.Errorf("read assignment of payment %s: %w", p.ID, err)
	}
	if !ok {
		var reason string
		a, reason, err = s.match(ctx, p)
		if err != nil {
			return Result{}, err
		}
		if reason != "" && reason == before {
			return Result{Outcome: Unmatched, Reason: reason}, nil
		}
		if reason != "" {
			return s.hold(ctx, p, reason)
		}
		if a, err = s.Store.Assign(ctx, a); err != nil {
			return Result{}, fmt.Errorf("assign payment %s: %w", p.ID, err)
		}
	}
	return s.credit(ctx, p, a)
}

// Assign settles a recorded payment for a subject and an offer that the seller
// chose; by names the seller in the book. What is assigned once stays so: the
// error wraps ErrAssigned if the payment is somebody else's. It may be called
// again after an error.
func (s *Settler) Assign(ctx context.Context, p Payment, subject, offer, by string) (Result, error) {
	if err := s.known(ctx, subject, offer); err != nil {
		return Result{}, fmt.Errorf("assign payment %s: %w", p.ID, err)
	}
	a, err := s.Store.Assign(ctx, Assignment{Payment: p.ID, Subject: subject, Offer: offer, By: by, At: s.now()})
	if err != nil {
		return Result{}, fmt.Errorf("assign payment %s: %w", p.ID, err)
	}
	if a.Subject != subject || a.Offer != offer {
		return Result{}, fmt.Errorf("assign payment %s: %w: %q, offer %q, by %q", p.ID, ErrAssigned, a.Subject, a.Offer, a.By)
	}
	if r, ok, err := s.replayed(ctx, p.ID); err != nil || ok {
		return r, err
	}
	return s.credit(ctx, p, a)
}

// Grant gives a subject the time d of an offer, after what the account has
// already. cause is from NewCause; with the same one it may be called again
// after an error and still gives the time once.
func (s *Settler) Grant(ctx context.Context, subject, offer string, d time.Duration, reason, cause string) (Entry, error) {
	if d <= 0 || d%time.Millisecond != 0 {
		return Entry{}, fmt.Errorf("grant: time is %s, want whole milliseconds above 0, such as 1h", d)
	}
	if err := s.known(ctx, subject, offer); err != nil {
		return Entry{}, fmt.Errorf("grant: %w", err)
	}
	o, _ := s.Offers.Get(offer)
	g, err := s.append(ctx, subject, offer, cause, func(head Entry, now time.Time) (Entry, error) {
		from, to, err := interval(head.End, now, d.Milliseconds())
		return Entry{
			Kind: Manual, Reason: reason, Filters: o.Filters,
			Credit: head.Credit, Remainder: head.Remainder,
			NotBefore: from, NotAfter: to, End: to,
		}, err
	})
	if err != nil && !errors.Is(err, errReplayed) {
		return Entry{}, fmt.Errorf("grant: %w", err)
	}
	return g, nil
}

// Revoke ends at once all time that a subject has of an offer. Credit stays. The
// error wraps ErrNothing if the account is empty. cause is as for Grant.
func (s *Settler) Revoke(ctx context.Context, subject, offer, reason, cause string) (Entry, error) {
	g, err := s.append(ctx, subject, offer, cause, func(head Entry, now time.Time) (Entry, error) {
		if head.Seq == 0 {
			return Entry{}, ErrNothing
		}
		end := head.End
		if end.After(now) {
			end = now
		}
		return Entry{
			Kind: Revoked, Reason: reason, Filters: []acl.Filter{},
			Credit: head.Credit, Remainder: head.Remainder,
			NotBefore: now, NotAfter: now, End: end,
		}, nil
	})
	if err != nil && !errors.Is(err, errReplayed) {
		return Entry{}, fmt.Errorf("revoke offer %q of %q: %w", offer, subject, err)
	}
	return g, nil
}

// NewCause returns a fresh ID for a manual act. No payment has one like it.
func NewCause() string { return "manual/" + strings.ToLower(rand.Text()) }

// known returns an error unless there is such a user and such an offer.
func (s *Settler) known(ctx context.Context, subject, offer string) error {
	if _, ok := s.Offers.Get(offer); !ok {
		return fmt.Errorf("offer %.80q: %w", offer, ErrNoOffer)
	}
	state, err := s.Store.UserState(ctx, subject)
	if err != nil {
		return fmt.Errorf("look up user %.80q: %w", subject, err)
	}
	switch state {
	case UserReady:
		return nil
	case UserUnknown:
		return fmt.Errorf("user %.80q: %w", subject, ErrNoUser)
	}
	return fmt.Errorf("%w: %s", ErrUser, state.refusal(subject))
}

// match finds out from its message and address whose a payment is; reason says
// why that cannot be told.
func (s *Settler) match(ctx context.Context, p Payment) (a Assignment, reason string, err error) {
	m, err := ParseMessage(p.Message)
	if err != nil {
		return Assignment{}, err.Error(), nil
	}
	o, reason := s.Offers.choose(p.Address, m.Offer)
	if reason != "" {
		return Assignment{}, reason, nil
	}
	state, err := s.Store.UserState(ctx, m.Username)
	if err != nil {
		return Assignment{}, "", fmt.Errorf("look up the user of payment %s: %w", p.ID, err)
	}
	if reason := state.refusal(m.Username); reason != "" {
		return Assignment{}, reason, nil
	}
	return Assignment{Payment: p.ID, Subject: m.Username, Offer: o.ID, By: "message", At: s.now()}, "", nil
}

// credit enters an assigned payment in its account.
func (s *Settler) credit(ctx context.Context, p Payment, a Assignment) (Result, error) {
	o, ok := s.Offers.Get(a.Offer)
	if !ok {
		return s.hold(ctx, p, fmt.Sprintf("it is for the offer %q, which is not in the configuration", a.Offer))
	}
	if p.Amount <= 0 {
		return s.hold(ctx, p, fmt.Sprintf("its amount is %d, not above 0", p.Amount))
	}
	g, err := s.append(ctx, a.Subject, a.Offer, p.ID, func(head Entry, now time.Time) (Entry, error) {
		bought, err := o.Buy(head.Credit, head.Remainder, p.Amount)
		if err != nil {
			return Entry{}, err
		}
		g := Entry{
			Kind: Paid, Amount: p.Amount, Filters: o.Filters,
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
	})
	switch {
	case errors.Is(err, ErrTooMuch):
		return s.hold(ctx, p, err.Error())
	case errors.Is(err, errReplayed):
		return Result{Outcome: Replayed, Entry: g}, nil
	case err != nil:
		return Result{}, fmt.Errorf("settle payment %s: %w", p.ID, err)
	}
	return Result{Outcome: g.Outcome(), Entry: g}, nil
}

func (s *Settler) hold(ctx context.Context, p Payment, reason string) (Result, error) {
	if err := s.Store.Hold(ctx, p.ID, reason); err != nil {
		return Result{}, fmt.Errorf("hold payment %s: %w", p.ID, err)
	}
	return Result{Outcome: Unmatched, Reason: reason}, nil
}

// replayed reports whether a payment was settled before, and as what.
func (s *Settler) replayed(ctx context.Context, payment string) (Result, bool, error) {
	done, ok, err := s.Store.Settled(ctx, payment)
	if err != nil {
		return Result{}, false, fmt.Errorf("read settlement of payment %s: %w", payment, err)
	}
	return Result{Outcome: Replayed, Entry: done.Entry}, ok, nil
}

// errReplayed comes with an entry that an earlier attempt wrote and completed.
var errReplayed = errors.New("settled before")

// append writes the entry that cause makes of an account, once. next says what
// follows head.
//
// Why once. Suppose the entry stands at position k already. Reading head, we find
//
//   - a head before k: then k was written after we read, position head+1 is
//     taken, and our own write is refused;
//   - k itself: it bears our cause;
//   - a head after k: whoever wrote k+1 had completed k before, hence written
//     the settlement, and we look for that after reading head.
//
// So nothing is entered twice, whoever crashed or slept wherever in between. It
// rests on the order: head first, then the settlement; and complete the head
// before writing after it.
func (s *Settler) append(ctx context.Context, subject, offer, cause string, next func(head Entry, now time.Time) (Entry, error)) (Entry, error) {
	for {
		head, err := s.Store.Last(ctx, subject, offer)
		if err != nil {
			return Entry{}, fmt.Errorf("read account of %q for %q: %w", subject, offer, err)
		}
		if err := s.complete(ctx, head); err != nil {
			return Entry{}, err
		}
		if head.Seq > 0 && head.Cause == cause {
			return head, nil
		}
		done, ok, err := s.Store.Settled(ctx, cause)
		if err != nil {
			return Entry{}, fmt.Errorf("read settlement of %s: %w", cause, err)
		}
		if ok {
			return done.Entry, errReplayed
		}
		now := s.now()
		g, err := next(head, now)
		if err != nil {
			return Entry{}, err
		}
		g.Subject, g.Offer, g.Seq, g.Cause, g.At = subject, offer, head.Seq+1, cause, now
		switch err := s.Store.Append(ctx, g); {
		case errors.Is(err, ErrConflict):
			continue // somebody was faster; begin with the head that they wrote
		case err != nil:
			return Entry{}, fmt.Errorf("append to account of %q for %q: %w", subject, offer, err)
		}
		if err := s.Store.Complete(ctx, g); err != nil {
			return Entry{}, fmt.Errorf("complete entry %d of %q for %q: %w", g.Seq, subject, offer, err)
		}
		return g, nil
	}
}

// complete finishes an entry that somebody else may have left unfinished.
func (s *Settler) complete(ctx context.Context, head Entry) error {
	if head.Seq == 0 {
		return nil
	}
	_, ok, err := s.Store.Settled(ctx, head.Cause)
	if err != nil {
		return fmt.Errorf("read settlement of %s: %w", head.Cause, err)
	}
	if ok { // the last thing that completing does
		return nil
	}
	if err := s.Store.Complete(ctx, head); err != nil {
		return fmt.Errorf("complete entry %d of %q for %q: %w", head.Seq, head.Subject, head.Offer, err)
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
