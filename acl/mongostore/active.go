package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
)

// The collection active holds what a decision needs of each grant that may not be
// over, so that [Store.Load] reads one collection instead of all that was ever sold:
// an activeGrant for each such entry, and a cut for each later entry that ends it
// sooner. Both are inserted when an entry is completed and never changed, so that
// several processes may insert them, however late. They are deleted when the original
// time of the entry is over: then a process that was interrupted can insert either
// again without opening anything.

// activeGrant is the part of an entry that a decision needs.
type activeGrant struct {
	ID        string    `bson:"_id"` // the grant's
	Subject   string    `bson:"subject"`
	Offer     string    `bson:"offer"`
	Filters   []string  `bson:"filters"`
	NotBefore time.Time `bson:"not_before"`
	NotAfter  time.Time `bson:"not_after"`
}

// cut says that a grant ends sooner.
type cut struct {
	ID       string    `bson:"_id"` // see cutID
	Grant    string    `bson:"grant"`
	At       time.Time `bson:"at"`
	NotAfter time.Time `bson:"not_after"` // the grant's own
}

// cutID makes the _id of a cut by the entry with a number of the same account. No
// offer's ID has a colon, so that it is no grant's.
func cutID(grant string, by int64) string { return fmt.Sprintf("cut:%020d/%s", by, grant) }

func (d *grantDocument) active() activeGrant {
	return activeGrant{ID: d.ID, Subject: d.Subject, Offer: d.Offer, Filters: d.Filters, NotBefore: d.NotBefore, NotAfter: d.NotAfter}
}

// activate puts an entry into force, if it opens anything.
func (s *Store) activate(ctx context.Context, g tangle.Entry) error {
	if !g.NotAfter.After(g.NotBefore) {
		return nil
	}
	d := documentOf(g)
	if _, err := insert(ctx, s.active, d.active()); err != nil {
		return fmt.Errorf("insert active grant %s: %w", d.ID, err)
	}
	return nil
}

// cutActive ends a grant at the instant of the entry that cuts it.
func (s *Store) cutActive(ctx context.Context, d *grantDocument, by tangle.Entry) error {
	c := cut{ID: cutID(d.ID, by.Seq), Grant: d.ID, At: by.At, NotAfter: d.NotAfter}
	if _, err := insert(ctx, s.active, c); err != nil {
		return fmt.Errorf("insert cut of grant %s: %w", d.ID, err)
	}
	return nil
}

// readGrants returns the grants that are not over, in no order.
func (s *Store) readGrants(ctx context.Context) ([]acl.Grant, error) {
	since := s.now().Add(-clockSlack)
	var grants []acl.Grant
	lists, offers := make(filterLists), make(map[string]string)
	ends := make(map[string]time.Time) // of grants that were cut
	err := each(ctx, s.active, bson.D{}, func(raw bson.Raw) error {
		if _, err := raw.LookupErr("grant"); err == nil {
			grant, _ := raw.Lookup("grant").StringValueOK()
			at, _ := raw.Lookup("at").TimeOK() // if it is not readable, the grant was never in force
			if end, ok := ends[grant]; !ok || at.Before(end) {
				ends[grant] = at.UTC()
			}
			return nil
		}
		var d activeGrant
		err := bson.Unmarshal(raw, &d)
		if err == nil && !d.NotAfter.After(since) {
			return nil
		}
		var filters []acl.Filter
		if err == nil {
			filters, err = lists.parse(d.Filters)
		}
		if err != nil {
			s.Log.WithError(err).WithField("id", idText(raw)).Warn("grant in the store is not readable")
			return nil
		}
		if known, ok := offers[d.Offer]; ok {
			d.Offer = known // one text for all of them
		} else {
			offers[d.Offer] = d.Offer
		}
		grants = append(grants, acl.Grant{
			ID: d.ID, Subject: d.Subject, Offer: d.Offer, Filters: filters, NotBefore: d.NotBefore, NotAfter: d.NotAfter,
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read active grants: %w", err)
	}
	for i := range grants {
		if end, ok := ends[grants[i].ID]; ok && end.Before(grants[i].NotAfter) {
			grants[i].NotAfter = end
		}
	}
	return grants, nil
}

// eachActive calls f with the document of every grant that may not be over, in no
// order. A grant that is completed meanwhile may be left out; it is announced
// later.
func (s *Store) eachActive(ctx context.Context, f func(bson.Raw) error) error {
	var ids []string
	err := each(ctx, s.active, bson.D{}, func(raw bson.Raw) error {
		if _, err := raw.LookupErr("grant"); err != nil {
			ids = append(ids, raw.Lookup("_id").StringValue())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read active grants: %w", err)
	}
	scans, err := s.scans(ctx)
	if err != nil {
		return err
	}
	if !scans {
		return s.eachGrant(ctx, ids, 500, f)
	}
	all, err := count(ctx, s.grants)
	if err != nil {
		return err
	}
	if all > lookupCost*int64(len(ids)) {
		return s.eachGrant(ctx, ids, 1, f) // asking for two would cost a scan
	}
	active := make(map[string]bool, len(ids))
	for _, id := range ids {
		active[id] = true
	}
	err = each(ctx, s.grants, bson.D{}, func(raw bson.Raw) error {
		if id, ok := raw.Lookup("_id").StringValueOK(); ok && active[id] {
			return f(raw)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read active grants: %w", err)
	}
	return nil
}

// lookupCost is how many documents FerretDB 1 scans in the time of a lookup by _id.
const lookupCost = 4

// eachGrant calls f for the grants with these _ids, as far as they are there. It
// asks for so many at once.
func (s *Store) eachGrant(ctx context.Context, ids []string, atOnce int, f func(bson.Raw) error) error {
	for some := range slices.Chunk(ids, atOnce) {
		filter := bson.D{{Key: "_id", Value: some[0]}}
		if len(some) > 1 {
			filter = bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: some}}}}
		}
		if err := each(ctx, s.grants, filter, f); err != nil {
			return fmt.Errorf("read active grants: %w", err)
		}
	}
	return nil
}

// Trim deletes what only made others read more: the changes announced before an
// instant, but for the last one, and the copies of the grants that were over
// before it, not the grants. A follower that has not asked since then loads
// everything again. The instant should be a day ago, so that no clock which is
// late still needs those grants.
func (s *Store) Trim(ctx context.Context, before time.Time) error {
	ctx, cancel := readAll(ctx)
	defer cancel()
	_, changes := s.trimChanges(ctx, before)
	_, active := s.trimActive(ctx, before)
	return errors.Join(changes, active)
}

// trimActive deletes copies and cuts of grants whose own time was over before an
// instant, whether or not they were cut.
func (s *Store) trimActive(ctx context.Context, before time.Time) (deleted int64, err error) {
	var over []any
	// The server compares, so that only what is deleted is sent and decoded.
	earlier := bson.D{{Key: "not_after", Value: bson.D{{Key: "$lt", Value: before}}}}
	err = each(ctx, s.active, earlier, func(raw bson.Raw) error {
		over = append(over, raw.Lookup("_id").StringValue())
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read active grants: %w", err)
	}
	if deleted, err = removeAll(ctx, s.active, over); err != nil {
		return deleted, fmt.Errorf("delete active grants that are over: %w", err)
	}
	return deleted, nil
}

// keepOver is for how long copyActive copies grants that are over.
const keepOver = 24 * time.Hour

// copyActive fills the collection active from the accounts. Before version 3, the
// collection current held the names of the grants that may not be over, and no
// more.
func (s *Store) copyActive(ctx context.Context) error {
	since := s.now().Add(-keepOver)
	var copies []any
	err := each(ctx, s.grants, bson.D{}, func(raw bson.Raw) error {
		var d grantDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			s.Log.WithError(err).WithField("id", idText(raw)).Warn("grant in the store is not readable")
			return nil
		}
		if !d.NotAfter.After(since) || !d.NotAfter.After(d.NotBefore) {
			return nil
		}
		copies = append(copies, d.active())
		if !d.RevokedAt.IsZero() {
			copies = append(copies, cut{ID: cutID(d.ID, 0), Grant: d.ID, At: d.RevokedAt, NotAfter: d.NotAfter})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read grants: %w", err)
	}
	for some := range slices.Chunk(copies, 1000) {
		if err := insertAll(ctx, s.active, some); err != nil {
			return fmt.Errorf("insert active grants: %w", err)
		}
	}
	if err := s.meta.Database().Collection("current").Drop(ctx); err != nil {
		return fmt.Errorf("drop collection current: %w", err)
	}
	return nil
}

// insertAll adds documents, as far as they are not there.
func insertAll(ctx context.Context, c *mongo.Collection, documents []any) error {
	_, err := c.InsertMany(ctx, documents, options.InsertMany().SetOrdered(false))
	if !mongo.IsDuplicateKeyError(err) {
		return err
	}
	for _, d := range documents {
		if _, err := insert(ctx, c, d); err != nil {
			return err
		}
	}
	return nil
}

// filterLists holds each list of filters once, by their text.
type filterLists map[string][]acl.Filter

func (l filterLists) parse(texts []string) ([]acl.Filter, error) {
	key := strings.Join(texts, "\x00") // which no filter contains
	if filters, ok := l[key]; ok {
		return filters, nil
	}
	filters, err := parseFilters(texts)
	if err == nil {
		l[key] = filters
	}
	return filters, err
}
