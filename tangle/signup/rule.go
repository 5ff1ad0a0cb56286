package signup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/iotoll/iotoll/tangle"
)

// maxParts is the greatest number of payments that may make up the price of a new
// account.
const maxParts = 64

// errTaken means that a user could neither be added nor found: it was removed
// meanwhile, or FerretDB 1 does not find it yet.
var errTaken = errors.New("the name is taken, and nobody has it: try again")

// Accounts are the users of a store, as far as sign-ups need them.
type Accounts interface {
	// Verifier returns the state of a name and the user's password hash, which is
	// empty if there is none.
	Verifier(ctx context.Context, name string) (state tangle.UserState, verifier string, err error)
	// SignUp adds a user, and reports whether it did: it changes nothing if the name
	// is taken.
	SignUp(ctx context.Context, name, verifier string) (added bool, err error)
	// AnnounceUser tells those who follow the store of a user once more. SignUp tells
	// them too, but a crash may come before that.
	AnnounceUser(ctx context.Context, name string) error
	// AddPart notes that a payment is part of something, numbered from 1 without
	// gaps. It reports whether it did: it changes nothing if there is a part of that
	// number.
	AddPart(ctx context.Context, of string, number int, payment string) (added bool, err error)
	// Parts returns the payments that are part of something, in order.
	Parts(ctx context.Context, of string) (payments []string, err error)
	// Unsettled is that of [tangle.Payments].
	Unsettled(ctx context.Context, payment string) (p tangle.Payment, ok bool, err error)
}

// Rule is the [tangle.Rule] for payments whose message seals credentials. It makes
// the account when a payment reaches the price, alone or with earlier ones for the
// same name, verifier and offer. It never changes an account: one with the same
// verifier is renewed, and a payment for one with another is held.
type Rule struct {
	Keys      *Keyring
	Accounts  Accounts
	CheckName func(name string) error // why nobody new may have a name
	Reserved  []string                // names of the seller's own accounts
	Currency  tangle.Currency         // of the ledger, for what people read
}

// Claim implements [tangle.Rule].
func (r *Rule) Claim(ctx context.Context, p tangle.Payment) (tangle.Claim, error) {
	m, err := tangle.ParseMessage(p.Message)
	if err != nil || p.Unreadable != "" || m.Signup == "" {
		return tangle.Claim{}, nil // the message's own rule says what is wrong with it
	}
	held := func(reason string) (tangle.Claim, error) {
		return tangle.Claim{By: "sign-up", Reason: reason}, nil
	}
	if m.Offer == "" {
		return held("the sign-up names no offer: the message must have the one that it was sealed for")
	}
	c, err := r.Keys.Open(ctx, m.Signup, Context{Ledger: p.Ledger, Address: p.Address, Offer: m.Offer})
	switch {
	case errors.Is(err, ErrKey):
		return held("the sign-up was sealed with a key that is not in use here: the buyer must read the key again")
	case errors.Is(err, ErrSealed):
		return held("the sign-up is damaged, or was sealed for another address or offer")
	case errors.Is(err, ErrCredentials):
		return held("the sign-up opens, but holds no usable username and verifier")
	case err != nil:
		return tangle.Claim{}, fmt.Errorf("open sign-up: %w", err)
	}
	if err := r.checkName(c.Username); err != nil {
		return held("the sign-up cannot have its name: " + err.Error())
	}
	return tangle.Claim{Subject: c.Username, Offer: m.Offer, By: "sign-up", Admit: &admitter{rule: r, payment: p, offer: m.Offer, credentials: c}}, nil
}

// checkName returns an error that says why no stranger may choose a name.
func (r *Rule) checkName(name string) error {
	// encoding/json puts U+FFFD for half a surrogate pair: texts that differ would
	// become one name.
	if strings.ContainsRune(name, utf8.RuneError) {
		return errors.New("username has a character that does not exist")
	}
	if err := r.CheckName(name); err != nil {
		return err
	}
	folded := fold(name)
	reserved := func(other string) bool { return fold(other) == folded }
	if strings.HasPrefix(folded, "iotoll") || strings.HasPrefix(folded, "$") || slices.ContainsFunc(r.Reserved, reserved) {
		return fmt.Errorf("username %.80q is reserved", name)
	}
	return oneScript(name)
}

// fold returns what names have in common that look alike but for case and width.
func fold(name string) string { return cases.Fold().String(norm.NFKC.String(name)) }

// confusable are scripts with letters that look like those of another one of them.
var confusable = []string{"Latin", "Greek", "Cyrillic", "Armenian", "Cherokee"}

// oneScript returns an error if a name has letters of several scripts that look
// alike, such as a Cyrillic о in a Latin name.
func oneScript(name string) error {
	first := ""
	for _, letter := range name {
		for _, script := range confusable {
			switch {
			case !unicode.Is(unicode.Scripts[script], letter) || script == first:
			case first == "":
				first = script
			default:
				return fmt.Errorf("username %+.80q mixes %s and %s letters, which look alike", name, first, script)
			}
		}
	}
	return nil
}

// admitter is the [tangle.Admitter] of a payment.
type admitter struct {
	rule        *Rule
	payment     tangle.Payment
	offer       string
	credentials Credentials
}

// State implements [tangle.Admitter].
func (a *admitter) State(ctx context.Context) (tangle.UserState, string, error) {
	state, verifier, err := a.rule.Accounts.Verifier(ctx, a.credentials.Username)
	if err != nil {
		return "", "", err
	}
	if state != tangle.UserUnknown && verifier != a.credentials.Verifier {
		return state, fmt.Sprintf("the sign-up asks for the name %.80q, which another account has: choose another name", a.credentials.Username), nil
	}
	if state == tangle.UserReady { // perhaps an earlier attempt made the account and ended there
		if err := a.rule.Accounts.AnnounceUser(ctx, a.credentials.Username); err != nil {
			return "", "", err
		}
	}
	return state, "", nil
}

// Create implements [tangle.Admitter]. A user is one insertion under its name, so
// that of several sign-ups for a name one gets it.
func (a *admitter) Create(ctx context.Context, price int64) (reason string, err error) {
	if a.payment.Amount < price {
		if reason, err = a.complete(ctx, price); err != nil || reason != "" {
			return reason, err
		}
	}
	added, err := a.rule.Accounts.SignUp(ctx, a.credentials.Username, a.credentials.Verifier)
	if err != nil || added {
		return "", err
	}
	state, reason, err := a.State(ctx)
	switch {
	case err != nil:
		return "", err
	case state == tangle.UserUnknown:
		return "", errTaken
	case state != tangle.UserReady:
		return "", tangle.ErrConflict // it changed meanwhile: begin again
	}
	return reason, nil
}

// complete notes that the payment is part of the price of an account. reason is
// empty if the parts that still wait reach it: the others are credited once the
// account exists.
func (a *admitter) complete(ctx context.Context, price int64) (reason string, err error) {
	// Only the buyer knows the verifier's password, so nobody else completes it.
	sum := sha256.Sum256([]byte(a.offer + "\x00" + a.credentials.Username + "\x00" + a.credentials.Verifier))
	of := hex.EncodeToString(sum[:])
	var parts []string
	for {
		if parts, err = a.rule.Accounts.Parts(ctx, of); err != nil {
			return "", err
		}
		if slices.Contains(parts, a.payment.ID) {
			break
		}
		if len(parts) >= maxParts {
			return fmt.Sprintf("the account %.80q is not paid for in %d payments: the seller can assign them", a.credentials.Username, maxParts), nil
		}
		if _, err = a.rule.Accounts.AddPart(ctx, of, len(parts)+1, a.payment.ID); err != nil {
			return "", err
		}
	}
	received := int64(0)
	for _, id := range parts {
		p, ok, err := a.rule.Accounts.Unsettled(ctx, id)
		switch {
		case err != nil:
			return "", err
		case !ok: // it was refunded, dismissed or assigned
		case p.Amount >= price-received:
			return "", nil
		default:
			received += p.Amount
		}
	}
	c := a.rule.Currency
	return fmt.Sprintf("%s of %s received for the new account %.80q: send %s more with the same sign-up",
		c.Number(received), c.Format(price), a.credentials.Username, c.Format(price-received)), nil
}
