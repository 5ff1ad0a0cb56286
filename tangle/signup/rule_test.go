package signup_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/signup"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// till is a settler that creates accounts, with a store and a clock. An hour of live
// costs 500, half an IOTA of three decimals; gold is sold at the same address.
type till struct {
	tangle.Settler
	store *tangletest.Store
	ring  *ring
	rule  *signup.Rule
	paid  int
}

func newTill(t testing.TB) *till {
	t.Helper()
	store := new(tangletest.Store)
	s := &till{store: store, ring: newRing(store)}
	s.ring.ensure(t)
	s.rule = &signup.Rule{
		Keys: &s.ring.Keyring, Accounts: store, CheckName: mongostore.CheckNewName,
		Reserved: []string{"Publisher"}, Currency: tangle.Currency{Unit: "IOTA", Decimals: 3},
	}
	s.Settler = tangle.Settler{Store: store, Offers: newOffers(t), Rules: []tangle.Rule{tangle.MessageRule{}, s.rule}, Now: s.ring.Now}
	return s
}

func newOffers(t testing.TB) *tangle.Offers {
	t.Helper()
	var offers []tangle.Offer
	for id, address := range map[string]string{"live": "JANE", "gold": "JANE", "other": "OTHER"} {
		f, err := acl.ParseFilter("sensor/" + id)
		if err != nil {
			t.Fatal(err)
		}
		offers = append(offers, tangle.Offer{ID: id, Filters: []acl.Filter{f}, Price: 500, Period: time.Hour, Address: address})
	}
	all, err := tangle.NewOffers(offers...)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// seal returns the message of a sign-up.
func (s *till) seal(t testing.TB, c signup.Credentials) string {
	t.Helper()
	return message(sealed(t, announced(t, s.store, s.ring.now), c, atLive))
}

func message(text string) string { return fmt.Sprintf(`{"signup": %q, "offer": "live"}`, text) }

// pay settles a new payment that is final now.
func (s *till) pay(t testing.TB, message string, amount int64) (tangle.Payment, tangle.Result) {
	t.Helper()
	s.paid++
	p := tangle.Payment{ID: fmt.Sprintf("p%d", s.paid), Ledger: "test", Address: "JANE", Amount: amount, Message: []byte(message), Final: s.ring.now}
	return p, s.settle(t, p)
}

func (s *till) settle(t testing.TB, p tangle.Payment) tangle.Result {
	t.Helper()
	if _, err := s.store.Record(t.Context(), p, tangle.Settling); err != nil {
		t.Fatal(err)
	}
	r, err := s.Settle(t.Context(), p)
	if err != nil {
		t.Fatalf("Settle(%s): %v", p.ID, err)
	}
	return r
}

// expect checks an outcome, the reason if it is held, and who signed up so far.
func (s *till) expect(t testing.TB, what string, r tangle.Result, outcome tangle.Outcome, reason string, names ...string) {
	t.Helper()
	if r.Outcome != outcome || !strings.Contains(r.Reason, reason) || (reason == "") != (r.Reason == "") {
		t.Errorf("%s: got %+v, want %s, reason %q", what, r, outcome, reason)
	}
	if got := s.store.SignedUp(); !slices.Equal(got, names) {
		t.Errorf("%s: got accounts %q, want %q", what, got, names)
	}
}

func TestSignUp(t *testing.T) {
	s := newTill(t)
	john := newCredentials(t, "john")
	text := s.seal(t, john)
	p, r := s.pay(t, text, 750)
	s.expect(t, "new name", r, tangle.Credited, "", "john")
	if r.Entry.Subject != "john" || r.Entry.Offer != "live" || r.Entry.NotAfter.Sub(r.Entry.NotBefore) != 90*time.Minute {
		t.Errorf("new name: got %+v, want an hour and a half of live for john", r.Entry)
	}
	if state, verifier, err := s.store.Verifier(t.Context(), "john"); err != nil || state != tangle.UserReady || verifier != john.Verifier {
		t.Errorf("account: got %s, %q, %v", state, verifier, err)
	}
	if d := s.store.Decisions(p.ID); len(d) != 1 || d[0].By != "sign-up" {
		t.Errorf("decisions: got %+v", d)
	}
	s.expect(t, "the same payment again", s.settle(t, p), tangle.Replayed, "", "john")
	// A copied text pays john's bill, whoever sends it, also below the price.
	_, r = s.pay(t, text, 500)
	s.expect(t, "copied", r, tangle.Credited, "", "john")
	if r.Entry.Subject != "john" {
		t.Errorf("copied: got %+v", r.Entry)
	}
	_, r = s.pay(t, s.seal(t, john), 100)
	s.expect(t, "sealed anew, below the price", r, tangle.Underpaid, "", "john")
	_, r = s.pay(t, `{"username": "john", "offer": "live"}`, 400)
	s.expect(t, "by name", r, tangle.Credited, "", "john")
	// Another verifier never changes the account.
	_, r = s.pay(t, s.seal(t, newCredentials(t, "john")), 500)
	s.expect(t, "another verifier", r, tangle.Unmatched, `the sign-up asks for the name "john", which another account has`, "john")
	if _, verifier, _ := s.store.Verifier(t.Context(), "john"); verifier != john.Verifier {
		t.Error("the verifier changed")
	}
}

func TestSignUpHolds(t *testing.T) {
	s := newTill(t)
	s.store.SetUser("barred", tangle.UserDisabled)
	s.store.SetUser("broken", tangle.UserUnusable)
	s.store.AddUser("certificate") // without a password
	barred := newCredentials(t, "barred")
	s.store.SetVerifier("barred", barred.Verifier)
	retired := announced(t, s.store, s.ring.now)
	other, err := signup.NewKey(start.Add(day))
	if err != nil {
		t.Fatal(err)
	}
	john := newCredentials(t, "john")
	at := func(change func(*signup.Context)) string {
		to := atLive
		change(&to)
		return message(sealed(t, retired, john, to))
	}
	good := sealed(t, retired, john, atLive)
	name := func(name string) string {
		c := john
		c.Username = name
		return s.seal(t, c)
	}
	for _, test := range []struct{ what, message, want string }{
		{"another address", at(func(c *signup.Context) { c.Address = "OTHER" }), "damaged, or was sealed for another address or offer"},
		{"another ledger", at(func(c *signup.Context) { c.Ledger = "iota" }), "damaged, or was sealed for another address or offer"},
		{"another offer", at(func(c *signup.Context) { c.Offer = "gold" }), "damaged, or was sealed for another address or offer"},
		{"another seller", message(sealed(t, other.Announcement(), john, atLive)), "a key that is not in use here"},
		{"cut off", message(good[:len(good)-9]), "damaged"},
		{"one character", message("A"), "damaged"},
		{"without an offer", fmt.Sprintf(`{"signup": %q}`, good), "the sign-up names no offer"},
		{"an offer that does not exist", fmt.Sprintf(`{"signup": %q, "offer": "none"}`, sealed(t, retired, john, signup.Context{Ledger: "test", Address: "JANE", Offer: "none"})), `"none", which does not exist`},
		{"two names", fmt.Sprintf(`{"signup": %q, "offer": "live", "username": "mary"}`, good), `the message names "mary", the sign-up names "john"`},
		{"a text that is a number", `{"signup": 5, "offer": "live"}`, "is not a string"},
		{"disabled", s.seal(t, barred), `user "barred" is disabled`},
		{"disabled, another verifier", name("barred"), `user "barred" is disabled`},
		{"unusable", name("broken"), `user "broken" cannot log in`},
		{"a user without a password", name("certificate"), "which another account has"},
		{"reserved", name("Publisher"), "is reserved"},
		{"reserved, another case", name("pUBLISHER"), "is reserved"},
		{"reserved, wide letters", name("ｐｕｂｌｉｓｈｅｒ"), "is reserved"},
		{"ours", name("iotoll"), "is reserved"},
		{"begins like ours", name("IoToll-2"), "is reserved"},
		{"$", name("$SYS"), "is reserved"},
		{"#", name("a#"), "the sign-up cannot have its name: username"},
		{"+", name("+"), "the sign-up cannot have its name: username"},
		{"/", name("john/live"), "the sign-up cannot have its name: username"},
		{"a space at the end", name("john "), "ends with a space"},
		{"line feed", name("john\n"), "U+000A"},
		{"invisible", name("jo\u200bhn"), "U+200B"},
		{"right to left", name("\u202enhoj"), "U+202E"},
		{"NUL", name("jo\x00hn"), "the sign-up cannot have its name: username"},
		{"two code points for one letter", name("ju\u0308rgen"), "normalization form C"},
		{"Cyrillic о", name("j\u043ehn"), "mixes Latin and Cyrillic letters"},
		{"a character that does not exist", name("\ufffd"), "does not exist"},
		{"too long", name(strings.Repeat("j", 257)), "257 bytes"},
	} {
		_, r := s.pay(t, test.message, 500)
		s.expect(t, test.what, r, tangle.Unmatched, test.want)
		if strings.Contains(r.Reason, "generated") {
			t.Errorf("%s: the reason holds the verifier: %s", test.what, r.Reason)
		}
	}
	// Names that people have are allowed, and the longest one fits.
	for _, good := range []string{"jürgen", "Джон", "山田-太郎", "a b", "Пётр2", strings.Repeat("ж", 128)} {
		if _, r := s.pay(t, name(good), 500); r.Outcome != tangle.Credited || r.Entry.Subject != good {
			t.Errorf("%s: got %+v", good, r)
		}
	}
	// Both the name and the same sealed name.
	_, r := s.pay(t, fmt.Sprintf(`{"signup": %q, "offer": "live", "username": "john"}`, good), 500)
	if r.Outcome != tangle.Credited || r.Entry.Subject != "john" {
		t.Errorf("named twice: got %+v", r)
	}
	// The key is rotated and retired.
	text := message(sealed(t, retired, newCredentials(t, "late"), atLive))
	s.ring.now = start.Add(36 * day)
	s.ring.ensure(t)
	s.ring.now = start.Add(67 * day)
	s.ring.ensure(t)
	_, r = s.pay(t, text, 500)
	if r.Outcome != tangle.Unmatched || !strings.Contains(r.Reason, "a key that is not in use here") {
		t.Errorf("retired key: got %+v", r)
	}
}

// TestSealedByOthers: what other implementations seal is held unless it is exactly
// what version 1 allows.
func TestSealedByOthers(t *testing.T) {
	s := newTill(t)
	john := newCredentials(t, "john")
	raw, err := base64.RawURLEncoding.DecodeString(sealed(t, announced(t, s.store, start), john, atLive))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 1, 5, 36, 37, len(raw) - 1} {
		changed := slices.Clone(raw)
		changed[at] ^= 1
		_, r := s.pay(t, message(base64.RawURLEncoding.EncodeToString(changed)), 500)
		if r.Outcome != tangle.Unmatched {
			t.Errorf("byte %d changed: got %+v", at, r)
		}
	}
	if got := s.store.SignedUp(); len(got) > 0 {
		t.Errorf("got accounts %q", got)
	}
}

func TestSignUpIsOff(t *testing.T) {
	s := newTill(t)
	s.Rules = nil
	_, r := s.pay(t, s.seal(t, newCredentials(t, "john")), 500)
	s.expect(t, "off", r, tangle.Unmatched, "it is a sign-up, and sign-up is off")
	s.Rules = []tangle.Rule{tangle.MessageRule{}, s.rule}
	r, err := s.Settle(t.Context(), s.store.Payments()[0])
	if err != nil {
		t.Fatal(err)
	}
	s.expect(t, "on again", r, tangle.Credited, "", "john")
}

// TestParts: payments below the price create nothing, stay the buyer's, and make up
// the price together.
func TestParts(t *testing.T) {
	s := newTill(t)
	john := newCredentials(t, "john")
	p1, r := s.pay(t, s.seal(t, john), 300)
	s.expect(t, "300", r, tangle.Unmatched, `0.3 of 0.5 IOTA received for the new account "john": send 0.2 IOTA more with the same sign-up`)
	s.expect(t, "300 again", s.settle(t, p1), tangle.Unmatched, "send 0.2 IOTA more")
	_, r = s.pay(t, s.seal(t, newCredentials(t, "john")), 400)
	s.expect(t, "another verifier", r, tangle.Unmatched, "0.4 of 0.5 IOTA received")
	p3, r := s.pay(t, s.seal(t, john), 100)
	s.expect(t, "100 more", r, tangle.Unmatched, "0.4 of 0.5 IOTA received")
	_, r = s.pay(t, s.seal(t, john), 100)
	s.expect(t, "the last 100", r, tangle.Underpaid, "", "john")
	s.expect(t, "p1", s.settle(t, p1), tangle.Underpaid, "", "john")
	r = s.settle(t, p3)
	s.expect(t, "p3", r, tangle.Credited, "", "john")
	if r.Entry.Credit != 0 || r.Entry.NotAfter.Sub(r.Entry.NotBefore) != time.Hour {
		t.Errorf("together: got %+v, want an hour and no credit", r.Entry)
	}
	r = s.settle(t, tangle.Payment{ID: "p2", Ledger: "test", Address: "JANE", Amount: 400, Message: s.store.Payments()[1].Message, Final: start})
	s.expect(t, "another verifier, afterwards", r, tangle.Unmatched, "which another account has", "john")
}

// TestPartsGone: a part that was paid back or set aside counts no more.
func TestPartsGone(t *testing.T) {
	for name, conclude := range map[string]func(*till, tangle.Payment) (tangle.Decision, error){
		"refunded": func(s *till, p tangle.Payment) (tangle.Decision, error) {
			return s.Refund(t.Context(), p, "jane", "TX")
		},
		"dismissed": func(s *till, p tangle.Payment) (tangle.Decision, error) {
			return s.Dismiss(t.Context(), p, "jane", "spam")
		},
	} {
		s := newTill(t)
		john := newCredentials(t, "john")
		p, _ := s.pay(t, s.seal(t, john), 400)
		if _, err := conclude(s, p); err != nil {
			t.Fatal(err)
		}
		_, r := s.pay(t, s.seal(t, john), 200)
		s.expect(t, name, r, tangle.Unmatched, "0.2 of 0.5 IOTA received")
		_, r = s.pay(t, s.seal(t, john), 500)
		s.expect(t, name+", the whole price", r, tangle.Credited, "", "john")
	}
}

// TestFlood: what is below the price creates nothing, however often and under however
// many names, and a sign-up at the price goes on beside it.
func TestFlood(t *testing.T) {
	s := newTill(t)
	for i := range 200 {
		_, r := s.pay(t, s.seal(t, newCredentials(t, fmt.Sprintf("flood%d", i))), 499)
		s.expect(t, "flood", r, tangle.Unmatched, "send 0.001 IOTA more")
	}
	same := s.seal(t, newCredentials(t, "same"))
	for i := range 70 {
		want := "received for the new account"
		if i >= 64 {
			want = "is not paid for in 64 payments"
		}
		_, r := s.pay(t, same, 1)
		s.expect(t, fmt.Sprintf("part %d", i+1), r, tangle.Unmatched, want)
	}
	_, r := s.pay(t, same, 500)
	s.expect(t, "at the price", r, tangle.Credited, "", "same")
}

// TestPriceOfItsTime: the price that was in force when it was paid decides.
func TestPriceOfItsTime(t *testing.T) {
	s := newTill(t)
	if err := s.RecordTerms(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := s.seal(t, newCredentials(t, "john"))
	early := tangle.Payment{ID: "early", Ledger: "test", Address: "JANE", Amount: 500, Message: []byte(text), Final: s.ring.now.Add(time.Minute)}
	s.ring.now = s.ring.now.Add(time.Hour)
	var dearer []tangle.Offer
	for _, o := range s.Offers.All() {
		o.Price = 600
		dearer = append(dearer, o)
	}
	var err error
	if s.Offers, err = tangle.NewOffers(dearer...); err != nil {
		t.Fatal(err)
	}
	if err := s.RecordTerms(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, r := s.pay(t, s.seal(t, newCredentials(t, "mary")), 500)
	s.expect(t, "after", r, tangle.Unmatched, "0.5 of 0.6 IOTA received")
	s.expect(t, "before", s.settle(t, early), tangle.Credited, "", "john")
}

// remove removes a user as iotoll does.
func (s *till) remove(t testing.TB, name string) {
	t.Helper()
	s.store.SetUser(name, tangle.UserDisabled)
	if err := s.Close(t.Context(), name, "removed"); err != nil {
		t.Fatal(err)
	}
	s.store.SetUser(name, tangle.UserUnknown)
}

// TestLives: a name that became free is another's, who starts with nothing; what was
// paid before is not his.
func TestLives(t *testing.T) {
	s := newTill(t)
	first, second := newCredentials(t, "john"), newCredentials(t, "john")
	s.pay(t, s.seal(t, first), 800)
	waiting, r := s.pay(t, s.seal(t, second), 500)
	s.expect(t, "taken", r, tangle.Unmatched, "which another account has", "john")
	s.ring.now = s.ring.now.Add(time.Minute)
	s.remove(t, "john")
	s.ring.now = s.ring.now.Add(time.Minute)
	s.expect(t, "paid before", s.settle(t, waiting), tangle.Unmatched, `it names "john", who was removed after it was paid`, "john")
	_, r = s.pay(t, s.seal(t, second), 500)
	s.expect(t, "second life", r, tangle.Credited, "", "john", "john")
	if e := r.Entry; e.Life != 1 || e.Credit != 0 || !e.NotBefore.Equal(s.ring.now) || e.NotAfter.Sub(e.NotBefore) != time.Hour {
		t.Errorf("second life: got %+v, want an hour from now", e)
	}
	_, r = s.pay(t, s.seal(t, first), 500)
	s.expect(t, "the first one again", r, tangle.Unmatched, "which another account has", "john", "john")
}

// TestRemovedByHand: somebody deleted the user's document, and time is left in one of
// its accounts, which nobody else may get.
func TestRemovedByHand(t *testing.T) {
	s := newTill(t)
	john := newCredentials(t, "john")
	s.pay(t, s.seal(t, john), 500)
	if _, r := s.pay(t, `{"username": "john", "offer": "gold"}`, 500); r.Outcome != tangle.Credited {
		t.Fatalf("got %+v", r)
	}
	s.store.SetUser("john", tangle.UserUnknown)
	_, r := s.pay(t, s.seal(t, newCredentials(t, "john")), 500)
	s.expect(t, "removed by hand", r, tangle.Unmatched, `"john" was removed by other means than iotoll`, "john")
	// The seller sorts it out.
	s.remove(t, "john")
	s.ring.now = s.ring.now.Add(time.Minute)
	_, r = s.pay(t, s.seal(t, newCredentials(t, "john")), 500)
	s.expect(t, "after closing", r, tangle.Credited, "", "john", "john")
}

// TestCannotTellNow: while the store is away, nothing is held.
func TestCannotTellNow(t *testing.T) {
	s := newTill(t)
	text := s.seal(t, newCredentials(t, "john"))
	away := errors.New("store is away")
	p := tangle.Payment{ID: "p", Ledger: "test", Address: "JANE", Amount: 500, Message: []byte(text), Final: start}
	part := p
	part.ID, part.Amount = "part", 100
	for _, p := range []tangle.Payment{p, part} {
		if _, err := s.store.Record(t.Context(), p, tangle.Settling); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		op string
		p  tangle.Payment
	}{{"SignupKeys", p}, {"Verifier", p}, {"SignUp", p}, {"Parts", part}, {"AddPart", part}, {"Unsettled", part}} {
		s.rule.Keys = &newRing(s.store).Keyring // which has read no key yet
		struck := false
		s.store.Fault = func(p tangletest.Point) error {
			if p.Op == test.op && !p.After {
				struck = true
				return away
			}
			return nil
		}
		if r, err := s.Settle(t.Context(), test.p); !errors.Is(err, away) || !struck {
			t.Errorf("%s fails: got %+v, %v", test.op, r, err)
		}
		s.store.Fault = nil
		if outcome, reason := s.store.Outcome(test.p.ID); outcome != tangle.Settling {
			t.Errorf("%s fails: the payment is %s: %s", test.op, outcome, reason)
		}
	}
	s.expect(t, "afterwards", s.settle(t, p), tangle.Credited, "", "john")
}

// FuzzRule: whatever a message holds, it is held or credited, and an account is made
// only for a text that was sealed.
func FuzzRule(f *testing.F) {
	s := newTill(f)
	f.Add(s.seal(f, newCredentials(f, "john")))
	f.Add(`{"signup": "", "offer": "live"}`)
	f.Add(`{"signup": "` + strings.Repeat("A", 3000) + `", "offer": "live"}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := s.rule.Claim(t.Context(), tangle.Payment{ID: "p", Ledger: "test", Address: "JANE", Amount: 500, Message: []byte(text)})
		if err != nil {
			t.Errorf("Claim(%q): %v", text, err)
		}
		var m struct{ Signup string }
		if c.Subject != "" && (json.Unmarshal([]byte(text), &m) != nil || !strings.HasPrefix(m.Signup, "A")) {
			t.Errorf("Claim(%q): got %+v", text, c)
		}
	})
}
