package tangletest

import (
	"context"
	"fmt"
	"slices"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/signup"
)

var (
	_ signup.KeyStore = (*Store)(nil)
	_ signup.Accounts = (*Store)(nil)
)

// signups is what a Store keeps for sign-ups.
type signups struct {
	keys         map[int64]signup.StoredKey
	announcement []byte
	announced    int // how often followers were told
	verifiers    map[string]string
	added        []string
	told         map[string]bool // the names that followers were told of since they were added
	parts        map[string][]string
}

// SignedUp returns the names that SignUp added, in order.
func (s *Store) SignedUp() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.signups.added)
}

// SetVerifier sets the password hash of a user.
func (s *Store) SetVerifier(name, verifier string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signups.setVerifier(name, verifier)
}

func (s *signups) setVerifier(name, verifier string) {
	if s.verifiers == nil {
		s.verifiers = make(map[string]string)
	}
	s.verifiers[name] = verifier
}

// SignupsAnnounced returns how often followers were told of an announcement.
func (s *Store) SignupsAnnounced() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signups.announced
}

// SignupKeys implements signup.KeyStore.
func (s *Store) SignupKeys(ctx context.Context) (keys []signup.StoredKey, err error) {
	if err := s.enter(ctx, "SignupKeys"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.signups.keys {
		keys = append(keys, k)
	}
	return keys, nil
}

// AddSignupKey implements signup.KeyStore.
func (s *Store) AddSignupKey(ctx context.Context, k signup.StoredKey) (added bool, err error) {
	err = s.write(ctx, "AddSignupKey", func() error {
		if _, ok := s.signups.keys[k.Period]; ok {
			return nil
		}
		if s.signups.keys == nil {
			s.signups.keys = make(map[int64]signup.StoredKey)
		}
		s.signups.keys[k.Period] = k
		added = true
		return nil
	})
	return added && err == nil, err
}

// RemoveSignupKey implements signup.KeyStore.
func (s *Store) RemoveSignupKey(ctx context.Context, period int64) error {
	return s.write(ctx, "RemoveSignupKey", func() error {
		delete(s.signups.keys, period)
		return nil
	})
}

// SignupAnnouncement implements signup.KeyStore.
func (s *Store) SignupAnnouncement(ctx context.Context) ([]byte, error) {
	if err := s.enter(ctx, "SignupAnnouncement"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.signups.announcement), nil
}

// AnnounceSignup implements signup.KeyStore. The fault is called between writing
// the announcement and telling followers as well, with Op "AnnounceSignup/written".
func (s *Store) AnnounceSignup(ctx context.Context, announcement []byte) error {
	err := s.write(ctx, "AnnounceSignup", func() error {
		s.signups.announcement = slices.Clone(announcement)
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.fault(ctx, Point{Op: "AnnounceSignup/written", After: true}); err != nil {
		return err
	}
	return s.locked(func() error {
		s.signups.announced++
		return nil
	})
}

// Verifier implements signup.Accounts.
func (s *Store) Verifier(ctx context.Context, name string) (tangle.UserState, string, error) {
	if err := s.enter(ctx, "Verifier"); err != nil {
		return "", "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if state, ok := s.users[name]; ok && state != tangle.UserUnknown {
		return state, s.signups.verifiers[name], nil
	}
	return tangle.UserUnknown, "", nil
}

// SignUp implements signup.Accounts. Its write and its telling followers are points of
// their own, with the Ops "SignUp" and "AnnounceUser".
func (s *Store) SignUp(ctx context.Context, name, verifier string) (added bool, err error) {
	err = s.write(ctx, "SignUp", func() error {
		if state, ok := s.users[name]; ok && state != tangle.UserUnknown {
			return nil
		}
		if s.users == nil {
			s.users = make(map[string]tangle.UserState)
		}
		s.users[name] = tangle.UserReady
		s.signups.setVerifier(name, verifier)
		s.signups.added = append(s.signups.added, name)
		delete(s.signups.told, name)
		added = true
		return nil
	})
	if err == nil {
		err = s.AnnounceUser(ctx, name)
	}
	return added && err == nil, err
}

// AnnounceUser implements signup.Accounts.
func (s *Store) AnnounceUser(ctx context.Context, name string) error {
	return s.write(ctx, "AnnounceUser", func() error {
		if s.signups.told == nil {
			s.signups.told = make(map[string]bool)
		}
		s.signups.told[name] = true
		return nil
	})
}

// UserAnnounced reports whether followers were told of a user since SignUp added it.
func (s *Store) UserAnnounced(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.signups.told[name]
}

// AddPart implements signup.Accounts.
func (s *Store) AddPart(ctx context.Context, of string, number int, payment string) (added bool, err error) {
	err = s.write(ctx, "AddPart", func() error {
		switch n := len(s.signups.parts[of]); {
		case number >= 1 && number <= n:
			return nil
		case number != n+1:
			return fmt.Errorf("part %d of %s: it has %d", number, of, n)
		}
		if s.signups.parts == nil {
			s.signups.parts = make(map[string][]string)
		}
		s.signups.parts[of] = append(s.signups.parts[of], payment)
		added = true
		return nil
	})
	return added && err == nil, err
}

// Parts implements signup.Accounts.
func (s *Store) Parts(ctx context.Context, of string) ([]string, error) {
	if err := s.enter(ctx, "Parts"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.signups.parts[of]), nil
}
