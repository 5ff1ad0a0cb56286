package mongostore

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
)

// complete appends an entry and completes it.
func complete(t testing.TB, s *Store, g tangle.Entry) {
	t.Helper()
	if err := s.Append(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if err := s.Complete(t.Context(), g); err != nil {
		t.Fatal(err)
	}
}

// load returns the position of a follower who has just loaded everything.
func load(t testing.TB, s *Store) ResumeToken {
	t.Helper()
	_, _, at, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func announceUser(t testing.TB, s *Store, name string) {
	t.Helper()
	if err := s.announce(t.Context(), userChanged, name, name); err != nil {
		t.Fatal(err)
	}
}

func TestChanges(t *testing.T) {
	s := newStore(t)
	s.Now = func() time.Time { return epoch }
	at := load(t, s)
	if changes, _, err := s.Changes(t.Context(), at); err != nil || len(changes) != 0 {
		t.Errorf("Changes of an empty store: got %v, error %v, want none", changes, err)
	}
	if err := s.AddUser(t.Context(), acl.User{Name: "john"}); err != nil {
		t.Fatal(err)
	}
	complete(t, s, paid(t, 1, "p1"))
	changes, next, err := s.Changes(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if len(changes) != 2 || changes[0].User == nil || changes[0].User.Name != "john" || changes[1].Grant == nil {
		t.Fatalf("Changes: got %+v, want john and his grant", changes)
	}
	g := changes[1].Grant
	if g.Subject != "john" || g.Offer != "live" || !g.NotBefore.Equal(epoch) || !g.NotAfter.Equal(epoch.Add(time.Hour)) ||
		len(g.Filters) != 1 || g.Filters[0].String() != "sensor/live" {
		t.Errorf("grant: got %+v, want john's hour of sensor/live", g)
	}
	// What Load reads is the same.
	users, grants, loaded, err := s.Load(t.Context())
	if err != nil || len(users) != 1 || len(grants) != 1 || grants[0].ID != g.ID || loaded.Seq != next.Seq || loaded.Nonce != next.Nonce {
		t.Errorf("Load: got %v, %v, position %v, error %v, want what Changes told, position %v", users, grants, loaded, err, next)
	}
	// Whoever asks again from before hears it again.
	again, _, err := s.Changes(t.Context(), at)
	if err != nil || len(again) != 2 {
		t.Errorf("Changes asked again: got %v, error %v, want both", again, err)
	}
}

// Load leaves out the grants that ended more than two days ago by our clock, which
// may be ahead.
func TestLoadLeavesOutEndedGrants(t *testing.T) {
	s := newStore(t)
	s.Now = func() time.Time { return epoch.Add(clockSlack + 90*time.Minute) }
	for seq := range int64(4) {
		complete(t, s, paid(t, seq+1, fmt.Sprint(seq+1)))
	}
	_, grants, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ends []int
	for _, g := range grants {
		ends = append(ends, int(g.NotAfter.Sub(epoch).Hours()))
	}
	slices.Sort(ends)
	if want := []int{2, 3, 4}; !slices.Equal(ends, want) {
		t.Errorf("ends of the loaded grants in hours: got %v, want %v", ends, want)
	}
}

func TestMalformedGrant(t *testing.T) {
	s := newStore(t)
	s.Now = func() time.Time { return epoch }
	text := logTo(s)
	complete(t, s, paid(t, 1, "p1"))
	for _, d := range []bson.D{
		{{Key: "_id", Value: "odd filter"}, {Key: "not_after", Value: epoch.Add(time.Hour)}, {Key: "filters", Value: bson.A{"a/#/b"}}},
		{{Key: "_id", Value: "odd subject"}, {Key: "not_after", Value: epoch.Add(time.Hour)}, {Key: "subject", Value: 7}},
	} {
		if _, err := s.active.InsertOne(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	_, grants, _, err := s.Load(t.Context())
	if err != nil || len(grants) != 1 || grants[0].Subject != "john" {
		t.Errorf("Load: got %v, error %v, want john's grant alone", grants, err)
	}
	for _, want := range []string{"odd filter", "odd subject"} {
		if !contains(text, want) {
			t.Errorf("log: got %s, want %q in it", text, want)
		}
	}
}

// TestManyWriters checks that a follower sees every entry in order and once while
// Stores of several processes write the log.
// A revocation counts for a follower also if the rest of the grant was damaged.
func TestRevokedMalformedGrant(t *testing.T) {
	s := newStore(t)
	g := paid(t, 1, "p1")
	s.Now = func() time.Time { return g.NotBefore }
	if err := s.AddUser(t.Context(), acl.User{Name: "john"}); err != nil {
		t.Fatal(err)
	}
	complete(t, s, g)
	users, grants, at, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := grantID("john", "live", 1)
	if _, err := set(t.Context(), s.grants, id, bson.D{{Key: "filters", Value: bson.A{"sensor/#/live"}}}); err != nil {
		t.Fatal(err)
	}
	by := tangle.Entry{Subject: "john", Offer: "live", Seq: 2, Kind: tangle.Revoked, Cause: "revoked", At: g.NotBefore.Add(time.Minute)}
	by.NotBefore, by.NotAfter, by.End = by.At, by.At, by.At
	complete(t, s, by)
	changes, _, err := s.Changes(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	request := acl.Request{Subject: "john", Topic: "sensor/live", Access: acl.Read}
	snapshot := acl.NewSnapshot(nil, time.Hour).Load(g.NotBefore, users, grants)
	if !snapshot.Decide(request, by.At).Permit {
		t.Error("before the revocation: denied, want permitted")
	}
	if d := snapshot.With(by.At, changes...).Decide(request, by.At); d.Permit {
		t.Errorf("after the revocation: got %+v, want denied", d)
	}
}

func TestManyWriters(t *testing.T) {
	const stores, writers, each = 2, 8, 8
	database := newDatabase()
	follower := openDatabase(t, database)
	if err := follower.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := load(t, follower)
	var wait sync.WaitGroup
	for range stores {
		s := openDatabase(t, database)
		for w := range writers {
			wait.Go(func() {
				for i := range each {
					if err := s.announce(t.Context(), userChanged, "x", fmt.Sprintf("%p/%d/%d", s, w, i)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	done := make(chan struct{})
	go func() { wait.Wait(); close(done) }()
	seen := make(map[string]int)
	for last := false; ; {
		changes, next, err := follower.Changes(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(changes)) != next.Seq-at.Seq {
			t.Fatalf("Changes: got %d changes from %d to %d", len(changes), at.Seq, next.Seq)
		}
		for _, c := range changes {
			seen[c.RemovedUser]++
		}
		at = next
		if last {
			break
		}
		select {
		case <-done:
			last = true
		case <-time.After(time.Millisecond):
		}
	}
	if len(seen) != stores*writers*each || at.Seq != stores*writers*each {
		t.Errorf("after %d announcements: got %d different ones up to %d", stores*writers*each, len(seen), at.Seq)
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("change %s: seen %d times", name, n)
		}
	}
}

func TestChangesInParts(t *testing.T) {
	s := newStore(t)
	at := load(t, s)
	var documents []any
	previous := ""
	for seq := int64(1); seq <= changesAtOnce+10; seq++ {
		c := change{ID: changeID(seq), Nonce: fmt.Sprint(seq), Previous: previous, Kind: userChanged, Document: "x", User: "x", At: epoch}
		documents, previous = append(documents, c), c.Nonce
	}
	if _, err := s.changes.InsertMany(t.Context(), documents); err != nil {
		t.Fatal(err)
	}
	first, at, err := s.Changes(t.Context(), at)
	if err != nil || len(first) != changesAtOnce {
		t.Errorf("first part: got %d changes, error %v, want %d", len(first), err, changesAtOnce)
	}
	second, _, err := s.Changes(t.Context(), at)
	if err != nil || len(second) != 10 {
		t.Errorf("second part: got %d changes, error %v, want 10", len(second), err)
	}
}

func TestChangesOfUnknownKind(t *testing.T) {
	s := newStore(t)
	at := load(t, s)
	if err := s.announce(t.Context(), "offer", "live", ""); err != nil {
		t.Fatal(err)
	}
	announceUser(t, s, "john")
	changes, _, err := s.Changes(t.Context(), at)
	if err != nil || len(changes) != 1 || changes[0].RemovedUser != "john" {
		t.Errorf("Changes: got %v, error %v, want the one that is known", changes, err)
	}
}

// TestReload: whoever can no longer follow is told, at once where it reads on and
// within checkEvery where nothing comes.
func TestReload(t *testing.T) {
	for _, test := range []struct {
		name   string
		before int // changes before the follower loads
		happen func(*testing.T, *Store)
		late   bool // is noticed by the check only
	}{
		{name: "restored to an older state", before: 5, happen: func(t *testing.T, s *Store) {
			for _, seq := range []int64{4, 5} {
				remove(t.Context(), s.changes, changeID(seq))
			}
		}, late: true},
		{name: "restored, and another history since", before: 5, happen: func(t *testing.T, s *Store) {
			for _, seq := range []int64{4, 5} {
				remove(t.Context(), s.changes, changeID(seq))
			}
			s.setHead(ResumeToken{})
			for range 4 {
				announceUser(t, s, "other")
			}
		}},
		{name: "another history of the same length", before: 5, happen: func(t *testing.T, s *Store) {
			remove(t.Context(), s.changes, changeID(5))
			s.setHead(ResumeToken{})
			announceUser(t, s, "other")
		}, late: true},
		{name: "trimmed beyond", before: 5, happen: func(t *testing.T, s *Store) {
			for range 10 {
				announceUser(t, s, "other")
			}
			s.Now = func() time.Time { return time.Now().Add(time.Hour) }
			if n, err := s.trimChanges(t.Context(), s.Now()); err != nil || n != 14 {
				t.Errorf("trimChanges: got %d, error %v, want 14", n, err)
			}
		}, late: true},
		{name: "emptied", before: 5, happen: func(t *testing.T, s *Store) {
			if err := s.changes.Drop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, late: true},
		{name: "replaced by a trimmed one", before: 0, happen: func(t *testing.T, s *Store) {
			c := change{ID: changeID(70), Nonce: "n", Previous: "m", Kind: userChanged, Document: "x", User: "x"}
			if _, err := insert(t.Context(), s.changes, c); err != nil {
				t.Fatal(err)
			}
		}, late: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStore(t)
			for range test.before {
				announceUser(t, s, "john")
			}
			at := load(t, s)
			test.happen(t, s)
			now := s.Now
			if test.late {
				if _, _, err := s.Changes(t.Context(), at); err != nil && !errors.Is(err, ErrReload) {
					t.Errorf("Changes at once: got error %v", err)
				}
				s.Now = func() time.Time { return now().Add(checkEvery) }
			}
			if _, _, err := s.Changes(t.Context(), at); !errors.Is(err, ErrReload) {
				t.Errorf("Changes: got error %v, want ErrReload", err)
			}
			at = load(t, s)
			announceUser(t, s, "back")
			changes, _, err := s.Changes(t.Context(), at)
			if err != nil || len(changes) != 1 || changes[0].RemovedUser != "back" {
				t.Errorf("Changes after a new load: got %v, error %v, want the one since", changes, err)
			}
		})
	}
}

// TestTrimChanges: what is left has no gap, the numbers go on, and a follower at
// the end notices nothing.
func TestTrimChanges(t *testing.T) {
	s := newStore(t)
	now := epoch
	s.Now = func() time.Time { return now }
	if n, err := s.trimChanges(t.Context(), now); n != 0 || err != nil {
		t.Errorf("trimChanges of an empty log: got %d, error %v, want 0", n, err)
	}
	for range 10 {
		announceUser(t, s, "john")
		now = now.Add(time.Hour)
	}
	at := load(t, s)
	for _, test := range []struct {
		before time.Time
		want   int64
	}{
		{epoch, 0},
		{epoch.Add(time.Minute), 1},
		{epoch.Add(4 * time.Hour), 3},
		{epoch.Add(4 * time.Hour), 0},
		{epoch.Add(1000 * time.Hour), 5},
		{epoch.Add(1000 * time.Hour), 0},
	} {
		if n, err := s.trimChanges(t.Context(), test.before); n != test.want || err != nil {
			t.Errorf("trimChanges(%s): got %d, error %v, want %d", test.before.Sub(epoch), n, err, test.want)
		}
	}
	now = now.Add(time.Hour)
	other := openDatabase(t, s.meta.Database().Name()) // knows nothing of where the log ends
	announceUser(t, other, "jane")
	changes, next, err := s.Changes(t.Context(), at)
	if err != nil || len(changes) != 1 || changes[0].RemovedUser != "jane" || next.Seq != 11 {
		t.Errorf("Changes after the trim: got %v, position %d, error %v, want jane at 11", changes, next.Seq, err)
	}
	// A hint that is gone is no harm either.
	if err := s.noteHead(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	other = openDatabase(t, s.meta.Database().Name())
	if head, err := other.lastChange(t.Context()); err != nil || head.Seq != 11 {
		t.Errorf("end of the log with an outdated hint: got %d, error %v, want 11", head.Seq, err)
	}
}

// TestLast looks for the end of rows of every length from every place.
func TestLast(t *testing.T) {
	for length := range int64(40) {
		for from := range length + 1 {
			reads := 0
			read := func(seq int64) (*int64, error) {
				reads++
				if seq > length {
					return nil, nil
				}
				return &seq, nil
			}
			known := &from
			if from == 0 {
				known = nil
			}
			got, err := last(known, from, read)
			switch {
			case err != nil:
				t.Fatal(err)
			case length == 0 && got != nil:
				t.Errorf("last of nothing: got %d", *got)
			case length > 0 && (got == nil || *got != length):
				t.Errorf("last of %d from %d: got %v", length, from, got)
			}
			if from == length && reads != 1 {
				t.Errorf("last of %d from there: %d reads, want 1", length, reads)
			}
		}
	}
}
