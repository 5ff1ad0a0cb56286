package mongostore

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"

	"github.com/iotoll/iotoll/acl"
)

// clockSlack is how far ahead our clock may be: grants that ended less than this ago
// are loaded, since they may still be live by the right time.
const clockSlack = 48 * time.Hour

// Load returns every user and every grant that is not over, in no order. What
// changes while it reads, or later, is told by [Store.Changes] from the token that
// it returns. Documents that cannot be read are logged and left out. Its cost
// depends on how many grants are not over, or were not at the last [Store.Trim],
// and not on how many ever were.
func (s *Store) Load(ctx context.Context) (users []acl.User, grants []acl.Grant, at ResumeToken, err error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	// First, so that no change falls between.
	if at, err = s.End(ctx); err != nil {
		return nil, nil, ResumeToken{}, err
	}
	// Both at once: decoding keeps a processor busy.
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { users, err = s.readUsers(ctx); return err })
	g.Go(func() (err error) { grants, err = s.readGrants(ctx); return err })
	if err := g.Wait(); err != nil {
		return nil, nil, ResumeToken{}, err
	}
	return users, grants, at, nil
}

// LoadUser is [Store.Load] for one user: it returns at most one, and its grants. Its
// cost does not depend on other users. An empty name has neither.
func (s *Store) LoadUser(ctx context.Context, name string) ([]acl.User, []acl.Grant, error) {
	documents, err := s.findUser(ctx, name, true)
	if err != nil {
		return nil, nil, err
	}
	var users []acl.User
	if len(documents) == 1 { // else it is ambiguous
		if u, ok := s.usable(documents[0]); ok {
			users = append(users, u)
		}
	}
	if name == "" {
		return users, nil, nil
	}
	terms, err := s.Offered(ctx)
	if err != nil {
		return nil, nil, err
	}
	since := s.now().Add(-clockSlack)
	var grants []acl.Grant
	for _, t := range terms {
		if t.Seq > 1 { // the same offer at another price
			continue
		}
		head, err := s.Last(ctx, name, t.Offer)
		if err != nil {
			return nil, nil, err
		}
		for seq := head.Seq; seq > 0; seq-- {
			d, err := get[grantDocument](ctx, s.grants, grantID(name, t.Offer, seq))
			if err != nil {
				return nil, nil, fmt.Errorf("read grants of %q for %q: %w", name, t.Offer, err)
			}
			if d == nil || !d.End.After(since) {
				break // all time bought up to here is over
			}
			if !d.NotAfter.After(d.NotBefore) {
				continue
			}
			filters, err := parseFilters(d.Filters)
			if err != nil {
				return nil, nil, fmt.Errorf("grant %s: %w", d.ID, err)
			}
			if g := d.right(filters); g.NotAfter.After(since) {
				grants = append(grants, g)
			}
		}
	}
	return users, grants, nil
}

// usableGrant parses the part of a grant that a decision needs, and logs why if
// it cannot.
func (s *Store) usableGrant(raw bson.Raw) (acl.Grant, bool) {
	var d grantDocument
	err := bson.Unmarshal(raw, &d)
	var filters []acl.Filter
	if err == nil {
		filters, err = parseFilters(d.Filters)
	}
	if err != nil {
		s.Log.WithError(err).WithField("id", idText(raw)).Warn("grant in the store is not readable")
		return acl.Grant{}, false
	}
	return d.right(filters), true
}
