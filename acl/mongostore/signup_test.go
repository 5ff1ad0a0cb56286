package mongostore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/signup"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// newVerifier returns the hash of a generated password.
func newVerifier(t testing.TB) string {
	t.Helper()
	verifier, err := password.Hash(password.Generate())
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}

// TestSignUpContract: what package signup expects of every store.
func TestSignUpContract(t *testing.T) {
	tangletest.TestSignUpStore(t, newVerifier(t), func(t *testing.T) tangletest.SignUpStore { return newStore(t) })
}

// TestSignUpOfForeign: a name is taken also if others wrote its user.
func TestSignUpOfForeign(t *testing.T) {
	s := newStore(t)
	verifier := newVerifier(t)
	put(t, s, map[string]any{"username": "john", "password": verifier})
	if added, err := s.SignUp(t.Context(), "john", newVerifier(t)); err != nil || added {
		t.Errorf("SignUp: got %t, %v", added, err)
	}
	if state, got, err := s.Verifier(t.Context(), "john"); err != nil || state != tangle.UserReady || got != verifier {
		t.Errorf("Verifier: got %s, %q, %v", state, got, err)
	}
	for name, hash := range map[string]string{"a/b": verifier, "mary": "a password"} {
		if added, err := s.SignUp(t.Context(), name, hash); err == nil || added || strings.Contains(err.Error(), hash) {
			t.Errorf("SignUp(%q): got %t, %v", name, added, err)
		}
	}
}

// TestSignUpFollowed: who follows the store hears of every announcement.
func TestSignUpFollowed(t *testing.T) {
	s := newStore(t)
	at, err := s.End(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]byte{[]byte(`{"v":1}`), nil} {
		if err := s.AnnounceSignup(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		var changes []acl.Change
		if changes, at, err = s.Changes(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		if len(changes) != 1 || changes[0].Signup == nil || !bytes.Equal(*changes[0].Signup, want) {
			t.Errorf("got changes %+v, want the announcement %s", changes, want)
		}
	}
	// A snapshot does not mind.
	snapshot := acl.NewSnapshot(nil, time.Hour).Load(epoch, nil, nil)
	text := []byte("{}")
	if got := snapshot.With(epoch, acl.Change{Signup: &text}); !got.Fresh(epoch) {
		t.Error("the snapshot is not fresh")
	}
}

// TestKilledSignUps kills the settling of what strangers paid before and after each
// write. The next start ends with one account, which has what was paid once.
func TestKilledSignUps(t *testing.T) {
	offers, err := tangle.NewOffers(tangle.Offer{ID: "live", Filters: filters(t, "sensor/live"), Price: 500, Period: time.Hour, Address: "ADDRESS"})
	if err != nil {
		t.Fatal(err)
	}
	first, second := newVerifier(t), newVerifier(t)
	for _, scenario := range []struct {
		name     string
		payments []struct {
			verifier string
			amount   int64
		}
		outcomes []tangle.Outcome
		entries  string
		credit   int64
	}{
		{
			"two strangers, one name",
			[]struct {
				verifier string
				amount   int64
			}{{first, 500}, {second, 500}, {first, 200}},
			[]tangle.Outcome{tangle.Credited, tangle.Unmatched, tangle.Underpaid}, "paid paid", 200,
		},
		{
			"two parts",
			[]struct {
				verifier string
				amount   int64
			}{{first, 300}, {first, 200}},
			[]tangle.Outcome{tangle.Credited, tangle.Underpaid}, "paid paid", 0,
		},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			t.Parallel()
			points := 0
			var matrix strings.Builder
			run := func(phase string, at int64) (died bool) {
				now := epoch
				clock := func() time.Time { return now }
				whole := newStore(t)
				database := whole.meta.Database().Name()
				ring := &signup.Keyring{Store: whole, Now: clock}
				if err := ring.Ensure(t.Context()); err != nil {
					t.Fatal(err)
				}
				text, err := whole.SignupAnnouncement(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				announced, err := signup.ParseAnnouncement(text, now)
				if err != nil {
					t.Fatal(err)
				}
				var payments []tangle.Payment
				for i, paid := range scenario.payments {
					text, err := announced.Seal(signup.Credentials{Username: "john", Verifier: paid.verifier}, signup.Context{Ledger: "legacy", Address: "ADDRESS", Offer: "live"})
					if err != nil {
						t.Fatal(err)
					}
					p := payment(fmt.Sprintf("P%d", i))
					p.Amount, p.Message = paid.amount, fmt.Appendf(nil, `{"signup": %q, "offer": "live"}`, text)
					payments = append(payments, p)
				}
				// settle is what serve does at a start: the key, then every payment,
				// as often as one of them may wait for another.
				settle := func(ctx context.Context, s *Store) error {
					s.Now = clock
					ring := &signup.Keyring{Store: s, Now: clock}
					err := ring.Ensure(ctx)
					settler := &tangle.Settler{Store: s, Offers: offers, Now: clock, Rules: []tangle.Rule{
						tangle.MessageRule{}, &signup.Rule{Keys: ring, Accounts: s, CheckName: CheckNewName},
					}}
					for range 2 {
						for _, p := range payments {
							if err == nil {
								_, err = s.Record(ctx, p, tangle.Settling)
							}
							if err == nil {
								_, err = settler.Settle(ctx, p)
							}
						}
					}
					return err
				}
				victim, ctx, struck := dying(t, database, phase, at)
				err = settle(ctx, victim)
				if died = struck() != ""; died {
					points++
					fmt.Fprintf(&matrix, "\n  %s %d: %s", phase, at, struck())
				} else if err != nil {
					t.Fatalf("not killed, but: %v", err)
				}
				now = now.Add(time.Minute)
				again := openDatabase(t, database)
				if err := settle(t.Context(), again); err != nil {
					t.Fatalf("killed %s write %d, %s; started again: %v", phase, at, struck(), err)
				}
				checkAccount(t, again, "john", scenario.entries, scenario.credit)
				for i, want := range scenario.outcomes {
					if r, err := again.PaymentRecord(t.Context(), payments[i].ID); err != nil || r.Outcome != want && !(scenario.name == "two parts" && r.Outcome != tangle.Unmatched) {
						t.Errorf("payment %s: got %+v, %v, want %s", payments[i].ID, r, err, want)
					}
				}
				told := false
				var from ResumeToken
				for more := true; more; {
					changes, next, err := again.Changes(t.Context(), from)
					if err != nil {
						t.Fatal(err)
					}
					for _, c := range changes {
						told = told || c.User != nil && c.User.Name == "john" && c.User.Password == first
					}
					more, from = next.Seq != from.Seq, next
				}
				if !told {
					t.Error("followers were not told of the account")
				}
				users, err := again.Users(t.Context())
				if err != nil || len(users) != 1 || users[0].Name != "john" || users[0].Password != first || len(users[0].Rights) > 0 || users[0].Superuser {
					t.Errorf("got users %+v, %v, want john with the first verifier and no rights", users, err)
				}
				if keys, err := again.SignupKeys(t.Context()); err != nil || len(keys) != 1 {
					t.Errorf("got %d keys, %v, want 1", len(keys), err)
				}
				if t.Failed() {
					t.Fatalf("killed %s write %d: %s", phase, at, struck())
				}
				return died
			}
			for _, phase := range []string{"before", "after"} {
				for at := int64(1); run(phase, at); at++ {
				}
			}
			if points < 20 {
				t.Errorf("killed at %d points, want 20 at least:%s", points, &matrix)
			}
			t.Logf("killed at %d points:%s", points, &matrix)
		})
	}
}

// TestKeysOfTwoStores: two processes make the keys of ten days at once, and agree.
func TestKeysOfTwoStores(t *testing.T) {
	s := newStore(t)
	database := s.meta.Database().Name()
	now := epoch
	var rings []*signup.Keyring
	for range 2 {
		rings = append(rings, &signup.Keyring{Store: openDatabase(t, database), Now: func() time.Time { return now }})
	}
	verifier := newVerifier(t)
	in := signup.Context{Ledger: "legacy", Address: "ADDRESS", Offer: "live"}
	for range 10 {
		fails := make(chan error)
		for _, r := range rings {
			go func() { fails <- r.Ensure(t.Context()) }()
		}
		if err := errors.Join(<-fails, <-fails); err != nil {
			t.Fatal(err)
		}
		text, err := s.SignupAnnouncement(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		announced, err := signup.ParseAnnouncement(text, now)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := announced.Seal(signup.Credentials{Username: "john", Verifier: verifier}, in)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range rings {
			if _, err := r.Open(t.Context(), sealed, in); err != nil {
				t.Errorf("%s: process %d: %v", now, i, err)
			}
		}
		now = now.Add(24 * time.Hour)
	}
	if keys, err := s.SignupKeys(t.Context()); err != nil || len(keys) != 10 {
		t.Errorf("got %d keys, %v, want 10", len(keys), err)
	}
}
