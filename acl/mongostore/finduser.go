package mongostore

import (
	"context"
	"errors"
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
	updating chan struct{} // holds one while the index is compared or rebuilt

	mu      sync.Mutex
	ids     map[string][]any // by name; replaced, never changed
	users   int64            // how many there were before, ours included
	read    time.Time        // when the index was built; zero if it never was
	counted time.Time        // when users was last compared
	rest    time.Duration    // how long the index stays as it is at least

	closed bool
	stop   context.CancelFunc // of the update in the background; nil if there was none
	update sync.WaitGroup     // that update
}

const (
	// countEvery is how often the number of users is looked at.
	countEvery = 2 * time.Second
	// rereadEvery is how often the index is rebuilt although the number of users is
	// the same: a document may have been renamed by hand.
	rereadEvery = 10 * time.Minute
	// firstIndexWait is how long a call waits for the first index that is built in the
	// background: a payment for an unknown name must not delay others.
	firstIndexWait = 50 * time.Millisecond
	// restFactor is how many times as long as building it the index is kept.
	restFactor = 20
)

// errIndexing says that the first index is not built yet.
var errIndexing = errors.New("the users that other programs wrote are still being read")

// find returns the _ids of documents that may have a name. If exact, the number of
// users is compared first. Otherwise it waits only for the first index, and returns
// errIndexing if that is built in the background and takes long; a later index is
// built in the background, and meanwhile the previous one answers.
func (f *foreignUsers) find(ctx context.Context, s *Store, name string, exact bool) ([]any, error) {
	ids, built := f.lookUp(s, name)
	if built && !exact {
		return ids, nil
	}
	f.mu.Lock()
	background := f.stop != nil
	f.mu.Unlock()
	var late <-chan time.Time
	if !exact && background {
		late = time.After(firstIndexWait)
	}
	select {
	case f.updating <- struct{}{}:
		defer func() { <-f.updating }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-late:
		return nil, errIndexing
	}
	if ids, built = f.lookUp(s, name); built && !exact {
		return ids, nil // built by another call meanwhile
	}
	if err := f.refresh(ctx, s); err != nil {
		return nil, err
	}
	ids, _ = f.lookUp(s, name)
	return ids, nil
}

// lookUp asks the index as it is. built is false if there is none. It starts an update
// in the background if one is due.
func (f *foreignUsers) lookUp(s *Store, name string) (ids []any, built bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.read.IsZero() {
		return nil, false
	}
	since := s.Now().Sub(f.counted)
	if f.closed || since >= 0 && since < max(countEvery, f.rest) {
		return f.ids[name], true
	}
	f.begin(s)
	return f.ids[name], true
}

// begin starts an update in the background, unless one runs. The caller holds mu.
func (f *foreignUsers) begin(s *Store) {
	select {
	case f.updating <- struct{}{}:
	default: // one runs
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), readAllTimeout)
	f.stop = cancel
	f.update.Go(func() {
		defer func() { <-f.updating }()
		defer cancel()
		if err := f.refresh(ctx, s); err != nil && ctx.Err() == nil {
			s.Log.WithError(err).Warn("cannot update the index of users that others wrote")
		}
	})
}

// IndexUsers starts, in the background, to read the users that others wrote, if the
// server would read all users to find one of them. Without it, the first
// [Store.UserState] that asks for one, or for a user who does not exist, waits for
// that; with it, UserState returns an error instead until they are read.
// [Store.Close] stops it.
func (s *Store) IndexUsers(ctx context.Context) error {
	scans, err := s.scans(ctx)
	if err != nil || !scans {
		return err
	}
	s.foreign.mu.Lock()
	defer s.foreign.mu.Unlock()
	if !s.foreign.closed {
		s.foreign.begin(s)
	}
	return nil
}

// refresh compares the number of users, and rebuilds the index if that is due. The
// caller holds updating.
func (f *foreignUsers) refresh(ctx context.Context, s *Store) error {
	f.mu.Lock()
	f.counted, f.rest = s.Now(), 0 // also if it fails: not again at once
	since, before := f.counted.Sub(f.read), f.users
	built := !f.read.IsZero()
	f.mu.Unlock()
	users, err := count(ctx, s.users)
	if err != nil {
		return err
	}
	if built && users == before && since >= 0 && since < rereadEvery {
		return nil
	}
	begin := time.Now()
	ids, err := s.foreignIDs(ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ids, f.users, f.read, f.rest = ids, users, s.Now(), restFactor*time.Since(begin)
	return nil
}

// foreignIDs reads the _ids of the users that others wrote, by name.
func (s *Store) foreignIDs(ctx context.Context) (map[string][]any, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	ids := make(map[string][]any)
	err := each(ctx, s.users, bson.D{}, func(raw bson.Raw) error {
		if name, ok := raw.Lookup("username").StringValueOK(); ok && !isOurs(raw) {
			id := raw.Lookup("_id")
			ids[name] = append(ids[name], bson.RawValue{Type: id.Type, Value: slices.Clone(id.Value)})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	return ids, nil
}

// close stops the update in the background and waits for it.
func (f *foreignUsers) close() {
	f.mu.Lock()
	f.closed = true
	if f.stop != nil {
		f.stop()
	}
	f.mu.Unlock()
	f.update.Wait()
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
