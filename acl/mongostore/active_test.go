package mongostore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
)

// activeIDs returns the grants in the collection active, sorted.
func activeIDs(t testing.TB, s *Store) []string {
	t.Helper()
	var ids []string
	err := each(t.Context(), s.active, bson.D{}, func(raw bson.Raw) error {
		if id := raw.Lookup("_id").StringValue(); !strings.HasPrefix(id, "cut:") {
			ids = append(ids, id)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}

// john names entries of john's account for the offer live.
func john(seqs ...int64) []string {
	ids := make([]string, len(seqs))
	for i, seq := range seqs {
		ids[i] = grantID("john", "live", seq)
	}
	return ids
}

func trimmed(t testing.TB, s *Store, before time.Time, want int64) {
	t.Helper()
	if n, err := s.trimActive(t.Context(), before); n != want || err != nil {
		t.Errorf("trimActive: got %d deleted, error %v, want %d", n, err, want)
	}
}

// TestTrimActive checks that only grants that are over are forgotten, revoked ones
// not before their own time is over, and that the book keeps all.
func TestTrimActive(t *testing.T) {
	s := newStore(t)
	trimmed(t, s, epoch, 0)
	for seq := range int64(5) {
		complete(t, s, paid(t, seq+1, fmt.Sprint(seq+1)))
	}
	credit := paid(t, 6, "6")
	credit.NotAfter, credit.End = credit.NotBefore, paid(t, 5, "").End
	complete(t, s, credit)
	if got := activeIDs(t, s); !slices.Equal(got, john(1, 2, 3, 4, 5)) {
		t.Errorf("current: got %q, want those that open something", got)
	}
	trimmed(t, s, epoch.Add(time.Hour), 0)
	trimmed(t, s, epoch.Add(time.Hour+time.Millisecond), 1)
	trimmed(t, s, epoch.Add(time.Hour+time.Millisecond), 0)
	now := epoch.Add(150 * time.Minute) // in the third hour
	revoked := tangle.Entry{
		Subject: "john", Offer: "live", Seq: 7, Kind: tangle.Revoked, Cause: "manual/1", Filters: []acl.Filter{},
		NotBefore: now, NotAfter: now, End: now, At: now,
	}
	complete(t, s, revoked)
	trimmed(t, s, now, 1)
	trimmed(t, s, now.Add(time.Millisecond), 0)
	if got := activeIDs(t, s); !slices.Equal(got, john(3, 4, 5)) {
		t.Errorf("active: got %q, want entries 3, 4 and 5, which were revoked", got)
	}
	trimmed(t, s, epoch.Add(4*time.Hour+time.Millisecond), 4) // entries 3 and 4 with their cuts
	if err := s.Trim(t.Context(), epoch.Add(6*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.active.CountDocuments(t.Context(), bson.D{}); n != 0 || err != nil {
		t.Errorf("active: got %d documents, error %v, want none", n, err)
	}
	if all, err := s.Entries(t.Context(), "john", "live"); err != nil || len(all) != 7 {
		t.Errorf("Grants: got %d, error %v, want all 7", len(all), err)
	}
}

func TestCurrentGrants(t *testing.T) {
	s := newStore(t)
	now := epoch.Add(90 * time.Minute) // in the second hour
	s.Now = func() time.Time { return now }
	for seq := range int64(3) {
		complete(t, s, paid(t, seq+1, fmt.Sprint("j", seq)))
	}
	jane := paid(t, 1, "jane's")
	jane.Subject, jane.NotAfter = "jane", epoch.Add(2*time.Hour)
	complete(t, s, jane)
	for _, test := range []struct {
		subject, offer string
		want           []string
	}{
		{"", "", append([]string{grantID("jane", "live", 1)}, john(2, 3)...)},
		{"john", "", john(2, 3)},
		{"john", "live", john(2, 3)},
		{"jane", "", []string{grantID("jane", "live", 1)}},
		{"", "other", nil},
		{"jim", "", nil},
	} {
		entries, err := s.ActiveEntries(t.Context(), test.subject, test.offer)
		var got []string
		for _, e := range entries {
			got = append(got, e.ID)
		}
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("CurrentGrants(%q, %q): got %q, error %v, want %q", test.subject, test.offer, got, err, test.want)
		}
	}
	complete(t, s, tangle.Entry{
		Subject: "john", Offer: "live", Seq: 4, Kind: tangle.Revoked, Cause: "manual/1", Filters: []acl.Filter{},
		NotBefore: now, NotAfter: now, End: now, At: now,
	})
	if entries, err := s.ActiveEntries(t.Context(), "john", ""); err != nil || len(entries) != 0 {
		t.Errorf("CurrentGrants after the revocation: got %v, error %v, want none", entries, err)
	}
}

// TestEachGrant checks that each grant that is there comes once, however many are
// asked for at once.
func TestEachGrant(t *testing.T) {
	s := newStore(t)
	var ids []string
	for seq := range int64(7) {
		if err := s.Append(t.Context(), paid(t, seq+1, fmt.Sprint(seq+1))); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, grantID("john", "live", seq+1), grantID("jane", "live", seq+1))
	}
	for _, atOnce := range []int{1, 2, 5, 14, 500} {
		var got []string
		err := s.eachGrant(t.Context(), ids, atOnce, func(raw bson.Raw) error {
			got = append(got, raw.Lookup("_id").StringValue())
			return nil
		})
		slices.Sort(got)
		if err != nil || !slices.Equal(got, john(1, 2, 3, 4, 5, 6, 7)) {
			t.Errorf("eachGrant, %d at once: got %q, error %v, want john's seven", atOnce, got, err)
		}
	}
}

// TestInterruptedLate checks that a process which stood still in the middle of
// completing an entry, while others revoked it and trimmed, opens nothing when it
// goes on.
func TestInterruptedLate(t *testing.T) {
	s := newStore(t)
	now := epoch
	s.Now = func() time.Time { return now }
	g := paid(t, 1, "P1")
	complete(t, s, g)
	now = epoch.Add(30 * time.Minute)
	complete(t, s, tangle.Entry{
		Subject: "john", Offer: "live", Seq: 2, Kind: tangle.Revoked, Cause: "manual/1", Filters: []acl.Filter{},
		NotBefore: now, NotAfter: now, End: now, At: now,
	})
	for _, at := range []time.Time{now, now.Add(time.Minute), epoch.Add(2 * time.Hour)} {
		now = at
		if err := s.Trim(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		if err := s.activate(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		_, grants, _, err := s.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range grants {
			if g.NotAfter.After(now) {
				t.Errorf("Load at %s: got %+v, want nothing that opens", at, g)
			}
		}
	}
}

// TestUnreadableCut checks that a grant whose end cannot be read opens nothing.
func TestUnreadableCut(t *testing.T) {
	s := newStore(t)
	s.Now = func() time.Time { return epoch }
	complete(t, s, paid(t, 1, "P1"))
	if _, err := insert(t.Context(), s.active, bson.M{"_id": "cut:x", "grant": john(1)[0], "at": "soon"}); err != nil {
		t.Fatal(err)
	}
	if _, err := insert(t.Context(), s.active, bson.M{"_id": "bad", "filters": 12, "not_after": epoch.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	_, grants, _, err := s.Load(t.Context())
	if err != nil || len(grants) != 1 || grants[0].NotAfter.After(epoch) {
		t.Errorf("Load: got %+v, error %v, want john's grant with no time left", grants, err)
	}
}

// TestLoadUser checks that what is loaded for one user is what Load has of that user.
func TestLoadUser(t *testing.T) {
	s := newStore(t)
	now := epoch
	s.Now = func() time.Time { return now }
	put(t, s, bson.M{"username": "mary"})
	for _, name := range []string{"john", "jane"} {
		if err := s.AddUser(t.Context(), acl.User{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	for seq := range int64(4) {
		complete(t, s, paid(t, seq+1, fmt.Sprint(seq+1)))
	}
	mary := paid(t, 1, "mary's")
	mary.Subject, mary.Offer = "mary", "other"
	complete(t, s, mary)
	now = epoch.Add(150 * time.Minute)
	revoked := tangle.Entry{
		Subject: "john", Offer: "live", Seq: 5, Kind: tangle.Revoked, Cause: "manual/1", Filters: []acl.Filter{},
		NotBefore: now, NotAfter: now, End: now, At: now,
	}
	complete(t, s, revoked)
	given := paid(t, 6, "6")
	given.NotBefore, given.NotAfter, given.End = now, now.Add(time.Hour), now.Add(time.Hour)
	complete(t, s, given)
	for _, at := range []time.Time{now, now.Add(50 * time.Minute), now.Add(3 * time.Hour)} {
		now = at
		allUsers, allGrants, _, err := s.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"john", "jane", "mary", "nobody", ""} {
			users, grants, err := s.LoadUser(t.Context(), name)
			wantUsers := slices.DeleteFunc(slices.Clone(allUsers), func(u acl.User) bool { return u.Name != name })
			wantGrants := slices.DeleteFunc(slices.Clone(allGrants), func(g acl.Grant) bool { return g.Subject != name })
			byID := func(a, b acl.Grant) int { return strings.Compare(a.ID, b.ID) }
			slices.SortFunc(grants, byID)
			slices.SortFunc(wantGrants, byID)
			if err != nil || len(users) != len(wantUsers) || len(grants) != len(wantGrants) || len(grants) > 0 && !reflect.DeepEqual(grants, wantGrants) {
				t.Errorf("LoadUser(%q) at %s: got %+v and %+v, error %v, want %+v and %+v", name, at, users, grants, err, wantUsers, wantGrants)
			}
		}
	}
}

// TestCopyActive migrates a store of version 2, also when a crash came in between.
func TestCopyActive(t *testing.T) {
	s := newStore(t)
	now := epoch.Add(150 * time.Minute) // in the third hour
	s.Now = func() time.Time { return now }
	for seq := range int64(5) {
		complete(t, s, paid(t, seq+1, fmt.Sprint(seq+1)))
	}
	complete(t, s, tangle.Entry{
		Subject: "john", Offer: "live", Seq: 6, Kind: tangle.Revoked, Cause: "manual/1", Filters: []acl.Filter{},
		NotBefore: now, NotAfter: now, End: now, At: now,
	})
	_, want, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := s.meta.Database().Collection("current")
	for _, id := range john(3, 4, 5) {
		if _, err := names.InsertOne(t.Context(), bson.M{"_id": id}); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 2 {
		if round == 0 {
			if err := s.active.Drop(t.Context()); err != nil {
				t.Fatal(err)
			}
		} else if _, err := remove(t.Context(), s.active, john(4)[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := set(t.Context(), s.meta, "schema", bson.D{{Key: "version", Value: 2}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, got, _, err := s.Load(t.Context())
		byID := func(a, b acl.Grant) int { return strings.Compare(a.ID, b.ID) }
		slices.SortFunc(got, byID)
		slices.SortFunc(want, byID)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Load after migration %d: got %+v, error %v, want %+v", round, got, err, want)
		}
	}
	if n, err := names.CountDocuments(t.Context(), bson.D{}); n != 0 || err != nil {
		t.Errorf("current: got %d documents, error %v, want none", n, err)
	}
}

// TestTrimBesideWriters lets two processes write entries of one account, and stop
// now and then in between, while others trim as if it were much later. What is
// completed and opens something is loaded.
func TestTrimBesideWriters(t *testing.T) {
	const entries = 16
	database := newDatabase()
	s := openDatabase(t, database)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Now = func() time.Time { return epoch }
	var writers, trimmers sync.WaitGroup
	for w := range 2 {
		s := openDatabase(t, database)
		random := rand.New(rand.NewPCG(uint64(w), 1))
		writers.Go(func() {
			for {
				head, err := s.Last(t.Context(), "john", "live")
				if err != nil {
					t.Error(err)
					return
				}
				if head.Seq == entries {
					return
				}
				g := paid(t, head.Seq+1, fmt.Sprintf("%d/%d", w, head.Seq+1))
				if g.Seq%2 == 0 { // over long ago
					g.NotBefore, g.NotAfter = g.NotBefore.Add(-1000*time.Hour), g.NotAfter.Add(-1000*time.Hour)
				}
				if head.Seq > 0 {
					if err := s.Complete(t.Context(), head); err != nil {
						t.Error(err)
						return
					}
				}
				err = s.Append(t.Context(), g)
				if err == nil && g.Seq < entries && random.IntN(3) == 0 {
					continue // and no more: the next to come completes it
				}
				if err == nil {
					err = s.Complete(t.Context(), g)
				}
				if err != nil && !errors.Is(err, tangle.ErrConflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	for range 2 {
		s := openDatabase(t, database)
		trimmers.Go(func() {
			for {
				if err := s.Trim(t.Context(), epoch.Add(-time.Hour)); err != nil {
					t.Error(err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	writers.Wait()
	close(done)
	trimmers.Wait()
	if err := s.Trim(t.Context(), epoch.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	_, grants, _, err := s.Load(t.Context())
	if err != nil || len(grants) != entries/2 {
		t.Errorf("Load: got %d grants, error %v, want the %d that are not over", len(grants), err, entries/2)
	}
	if got, want := len(activeIDs(t, s)), entries/2; got != want {
		t.Errorf("active: got %d grants, want %d", got, want)
	}
}
