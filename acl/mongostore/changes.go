package mongostore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
)

// ErrReload is returned by [Store.Changes] if the changes since a resume token are
// no longer known. [Store.Load] reads everything.
var ErrReload = errors.New("resume token is no longer in the log of changes")

const (
	// checkEvery is how often a follower without news checks that it still follows
	// the same log.
	checkEvery = 5 * time.Second
	// hintEvery is the number of changes after which the end of the log is noted.
	hintEvery = 64
	// changesAtOnce bounds what one call of Changes returns.
	changesAtOnce = 200
)

// change is an entry of the log of changes. Entries are numbered from 1 without
// gaps, also with several writers, since each is inserted after the last. Trimming
// deletes the oldest first and never the last one.
type change struct {
	ID string `bson:"_id"` // the number in 20 digits
	// Nonce distinguishes the entry from one with the same number in another
	// history, such as before a backup was restored. Previous is the nonce of the
	// entry before, by which a follower notices that the history changed.
	Nonce    string    `bson:"nonce"`
	Previous string    `bson:"previous"`
	Kind     string    `bson:"kind"`
	Document any       `bson:"document"` // the _id of what changed
	User     string    `bson:"user"`     // whose it is
	At       time.Time `bson:"at"`
}

// The kinds of changes, and so the collections that Document is in. offersChanged
// announces the one document of what is for sale, in meta.
const (
	userChanged   = "user"
	grantChanged  = "grant"
	offersChanged = "offers"
)

func changeID(seq int64) string { return fmt.Sprintf("%020d", seq) }

func (c *change) seq() (int64, error) {
	seq, err := strconv.ParseInt(c.ID, 10, 64)
	if err != nil || seq < 1 || changeID(seq) != c.ID {
		return 0, fmt.Errorf("log of changes: _id %.80q is not a number of 20 digits", c.ID)
	}
	return seq, nil
}

// ResumeToken is a position in the log of changes: its holder knows all changes up
// to it. Any Store on the same database accepts it in [Store.Changes].
type ResumeToken struct {
	Seq     int64  // the number of the last change that is known; 0 if there is none
	Nonce   string // that change's
	checked time.Time
}

// End returns the resume token at the end of the log of changes, for a follower that
// needs only future changes.
func (s *Store) End(ctx context.Context) (ResumeToken, error) {
	at, err := s.lastChange(ctx)
	at.checked = s.Now()
	return at, err
}

// Changes returns the changes after a resume token, in order and at most two
// hundred, and the token after them. A change may come twice. It shows the document
// as it is now, which may be newer than the announcement.
//
// Without news it reads one document by its _id, and sometimes a second one. The
// error wraps [ErrReload] if the log was trimmed beyond the token or the database was
// replaced by an older state. With any error, the token is returned unchanged.
func (s *Store) Changes(ctx context.Context, from ResumeToken) ([]acl.Change, ResumeToken, error) {
	var changes []acl.Change
	at := from
	for at.Seq < from.Seq+changesAtOnce {
		c, err := s.changeAfter(ctx, at)
		if err == nil && c != nil {
			changes, err = s.resolve(ctx, changes, c)
		}
		if err != nil && at.Seq > from.Seq {
			break // return what is known; the next call gets the error again
		}
		if err != nil {
			return nil, from, err
		}
		if c == nil {
			break
		}
		at = ResumeToken{Seq: at.Seq + 1, Nonce: c.Nonce, checked: s.Now()}
	}
	if at.Seq == from.Seq && s.Now().Sub(from.checked) >= checkEvery {
		if err := s.check(ctx, at); err != nil {
			return nil, from, err
		}
		at.checked = s.Now()
	}
	return changes, at, nil
}

// changeAfter returns the entry after a resume token, nil if there is none yet.
func (s *Store) changeAfter(ctx context.Context, at ResumeToken) (*change, error) {
	c, err := get[change](ctx, s.changes, changeID(at.Seq+1))
	if err != nil {
		return nil, fmt.Errorf("read log of changes: %w", err)
	}
	if c != nil && c.Previous != at.Nonce {
		return nil, fmt.Errorf("%w: change %d follows another one", ErrReload, at.Seq+1)
	}
	return c, nil
}

// check returns an error wrapping ErrReload unless a resume token is in the log.
func (s *Store) check(ctx context.Context, at ResumeToken) error {
	if at.Seq == 0 {
		// There is no entry to compare. In a trimmed log, change 1 would never come.
		head, err := s.lastChange(ctx)
		if err != nil {
			return err
		}
		if head.Seq > 0 {
			if c, err := get[change](ctx, s.changes, changeID(1)); err != nil {
				return fmt.Errorf("read log of changes: %w", err)
			} else if c == nil {
				return fmt.Errorf("%w: change 1 is gone", ErrReload)
			}
		}
		return nil
	}
	c, err := get[change](ctx, s.changes, changeID(at.Seq))
	if err != nil {
		return fmt.Errorf("read log of changes: %w", err)
	}
	if c == nil || c.Nonce != at.Nonce {
		return fmt.Errorf("%w: change %d is gone", ErrReload, at.Seq)
	}
	return nil
}

// resolve appends the document that an entry of the log names, as it is now.
func (s *Store) resolve(ctx context.Context, changes []acl.Change, c *change) ([]acl.Change, error) {
	switch c.Kind {
	case userChanged:
		raw, err := get[bson.Raw](ctx, s.users, c.Document)
		if err != nil {
			return changes, fmt.Errorf("read user %q: %w", c.User, err)
		}
		u, ok := acl.User{}, false
		if raw != nil {
			u, ok = s.usable(*raw)
		}
		if !ok || u.Name != c.User {
			changes = append(changes, acl.Change{RemovedUser: c.User})
		}
		if ok {
			changes = append(changes, acl.Change{User: &u})
		}
	case grantChanged:
		raw, err := get[bson.Raw](ctx, s.grants, c.Document)
		if err != nil {
			return changes, fmt.Errorf("read grant %v: %w", c.Document, err)
		}
		g, ok := acl.Grant{}, false
		if raw != nil {
			g, ok = s.usableGrant(*raw)
		}
		if !ok {
			// Load leaves it out too: it opens nothing from now on.
			id, _ := c.Document.(string)
			g = acl.Grant{ID: id, Subject: c.User}
		}
		changes = append(changes, acl.Change{Grant: &g})
	case offersChanged:
		offers, err := s.ForSale(ctx)
		if err != nil {
			return changes, err
		}
		changes = append(changes, acl.Change{Offers: &offers})
	case signupChanged:
		announcement, err := s.SignupAnnouncement(ctx)
		if err != nil {
			return changes, err
		}
		changes = append(changes, acl.Change{Signup: &announcement})
	default:
		// An unknown entry must not stop the others.
		s.Log.WithField("kind", c.Kind).Warn("change of unknown kind in the store")
	}
	return changes, nil
}

// announce appends an entry to the log of changes.
func (s *Store) announce(ctx context.Context, kind string, document any, user string) error {
	// One at a time: concurrent inserts would conflict, and all but one retry.
	select {
	case s.announcing <- struct{}{}:
		defer func() { <-s.announcing }()
	case <-ctx.Done():
		return fmt.Errorf("insert into log of changes: %w", ctx.Err())
	}
	for {
		head, err := s.lastChange(ctx)
		if err != nil {
			return err
		}
		c := change{
			ID:    changeID(head.Seq + 1),
			Nonce: rand.Text(), Previous: head.Nonce,
			Kind: kind, Document: document, User: user, At: s.now(),
		}
		added, err := insert(ctx, s.changes, c)
		if err != nil {
			return fmt.Errorf("insert into log of changes: %w", err)
		}
		if !added {
			continue // another writer took the number
		}
		s.setHead(ResumeToken{Seq: head.Seq + 1, Nonce: c.Nonce})
		if (head.Seq+1)%hintEvery == 0 {
			return s.noteHead(ctx, head.Seq+1)
		}
		return nil
	}
}

// hint is the document in meta under the _id "changes": the number of an entry from
// which to search for the log's end. It may be old, and the entry deleted.
type hint struct {
	ID  string `bson:"_id"`
	Seq int64  `bson:"seq"`
}

func (s *Store) noteHead(ctx context.Context, seq int64) error {
	found, err := set(ctx, s.meta, "changes", bson.D{{Key: "seq", Value: seq}})
	if err == nil && !found {
		_, err = insert(ctx, s.meta, hint{ID: "changes", Seq: seq})
	}
	if err != nil {
		return fmt.Errorf("note end of log of changes: %w", err)
	}
	return nil
}

// lastChange returns the end of the log of changes: when it was read, it was the last
// entry. The search starts from the end that this Store knew, else from the hint,
// else it reads the whole log.
func (s *Store) lastChange(ctx context.Context) (ResumeToken, error) {
	read := func(seq int64) (*change, error) { return get[change](ctx, s.changes, changeID(seq)) }
	s.mu.Lock()
	start := s.head.Seq
	s.mu.Unlock()
	known, err := (*change)(nil), error(nil)
	if start > 0 {
		known, err = read(start)
	}
	if err == nil && known == nil {
		var h *hint
		if h, err = get[hint](ctx, s.meta, "changes"); err == nil && h != nil {
			start = h.Seq
			known, err = read(start)
		}
	}
	if err == nil && known == nil {
		known, err = s.someChange(ctx)
	}
	if err != nil {
		return ResumeToken{}, fmt.Errorf("read log of changes: %w", err)
	}
	start = 0
	if known != nil {
		if start, err = known.seq(); err != nil {
			return ResumeToken{}, err
		}
	}
	known, err = last(known, start, read)
	if err != nil {
		return ResumeToken{}, fmt.Errorf("read log of changes: %w", err)
	}
	if known == nil {
		return ResumeToken{}, nil
	}
	seq, err := known.seq()
	if err != nil {
		return ResumeToken{}, err
	}
	head := ResumeToken{Seq: seq, Nonce: known.Nonce}
	s.setHead(head)
	return head, nil
}

// someChange reads the whole log and returns its last entry, or one close to it if
// the log grows meanwhile; nil if it is empty.
func (s *Store) someChange(ctx context.Context) (*change, error) {
	var found *change
	err := each(ctx, s.changes, bson.D{}, func(raw bson.Raw) error {
		if id, ok := raw.Lookup("_id").StringValueOK(); ok && (found == nil || id > found.ID) {
			found = new(change)
			return bson.Unmarshal(raw, found)
		}
		return nil
	})
	return found, err
}

func (s *Store) setHead(p ResumeToken) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head = p
}

// trimChanges deletes the changes announced before an instant, but for the last
// one.
func (s *Store) trimChanges(ctx context.Context, before time.Time) (deleted int64, err error) {
	head, err := s.lastChange(ctx)
	if err != nil {
		return 0, err
	}
	// A binary search finds the first entry that stays: entries are ordered by time,
	// up to differences between clocks. The first existing entry is found likewise.
	first, err := s.firstChange(ctx, head.Seq, func(*change) bool { return true })
	if err != nil {
		return 0, err
	}
	stays, err := s.firstChange(ctx, head.Seq, func(c *change) bool { return !c.At.Before(before) })
	if err != nil {
		return 0, err
	}
	if stays <= first {
		return 0, nil
	}
	if err := s.noteHead(ctx, head.Seq); err != nil {
		return 0, err
	}
	// In order: if this is interrupted, the rest has no gap.
	ids := make([]any, 0, stays-first)
	for ; first < stays; first++ {
		ids = append(ids, changeID(first))
	}
	if deleted, err = removeAll(ctx, s.changes, ids); err != nil {
		return deleted, fmt.Errorf("trim log of changes: %w", err)
	}
	return deleted, nil
}

// firstChange returns the number of the first existing change up to head that meets
// a condition, or head if none does.
func (s *Store) firstChange(ctx context.Context, head int64, keep func(*change) bool) (int64, error) {
	low, high := int64(0), head
	for low+1 < high {
		middle := low + (high-low)/2
		c, err := get[change](ctx, s.changes, changeID(middle))
		if err != nil {
			return 0, fmt.Errorf("read log of changes: %w", err)
		}
		if c != nil && keep(c) {
			high = middle
		} else {
			low = middle
		}
	}
	return high, nil
}
