package acl

import (
	"hash/maphash"
	"slices"
	"strings"
	"time"
)

// Snapshot is an immutable index of users and grants as of one moment, and the
// public filters. It answers from memory, whatever it holds, and refuses all
// that is not public once it is too old. The nil Snapshot denies everything.
//
// [Snapshot.With] makes a changed copy that shares all it can with the original:
// one grant that arrives copies some kilobytes, not a million users.
type Snapshot struct {
	public []Filter
	maxAge time.Duration
	loaded bool
	asOf   time.Time

	// Accounts by a hash of the name: its low byte, its next byte, and then a
	// short list. A nil branch has no accounts.
	seed   maphash.Seed
	root   *[fanout]*[fanout]bucket
	users  int
	grants int
}

const fanout = 256

type bucket []entry

// entry holds the hash beside the account, so that a search seldom has to look at
// another account's memory.
type entry struct {
	hash    uint64
	account *account
}

// account is what there is under one name. There may be grants without a user:
// they count as soon as there is one.
type account struct {
	name      string
	user      *User
	superuser bool // the user's, at hand for a decision
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

// interval is a grant in the form that a decision reads: milliseconds since 1970,
// rounded to the safe side, and no copy of the subject.
type interval struct {
	id       string
	filters  []Filter
	from, to int64
}

// Change is one difference between two states of the store. Exactly one field
// is set.
type Change struct {
	User        *User  // a user who is new or was changed
	RemovedUser string // the name of a user who is there no more
	Grant       *Grant // a grant that is new or was changed
}

// NewSnapshot returns a snapshot that knows nobody yet: it permits everyone to
// read the topics that a public filter matches, and denies the rest. maxAge is
// how long what it learns by Load and With may be used.
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

// Load returns a snapshot with the same public filters and maximum age, and with
// exactly these users and grants. asOf is a moment not after the reading of the
// first of them began. Grants that had ended by then are left out.
func (s *Snapshot) Load(asOf time.Time, users []User, grants []Grant) *Snapshot {
	n := NewSnapshot(s.public, s.maxAge)
	n.loaded, n.asOf = true, asOf
	edit := editor{s: n, whole: true, filters: make(map[Filter][]Filter)}
	for i := range users {
		edit.setUser(users[i])
	}
	for i := range grants {
		edit.setGrant(&grants[i])
	}
	return n
}

// With returns a snapshot that the changes have been made to, as of a later
// moment. Without changes it only renews the snapshot's age, at next to no cost.
// Grants that had ended by asOf are dropped from the accounts that it touches.
// A snapshot that was never loaded cannot be changed: With returns it as it is.
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
		}
	}
	return &n
}

// User returns the user of that name, for a login. ok is false if there is
// none, or if the snapshot is not fresh.
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

// Fresh reports whether the snapshot knows users and grants and is not too old.
func (s *Snapshot) Fresh(now time.Time) bool {
	return s != nil && s.loaded && now.Sub(s.asOf) < s.maxAge
}

// AsOf returns the moment that the snapshot describes; the zero time if it was
// never loaded.
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

// editor changes a snapshot that nobody else has seen yet.
type editor struct {
	s *Snapshot
	// whole says that the snapshot shares nothing with another one. If it does,
	// the editor copies the path to an account before it changes the account.
	whole bool
	// filters are the lists in use, by their first filter: a million grants of
	// one offer share one list.
	filters map[Filter][]Filter
}

// edit returns the account of a name for changing; a new one if there is none.
func (e *editor) edit(name string) *account {
	hash := maphash.String(e.s.seed, name)
	branch := &e.s.root[hash%fanout]
	switch {
	case *branch == nil:
		*branch = new([fanout]bucket)
	case !e.whole:
		b := **branch
		*branch = &b
	}
	b := &(*branch)[hash/fanout%fanout]
	for i, x := range *b {
		if x.hash != hash || x.account.name != name {
			continue
		}
		if !e.whole {
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

// removeUser leaves the grants: they are a matter of payments, and count again
// if the user comes back.
func (e *editor) removeUser(name string) {
	a := e.edit(name)
	if a.user != nil {
		e.s.users--
	}
	a.user, a.rules = nil, nil
}

func (e *editor) setGrant(g *Grant) {
	a := e.edit(g.Subject)
	now := e.s.asOf.UnixMilli()
	before := len(a.grants)
	a.grants = slices.DeleteFunc(a.grants, func(i interval) bool { return i.id == g.ID || i.to <= now })
	i := interval{id: g.ID, filters: e.share(g.Filters), from: ceilMilli(g.NotBefore), to: g.NotAfter.UnixMilli()}
	if i.to > now && i.from < i.to {
		a.grants = append(a.grants, i)
	}
	e.s.grants += len(a.grants) - before
}

// share returns an equal list that is in use already, if there is one.
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
