package mongostore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
)

// currentIDs returns the names in the collection current, sorted.
func currentIDs(t testing.TB, s *Store) []string {
	t.Helper()
	var ids []string
	err := each(t.Context(), s.activeGrants, bson.D{}, func(raw bson.Raw) error {
		ids = append(ids, raw.Lookup("_id").StringValue())
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
	if n, err := s.trimCurrent(t.Context(), before); n != want || err != nil {
		t.Errorf("trimCurrent: got %d deleted, error %v, want %d", n, err, want)
	}
}

// TestTrimCurrent: only grants that are over are forgotten, revoked ones from
// their revocation on, and the book keeps all.
func TestTrimCurrent(t *testing.T) {
	s := newStore(t)
	trimmed(t, s, epoch, 0)
	for seq := range int64(5) {
		complete(t, s, paid(t, seq+1, fmt.Sprint(seq+1)))
	}
	credit := paid(t, 6, "6")
	credit.NotAfter, credit.End = credit.NotBefore, paid(t, 5, "").End
	complete(t, s, credit)
	if got := currentIDs(t, s); !slices.Equal(got, john(1, 2, 3, 4, 5)) {
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
	if got := currentIDs(t, s); !slices.Equal(got, john(3, 4, 5)) {
		t.Errorf("current: got %q, want entries 3, 4 and 5, which were revoked just now", got)
	}
	if err := s.Trim(t.Context(), now.Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if got := currentIDs(t, s); len(got) != 0 {
		t.Errorf("current: got %q, want none", got)
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

// TestEachGrant: however many are asked for at once, each that is there comes
// once. The embedded store is better asked for one at a time.
func TestEachGrant(t *testing.T) {
	s := newStore(t)
	if got := s.idsAtOnce(t.Context()); got != 1 {
		t.Errorf("idsAtOnce on FerretDB 1: got %d, want 1", got)
	}
	var ids []any
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

// TestNamedOnly: a crash between the name and the grant leaves a name, which
// opens nothing, is in nobody's way, and still counts when the grant is written
// long after.
func TestNamedOnly(t *testing.T) {
	s := newStore(t)
	s.Now = func() time.Time { return epoch }
	if err := s.nameCurrent(t.Context(), paid(t, 1, "P1")); err != nil {
		t.Fatal(err)
	}
	if _, grants, _, err := s.Load(t.Context()); err != nil || len(grants) != 0 {
		t.Errorf("Load: got %v, error %v, want none", grants, err)
	}
	trimmed(t, s, epoch.Add(1000*time.Hour), 0)
	complete(t, s, paid(t, 1, "P1"))
	if _, grants, _, err := s.Load(t.Context()); err != nil || len(grants) != 1 {
		t.Errorf("Load: got %v, error %v, want john's", grants, err)
	}
	trimmed(t, s, epoch.Add(1000*time.Hour), 1)
	// Whoever comes too late with the same number names it again: it is refused,
	// and the name goes with the next trim.
	if err := s.Append(t.Context(), paid(t, 1, "P2")); !errors.Is(err, tangle.ErrConflict) {
		t.Errorf("Append where an entry is: got error %v, want ErrConflict", err)
	}
	trimmed(t, s, epoch.Add(1000*time.Hour), 1)
}

// TestTrimBesideWriters: two processes write entries of one account, and die
// now and then in between, while others trim as if it were much later. Whatever
// is in the account and opens something is loaded.
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
				if random.IntN(3) == 0 {
					err = s.nameCurrent(t.Context(), g) // and no more
				} else if err = s.Append(t.Context(), g); errors.Is(err, tangle.ErrConflict) {
					err = nil
				}
				if err != nil {
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
	if got, want := len(currentIDs(t, s)), entries/2; got != want {
		t.Errorf("current: got %d names, want %d", got, want)
	}
}
