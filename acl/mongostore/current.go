package mongostore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"github.com/iotoll/iotoll/tangle"
)

// currentDocument names a grant that may not be over yet, so that those are
// found without reading all that was ever sold: FerretDB finds documents by
// their _id alone.
//
// Every grant that opens something is named before it is written, and its name
// is deleted when it has long been over. It is a name only: what the grant says
// stands in the grant. A name whose grant was never written, since a crash came
// between, stays until that number of the account is taken and over; deleting it
// could harm whoever is about to write the grant.
type currentDocument struct {
	Grant string `bson:"_id"`
}

// readAtOnce is how many grants are read at the same time: each is a question of
// its own, and most of the time it takes is on the way.
const readAtOnce = 8

// nameCurrent names a grant that is about to be written, if it opens anything.
func (s *Store) nameCurrent(ctx context.Context, g tangle.Grant) error {
	if !g.NotAfter.After(g.NotBefore) {
		return nil
	}
	id := grantID(g.Subject, g.Offer, g.Seq)
	if _, err := insert(ctx, s.current, currentDocument{Grant: id}); err != nil {
		return fmt.Errorf("note grant %s as current: %w", id, err)
	}
	return nil
}

// eachCurrent calls f for every grant that may not be over, one at a time and in
// no order. A grant that is written meanwhile may be left out; it is announced
// later.
func (s *Store) eachCurrent(ctx context.Context, f func(bson.Raw) error) error {
	var ids []any
	err := each(ctx, s.current, bson.D{}, func(raw bson.Raw) error {
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
	var mu sync.Mutex
	readers, ctx := errgroup.WithContext(ctx)
	readers.SetLimit(readAtOnce)
	for _, id := range ids {
		if ctx.Err() != nil {
			break
		}
		readers.Go(func() error {
			raw, err := get[bson.Raw](ctx, s.grants, id)
			if err != nil {
				return fmt.Errorf("read grant %v: %w", id, err)
			}
			if raw == nil {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			return f(*raw)
		})
	}
	return readers.Wait()
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
	if deleted, err = removeAll(ctx, s.current, over); err != nil {
		return deleted, fmt.Errorf("forget grants that are over: %w", err)
	}
	return deleted, nil
}
