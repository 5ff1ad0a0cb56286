package mongostore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// findUser returns the documents with a username. There are several only if the
// server does not keep usernames unique. Unless exact, the answer may be outdated for
// users that others wrote, so that a stranger's names cannot cause many scans; see
// foreignUsers.
func (s *Store) findUser(ctx context.Context, name string, exact bool) ([]bson.Raw, error) {
	if name == "" || name != textOf(name) {
		return nil, nil // and some servers would make it an error
	}
	raw, err := get[bson.Raw](ctx, s.users, name)
	if err != nil {
		return nil, fmt.Errorf("read user %q: %w", name, err)
	}
	var found []bson.Raw
	if raw != nil && isOurs(*raw) {
		unique, err := s.namesAreUnique(ctx)
		if err != nil {
			return nil, fmt.Errorf("find user %q: %w", name, err)
		}
		if found = append(found, *raw); unique {
			return found, nil
		}
	}
	scans, err := s.scans(ctx)
	if err != nil {
		return nil, fmt.Errorf("find user %q: %w", name, err)
	}
	if !scans {
		found = nil
		err = each(ctx, s.users, bson.D{{Key: "username", Value: name}}, func(raw bson.Raw) error {
			found = append(found, slices.Clone(raw))
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("find user %q: %w", name, err)
		}
		return found, nil
	}
	ids, err := s.foreign.find(ctx, s, name, exact)
	if err != nil {
		return nil, fmt.Errorf("find user %q: %w", name, err)
	}
	for _, id := range ids {
		raw, err := get[bson.Raw](ctx, s.users, id)
		if err != nil {
			return nil, fmt.Errorf("read user %q: %w", name, err)
		}
		if raw == nil {
			continue
		}
		if bears, ok := raw.Lookup("username").StringValueOK(); ok && bears == name {
			found = append(found, *raw)
		}
	}
	return found, nil
}

// isOurs reports whether a document is one that its name leads to.
func isOurs(raw bson.Raw) bool { return raw.Lookup("username").Equal(raw.Lookup("_id")) }

// serverFacts caches properties of the server.
type serverFacts struct {
	unique, scans fact
}

// fact is a property that does not change once it is known.
type fact struct{ known, is bool }

// find returns what is known, or asks and remembers.
func (s *Store) find(f *fact, ask func() (bool, error)) (bool, error) {
	s.mu.Lock()
	known := *f
	s.mu.Unlock()
	if known.known {
		return known.is, nil
	}
	is, err := ask()
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	*f = fact{known: true, is: is}
	return is, nil
}

// namesAreUnique reports whether the server keeps usernames unique.
func (s *Store) namesAreUnique(ctx context.Context) (bool, error) {
	return s.find(&s.facts.unique, func() (bool, error) {
		specifications, err := s.users.Indexes().ListSpecifications(ctx)
		if err != nil {
			return false, fmt.Errorf("list indexes of users: %w", err)
		}
		for _, i := range specifications {
			keys, err := i.KeysDocument.Elements()
			if err == nil && len(keys) == 1 && keys[0].Key() == "username" && i.Unique != nil && *i.Unique {
				return true, nil
			}
		}
		return false, nil
	})
}

// scans reports whether the server reads all users to find one by a field
// other than the _id. FerretDB 1 does; it reports its version in ferretdbVersion.
func (s *Store) scans(ctx context.Context) (bool, error) {
	return s.find(&s.facts.scans, func() (bool, error) {
		info, err := s.meta.Database().RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Raw()
		if err != nil {
			return false, fmt.Errorf("ask for the server's version: %w", err)
		}
		_, err = info.LookupErr("ferretdbVersion")
		return err == nil, nil
	})
}

// foreignUsers is an in-memory index of the users that others wrote, whose _id is not
// their name, for a server that would scan all users to find one. It is rebuilt when
// the number of users changes by other means than this Store, but not so often that
// rebuilding takes more than a twentieth of the time.
type foreignUsers struct {
	mu      sync.Mutex
	ids     map[string][]any // by name
	users   int64            // how many there were before, ours included
	read    time.Time        // when the index was built; zero if it never was
	counted time.Time        // when users was last compared
	rest    time.Duration    // how long the index stays as it is at least
}

const (
	// countEvery is how often the number of users is looked at.
	countEvery = 2 * time.Second
	// rereadEvery is how often the index is rebuilt although the number of users is
	// the same: a document may have been renamed by hand.
	rereadEvery = 10 * time.Minute
	// restFactor is how many times as long as building it the index is kept.
	restFactor = 20
)

// find returns the _ids of documents that may have a name. If exact, the number of
// users is compared first.
func (f *foreignUsers) find(ctx context.Context, s *Store, name string, exact bool) ([]any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := s.Now()
	if since := now.Sub(f.counted); !exact && since >= 0 && since < max(countEvery, f.rest) && !f.read.IsZero() {
		return f.ids[name], nil
	}
	users, err := count(ctx, s.users)
	if err != nil {
		return nil, err
	}
	f.counted, f.rest = now, 0
	if since := now.Sub(f.read); f.read.IsZero() || users != f.users || since < 0 || since >= rereadEvery {
		if err := f.reread(ctx, s); err != nil {
			return nil, err
		}
		f.users = users
	}
	return f.ids[name], nil
}

// reread builds the index.
func (f *foreignUsers) reread(ctx context.Context, s *Store) error {
	ctx, cancel := readAll(ctx)
	defer cancel()
	begin := time.Now()
	ids := make(map[string][]any)
	err := each(ctx, s.users, bson.D{}, func(raw bson.Raw) error {
		if name, ok := raw.Lookup("username").StringValueOK(); ok && !isOurs(raw) {
			id := raw.Lookup("_id")
			ids[name] = append(ids[name], bson.RawValue{Type: id.Type, Value: slices.Clone(id.Value)})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read users: %w", err)
	}
	f.ids, f.read, f.rest = ids, s.Now(), restFactor*time.Since(begin)
	return nil
}

// noteOurs adds the number of users that this Store added, or subtracts it.
func (f *foreignUsers) noteOurs(added int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users += added
}

// count returns how many documents a collection has, without reading them.
func count(ctx context.Context, c *mongo.Collection) (int64, error) {
	stats, err := c.Database().RunCommand(ctx, bson.D{{Key: "collStats", Value: c.Name()}}).Raw()
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", c.Name(), err)
	}
	n, ok := stats.Lookup("count").AsInt64OK()
	if !ok {
		return 0, fmt.Errorf("count %s: collStats has no count", c.Name())
	}
	return n, nil
}
