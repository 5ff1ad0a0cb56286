package tangletest

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/signup"
)

// SignUpStore is a store that sign-ups can use.
type SignUpStore interface {
	tangle.Store
	signup.KeyStore
	signup.Accounts
}

// TestSignUpStore tests that a store keeps the promises of [signup.KeyStore] and
// [signup.Accounts]. open returns an empty one. verifier is a password hash.
func TestSignUpStore(t *testing.T, verifier string, open func(t *testing.T) SignUpStore) {
	now := time.Date(2026, 11, 26, 17, 0, 0, 123e6, time.UTC)

	t.Run("keys", func(t *testing.T) {
		s := open(t)
		ctx := t.Context()
		key := func(period int64, private string) signup.StoredKey {
			return signup.StoredKey{Period: period, Private: []byte(private), NotAfter: now.Add(time.Hour), Made: now}
		}
		for _, test := range []struct {
			key   signup.StoredKey
			added bool
		}{{key(20783, "a"), true}, {key(20784, "b"), true}, {key(20783, "other"), false}} {
			if added, err := s.AddSignupKey(ctx, test.key); err != nil || added != test.added {
				t.Errorf("AddSignupKey(%+v): got %t, %v, want %t", test.key, added, err, test.added)
			}
		}
		keys, err := s.SignupKeys(ctx)
		slices.SortFunc(keys, func(a, b signup.StoredKey) int { return int(a.Period - b.Period) })
		for i := range keys { // instants are equal in any zone
			keys[i].NotAfter, keys[i].Made = keys[i].NotAfter.UTC(), keys[i].Made.UTC()
		}
		if want := []signup.StoredKey{key(20783, "a"), key(20784, "b")}; err != nil || !reflect.DeepEqual(keys, want) {
			t.Errorf("SignupKeys: got %+v, %v, want %+v", keys, err, want)
		}
		for range 2 {
			if err := s.RemoveSignupKey(ctx, 20783); err != nil {
				t.Fatal(err)
			}
		}
		if keys, err := s.SignupKeys(ctx); err != nil || len(keys) != 1 || keys[0].Period != 20784 {
			t.Errorf("after RemoveSignupKey: got %+v, %v", keys, err)
		}
	})

	t.Run("announcement", func(t *testing.T) {
		s := open(t)
		for _, want := range [][]byte{nil, []byte(`{"v":1}`), []byte(`{"v":2}`), nil, []byte(`{"v":1}`)} {
			if want != nil {
				if err := s.AnnounceSignup(t.Context(), want); err != nil {
					t.Fatal(err)
				}
			} else if err := s.AnnounceSignup(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if got, err := s.SignupAnnouncement(t.Context()); err != nil || !bytes.Equal(got, want) || (got == nil) != (want == nil) {
				t.Errorf("SignupAnnouncement: got %s, %v, want %s", got, err, want)
			}
		}
	})

	t.Run("accounts", func(t *testing.T) {
		s := open(t)
		ctx := t.Context()
		expect := func(state tangle.UserState, hash string) {
			t.Helper()
			if got, v, err := s.Verifier(ctx, "john"); err != nil || got != state || v != hash {
				t.Errorf("Verifier: got %s, %q, %v, want %s, %q", got, v, err, state, hash)
			}
			if got, err := s.UserState(ctx, "john"); err != nil || got != state {
				t.Errorf("UserState: got %s, %v, want %s", got, err, state)
			}
		}
		expect(tangle.UserUnknown, "")
		if added, err := s.SignUp(ctx, "john", verifier); err != nil || !added {
			t.Errorf("SignUp: got %t, %v", added, err)
		}
		expect(tangle.UserReady, verifier)
		if added, err := s.SignUp(ctx, "john", verifier[:len(verifier)-2]+"AA"); err != nil || added {
			t.Errorf("SignUp again: got %t, %v", added, err)
		}
		expect(tangle.UserReady, verifier)
		// Of many at once, one gets the name.
		got := make(chan bool)
		for range 8 {
			go func() {
				added, err := s.SignUp(ctx, "mary", verifier)
				if err != nil {
					t.Error(err)
				}
				got <- added
			}()
		}
		added := 0
		for range 8 {
			if <-got {
				added++
			}
		}
		if added != 1 {
			t.Errorf("SignUp 8 times at once: %d got the name, want 1", added)
		}
	})

	t.Run("parts", func(t *testing.T) {
		s := open(t)
		ctx := t.Context()
		for _, test := range []struct {
			of      string
			number  int
			payment string
			added   bool
		}{{"a", 1, "p1", true}, {"a", 1, "p2", false}, {"a", 2, "p2", true}, {"b", 1, "p3", true}} {
			if added, err := s.AddPart(ctx, test.of, test.number, test.payment); err != nil || added != test.added {
				t.Errorf("AddPart(%s, %d): got %t, %v, want %t", test.of, test.number, added, err, test.added)
			}
		}
		for of, want := range map[string][]string{"a": {"p1", "p2"}, "b": {"p3"}, "c": nil} {
			if got, err := s.Parts(ctx, of); err != nil || !slices.Equal(got, want) {
				t.Errorf("Parts(%s): got %v, %v, want %v", of, got, err, want)
			}
		}
	})
}
