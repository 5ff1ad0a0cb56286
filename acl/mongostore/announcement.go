package mongostore

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// signupChanged is the kind of change of the document in meta under signupID.
const (
	signupChanged = "signup"
	signupID      = "signup"
)

// signupDocument is what is announced to buyers who have no account.
type signupDocument struct {
	ID           string `bson:"_id"`
	Announcement string `bson:"announcement"` // JSON; empty if sign-up is off
}

// SignupAnnouncement returns what buyers who have no account need to sign up, as
// JSON; nil if sign-up is off. Followers learn from [Store.Changes] when it changes.
func (s *Store) SignupAnnouncement(ctx context.Context) ([]byte, error) {
	d, err := get[signupDocument](ctx, s.meta, signupID)
	if err != nil {
		return nil, fmt.Errorf("read announced sign-up key: %w", err)
	}
	if d == nil || d.Announcement == "" {
		return nil, nil
	}
	return []byte(d.Announcement), nil
}

// AnnounceSignup sets what [Store.SignupAnnouncement] returns.
func (s *Store) AnnounceSignup(ctx context.Context, announcement []byte) error {
	d := signupDocument{ID: signupID, Announcement: string(announcement)}
	// If another process inserts it first, the second attempt finds it.
	for written := false; !written; {
		found, err := set(ctx, s.meta, signupID, bson.D{{Key: "announcement", Value: d.Announcement}})
		if written = found; err == nil && !found {
			written, err = insert(ctx, s.meta, d)
		}
		if err != nil {
			return fmt.Errorf("write announced sign-up key: %w", err)
		}
	}
	return s.announce(ctx, signupChanged, signupID, "")
}
