package mongostore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Act is something that the seller did by hand.
type Act struct {
	At     time.Time `bson:"at"`     // set by Audit
	By     string    `bson:"by"`     // who did it
	Act    string    `bson:"act"`    // what, such as "grant revoke"
	Object string    `bson:"object"` // to what: a username, a payment's ID
	Reason string    `bson:"reason"` // why; may be empty
}

// Audit notes an act, dated now.
func (s *Store) Audit(ctx context.Context, a Act) error {
	a.At = s.now()
	for _, text := range []*string{&a.By, &a.Act, &a.Object, &a.Reason} {
		*text = textOf(*text)
	}
	if _, err := s.audit.InsertOne(ctx, a); err != nil {
		return fmt.Errorf("note %s in the audit trail: %w", a.Act, err)
	}
	return nil
}

// Acts returns the audit trail, the oldest first.
func (s *Store) Acts(ctx context.Context) ([]Act, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	type document struct {
		ID  bson.ObjectID `bson:"_id"` // grows with time
		Act `bson:",inline"`
	}
	var documents []document
	err := each(ctx, s.audit, bson.D{}, func(raw bson.Raw) error {
		var d document
		if err := bson.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("%s: %w", idText(raw), err)
		}
		documents = append(documents, d)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read audit trail: %w", err)
	}
	slices.SortFunc(documents, func(a, b document) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID.Hex(), b.ID.Hex()))
	})
	acts := make([]Act, len(documents))
	for i, d := range documents {
		acts[i] = d.Act
	}
	return acts, nil
}
