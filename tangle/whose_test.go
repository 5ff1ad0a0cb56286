package tangle_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/iotoll/iotoll/tangle"
)

// rule answers for one payment after another.
type rule map[string]tangle.Claim

func (r rule) Claim(_ context.Context, p tangle.Payment) (tangle.Claim, error) {
	if p.ID == "away" {
		return tangle.Claim{}, errors.New("cannot tell now")
	}
	return r[p.ID], nil
}

// TestRules: what a payment carries must agree, and either thing is enough.
func TestRules(t *testing.T) {
	s := newTill(t)
	gold := live(t)
	gold.ID = "gold"
	s.Offers = newOffers(t, live(t), gold)
	s.store.AddUser("mary")
	john, mary := tangle.Claim{Subject: "john", By: "message"}, tangle.Claim{Subject: "mary", By: "amount"}
	withOffer := func(c tangle.Claim, offer string) tangle.Claim {
		c.Offer = offer
		return c
	}
	garbled := tangle.Claim{By: "message", Reason: "the message is not JSON"}
	amount := tangle.Claim{Subject: "john", By: "amount"}
	for _, test := range []struct {
		id      string
		a, b    tangle.Claim
		subject string
		offer   string
		by      string
		reason  string
	}{
		{"first alone", john, tangle.Claim{}, "john", "live", "message", ""},
		{"second alone", tangle.Claim{}, mary, "mary", "live", "amount", ""},
		{"both agree", john, amount, "john", "live", "message and amount", ""},
		{"the second names the offer", john, withOffer(amount, "gold"), "john", "gold", "message and amount", ""},
		{"two buyers", john, mary, "", "", "", `the message names "john", the amount names "mary"`},
		{"two offers", withOffer(john, "live"), withOffer(amount, "gold"), "", "", "", `names the offer "live", the amount names the offer "gold"`},
		{"one cannot be read", garbled, mary, "", "", "", "not JSON"},
		{"nothing", tangle.Claim{}, tangle.Claim{}, "", "", "", "there is no message"},
	} {
		s.Rules = []tangle.Rule{rule{test.id: test.a}, rule{test.id: test.b}}
		r := s.pay(t, payment(test.id, "", 500))
		if r.Entry.Subject != test.subject || r.Entry.Offer != test.offer || !strings.Contains(r.Reason, test.reason) || (r.Reason == "") != (test.reason == "") {
			t.Errorf("%s: got %+v, want %q, %q, reason %q", test.id, r, test.subject, test.offer, test.reason)
		}
		if d := s.store.Decisions(test.id); test.by != "" && (len(d) != 1 || d[0].By != test.by) {
			t.Errorf("%s: got decisions %+v, want one by %q", test.id, d, test.by)
		}
	}
	if _, err := s.Settle(t.Context(), payment("away", "", 500)); err == nil || !strings.Contains(err.Error(), "cannot tell now") {
		t.Errorf("a rule that cannot tell now: got %v", err)
	}
}

// admitter is an Admitter in memory.
type admitter struct {
	state  func() tangle.UserState
	create func(price int64) (string, error)
}

func (a admitter) State(context.Context) (tangle.UserState, string, error) { return a.state(), "", nil }

func (a admitter) Create(_ context.Context, price int64) (string, error) { return a.create(price) }

// TestRuleAdmits: a rule may make the account while its payment is settled. It is
// asked again until the payment is assigned, and not afterwards.
func TestRuleAdmits(t *testing.T) {
	s := newTill(t)
	state := tangle.UserUnknown
	made := 0
	s.Rules = []tangle.Rule{rule{"p1": {Subject: "new", By: "sign-up", Admit: admitter{
		state: func() tangle.UserState { return state },
		create: func(price int64) (string, error) {
			if price != 500 {
				t.Errorf("Create: got price %d, want 500", price)
			}
			if made++; made == 1 {
				return "", errors.New("store is away")
			}
			state = tangle.UserReady
			s.store.AddUser("new")
			return "", nil
		},
	}}}}
	p := payment("p1", "", 500)
	if _, err := s.store.Record(t.Context(), p, tangle.Settling); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Settle(t.Context(), p); err == nil {
		t.Error("the account cannot be made: got no error")
	}
	for i, want := range []tangle.Outcome{tangle.Credited, tangle.Replayed} {
		if r, err := s.Settle(t.Context(), p); err != nil || r.Outcome != want || r.Entry.Subject != "new" {
			t.Errorf("time %d: got %+v, %v, want %s", i, r, err, want)
		}
	}
	if made != 2 {
		t.Errorf("the account was made %d times, want twice", made)
	}
}
