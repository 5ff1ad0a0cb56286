package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/signup"
)

var (
	_ signup.KeyStore = (*Store)(nil)
	_ signup.Accounts = (*Store)(nil)
)

// signupKeyDocument is a key pair of the seller's. It is written once.
type signupKeyDocument struct {
	ID       string    `bson:"_id"` // see signupKeyID
	Period   int64     `bson:"period"`
	Private  []byte    `bson:"private"`
	NotAfter time.Time `bson:"not_after"`
	Made     time.Time `bson:"made"`
}

// signupKeyID makes the _id of a key: the number of its period.
func signupKeyID(period int64) string { return fmt.Sprintf("%020d", period) }

// SignupKeys implements [signup.KeyStore].
func (s *Store) SignupKeys(ctx context.Context) ([]signup.StoredKey, error) {
	var keys []signup.StoredKey
	err := each(ctx, s.signupKeys, bson.D{}, func(raw bson.Raw) error {
		var d signupKeyDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("%s: %w", idText(raw), err)
		}
		keys = append(keys, signup.StoredKey{Period: d.Period, Private: d.Private, NotAfter: d.NotAfter, Made: d.Made})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read sign-up keys: %w", err)
	}
	return keys, nil
}

// AddSignupKey implements [signup.KeyStore].
func (s *Store) AddSignupKey(ctx context.Context, k signup.StoredKey) (added bool, err error) {
	added, err = insert(ctx, s.signupKeys, signupKeyDocument{
		ID: signupKeyID(k.Period), Period: k.Period, Private: k.Private, NotAfter: k.NotAfter, Made: k.Made,
	})
	if err != nil {
		return false, fmt.Errorf("insert sign-up key of period %d: %w", k.Period, err)
	}
	return added, nil
}

// RemoveSignupKey implements [signup.KeyStore].
func (s *Store) RemoveSignupKey(ctx context.Context, period int64) error {
	if _, err := remove(ctx, s.signupKeys, signupKeyID(period)); err != nil {
		return fmt.Errorf("remove sign-up key of period %d: %w", period, err)
	}
	return nil
}

// Verifier implements [signup.Accounts].
func (s *Store) Verifier(ctx context.Context, name string) (tangle.UserState, string, error) {
	documents, err := s.findUser(ctx, name, false)
	if err != nil || len(documents) == 0 {
		return tangle.UserUnknown, "", err
	}
	r := userRecord(documents[0], len(documents) > 1)
	return r.State, r.Password, nil
}

// SignUp implements [signup.Accounts]. The user has no rights but to what it
// buys.
func (s *Store) SignUp(ctx context.Context, name, verifier string) (added bool, err error) {
	err = s.AddUser(ctx, acl.User{Name: name, Password: verifier})
	if errors.Is(err, ErrExists) {
		return false, nil
	}
	return err == nil, err
}

// AnnounceUser implements [signup.Accounts].
func (s *Store) AnnounceUser(ctx context.Context, name string) error {
	documents, err := s.findUser(ctx, name, false)
	if err != nil {
		return err
	}
	for _, d := range documents {
		if err := s.announce(ctx, userChanged, d.Lookup("_id"), name); err != nil {
			return err
		}
	}
	return nil
}

// signupPartDocument is a payment that is part of the price of a new account.
type signupPartDocument struct {
	ID      string `bson:"_id"` // see signupPartID
	Payment string `bson:"payment"`
}

// signupPartID makes the _id of a part. What it is part of has no slash.
func signupPartID(of string, number int) string { return fmt.Sprintf("%s/%03d", of, number) }

// AddPart implements [signup.Accounts].
func (s *Store) AddPart(ctx context.Context, of string, number int, payment string) (added bool, err error) {
	added, err = insert(ctx, s.signupParts, signupPartDocument{ID: signupPartID(of, number), Payment: payment})
	if err != nil {
		return false, fmt.Errorf("insert part %d, payment %s: %w", number, payment, err)
	}
	return added, nil
}

// Parts implements [signup.Accounts].
func (s *Store) Parts(ctx context.Context, of string) ([]string, error) {
	var payments []string
	for {
		d, err := get[signupPartDocument](ctx, s.signupParts, signupPartID(of, len(payments)+1))
		if err != nil {
			return nil, fmt.Errorf("read parts of the price of an account: %w", err)
		}
		if d == nil {
			return payments, nil
		}
		payments = append(payments, d.Payment)
	}
}
