package acl

import (
	"hash/maphash"
	"slices"
	"strings"
	"time"
)

// keepEnded is how long a grant stays in memory after its end. A clock that was
// wrong while the snapshot was made, by less than this, costs no grant.
const keepEnded = 48 * time.Hour

// Snapshot is an immutable index of users, grants and offers as of one moment, and of
// the public filters. Once it is older than its maximum age, it denies all that is
// not public. The nil Snapshot denies everything.
//
// [Snapshot.With] makes a changed copy that shares memory with the original: a new
// grant copies a few kilobytes, not a million users.
type Snapshot struct {
	public       []Filter // besides offersTopic and signupTopic
	maxAge       time.Duration
	refuseUnpaid bool // see RefuseUnpaid
	loaded       bool
	asOf         time.Time
	forSale      []Filter // of all offers

	// Accounts by a hash of the name: the low byte selects a branch, the next byte
	// a bucket, which is a short list. A nil branch has no accounts.
	seed   maphash.Seed
	root   *[fanout]*[fanout]bucket
	users  int
	grants int
}

const fanout = 256

type bucket []entry

// entry holds the hash next to the account, so that a search rarely touches the
// memory of another account.
type entry struct {
	hash    uint64
	account *account
}

// account holds the user and the grants of one name. Grants without a user count
// as soon as the user exists.
type account struct {
	name      string
	user      *User
	superuser bool // copied from user: a decision need not follow the pointer
	disabled  bool
	rules     []rule
	grants    []interval
}

// rule is a static right with %u expanded.
type rule struct {
	text      string // see expand
	access    Access
	perClient bool // text holds clientMark
}

// interval is a grant as a decision reads it: milliseconds since 1970, rounded so
// that the grant never gets longer, without a copy of the subject.
type interval struct {
	id       string
	filters  []Filter
	from, to int64
}

// Change is one difference between two states of the store. Exactly one field
// is set.
type Change struct {
	User        *User    // a new or changed user
	RemovedUser string   // the name of a removed user
	Grant       *Grant   // a new or changed grant
	Offers      *[]Offer // all that is for sale from now on
	// Signup is what is announced to those who want to sign up from now on; nil
	// bytes if sign-up is off. A snapshot does not hold it.
	Signup *[]byte
}

// NewSnapshot returns a snapshot without users. It permits everyone to read the
// topics that a public filter matches, iotoll/offers and $SYS/broker/iotoll/signup,
// and denies the rest. maxAge limits how long the users and grants of Load and With
// stay in force.
func NewSnapshot(public []Filter, maxAge time.Duration) *Snapshot {
	return &Snapshot{
		public: slices.Clone(public),
		maxAge: maxAge,
		seed:   maphash.MakeSeed(),
		root:   new([fanout]*[fanout]bucket),
	}
}

// Configure returns a snapshot of the same users and grants with other public
// filters and another maximum age.
func (s *Snapshot) Configure(public []Filter, maxAge time.Duration) *Snapshot {
	n := *s
	n.public, n.maxAge = slices.Clone(public), maxAge
	return &n
}

// RefuseUnpaid returns the same snapshot, but for whether it refuses a subscription to
// what is for sale from a user who has not paid for any of it. A new snapshot does not.
func (s *Snapshot) RefuseUnpaid(refuse bool) *Snapshot {
	n := *s
	n.refuseUnpaid = refuse
	return &n
}

// Load returns a snapshot that is configured like s, and with exactly these users and
// grants and no offers. asOf is a moment before the first of them was read. Grants that
// had ended two days earlier are left out.
func (s *Snapshot) Load(asOf time.Time, users []User, grants []Grant) *Snapshot {
	n := NewSnapshot(s.public, s.maxAge)
	n.refuseUnpaid = s.refuseUnpaid
	n.loaded, n.asOf = true, asOf
	edit := editor{s: n, owned: true, filters: make(map[Filter][]Filter)}
	for i := range users {
		edit.setUser(users[i])
	}
	for i := range grants {
		edit.setGrant(&grants[i])
	}
	return n
}

// With returns a copy with the changes, as of another moment. Without changes it
// only sets the age, at almost no cost. Grants that had ended two days before asOf
// are dropped from the accounts that it touches. With returns a snapshot that was
// never loaded as it is.
func (s *Snapshot) With(asOf time.Time, changes ...Change) *Snapshot {
	if s == nil || !s.loaded {
		return s
	}
	n := *s
	n.asOf = asOf
	if len(changes) == 0 {
		return &n
	}
	root := *s.root
	n.root = &root
	edit := editor{s: &n, filters: make(map[Filter][]Filter)}
	for _, c := range changes {
		switch {
		case c.User != nil:
			edit.setUser(*c.User)
		case c.RemovedUser != "":
			edit.removeUser(c.RemovedUser)
		case c.Grant != nil:
			edit.setGrant(c.Grant)
		case c.Offers != nil:
			n.forSale = nil
			for _, o := range *c.Offers {
				n.forSale = append(n.forSale, o.Filters...)
			}
		}
	}
	return &n
}

// User returns the user of that name, for a login. ok is false if there is no such
// user or the snapshot is not fresh.
func (s *Snapshot) User(name string, now time.Time) (u User, ok bool) {
	if !s.Fresh(now) {
		return User{}, false
	}
	a := s.account(name)
	if a == nil || a.user == nil {
		return User{}, false
	}
	return *a.user, true
}

// Fresh reports whether the snapshot was loaded and is within its maximum age.
func (s *Snapshot) Fresh(now time.Time) bool {
	return s != nil && s.loaded && now.Sub(s.asOf) < s.maxAge
}

// AsOf returns the moment that the snapshot describes, the zero time if it was never
// loaded.
func (s *Snapshot) AsOf() time.Time { return s.asOf }

// Size returns how many users and grants the snapshot holds.
func (s *Snapshot) Size() (users, grants int) { return s.users, s.grants }

func (s *Snapshot) account(name string) *account {
	hash := maphash.String(s.seed, name)
	branch := s.root[hash%fanout]
	if branch == nil {
		return nil
	}
	for _, e := range branch[hash/fanout%fanout] {
		if e.hash == hash && e.account.name == name {
			return e.account
		}
	}
	return nil
}

// Logouts returns the users of s whose sessions must end once next is in force:
// those that next does not have, has disabled, or has with another password hash.
func (s *Snapshot) Logouts(next *Snapshot) (names []string) {
	for i, branch := range s.root {
		if branch == nil || branch == next.root[i] {
			continue // next shares it
		}
		for _, bucket := range branch {
			for _, e := range bucket {
				if e.account.user == nil || e.account.disabled {
					continue
				}
				if a := next.account(e.account.name); a == nil || a.user == nil || a.disabled || a.user.Password != e.account.user.Password {
					names = append(names, e.account.name)
				}
			}
		}
	}
	return names
}

// editor changes a snapshot that is not in use yet.
type editor struct {
	s *Snapshot
	// owned is true if the snapshot shares no memory with another one. Otherwise
	// the editor copies the path to an account before it changes the account.
	owned bool
	// filters holds the lists in use, by their first filter: a million grants of
	// one offer share one list.
	filters map[Filter][]Filter
}

// edit returns the account of a name for changing, a new one if there is none.
func (e *editor) edit(name string) *account {
	hash := maphash.String(e.s.seed, name)
	branch := &e.s.root[hash%fanout]
	switch {
	case *branch == nil:
		*branch = new([fanout]bucket)
	case !e.owned:
		b := **branch
		*branch = &b
	}
	b := &(*branch)[hash/fanout%fanout]
	for i, x := range *b {
		if x.hash != hash || x.account.name != name {
			continue
		}
		if !e.owned {
			*b = slices.Clone(*b)
			a := *x.account
			a.grants = slices.Clone(a.grants)
			(*b)[i].account = &a
		}
		return (*b)[i].account
	}
	a := &account{name: name}
	*b = append(slices.Clip(*b), entry{hash, a})
	return a
}

func (e *editor) setUser(u User) {
	a := e.edit(u.Name)
	if a.user == nil {
		e.s.users++
	}
	a.user, a.superuser, a.disabled, a.rules = &u, u.Superuser, u.Disabled, nil
	for _, r := range u.Rights {
		if text, ok := expand(r.Pattern, u.Name); ok {
			a.rules = append(a.rules, rule{text, r.Access, strings.Contains(text, clientMark)})
		}
	}
}

// removeUser keeps the grants, which belong to payments: they count again if the
// user comes back.
func (e *editor) removeUser(name string) {
	a := e.edit(name)
	if a.user != nil {
		e.s.users--
	}
	a.user, a.rules = nil, nil
}

func (e *editor) setGrant(g *Grant) {
	a := e.edit(g.Subject)
	forget := e.s.asOf.Add(-keepEnded).UnixMilli()
	before := len(a.grants)
	a.grants = slices.DeleteFunc(a.grants, func(i interval) bool { return i.id == g.ID || i.to <= forget })
	i := interval{id: g.ID, filters: e.share(g.Filters), from: ceilMilli(g.NotBefore), to: g.NotAfter.UnixMilli()}
	if i.to > forget && i.from < i.to {
		a.grants = append(a.grants, i)
	}
	e.s.grants += len(a.grants) - before
}

// share returns an equal list that is already in use, if there is one.
func (e *editor) share(filters []Filter) []Filter {
	if len(filters) == 0 {
		return nil
	}
	if have := e.filters[filters[0]]; slices.Equal(have, filters) {
		return have
	}
	list := slices.Clone(filters)
	e.filters[filters[0]] = list
	return list
}

// ceilMilli rounds the start of a grant to the later millisecond, as UnixMilli
// rounds its end to the earlier one.
func ceilMilli(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.After(time.UnixMilli(ms)) {
		ms++
	}
	return ms
}
