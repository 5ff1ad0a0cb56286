package mongostore

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
)

// clockSlack is how much later than ours the clock may be of those who use what
// Load returns.
const clockSlack = time.Hour

// Load returns every user and every grant that is not over, in no order. What
// changes while it reads, or later, is told by [Store.Changes] from the token that
// it returns. Documents that cannot be read are logged and left out. Its cost
// depends on how many grants are not over, or were not at the last [Store.Trim],
// and not on how many ever were.
func (s *Store) Load(ctx context.Context) ([]acl.User, []acl.Grant, ResumeToken, error) {
	users, at, err := s.LoadUsers(ctx)
	if err != nil {
		return nil, nil, ResumeToken{}, err
	}
	grants, err := s.LoadGrants(ctx)
	if err != nil {
		return nil, nil, ResumeToken{}, err
	}
	return users, grants, at, nil
}

// LoadUsers is the first half of [Store.Load], for those who can use users before
// grants: [Store.LoadGrants] has to follow. The token is for both.
func (s *Store) LoadUsers(ctx context.Context) ([]acl.User, ResumeToken, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	// First, so that no change falls between.
	at, err := s.End(ctx)
	if err != nil {
		return nil, ResumeToken{}, err
	}
	users, err := s.readUsers(ctx)
	if err != nil {
		return nil, ResumeToken{}, err
	}
	return users, at, nil
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
