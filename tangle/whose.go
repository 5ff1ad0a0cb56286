package tangle

import (
	"context"
	"fmt"
)

// Rule finds out whose a payment is from one thing that it carries: its message,
// its amount. A [Settler] asks its rules in order.
type Rule interface {
	// Claim returns what the rule makes of a payment. It reads and writes nothing
	// that another payment could change. It errs only if it cannot tell now.
	Claim(ctx context.Context, p Payment) (Claim, error)
}

// Claim is a rule's answer. Its zero value says nothing: the payment does not
// carry what the rule reads.
type Claim struct {
	Subject string // whom the payment names
	Offer   string // what for; empty if the rule does not tell
	By      string // the rule's name in the book, such as "message"
	// Reason tells the seller why the rule has no answer although the payment
	// carries something. The payment is held.
	Reason string
	// Admit decides on Subject right before the payment is assigned. Nil means that
	// only a user who is [UserReady] is credited.
	Admit Admitter
}

// Admitter decides whether a payment is credited to the user that it names, who
// may not exist yet.
type Admitter interface {
	// State returns the state of the user. If the payment cannot be credited even if
	// the user is [UserReady], reason tells the seller why.
	State(ctx context.Context) (state UserState, reason string, err error)
	// Create makes a user who is [UserUnknown]. price is what the offer cost when it
	// was paid. reason tells the seller why there is none; it is empty only if the
	// user exists now and the payment can be credited. An error that wraps
	// ErrConflict asks for State again. Several processes may call it at once, and
	// again after a crash.
	Create(ctx context.Context, price int64) (reason string, err error)
}

// MessageRule is the [Rule] that reads a name in the message, see [ParseMessage].
type MessageRule struct{}

// Claim implements [Rule].
func (MessageRule) Claim(_ context.Context, p Payment) (Claim, error) {
	switch {
	case p.Unreadable != "":
		return Claim{By: "message", Reason: p.Unreadable}, nil
	case len(p.Message) == 0:
		return Claim{}, nil
	}
	m, err := ParseMessage(p.Message)
	if err != nil {
		return Claim{By: "message", Reason: err.Error()}, nil
	}
	return Claim{Subject: m.Username, Offer: m.Offer, By: "message"}, nil
}

// rules are the rules that are asked.
func (s *Settler) rules() []Rule {
	if s.Rules == nil {
		return []Rule{MessageRule{}}
	}
	return s.Rules
}

// whose asks every rule whose a payment is. All that the payment carries must
// agree; reason says why there is no answer.
func (s *Settler) whose(ctx context.Context, p Payment) (c Claim, reason string, err error) {
	for _, rule := range s.rules() {
		next, err := rule.Claim(ctx, p)
		switch {
		case err != nil:
			return Claim{}, "", fmt.Errorf("find out whose payment %s is: %w", p.ID, err)
		case next.Reason != "":
			return Claim{}, next.Reason, nil
		case next.Subject == "":
		case c.Subject == "":
			c = next
		case c.Subject != next.Subject:
			return Claim{}, fmt.Sprintf("the %s names %s, the %s names %s", c.By, quote(c.Subject), next.By, quote(next.Subject)), nil
		case c.Offer != "" && next.Offer != "" && c.Offer != next.Offer:
			return Claim{}, fmt.Sprintf("the %s names the offer %s, the %s names the offer %s", c.By, quote(c.Offer), next.By, quote(next.Offer)), nil
		default:
			c = c.and(next)
		}
	}
	if c.Subject == "" {
		if m, err := ParseMessage(p.Message); err == nil && m.Signup != "" {
			return Claim{}, "it is a sign-up, and sign-up is off", nil
		}
		return Claim{}, "there is no message", nil
	}
	o, reason := s.Offers.choose(p.Address, c.Offer)
	if reason != "" {
		return Claim{}, reason, nil
	}
	c.Offer = o.ID
	return c, "", nil
}

// and joins two claims that agree.
func (c Claim) and(other Claim) Claim {
	c.By += " and " + other.By
	if c.Offer == "" {
		c.Offer = other.Offer
	}
	if c.Admit == nil {
		c.Admit = other.Admit
	}
	return c
}
