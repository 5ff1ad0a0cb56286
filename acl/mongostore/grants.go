package mongostore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
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
	Payment   string    `bson:"payment,omitempty"` // the cause if missing, where kind is paid: before schema version 2
	Amount    int64     `bson:"amount"`
	Undoes    int64     `bson:"undoes,omitempty"`
	Price     int64     `bson:"price,omitempty"`
	PeriodMS  int64     `bson:"period_ms,omitempty"`
	Credit    int64     `bson:"credit"`
	Remainder int64     `bson:"remainder"`
	Filters   []string  `bson:"filters"`
	NotBefore time.Time `bson:"not_before"`
	NotAfter  time.Time `bson:"not_after"`
	End       time.Time `bson:"end,omitempty"`
	Life      int64     `bson:"life,omitempty"`
	Born      time.Time `bson:"born,omitempty"`
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
		Payment: g.Payment, Amount: g.Amount, Undoes: g.Undoes, Price: g.Price, PeriodMS: g.Period.Milliseconds(),
		Credit: g.Credit, Remainder: g.Remainder,
		Filters:   make([]string, len(g.Filters)),
		NotBefore: g.NotBefore, NotAfter: g.NotAfter, End: g.End, Life: g.Life, Born: g.Born,
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
	g := tangle.Entry{
		Subject: d.Subject, Offer: d.Offer, Seq: d.Seq, Kind: tangle.Kind(d.Kind), Cause: d.Cause,
		Payment: d.Payment, Amount: d.Amount, Undoes: d.Undoes, Price: d.Price, Period: time.Duration(d.PeriodMS) * time.Millisecond,
		Credit: d.Credit, Remainder: d.Remainder,
		Filters: filters, NotBefore: d.NotBefore, NotAfter: d.NotAfter, End: d.End, Life: d.Life, Born: d.Born,
		At: d.At, Reason: d.Reason,
	}
	if g.Kind == tangle.Paid && g.Payment == "" {
		g.Payment = g.Cause
	}
	return g, nil
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

// accounts is what a Store has seen itself of some accounts, so that it need not
// ask again. The number of an entry is a hint that is checked. That an entry is
// finished never changes.
type accounts struct {
	mu    sync.Mutex
	known map[string]account // by the ID of the account's first entry
}

// account is what is known of one account.
type account struct {
	last     int64 // there is an entry with that number
	appended bool  // it was written by this Store and is not finished as far as it knows
	finished bool  // its settlement is written
}

// knownAccounts bounds how many accounts are remembered.
const knownAccounts = 10_000

func (a *accounts) get(subject, offer string) account {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known[grantID(subject, offer, 1)]
}

func (a *accounts) set(subject, offer string, what account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil {
		a.known = make(map[string]account)
	}
	key := grantID(subject, offer, 1)
	if _, ok := a.known[key]; !ok && len(a.known) >= knownAccounts {
		for some := range a.known {
			delete(a.known, some)
			break
		}
	}
	if a.known[key].last <= what.last {
		a.known[key] = what
	}
}

// forget is for an account that is not as it was.
func (a *accounts) forget(subject, offer string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, grantID(subject, offer, 1))
}

// Last implements [tangle.Accounts].
func (s *Store) Last(ctx context.Context, subject, offer string) (tangle.Entry, error) {
	read := func(seq int64) (*grantDocument, error) {
		return get[grantDocument](ctx, s.grants, grantID(subject, offer, seq))
	}
	known := s.accounts.get(subject, offer)
	d, err := (*grantDocument)(nil), error(nil)
	if known.last > 0 {
		if d, err = read(known.last); err == nil && d == nil {
			s.accounts.forget(subject, offer)
			known = account{}
		}
	}
	if err == nil {
		d, err = last(d, known.last, read)
	}
	if err != nil {
		return tangle.Entry{}, fmt.Errorf("read grants of %q for %q: %w", subject, offer, err)
	}
	if d == nil {
		return tangle.Entry{}, nil
	}
	if d.Seq > known.last {
		s.accounts.set(subject, offer, account{last: d.Seq})
	}
	return d.grant()
}

// Entry implements [tangle.Accounts].
func (s *Store) Entry(ctx context.Context, subject, offer string, seq int64) (tangle.Entry, error) {
	d, err := get[grantDocument](ctx, s.grants, grantID(subject, offer, seq))
	if err != nil {
		return tangle.Entry{}, fmt.Errorf("read grant %d of %q for %q: %w", seq, subject, offer, err)
	}
	if d == nil {
		return tangle.Entry{}, nil
	}
	return d.grant()
}

// LastWritten implements [tangle.Accounts]: it is the date of the last change that
// was announced, be it of an entry or of a user.
func (s *Store) LastWritten(ctx context.Context) (time.Time, error) {
	head, err := s.lastChange(ctx)
	if err != nil || head.Seq == 0 {
		return time.Time{}, err
	}
	c, err := get[change](ctx, s.changes, changeID(head.Seq))
	if err != nil {
		return time.Time{}, fmt.Errorf("read log of changes: %w", err)
	}
	if c == nil {
		return time.Time{}, nil
	}
	return c.At, nil
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

// Append implements [tangle.Accounts].
func (s *Store) Append(ctx context.Context, g tangle.Entry) error {
	if g.Seq < 1 || g.Subject == "" || g.Offer == "" || g.Cause == "" || g.Kind == tangle.Paid && g.Payment == "" {
		return fmt.Errorf("append grant: entry %d of %q for %q with cause %q is not complete", g.Seq, g.Subject, g.Offer, g.Cause)
	}
	if g.Seq > 1 && s.accounts.get(g.Subject, g.Offer).last < g.Seq-1 {
		// No gaps: what looks for the last entry relies on that.
		before := grantID(g.Subject, g.Offer, g.Seq-1)
		if d, err := get[bson.Raw](ctx, s.grants, before); err != nil {
			return fmt.Errorf("read grant %s: %w", before, err)
		} else if d == nil {
			return fmt.Errorf("append grant %d of %q for %q: there is no entry before it", g.Seq, g.Subject, g.Offer)
		}
	}
	if g.Seq == 1 {
		if err := s.nameOffer(ctx, g.Offer); err != nil {
			return err
		}
	}
	added, err := insert(ctx, s.grants, documentOf(g))
	if err != nil {
		return fmt.Errorf("insert grant %d of %q for %q: %w", g.Seq, g.Subject, g.Offer, err)
	}
	if !added {
		return fmt.Errorf("insert grant %d of %q for %q: %w", g.Seq, g.Subject, g.Offer, tangle.ErrConflict)
	}
	s.accounts.set(g.Subject, g.Offer, account{last: g.Seq, appended: true})
	return nil
}

// Complete implements [tangle.Accounts].
func (s *Store) Complete(ctx context.Context, g tangle.Entry) error {
	known := s.accounts.get(g.Subject, g.Offer)
	if known.last == g.Seq && known.finished {
		return nil
	}
	id := grantID(g.Subject, g.Offer, g.Seq)
	if known.last != g.Seq || !known.appended {
		done, err := s.settledWith(ctx, g.Cause, id)
		if err != nil {
			return err
		}
		if done { // and what follows, or Unsettled makes up for it
			s.accounts.set(g.Subject, g.Offer, account{last: g.Seq, finished: true})
			return nil
		}
	}
	if err := s.activate(ctx, g); err != nil {
		return err
	}
	if err := s.cut(ctx, g); err != nil {
		return err
	}
	if err := s.announceGrant(ctx, id, g.Subject); err != nil {
		return err
	}
	added, err := insert(ctx, s.settlements, settlementDocument{Cause: g.Cause, Outcome: string(g.Outcome()), Grant: id, At: s.now()})
	if err != nil {
		return fmt.Errorf("insert settlement of %s: %w", g.Cause, err)
	}
	if !added {
		if _, err := s.settledWith(ctx, g.Cause, id); err != nil {
			return err
		}
	}
	s.accounts.set(g.Subject, g.Offer, account{last: g.Seq, finished: true})
	if g.Kind == tangle.Paid {
		if _, err := remove(ctx, s.pending, g.Payment); err != nil {
			return fmt.Errorf("remove %s from pending: %w", g.Payment, err)
		}
	}
	return nil
}

// settledWith reports whether a cause is settled. The error says so if it is
// settled with another grant than this one.
func (s *Store) settledWith(ctx context.Context, cause, grant string) (bool, error) {
	d, err := get[settlementDocument](ctx, s.settlements, cause)
	if err != nil {
		return false, fmt.Errorf("read settlement of %s: %w", cause, err)
	}
	if d != nil && d.Grant != grant {
		return false, fmt.Errorf("settle %s with grant %s: it was settled with grant %s", cause, grant, d.Grant)
	}
	return d != nil, nil
}

// settlementDocument says which entry a payment or manual act became.
type settlementDocument struct {
	Cause   string    `bson:"_id"`
	Outcome string    `bson:"outcome"`
	Grant   string    `bson:"grant"` // the grant's _id
	At      time.Time `bson:"at"`
}

// Settled implements [tangle.Accounts].
func (s *Store) Settled(ctx context.Context, cause string) (settled tangle.Settlement, ok bool, err error) {
	d, err := get[settlementDocument](ctx, s.settlements, cause)
	if err != nil {
		return settled, false, fmt.Errorf("read settlement of %s: %w", cause, err)
	}
	if d == nil {
		return settled, false, nil
	}
	grant, err := get[grantDocument](ctx, s.grants, d.Grant)
	if err != nil {
		return settled, false, fmt.Errorf("read grant %s: %w", d.Grant, err)
	}
	if grant == nil {
		return settled, false, fmt.Errorf("settlement of %s: grant %s is missing", cause, d.Grant)
	}
	g, err := grant.grant()
	if err != nil {
		return settled, false, err
	}
	return tangle.Settlement{Cause: d.Cause, Outcome: tangle.Outcome(d.Outcome), Entry: g}, true, nil
}

// cut marks the entries before g that g cuts and that would still open something
// at g.At, and announces each, the latest first. It announces those again that an
// interrupted attempt had marked.
func (s *Store) cut(ctx context.Context, g tangle.Entry) error {
	first, last := g.Cuts()
	for seq := last; seq > 0 && seq >= first; seq-- {
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
		if err := s.cutActive(ctx, d, g); err != nil {
			return err
		}
		if err := s.announceGrant(ctx, id, g.Subject); err != nil {
			return err
		}
	}
	return nil
}

// revocation is the mark that an entry leaves on those that it cuts.
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
// offer if that is empty, by subject, offer and number. With a subject, its cost
// does not grow with the entries of others.
func (s *Store) Entries(ctx context.Context, subject, offer string) ([]EntryRecord, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	if subject != "" {
		return s.entriesOf(ctx, subject, offer)
	}
	filter := bson.D{}
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

// entriesOf returns the entries of one subject, each found by its _id.
func (s *Store) entriesOf(ctx context.Context, subject, offer string) ([]EntryRecord, error) {
	offers := []string{offer}
	if offer == "" {
		terms, err := s.Offered(ctx)
		if err != nil {
			return nil, err
		}
		offers = nil
		for _, t := range terms {
			if t.Seq == 1 {
				offers = append(offers, t.Offer)
			}
		}
	}
	var entries []EntryRecord
	for _, offer := range offers {
		for seq := int64(1); ; seq++ {
			d, err := get[grantDocument](ctx, s.grants, grantID(subject, offer, seq))
			if err != nil {
				return nil, fmt.Errorf("list grants of %q for %q: %w", subject, offer, err)
			}
			if d == nil {
				break
			}
			e, err := d.entry()
			if err != nil {
				return nil, fmt.Errorf("list grants of %q for %q: %w", subject, offer, err)
			}
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// ActiveEntries is [Store.Entries] without the entries that can open nothing any
// more, and without reading them.
func (s *Store) ActiveEntries(ctx context.Context, subject, offer string) ([]EntryRecord, error) {
	ctx, cancel := readAll(ctx)
	defer cancel()
	now := s.now()
	if subject != "" {
		entries, err := s.entriesOf(ctx, subject, offer)
		return slices.DeleteFunc(entries, func(e EntryRecord) bool { return !e.opensAfter(now) }), err
	}
	var entries []EntryRecord
	err := s.eachActive(ctx, func(raw bson.Raw) error {
		var d grantDocument
		if err := bson.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("grant %s: %w", idText(raw), err)
		}
		if offer != "" && d.Offer != offer {
			return nil
		}
		e, err := d.entry()
		if err == nil && e.opensAfter(now) {
			entries = append(entries, e)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list current grants: %w", err)
	}
	sortEntries(entries)
	return entries, nil
}

// opensAfter reports whether the entry opens anything after an instant.
func (e EntryRecord) opensAfter(at time.Time) bool {
	end := e.NotAfter
	if !e.RevokedAt.IsZero() && e.RevokedAt.Before(end) {
		end = e.RevokedAt
	}
	return end.After(at) && end.After(e.NotBefore)
}

func sortEntries(entries []EntryRecord) {
	slices.SortFunc(entries, func(a, b EntryRecord) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Offer, b.Offer), cmp.Compare(a.Seq, b.Seq))
	})
}
