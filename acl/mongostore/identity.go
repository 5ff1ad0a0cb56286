package mongostore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// ErrOtherStore is returned by [Store.CheckID].
var ErrOtherStore = errors.New("this is not the store that was used before")

// identity is the document in meta under the _id "store". It is written once.
type identity struct {
	ID    string    `bson:"_id"`
	Store string    `bson:"store"`
	At    time.Time `bson:"at"`
}

// identify gives the store its ID unless it has one.
func (s *Store) identify(ctx context.Context) error {
	if _, err := insert(ctx, s.meta, identity{ID: "store", Store: rand.Text(), At: s.now()}); err != nil {
		return fmt.Errorf("insert store ID: %w", err)
	}
	return nil
}

// ID returns the random text that [Store.Migrate] gave the store when it first
// saw it. It is empty if the store was never migrated.
func (s *Store) ID(ctx context.Context) (string, error) {
	d, err := get[identity](ctx, s.meta, "store")
	if err != nil {
		return "", fmt.Errorf("read store ID: %w", err)
	}
	if d == nil {
		return "", nil
	}
	return d.Store, nil
}

// CheckID returns an error wrapping [ErrOtherStore] unless the store has an ID that
// was noted elsewhere. Without it, a lost, emptied or foreign store would silently
// start as a new one. Call it before [Store.Migrate].
func (s *Store) CheckID(ctx context.Context, noted string) error {
	id, err := s.ID(ctx)
	if err != nil {
		return err
	}
	switch id {
	case noted:
		return nil
	case "":
		return fmt.Errorf("%w: it is empty or was never used by iotoll, want the store with ID %s", ErrOtherStore, noted)
	}
	return fmt.Errorf("%w: it has ID %s, want ID %s", ErrOtherStore, id, noted)
}
