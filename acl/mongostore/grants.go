package mongostore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
)

// grantDocument is an entry of an account. Only the mark of a revocation is ever
// added to it.
type grantDocument struct {
	ID        string    `bson:"_id"` // see grantID
	Subject   string    `bson:"subject"`
	Offer     string    `bson:"offer"`
	Seq       int64     `bson:"seq"`
	Kind      string    `bson:"kind"`
	Cause     string    `bson:"cause"`
	Amount    int64     `bson:"amount"`
	Credit    int64     `bson:"credit"`
	Remainder int64     `bson:"remainder"`
	Filters   []string  `bson:"filters"`
	NotBefore time.Time `bson:"not_before"`
	NotAfter  time.Time `bson:"not_after"`
	End       time.Time `bson:"end,omitempty"`
	At        time.Time `bson:"at"`
	Reason    string    `bson:"reason,omitempty"`

	RevokedAt     time.Time `bson:"revoked_at,omitempty"`
	RevokedReason string    `bson:"revoked_reason,omitempty"`
}

// grantID makes the _id of an entry. An offer's ID has no slash, so no two
// entries share one.
func grantID(subject, offer string, seq int64) string {
	return fmt.Sprintf("%s/%020d/%s", offer, seq, subject)
}

func documentOf(g tangle.Entry) grantDocument {
	d := grantDocument{
		ID:      grantID(g.Subject, g.Offer, g.Seq),
		Subject: g.Subject, Offer: g.Offer, Seq: g.Seq, Kind: string(g.Kind), Cause: g.Cause,
		Amount: g.Amount, Credit: g.Credit, Remainder: g.Remainder,
		Filters:   make([]string, len(g.Filters)),
		NotBefore: g.NotBefore, NotAfter: g.NotAfter, End: g.End,
		At: g.At, Reason: textOf(g.Reason),
	}
	for i, f := range g.Filters {
		d.Filters[i] = f.String()
	}
	return d
}

func (d *grantDocument) grant() (tangle.Entry, error) {
	filters, err := parseFilters(d.Filters)
	if err != nil {
		return tangle.Entry{}, fmt.Errorf("grant %s: %w", d.ID, err)
	}
	return tangle.Entry{
		Subject: d.Subject, Offer: d.Offer, Seq: d.Seq, Kind: tangle.Kind(d.Kind), Cause: d.Cause,
		Amount: d.Amount, Credit: d.Credit, Remainder: d.Remainder,
		Filters: filters, NotBefore: d.NotBefore, NotAfter: d.NotAfter, End: d.End,
		At: d.At, Reason: d.Reason,
	}, nil
}

func parseFilters(texts []string) ([]acl.Filter, error) {
	filters := make([]acl.Filter, len(texts))
	for i, text := range texts {
		f, err := acl.ParseFilter(text)
		if err != nil {
			return nil, fmt.Errorf("filters: %w", err)
		}
		filters[i] = f
	}
	return filters, nil
}

// right is the part of an entry that a decision needs: a revocation cuts it short.
func (d *grantDocument) right(filters []acl.Filter) acl.Grant {
	g := acl.Grant{
		ID: d.ID, Subject: d.Subject, Offer: d.Offer, Filters: filters,
		NotBefore: d.NotBefore, NotAfter: d.NotAfter,
	}
	if !d.RevokedAt.IsZero() && d.RevokedAt.Before(g.NotAfter) {
		g.NotAfter = d.RevokedAt
	}
	return g
}

// Last implements [tangle.Store].
func (s *Store) Last(ctx context.Context, subject, offer string) (tangle.Entry, error) {
	d, err := last(nil, 0, func(seq int64) (*grantDocument, error) {
		return get[grantDocument](ctx, s.grants, grantID(subject, offer, seq))
	})
	if err != nil {
		return tangle.Entry{}, fmt.Errorf("read grants of %q for %q: %w", subject, offer, err)
	}
	if d == nil {
		return tangle.Entry{}, nil
	}
	return d.grant()
}

// last returns the last document of a row that is numbered without gaps and to
// which others may append meanwhile: when it was read, there was none after it.
// known is one that is there, with its number from, or nil and 0 if none is
// known to be.
func last[T any](known *T, from int64, read func(seq int64) (*T, error)) (*T, error) {
	// Ahead in growing steps until there is none, then back in halves.
	free := from
	for step := int64(1); ; step *= 2 {
		free = from + step
		d, err := read(free)
		if err != nil {
			return nil, err
		}
		if d == nil {
			break
		}
		known, from = d, free
	}
	for from+1 < free {
		middle := from + (free-from)/2
		d, err := read(middle)
		if err != nil {
			return nil, err
		}
		if d == nil {
			free = middle
		} else {
			known, from = d, middle
		}
	}
	return known, nil
}

// Append implements [tangle.Store].
func (s *Store) Append(ctx context.Context, g tangle.Entry) error {
	if g.Seq < 1 || g.Subject == "" || g.Offer == "" || g.Cause == "" {
		return fmt.Errorf("append grant: entry %d of %q for %q with cause %q is not complete", g.Seq, g.Subject, g.Offer, g.Cause)
	}
	if g.Seq > 1 {
		// No gaps: what looks for the last entry relies on that.
		before := grantID(g.Subject, g.Offer, g.Seq-1)
		if d, err := get[bson.Raw](ctx, s.grants, before); err != nil {
			return fmt.Errorf("read grant %s: %w", before, err)
		} else if d == nil {
			return fmt.Errorf("append grant %d of %q for %q: there is no entry before it", g.Seq, g.Subject, g.Offer)
		}
	}
	if err := s.nameCurrent(ctx, g); err != nil {
		return err
	}
	added, err := insert(ctx, s.grants, documentOf(g))
	if err != nil {
		return fmt.Errorf("insert grant %d of %q for %q: %w", g.Seq, g.Subject, g.Offer, err)
	}
	if !added {
		return fmt.Errorf("insert grant %d of %q for %q: %w", g.Seq, g.Subject, g.Offer, tangle.ErrConflict)
	}
	return nil
}

// Complete implements [tangle.Store].
func (s *Store) Complete(ctx context.Context, g tangle.Entry) error {
	done, err := get[settlementDocument](ctx, s.settlements, g.Cause)
	if err != nil {
		return fmt.Errorf("read settlement of %s: %w", g.Cause, err)
	}
	id := grantID(g.Subject, g.Offer, g.Seq)
	if done == nil {
		if g.Kind == tangle.Revoked {
			if err := s.revoke(ctx, g); err != nil {
				return err
			}
		}
		if err := s.announceGrant(ctx, id, g.Subject); err != nil {
			return err
		}
		d := settlementDocument{Payment: g.Cause, Outcome: string(g.Outcome()), Grant: id, At: s.now()}
		added, err := insert(ctx, s.settlements, d)
		if err != nil {
			return fmt.Errorf("insert settlement of %s: %w", g.Cause, err)
		}
		if !added {
			if done, err = get[settlementDocument](ctx, s.settlements, g.Cause); err != nil {
				return fmt.Errorf("read settlement of %s: %w", g.Cause, err)
			}
		}
	}
	if done != nil && done.Grant != id {
		return fmt.Errorf("settle %s with grant %s: it was settled with grant %s", g.Cause, id, done.Grant)
	}
	if g.Kind == tangle.Paid {
		if _, err := remove(ctx, s.pending, g.Cause); err != nil {
			return fmt.Errorf("remove %s from pending: %w", g.Cause, err)
		}
	}
	return nil
}

// revoke marks the entries before g that would still open something at g.At, and
// announces each, the latest first. It announces those again that an interrupted
// attempt had marked.
func (s *Store) revoke(ctx context.Context, g tangle.Entry) error {
	for seq := g.Seq - 1; seq > 0; seq-- {
		id := grantID(g.Subject, g.Offer, seq)
		d, err := get[grantDocument](ctx, s.grants, id)
		if err != nil {
			return fmt.Errorf("read grant %s: %w", id, err)
		}
		if d == nil {
			return fmt.Errorf("revoke grants of %q for %q: entry %d is missing", g.Subject, g.Offer, seq)
		}
		if !d.End.After(g.At) {
			// All time bought up to here is over. An earlier revocation, which
			// moved the end to itself, was completed before g was appended.
			return nil
		}
		if !d.NotAfter.After(g.At) || !d.NotAfter.After(d.NotBefore) {
			continue
		}
		if d.RevokedAt.IsZero() || d.RevokedAt.After(g.At) {
			if _, err := set(ctx, s.grants, id, revocation(g)); err != nil {
				return fmt.Errorf("mark grant %s as revoked: %w", id, err)
			}
		}
		if err := s.announceGrant(ctx, id, g.Subject); err != nil {
			return err
		}
	}
	return nil
}

// revocation is the mark that an entry of kind Revoked leaves on others.
func revocation(by tangle.Entry) bson.D {
	return bson.D{{Key: "revoked_at", Value: by.At}, {Key: "revoked_reason", Value: textOf(by.Reason)}}
}

func (s *Store) announceGrant(ctx context.Context, id, subject string) error {
	return s.announce(ctx, grantChanged, id, subject)
}

// EntryRecord is an entry of an account as the seller sees it.
type EntryRecord struct {
	tangle.Entry
	ID            string    // the store's key, as in acl.Grant
	RevokedAt     time.Time // zero if it was not revoked
	RevokedReason string
}

func (d *grantDocument) entry() (EntryRecord, error) {
	g, err := d.grant()
	return EntryRecord{Entry: g, ID: d.ID, RevokedAt: d.RevokedAt, RevokedReason: d.RevokedReason}, err
}

// Entries returns the entries of a subject for an offer, or of every subject or
// offer if that is empty, by subject, offer and number.
func (s *Store) Entries(ctx context.Context, subject, offer string) ([]EntryRecord, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	filter := bson.D{}
	if subject != "" {
		filter = append(filter, bson.E{Key: "subject", Value: subject})
	}
	if offer != "" {
		filter = append(filter, bson.E{Key: "offer", Value: offer})
	}
	var entries []EntryRecord
	err := each(ctx, s.grants, filter, func(raw bson.Raw) error {
		var d grantDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("grant %s: %w", idText(raw), err)
		}
		e, err := d.entry()
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list grants: %w", err)
	}
	sortEntries(entries)
	return entries, nil
}

// ActiveEntries is [Store.Entries] without the entries that can open nothing any
// more, and without reading them.
func (s *Store) ActiveEntries(ctx context.Context, subject, offer string) ([]EntryRecord, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	now := s.now()
	var entries []EntryRecord
	err := s.eachCurrent(ctx, func(raw bson.Raw) error {
		var d grantDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("grant %s: %w", idText(raw), err)
		}
		opens := d.right(nil)
		if !opens.NotAfter.After(now) || !opens.NotAfter.After(opens.NotBefore) ||
			subject != "" && d.Subject != subject || offer != "" && d.Offer != offer {
			return nil
		}
		e, err := d.entry()
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list current grants: %w", err)
	}
	sortEntries(entries)
	return entries, nil
}

func sortEntries(entries []EntryRecord) {
	slices.SortFunc(entries, func(a, b EntryRecord) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Offer, b.Offer), cmp.Compare(a.Seq, b.Seq))
	})
}
