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
const Version = 2

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
	moveBaselines,
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
	return nil
}

// moveBaselines makes version 2. Version 1 kept the watched addresses in meta,
// under "baseline/<ledger>/<address>".
func moveBaselines(ctx context.Context, s *Store) error {
	return each(ctx, s.meta, bson.D{}, func(raw bson.Raw) error {
		id, _ := raw.Lookup("_id").StringValueOK()
		rest, ok := strings.CutPrefix(id, "baseline/")
		if !ok {
			return nil
		}
		ledger, address, _ := strings.Cut(rest, "/")
		d := addressDocument{ID: addressID(ledger, address), Ledger: ledger, Address: address, Since: raw.Lookup("at").Time()}
		if _, err := insert(ctx, s.addresses, d); err != nil {
			return fmt.Errorf("insert watched address %s: %w", address, err)
		}
		return nil
	})
}
