package mongostore

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
)

func TestForSale(t *testing.T) {
	s := newStore(t)
	if offers, err := s.ForSale(t.Context()); err != nil || offers != nil {
		t.Errorf("ForSale before it was set: got %v, error %v, want nothing", offers, err)
	}
	at := load(t, s)
	live := acl.Offer{ID: "live", Filters: filters(t, "sensor/live", "sensor/+/live")}
	all := acl.Offer{ID: "all", Filters: filters(t, "sensor/#")}
	for _, want := range [][]acl.Offer{{live}, {all, live}, {all, live}, {}, {live}} {
		if err := s.SetForSale(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		other := openDatabase(t, s.meta.Database().Name())
		got, err := other.ForSale(t.Context())
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("ForSale: got %v, error %v, want %v", got, err, want)
		}
		// A follower learns it each time: the one who wrote it may have died before
		// the last announcement.
		changes, next, err := other.Changes(t.Context(), at)
		if err != nil || len(changes) != 1 || changes[0].Offers == nil || fmt.Sprint(*changes[0].Offers) != fmt.Sprint(want) {
			t.Errorf("Changes: got %v, error %v, want %v", changes, err, want)
		}
		at = next
	}
}

// TestForSaleTogether: of several who set it at once, one is the last.
func TestForSaleTogether(t *testing.T) {
	s := newStore(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := s.SetForSale(t.Context(), []acl.Offer{{ID: fmt.Sprint("o", i), Filters: filters(t, "a", "b")}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, err := s.ForSale(t.Context()); err != nil || len(got) != 1 || len(got[0].Filters) != 2 {
		t.Errorf("ForSale: got %v, error %v, want one offer with two filters", got, err)
	}
}

func TestForSaleUnreadable(t *testing.T) {
	s := newStore(t)
	log := logTo(s)
	_, err := s.meta.InsertOne(t.Context(), bson.M{"_id": forSaleID, "offers": bson.A{
		bson.M{"id": "bad", "filters": bson.A{"a#"}}, bson.M{"id": "worse", "filters": 1}, "worst", bson.M{"id": "good", "filters": bson.A{"a"}, "seats": 1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, offers := range []any{nil, 1, "x", bson.M{}, bson.A{}} {
		other := newStore(t)
		if _, err := other.meta.InsertOne(t.Context(), bson.M{"_id": forSaleID, "offers": offers}); err != nil {
			t.Fatal(err)
		}
		if got, err := other.ForSale(t.Context()); err != nil || len(got) != 0 {
			t.Errorf("ForSale of %v: got %v, error %v, want nothing", offers, got, err)
		}
	}
	got, err := s.ForSale(t.Context())
	if err != nil || len(got) != 1 || got[0].ID != "good" {
		t.Errorf("ForSale: got %v, error %v, want good alone", got, err)
	}
	if n := strings.Count(log.String(), "offer in the store is not readable"); n != 3 {
		t.Errorf("the log has %d warnings, want 3:\n%s", n, log)
	}
}
