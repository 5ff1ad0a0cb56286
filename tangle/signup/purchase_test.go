package signup_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/signup"
)

// TestPurchase interrupts a purchase after each of its steps and begins again, while
// keys rotate: the message stays the same, and the password works.
func TestPurchase(t *testing.T) {
	s := newTill(t)
	path := filepath.Join(t.TempDir(), "jane.example")
	if p, err := signup.ReadPurchase(path); p != nil || err != nil {
		t.Fatalf("ReadPurchase without a journal: got %+v, %v", p, err)
	}
	first, err := signup.NewPurchase(path, "john")
	if err != nil {
		t.Fatal(err)
	}
	again := func() *signup.Purchase {
		t.Helper()
		p, err := signup.ReadPurchase(path)
		if err != nil || p == nil || p.Password != first.Password || p.Username != "john" {
			t.Fatalf("ReadPurchase: got %+v, %v", p, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("journal: got %v, %v, want mode 0600", info, err)
		}
		return p
	}
	if _, err := signup.NewPurchase(path, "john"); !errors.Is(err, signup.ErrPurchase) {
		t.Errorf("NewPurchase again: got %v, want %v", err, signup.ErrPurchase)
	}
	message, err := again().Message(announced(t, s.store, s.ring.now), atLive)
	if err != nil {
		t.Fatal(err)
	}
	s.ring.now = s.ring.now.Add(day)
	s.ring.ensure(t)
	if got, err := again().Message(announced(t, s.store, s.ring.now), atLive); err != nil || got != message {
		t.Errorf("Message after a rotation: got %s, %v, want %s", got, err, message)
	}
	if _, r := s.pay(t, message, 500); r.Outcome != tangle.Credited || r.Entry.Subject != "john" {
		t.Fatalf("pay: got %+v", r)
	}
	_, verifier, err := s.store.Verifier(t.Context(), "john")
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := password.Verify(verifier, again().Password); err != nil || !ok {
		t.Errorf("the password in the journal does not work: %v", err)
	}
	// For another offer, it is sealed anew, with the same verifier.
	gold := atLive
	gold.Offer = "gold"
	other, err := again().Message(announced(t, s.store, s.ring.now), gold)
	if err != nil || other == message {
		t.Errorf("Message for another offer: got %s, %v", other, err)
	}
	if _, r := s.pay(t, other, 500); r.Outcome != tangle.Credited || r.Entry.Offer != "gold" {
		t.Errorf("pay for another offer: got %+v", r)
	}
	p := again()
	for range 2 {
		if err := p.Done(); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) > 0 {
		t.Errorf("after Done: got %v, %v", entries, err)
	}
}

// TestPurchaseOfMany: of many processes that begin at once, one has the journal.
func TestPurchaseOfMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jane.example")
	got := make(chan *signup.Purchase)
	for range 8 {
		go func() {
			p, err := signup.NewPurchase(path, "john")
			if err != nil && !errors.Is(err, signup.ErrPurchase) {
				t.Error(err)
			}
			got <- p
		}()
	}
	var winner *signup.Purchase
	for range 8 {
		if p := <-got; p != nil && winner != nil {
			t.Error("two processes made a journal")
		} else if p != nil {
			winner = p
		}
	}
	if p, err := signup.ReadPurchase(path); err != nil || winner == nil || p.Password != winner.Password {
		t.Errorf("got %+v, %v, want %+v", p, err, winner)
	}
}

func TestReadPurchaseRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jane.example")
	p, err := signup.NewPurchase(path, "john")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, broken := range map[string]string{
		"empty": "", "cut off": string(text[:len(text)/2]), "a number": strings.Replace(string(text), `"`+p.Password+`"`, "5", 1),
		"another password": strings.Replace(string(text), p.Password, password.Generate(), 1),
	} {
		if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := signup.ReadPurchase(path); err == nil || strings.Contains(err.Error(), p.Password) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if _, err := signup.NewPurchase(filepath.Join(path, "no", "directory"), "john"); err == nil || errors.Is(err, signup.ErrPurchase) {
		t.Errorf("NewPurchase without a directory: got %v", err)
	}
}

func TestProposeName(t *testing.T) {
	if got := signup.ProposeName("john"); !regexp.MustCompile(`^john-[a-z2-7]{4}$`).MatchString(got) || got == signup.ProposeName("john") {
		t.Errorf("ProposeName: got %q", got)
	}
}
