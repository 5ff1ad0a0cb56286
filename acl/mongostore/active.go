package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/tangle"
)

// activeGrantDocument names a grant that may not be over yet, so that those are
// found without reading all that was ever sold: FerretDB finds documents by
// their _id alone.
//
// Every grant that opens something is named before it is written, and its name
// is deleted when it has long been over. It is a name only: what the grant says
// stands in the grant. A name whose grant was never written, since a crash came
// between, stays until that number of the account is taken and over; deleting it
// could harm whoever is about to write the grant.
type activeGrantDocument struct {
	Grant string `bson:"_id"`
}

// nameCurrent names a grant that is about to be written, if it opens anything.
func (s *Store) nameCurrent(ctx context.Context, g tangle.Entry) error {
	if !g.NotAfter.After(g.NotBefore) {
		return nil
	}
	id := grantID(g.Subject, g.Offer, g.Seq)
	if _, err := insert(ctx, s.activeGrants, activeGrantDocument{Grant: id}); err != nil {
		return fmt.Errorf("note grant %s as current: %w", id, err)
	}
	return nil
}

// eachCurrent calls f for every grant that may not be over, in no order. A grant
// that is written meanwhile may be left out; it is announced later.
func (s *Store) eachCurrent(ctx context.Context, f func(bson.Raw) error) error {
	var ids []any
	err := each(ctx, s.activeGrants, bson.D{}, func(raw bson.Raw) error {
		var d struct {
			Grant any `bson:"_id"`
		}
		if err := bson.Unmarshal(raw, &d); err != nil {
			return err
		}
		ids = append(ids, d.Grant)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read which grants are current: %w", err)
	}
	if len(ids) == 0 {
		return nil
	}
	return s.eachGrant(ctx, ids, s.idsAtOnce(ctx), f)
}

// eachGrant calls f for the grants with these _ids, as far as they are there. It
// asks for so many at once.
func (s *Store) eachGrant(ctx context.Context, ids []any, atOnce int, f func(bson.Raw) error) error {
	for some := range slices.Chunk(ids, atOnce) {
		filter := bson.D{{Key: "_id", Value: some[0]}}
		if len(some) > 1 {
			filter = bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: some}}}}
		}
		if err := each(ctx, s.grants, filter, f); err != nil {
			return fmt.Errorf("read current grants: %w", err)
		}
	}
	return nil
}

// idsAtOnce returns how many documents the server is best asked for at once by
// their _ids. FerretDB 1, which names its version by the side of the one of
// MongoDB that it is like, reads the whole collection if they are two or more.
// Where that cannot be found out, one is never wrong.
func (s *Store) idsAtOnce(ctx context.Context) int {
	info, err := s.meta.Database().RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Raw()
	if err != nil {
		return 1
	}
	if _, err := info.LookupErr("ferretdbVersion"); err == nil {
		return 1
	}
	return 500
}

// Trim deletes what only made others read more: the changes announced before an
// instant, but for the last one, and the names of the grants that were over
// before it, not the grants. A follower that has not asked since then loads
// everything anew. The instant should be a day ago, so that no clock which is
// late still needs those grants.
func (s *Store) Trim(ctx context.Context, before time.Time) error {
	ctx, cancel := readAll(ctx)
	defer cancel()
	_, changes := s.trimChanges(ctx, before)
	_, current := s.trimCurrent(ctx, before)
	return errors.Join(changes, current)
}

// trimCurrent decides by the grants themselves. They only ever change to end
// sooner, so one that is over stays so, and its number is taken: nobody is about
// to write it.
func (s *Store) trimCurrent(ctx context.Context, before time.Time) (deleted int64, err error) {
	var over []any
	err = s.eachCurrent(ctx, func(raw bson.Raw) error {
		var d grantDocument
		if bson.Unmarshal(raw, &d) == nil && d.right(nil).NotAfter.Before(before) {
			over = append(over, d.ID)
		}
		return nil // Load tells of one that cannot be used
	})
	if err != nil {
		return 0, err
	}
	if deleted, err = removeAll(ctx, s.activeGrants, over); err != nil {
		return deleted, fmt.Errorf("forget grants that are over: %w", err)
	}
	return deleted, nil
}
