//go:build soak

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/mongostore"
)

const (
	soakUsers = 10        // u0 … u9, who buy
	hourly    = soakUsers // u10, who has bought a longer time
	rich      = hourly + 1
	anonymous = -1
	// soakTopics is the number of topics for sale. The topic after them is public.
	soakTopics = 3
	// soakWindow is how long the broker may take to do what it knows that it has to do.
	soakWindow = 2 * time.Second
	// soakMargin is the same for what is done within a change of the snapshot.
	soakMargin = 300 * time.Millisecond
	// stepWindow is how long the broker may take to follow a step of its wall clock. It
	// loads all grants again.
	stepWindow = 3 * time.Second
	// stepQuiet is how long nothing else happens after a step: each change of the store
	// and each SIGHUP would make the broker ask again.
	stepQuiet = stepWindow + 3*time.Second
	// tryEvery is how often a login with a wrong password is tried for each user, so that
	// the throttle never gets in the way of the others.
	tryEvery = 35 * time.Second
)

// verdict is what the model knows of a right at an instant: surely if it is certainly in
// force, perhaps if it may be.
type verdict struct{ surely, perhaps bool }

// edge is a change: it may be in force from start on, and is from known on. These are
// times of the monotonic clock.
type edge struct{ start, known time.Time }

func (e edge) surely(t time.Time) bool  { return !e.known.IsZero() && !t.Before(e.known) }
func (e edge) perhaps(t time.Time) bool { return !e.start.IsZero() && !t.Before(e.start) }

var always = edge{time.Unix(1, 0), time.Unix(1, 0)}

// sold is a grant in the model. from and to are times of the wall clock.
type sold struct {
	written  edge
	from, to time.Time
	cuts     []*cut
}

// cut is a revocation, which ends grants at an instant of the wall clock.
type cut struct {
	written edge
	at      time.Time
}

// credentials are what a user can log in with.
type credentials struct {
	barred bool // disabled or removed
	gone   bool // removed
	pass   int  // index in passwords
	hash   string
	kind   string
	change edge // of any of these
	// unsure is set if the user may have no rights while the change is under way.
	unsure  bool
	ended   edge      // the last change that ends the user's sessions
	refused time.Time // the last login that failed
}

// model predicts what each user may read and which sessions end.
type model struct {
	mu     sync.Mutex
	grants [soakUsers + 1][soakTopics][]*sold
	users  [rich + 1]credentials
	// before and after are the wall clock's offsets around its last step.
	before, after time.Duration
	step          edge
	pending       []pending
	// buying and probing are held while the store is written to.
	buying  sync.RWMutex
	probing sync.Mutex
	kicks   map[string]int // changes that end sessions, by kind
}

// may returns whether a user may read a topic at an instant between t0 and t1.
func (m *model) may(user, topic int, t0, t1 time.Time) (v verdict) {
	if topic == soakTopics || user == rich {
		return verdict{true, true}
	}
	if user == anonymous {
		return verdict{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	const tick = time.Millisecond // the broker reads the clock in these
	t0, t1 = t0.Add(-tick), t1.Add(tick)
	switch {
	case m.step.surely(t0):
		v = m.granted(user, topic, m.after, t0, t1)
	case !m.step.perhaps(t1):
		v = m.granted(user, topic, m.before, t0, t1)
	default:
		a, b := m.granted(user, topic, m.before, t0, t1), m.granted(user, topic, m.after, t0, t1)
		v = verdict{a.surely && b.surely, a.perhaps || b.perhaps}
	}
	u := &m.users[user]
	switch {
	case u.change.surely(t0) && u.barred:
		return verdict{}
	case u.barred, u.unsure && u.change.perhaps(t1) && !u.change.surely(t0):
		v.surely = false
	}
	return v
}

// granted is what the user has bought, if the wall clock has an offset. Call it with the
// lock held.
func (m *model) granted(user, topic int, offset time.Duration, t0, t1 time.Time) (v verdict) {
	wall0, wall1 := t0.Round(0).Add(offset), t1.Round(0).Add(offset)
	for _, g := range m.grants[user][topic] {
		least, most := g.to, g.to
		for _, c := range g.cuts {
			if c.written.perhaps(t1) && c.at.Before(least) {
				least = c.at
			}
			if c.written.surely(t0) && c.at.Before(most) {
				most = c.at
			}
		}
		v.surely = v.surely || g.written.surely(t0) && !wall0.Before(g.from) && wall1.Before(least)
		v.perhaps = v.perhaps || g.written.perhaps(t1) && !wall1.Before(g.from) && wall0.Before(most)
	}
	return v
}

// login returns the password index of a user, whether the user may log in with it, and
// whether that is certain.
func (m *model) login(user int) (pass int, may, certain bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	u := &m.users[user]
	return u.pass, !u.barred, u.change.surely(time.Now())
}

// mayTry reports whether a login that will probably fail may be tried now.
func (m *model) mayTry(user int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.users[user].refused) >= tryEvery
}

// tried notes that a login failed.
func (m *model) tried(user int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users[user].refused = time.Now()
}

// mayEnd reports whether the broker may end a session that began at since.
func (m *model) mayEnd(user int, since time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return user != anonymous && !m.users[user].ended.surely(since)
}

// mustEnd reports whether the broker must have ended, by now, a session that was
// accepted at since with a password.
func (m *model) mustEnd(user, pass int, since, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if user == anonymous {
		return false
	}
	u := &m.users[user]
	return u.ended.surely(now) && since.Before(u.ended.start) || u.change.surely(now) && (u.barred || pass != u.pass)
}

// quiet waits until the broker has caught up with the store or ctx ends, and keeps
// everybody from writing to the store until resume is called.
func (m *model) quiet(ctx context.Context) (resume func()) {
	m.buying.Lock()
	for caughtUp := false; !caughtUp && ctx.Err() == nil; {
		time.Sleep(10 * time.Millisecond)
		m.mu.Lock()
		caughtUp = len(m.pending) == 0
		m.mu.Unlock()
	}
	m.probing.Lock()
	time.Sleep(soakMargin)
	return func() {
		m.buying.Unlock()
		m.probing.Unlock()
	}
}

// set moves the wall clock.
func (m *model) set(c *wallClock, offset time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before, m.after = m.after, offset
	m.step = edge{start: time.Now()}
	c.offset.Store(int64(offset))
	m.step.known = time.Now().Add(stepWindow)
}

// pending is a change that was written to the store, and that the broker may not know.
type pending struct {
	written time.Time
	known   func(at time.Time)
}

// write calls do, which writes a change to the store, between the two ends of an edge.
// The channel is closed when the broker has the change.
func (m *model) write(set func(edge), do func() error) (<-chan struct{}, error) {
	m.buying.RLock()
	defer m.buying.RUnlock()
	start, known := time.Now(), make(chan struct{})
	m.mu.Lock()
	set(edge{start: start})
	m.mu.Unlock()
	if err := do(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending = append(m.pending, pending{time.Now(), func(at time.Time) {
		set(edge{start, at})
		close(known)
	}})
	return known, nil
}

// caughtUp notes that the broker has all changes that were written before an instant.
func (m *model) caughtUp(until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending = slices.DeleteFunc(m.pending, func(p pending) bool {
		if p.written.After(until) {
			return false
		}
		p.known(time.Now().Add(soakMargin))
		return true
	})
}

// probe learns when the broker has caught up with the store, until ctx ends: the log of
// changes is in order, so that a change which it knows comes after those which it knew
// before. It returns the longest time that a change took.
func (m *model) probe(ctx context.Context, s *testStore, c *client) (slowest time.Duration, err error) {
	for n := 0; ctx.Err() == nil; n++ {
		topic := fmt.Sprint("probe/", n)
		rights := []acl.Right{{Pattern: topic, Access: acl.Read}}
		m.probing.Lock()
		begin := time.Now()
		if err := s.SetUser(context.WithoutCancel(ctx), "probe", mongostore.UserChange{Rights: &rights}); err != nil {
			m.probing.Unlock()
			return 0, fmt.Errorf("probe: %w", err)
		}
		written := time.Now()
		for c.subscribe(topic, 0) != 0 {
			if time.Since(written) > time.Minute {
				m.probing.Unlock()
				return 0, fmt.Errorf("probe: the broker does not know %s after a minute", topic)
			}
			time.Sleep(10 * time.Millisecond)
		}
		slowest = max(slowest, time.Since(written))
		m.caughtUp(begin)
		m.probing.Unlock()
		sleep(ctx, 100*time.Millisecond)
	}
	return slowest, nil
}

// buyer does what happens to a user, at random, until ctx ends: purchases, revocations
// and what ends sessions.
type buyer struct {
	*model
	store  *testStore
	clock  *wallClock
	hashes [2][]string // of each password
	user   int
	name   string
	random *rand.Rand
}

func (b *buyer) run(ctx context.Context) error {
	for ctx.Err() == nil {
		var err error
		switch n := b.random.IntN(10); {
		case n < 6:
			err = b.buy(b.random.IntN(soakTopics))
		case n < 8:
			err = b.revoke(b.random.IntN(soakTopics))
		default:
			var known <-chan struct{}
			if known, err = b.kick(ctx); err == nil {
				// Two changes in a row, and the model would not know which of them is in
				// force.
				select {
				case <-ctx.Done():
				case <-known:
					sleep(ctx, soakMargin)
				}
				if keepsSession(b.user) {
					// At each SIGHUP the broker tries the old password of a session that
					// waits for its client, and the throttle counts that.
					sleep(ctx, tryEvery)
				}
			}
		}
		if err != nil {
			return fmt.Errorf("buyer %s: %w", b.name, err)
		}
		sleep(ctx, time.Duration(b.random.IntN(1500))*time.Millisecond)
	}
	return nil
}

func (b *buyer) buy(topic int) error {
	offer := fmt.Sprint("o", topic)
	now := b.clock.now().UTC().Truncate(time.Millisecond)
	from := now.Add(time.Duration(b.random.IntN(600)-300) * time.Millisecond)
	if end := b.store.account(b.name, offer).NotAfter; end.After(from) {
		from = end
	}
	to := from.Add(time.Duration(50+b.random.IntN(10000)) * time.Millisecond)
	if to.Sub(now) > 15*time.Second {
		return nil // enough for now
	}
	g := &sold{from: from, to: to}
	b.mu.Lock()
	b.grants[b.user][topic] = append(b.grants[b.user][topic], g)
	b.mu.Unlock()
	_, err := b.write(func(e edge) { g.written = e }, func() error {
		return b.store.grantFrom(b.name, offer, "soak/live/"+strconv.Itoa(topic), from, to)
	})
	return err
}

func (b *buyer) revoke(topic int) error {
	c := &cut{at: b.clock.now().UTC().Truncate(time.Millisecond)}
	b.mu.Lock()
	for _, g := range b.grants[b.user][topic] {
		if g.to.After(c.at) {
			g.cuts = append(g.cuts, c)
		}
	}
	b.mu.Unlock()
	_, err := b.write(func(e edge) { c.written = e }, func() error {
		return b.store.revokeAt(b.name, fmt.Sprint("o", topic), c.at)
	})
	return err
}

// kick makes a change that ends sessions, or takes one back. The channel is closed when
// the broker has it.
func (b *buyer) kick(ctx context.Context) (<-chan struct{}, error) {
	b.mu.Lock()
	u := b.users[b.user]
	b.mu.Unlock()
	kind := []string{"password", "remove and add", "disable", "remove"}[b.random.IntN(4)]
	switch {
	case u.gone:
		kind = "add"
	case u.barred:
		kind = "enable"
	case keepsSession(b.user) && b.random.IntN(2) == 0:
		kind = "password"
	case keepsSession(b.user):
		// More messages would wait for a user who is away for long than a client of this
		// test takes.
		kind = "remove and add"
	}
	ctx = context.WithoutCancel(ctx)
	n := b.random.IntN(2)
	if kind == "password" {
		n = 1 - u.pass
	}
	hash := u.hash
	for hash == u.hash { // a new salt
		hash = b.hashes[n][b.random.IntN(len(b.hashes[n]))]
	}
	add := func() error { return b.store.AddUser(ctx, acl.User{Name: b.name, Password: hash}) }
	remove := func() error { return b.store.RemoveUser(ctx, b.name) }
	next := u
	next.kind, next.unsure = kind, kind != "password"
	var do func() error
	switch kind {
	case "password":
		next.pass, next.hash, do = n, hash, func() error { return b.store.SetPassword(ctx, b.name, hash) }
	case "disable":
		next.barred, do = true, func() error { return b.store.SetDisabled(ctx, b.name, true) }
	case "enable":
		next.barred, do = false, func() error { return b.store.SetDisabled(ctx, b.name, false) }
	case "remove":
		next.barred, next.gone, do = true, true, remove
	case "add":
		next.barred, next.gone, next.pass, next.hash, do = false, false, n, hash, add
	case "remove and add":
		next.pass, next.hash, do = n, hash, func() error {
			if err := remove(); err != nil {
				return err
			}
			return add()
		}
	}
	ends := kind != "enable" && kind != "add"
	if ends {
		b.mu.Lock()
		b.kicks[kind]++
		b.mu.Unlock()
	}
	return b.write(func(e edge) {
		next.refused = b.users[b.user].refused
		if next.change = e; ends {
			next.ended = e
		}
		b.users[b.user] = next
	}, do)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// nextOffset returns where the wall clock may go next: far enough from where it is to be
// noticed, and half of the time to the right time.
func (m *model) nextOffset(random *rand.Rand) time.Duration {
	if m.after != 0 && random.IntN(2) == 0 {
		return 0
	}
	far := []time.Duration{3 * time.Hour, 100 * time.Hour, 365 * 24 * time.Hour}
	d := time.Duration(2000+random.IntN(8000)) * time.Millisecond
	if random.IntN(4) != 0 {
		d = far[random.IntN(len(far))]
	}
	if random.IntN(2) == 0 {
		d = -d
	}
	if (d - m.after).Abs() < 2*time.Second {
		return 2*d + m.after
	}
	return d
}
