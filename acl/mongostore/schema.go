package mongostore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Version is the schema's version that this package reads and writes.
const Version = 3

// Errors of [Store.CheckVersion] and [Store.Migrate].
var (
	// ErrNotMigrated means that the database was never migrated: it is empty, or
	// the demo's or mosquitto-auth-plug's. Migrate makes it usable.
	ErrNotMigrated = errors.New("the database has no schema version yet")
	// ErrVersion means that a newer iotoll wrote the database.
	ErrVersion = errors.New("the database has a schema version that is not known")
)

// schema is the document in meta under the _id "schema".
type schema struct {
	ID      string `bson:"_id"`
	Version int64  `bson:"version"`
}

// migrations are the steps from each version to the next: the first makes
// version 1. Doing one again does no harm, since two processes may do so at
// once.
var migrations = []func(context.Context, *Store) error{
	createIndexes,
	makeVersion2,
	makeVersion3,
}

// CheckVersion returns an error wrapping [ErrNotMigrated] or [ErrVersion] unless
// the database has the version that this package knows.
func (s *Store) CheckVersion(ctx context.Context) error {
	version, err := s.version(ctx)
	if err != nil {
		return err
	}
	switch {
	case version == 0:
		return fmt.Errorf("%w: start iotoll serve once", ErrNotMigrated)
	case version != Version:
		return fmt.Errorf("%w: %d, want %d: use the same release of iotoll everywhere", ErrVersion, version, Version)
	}
	return nil
}

// Migrate brings the database to the version that this package knows. It
// leaves documents of the demo and of mosquitto-auth-plug as they are. The error
// wraps [ErrVersion] if the database is ahead.
func (s *Store) Migrate(ctx context.Context) error {
	ctx, cancel := readAll(ctx) // an index takes time
	defer cancel()
	version, err := s.version(ctx)
	if err != nil {
		return err
	}
	if version > Version || version < 0 {
		return fmt.Errorf("%w: %d, want at most %d: use a newer release of iotoll", ErrVersion, version, Version)
	}
	for ; version < Version; version++ {
		if err := migrations[version](ctx, s); err != nil {
			return fmt.Errorf("migrate store to version %d: %w", version+1, err)
		}
		if version == 0 {
			_, err = insert(ctx, s.meta, schema{ID: "schema", Version: 1})
		} else {
			_, err = set(ctx, s.meta, "schema", bson.D{{Key: "version", Value: version + 1}})
		}
		if err != nil {
			return fmt.Errorf("write schema version %d: %w", version+1, err)
		}
	}
	return nil
}

func (s *Store) version(ctx context.Context) (int64, error) {
	d, err := get[schema](ctx, s.meta, "schema")
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	if d == nil {
		return 0, nil
	}
	return d.Version, nil
}

// createIndexes makes the indexes of version 1. FerretDB 1 keeps a unique index
// unique but looks nothing up in it.
func createIndexes(ctx context.Context, s *Store) error {
	_, err := s.users.Indexes().CreateOne(ctx, mongo.IndexModel{
		Keys:    bson.D{{Key: "username", Value: 1}},
		Options: options.Index().SetUnique(true),
	})
	var refused mongo.CommandError
	if errors.As(err, &refused) && !mongo.IsNetworkError(err) && !mongo.IsTimeout(err) {
		// An older database may hold a name twice, or documents without any;
		// servers say so in different ways. It works without the index, since
		// Load refuses what is ambiguous.
		s.Log.WithError(err).Warn("usernames in the store are not kept unique: the index on them cannot be made")
	} else if err != nil {
		return fmt.Errorf("create index of usernames: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.facts.unique = fact{}
	return nil
}

// makeVersion2 gives the watched addresses a collection of their own, says of each
// pending payment which ledger it is on, and of which offers anything was sold.
func makeVersion2(ctx context.Context, s *Store) error {
	for _, step := range []func(context.Context) error{s.moveBaselines, s.placePending, s.nameOffers} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// makeVersion3 gives the store an ID, and keeps active grants whole.
func makeVersion3(ctx context.Context, s *Store) error {
	if err := s.identify(ctx); err != nil {
		return err
	}
	return s.copyActive(ctx)
}

// moveBaselines: version 1 kept the watched addresses in meta, under
// "baseline/<ledger>/<address>".
func (s *Store) moveBaselines(ctx context.Context) error {
	return each(ctx, s.meta, bson.D{}, func(raw bson.Raw) error {
		id, _ := raw.Lookup("_id").StringValueOK()
		rest, ok := strings.CutPrefix(id, "baseline/")
		if !ok {
			return nil
		}
		ledger, address, _ := strings.Cut(rest, "/")
		d := addressDocument{ID: addressID(ledger, address), Ledger: ledger, Address: address}
		d.Since, _ = raw.Lookup("at").TimeOK()
		if _, err := insert(ctx, s.addresses, d); err != nil {
			return fmt.Errorf("insert watched address %s: %w", address, err)
		}
		return nil
	})
}

// placePending: version 1 kept only the ID of a pending payment.
func (s *Store) placePending(ctx context.Context) error {
	pending, err := all[pendingDocument](ctx, s.pending, func(d *pendingDocument) string { return d.Payment })
	if err != nil {
		return fmt.Errorf("read pending payments: %w", err)
	}
	for id, d := range pending {
		if d.Ledger != "" {
			continue
		}
		p, err := get[paymentDocument](ctx, s.payments, id)
		if err != nil {
			return fmt.Errorf("read payment %s: %w", id, err)
		}
		if p == nil { // a crash came before it was recorded; it is read again
			if _, err := remove(ctx, s.pending, id); err != nil {
				return fmt.Errorf("remove %s from pending: %w", id, err)
			}
			continue
		}
		if _, err := set(ctx, s.pending, id, bson.D{{Key: "ledger", Value: p.Ledger}}); err != nil {
			return fmt.Errorf("note the ledger of payment %s: %w", id, err)
		}
	}
	return nil
}

// nameOffers: version 1 did not keep what offers cost, nor their names.
func (s *Store) nameOffers(ctx context.Context) error {
	offers := make(map[string]bool)
	err := each(ctx, s.grants, bson.D{}, func(raw bson.Raw) error {
		if offer, ok := raw.Lookup("offer").StringValueOK(); ok {
			offers[offer] = true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read grants: %w", err)
	}
	for offer := range offers {
		if err := s.nameOffer(ctx, offer); err != nil {
			return err
		}
	}
	return nil
}
