package mongostore

import (
	"context"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
)

// clockSlack is how far ahead our clock may be: grants that ended less than this ago
// are loaded, since they may still be live by the right time.
const clockSlack = 48 * time.Hour

// Load returns every user and every grant that is not over, in no order. What
// changes while it reads, or later, is told by [Store.Changes] from the position
// that it returns. Documents that cannot be used are logged and left out. What
// it costs depends on how many grants are not over, or were not at the last
// [Store.Trim], and not on how many ever were.
func (s *Store) Load(ctx context.Context) ([]acl.User, []acl.Grant, ResumeToken, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	// First, so that no change falls between.
	at, err := s.End(ctx)
	if err != nil {
		return nil, nil, ResumeToken{}, err
	}
	users, err := s.readUsers(ctx)
	if err != nil {
		return nil, nil, ResumeToken{}, err
	}
	var grants []acl.Grant
	lists := make(filterLists)
	since := s.now().Add(-clockSlack)
	err = s.eachCurrent(ctx, func(raw bson.Raw) error {
		if g, ok := s.usableGrant(raw, lists); ok && g.NotAfter.After(since) {
			grants = append(grants, g)
		}
		return nil
	})
	if err != nil {
		return nil, nil, ResumeToken{}, err
	}
	return users, grants, at, nil
}

// filterLists holds each list of filters once, by their text.
type filterLists map[string][]acl.Filter

// usableGrant parses the part of a grant that a decision needs, and logs why if
// it cannot.
func (s *Store) usableGrant(raw bson.Raw, lists filterLists) (acl.Grant, bool) {
	var d grantDocument
	err := bson.Unmarshal(raw, &d)
	var filters []acl.Filter
	if err == nil {
		key := strings.Join(d.Filters, "\x00") // which no filter contains
		var known bool
		if filters, known = lists[key]; !known {
			if filters, err = parseFilters(d.Filters); err == nil {
				lists[key] = filters
			}
		}
	}
	if err != nil {
		s.Log.WithError(err).WithField("id", idText(raw)).Warn("grant in the store cannot be used")
		return acl.Grant{}, false
	}
	return d.right(filters), true
}
