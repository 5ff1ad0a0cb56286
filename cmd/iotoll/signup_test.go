package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/tangle/buyer"
	"github.com/iotoll/iotoll/tangle/signup"
)

// sealedFor returns the message of a sign-up for a site's first offer, with the key
// that it announces, once it does.
func (s *site) sealedFor(c signup.Credentials) string {
	s.t.Helper()
	document, err := buyer.ParseOffers([]byte(s.must("", "offer", "list")))
	if err != nil {
		s.t.Fatal(err)
	}
	offer := document.Offers[0]
	text, err := s.announced().Seal(c, signup.Context{Ledger: document.Ledger, Address: offer.Address, Offer: offer.ID})
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf(`{"signup":%q,"offer":%q}`, text, offer.ID)
}

// announcement returns what the plugin would publish; nil if there is nothing.
func (s *site) announcement() []byte {
	s.t.Helper()
	store, err := mongostore.Open(embedded.URI(s.socket), "mosquitto")
	if err != nil {
		s.t.Fatal(err)
	}
	defer store.Close(s.t.Context())
	text, err := store.SignupAnnouncement(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

// announced returns the key that is announced, once one is.
func (s *site) announced() signup.Announcement {
	s.t.Helper()
	eventually(s.t, "a sign-up key to be announced", func() bool { return s.announcement() != nil })
	a, err := signup.ParseAnnouncement(s.announcement(), time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// TestSignUpStory: a stranger names an account inside the payment, on either ledger.
func TestSignUpStory(t *testing.T) {
	t.Parallel()
	for _, ledger := range []string{"legacy", "iota"} {
		t.Run(ledger, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var s *site
			var pay []string
			few, rest, whole, more := "200", "300", "500", "600"
			if ledger == "legacy" {
				node, seed := startTangle(t)
				s = newSite(t, node, "signup: true\n")
				pay = []string{"pay", "--node", node, "--seed-file", seed, "--mwm", "1", "--address", depositAddress}
			} else {
				key := filepath.Join(dir, "john.key")
				node := strings.TrimPrefix(background(t, "", "sim", "iota", "--listen", "127.0.0.1:0", "--key-file", key)[0], "node ")
				address := strings.TrimSpace(mustRun(t, "address", "--ledger", "iota", "--new", "--key-file", filepath.Join(dir, "seller.key")))
				mustRun(t, "init", filepath.Join(dir, "x"), "--ledger", "iota", "--address", address, "--node", node)
				s = &site{t: t, config: filepath.Join(dir, "x", "iotoll.yaml"), socket: filepath.Join(dir, "x", "run", "store.sock")}
				pay = []string{"pay", "--ledger", "iota", "--node", node, "--key-file", key, "--address", address}
				few, rest, whole, more = "0.2", "0.3", "0.5", "0.6"
			}
			serve := startProcess(t, "--config", s.config, "serve")
			serve.await("deposit address is watched from now on")
			verifier, err := password.Hash(password.Generate())
			if err != nil {
				t.Fatal(err)
			}
			booked := func(amount, outcome string) (found paymentJSON) {
				t.Helper()
				eventually(t, "a payment of "+amount+" to be "+outcome, func() bool {
					for _, p := range s.payments() {
						if p.Amount == amount && p.Outcome == outcome && (outcome != "unmatched" || p.Reason != "") {
							found = p
							return true
						}
					}
					return false
				})
				return found
			}
			send := func(amount, message string) {
				t.Helper()
				// On stderr, it may say that proof of work takes long.
				if r := s.run("", append(pay, "--amount", amount, "--message", message, "--wait")...); r.code != 0 {
					t.Fatalf("pay: got %+v", r)
				}
			}
			john := signup.Credentials{Username: "john-k3x7", Verifier: verifier}
			send(few, s.sealedFor(john))
			if p := booked(few, "unmatched"); !strings.Contains(p.Reason, `received for the new account "john-k3x7": send `+rest) {
				t.Errorf("a part: got %+v", p)
			}
			if out := s.must("", "user", "list"); strings.Contains(out, "john-k3x7") {
				t.Errorf("below the price: got users\n%s", out)
			}
			send(rest, s.sealedFor(john))
			if p := booked(few, "credited"); p.User != "john-k3x7" || p.By != "sign-up" || p.Until.Sub(*p.From) != time.Hour {
				t.Errorf("both parts: got %+v", p)
			}
			other := john
			if other.Verifier, err = password.Hash(password.Generate()); err != nil {
				t.Fatal(err)
			}
			send(whole, s.sealedFor(other))
			if p := booked(whole, "unmatched"); !strings.Contains(p.Reason, "which another account has") {
				t.Errorf("another verifier: got %+v", p)
			}
			// Off: the key is withdrawn, and who sealed with it waits until it is on.
			late := signup.Credentials{Username: "late-7qaz", Verifier: verifier}
			message := s.sealedFor(late)
			s.edit("signup: true", "signup: false")
			serve.cmd.Process.Signal(syscall.SIGHUP)
			eventually(t, "the key to be withdrawn", func() bool { return s.announcement() == nil })
			send(more, message)
			if p := booked(more, "unmatched"); p.Reason != "it is a sign-up, and sign-up is off" {
				t.Errorf("sign-up is off: got %+v", p)
			}
			s.edit("signup: false", "signup: true")
			serve.cmd.Process.Signal(syscall.SIGHUP)
			if p := booked(more, "credited"); p.User != "late-7qaz" {
				t.Errorf("sign-up is on again: got %+v", p)
			}
			if log := serve.out.String(); strings.Contains(log, "generated-sha256") {
				t.Errorf("a verifier is in the log:\n%s", log)
			}
		})
	}
}
