package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/password"
)

const (
	// rememberAtMost bounds the verified logins that are remembered, some 100
	// bytes each.
	rememberAtMost = 1 << 20
	// waitAtMost bounds the logins that wait for their password to be verified, and
	// waitBytes what they hold: a stranger may send three times 64 KiB with each.
	waitAtMost = 10_000
	waitBytes  = 16 << 20
	// wakeEvery is how often the broker is woken while it has not taken an answer.
	wakeEvery = 5 * time.Millisecond
	// warnAtMost bounds the usernames whose unreadable hash has been logged.
	warnAtMost = 1000
	// standAtMost is how long the broker stands still at once for log-ins that it
	// cannot wait for otherwise: less than the time between two readings. standShare
	// is which part of the time in the long run: less than one delivery in a hundred
	// meets one.
	standAtMost = 250 * time.Millisecond
	standShare  = 200
)

// credentials are what a client says of itself when it connects.
type credentials struct {
	username, password       string
	hasUsername, hasPassword bool
	clientID                 string
	address                  string // the IP address; empty for a local socket
}

// size is how many bytes they take.
func (c *credentials) size() int {
	return len(c.username) + len(c.password) + len(c.clientID) + len(c.address)
}

// logins verifies passwords.
//
// A password hash is slow on purpose, some 25 ms, and a broker that waits for it
// does so with all its clients. Hence:
//
//   - A password that was verified once is remembered, as a keyed hash that is
//     fast but worth nothing outside this process.
//   - One that iotoll generated has a hash that is fast in itself.
//   - Mosquitto 2.1 takes the answer later, from a goroutine.
//   - Mosquitto 2.0 cannot. There the first few log-ins are verified while it
//     waits. When more come than standAtMost and standShare allow, it closes the
//     connection without an answer; a goroutine verifies the password meanwhile,
//     and the client that tries again is remembered. It costs that client its
//     first attempt, and the others nothing.
type logins struct {
	log      logrus.FieldLogger
	key      [sha256.Size]byte // of the remembered logins; random for each process
	decoy    string            // a hash that no password has, as costly as a user's
	throttle throttle
	putOffs  atomic.Uint64 // log-ins whose client had to try again

	mu         sync.Mutex
	remembered map[string][sha256.Size]byte // by username
	warned     map[string]bool
	waiting    map[string]*login          // by client ID: the newest attempt only
	queue      []*login                   // not verified yet
	queueBytes int                        // what they hold
	putOff     map[[sha256.Size]byte]bool // of those, whose client has to try again; by mac
	stood      time.Time                  // when the broker may stand still for standAtMost again
	putOffSaid time.Time                  // when it was last logged
	answered   []*login                   // verified, not told to the broker yet
	working    bool                       // a goroutine works on the queue
}

// login is an attempt whose answer the broker gets later.
type login struct {
	credentials
	sum      [sha256.Size]byte // in putOff, if the client has to try again
	putOff   bool
	stored   string // the hash that the password was compared with
	accepted bool
}

func newLogins(log logrus.FieldLogger) (*logins, error) {
	l := &logins{
		log:        log,
		remembered: make(map[string][sha256.Size]byte),
		warned:     make(map[string]bool),
		waiting:    make(map[string]*login),
		putOff:     make(map[[sha256.Size]byte]bool),
	}
	rand.Read(l.key[:]) // never fails, see crypto/rand
	var err error
	if l.decoy, err = password.Hash(rand.Text()); err != nil {
		return nil, fmt.Errorf("hash a decoy password: %w", err)
	}
	return l, nil
}

// patience says how the broker can wait for the answer to a login.
type patience int

const (
	waits     patience = iota // 2.0: with all its clients
	waitsLong                 // the same, however long: whoever is refused now is not asked again
	delays                    // 2.1: it goes on, and hears the answer by takeAnswers
)

// login answers a BASIC_AUTH. If the broker delays, it may return codeDelayed, and
// wake is called, from another goroutine, when takeAnswers has the answer.
func (g *gate) login(c credentials, p patience, wake func()) int {
	inject("login")
	if !c.hasUsername {
		return codeDefer // allow_anonymous decides
	}
	if c.username == "" {
		return codeAuth // it would pass for an anonymous client from then on
	}
	l, s, now := g.logins, g.snapshot.Load(), g.now()
	u, known := s.User(c.username, now)
	switch {
	case !s.Fresh(now):
		return codeAuth // who is unknown cannot be told
	case !known && g.settings.Load().deferUnknown:
		return codeDefer
	case !c.hasPassword:
		return codeAuth
	case known && !u.Disabled && (l.isRemembered(c, u.Password) || isGenerated(c, u.Password)):
		return codeSuccess
	case p == delays:
		return l.delay(g, c, wake)
	case !l.throttle.allows(c.username, c.address, now):
		return codeAuth
	case p == waits && !l.mayStand(now):
		return l.putOffLogin(g, c, u.Password)
	}
	ok := g.verify(c, u, known)
	l.stand(now, g.now().Sub(now))
	if !ok {
		return codeAuth
	}
	return codeSuccess
}

// isGenerated reports whether it is a generated password, and the user's.
func isGenerated(c credentials, stored string) bool {
	if !password.Cheap(stored) {
		return false
	}
	ok, _ := password.Verify(stored, c.password) // verify will say what is wrong with it
	return ok
}

// mayStand reports whether the broker may stand still for another log-in.
func (l *logins) mayStand(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stood.Sub(now) < standAtMost*standShare
}

// stand counts how long the broker stood still for a log-in.
func (l *logins) stand(now time.Time, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stood.Before(now) {
		l.stood = now
	}
	l.stood = l.stood.Add(took * standShare)
}

// verify compares a password with the user's. It takes as long for a user who
// does not exist.
func (g *gate) verify(c credentials, u acl.User, known bool) bool {
	l := g.logins
	if !l.throttle.take(c.username, c.address, g.now()) {
		return false
	}
	stored := l.decoy
	if known {
		stored = u.Password
	}
	ok, err := password.Verify(stored, c.password)
	if err != nil {
		l.warn(c.username, err)
	}
	if !ok && (err != nil || !strings.HasPrefix(stored, "$argon2id$")) {
		// A cheap old hash, or one that cannot be read, must not tell that there is
		// such a user.
		password.Verify(l.decoy, c.password)
	}
	if !ok || !known || u.Disabled {
		return false
	}
	l.throttle.giveBack(c.username, c.address, g.now())
	l.remember(c, stored)
	return true
}

// warn logs, once for a username, that its stored hash cannot be used.
func (l *logins) warn(username string, err error) {
	l.mu.Lock()
	again := l.warned[username]
	if !again && len(l.warned) < warnAtMost {
		l.warned[username] = true
	}
	l.mu.Unlock()
	if !again {
		l.log.WithError(err).WithField("username", username).Warn("this user cannot log in: set the password anew")
	}
}

// mac is the keyed hash of a login under which it is remembered. Each part is
// preceded by its length, so no two logins have the same parts.
func (l *logins) mac(c credentials, stored string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, l.key[:])
	for _, part := range []string{c.username, stored, c.password} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	h.Sum(sum[:0])
	return sum
}

// isRemembered reports whether this password was verified for this user, whose
// stored hash is still the same.
func (l *logins) isRemembered(c credentials, stored string) bool {
	want := l.mac(c, stored)
	l.mu.Lock()
	got, ok := l.remembered[c.username]
	l.mu.Unlock()
	return ok && hmac.Equal(got[:], want[:])
}

func (l *logins) remember(c credentials, stored string) {
	sum := l.mac(c, stored)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.remembered[c.username]; !ok && len(l.remembered) >= rememberAtMost {
		for name := range l.remembered { // any one
			delete(l.remembered, name)
			break
		}
	}
	l.remembered[c.username] = sum
}

// delay has a password verified by a goroutine, whose answer the broker gets later.
func (l *logins) delay(g *gate, c credentials, wake func()) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	attempt := &login{credentials: c}
	if !l.enqueue(g, attempt, wake) {
		return codeAuth
	}
	// An older attempt under this client ID is of a client that has gone: its
	// answer must not let this one in.
	l.waiting[c.clientID] = attempt
	return codeDelayed
}

// putOffLogin has a password verified by a goroutine, and the client try again.
// It does not tell whether there is such a user.
func (l *logins) putOffLogin(g *gate, c credentials, stored string) int {
	attempt := &login{credentials: c, putOff: true, sum: l.mac(c, stored)}
	l.putOffs.Add(1)
	now := g.now()
	l.mu.Lock()
	if !l.putOff[attempt.sum] && l.enqueue(g, attempt, func() {}) {
		l.putOff[attempt.sum] = true
	}
	say := now.Sub(l.putOffSaid) >= remindEvery
	if say {
		l.putOffSaid = now
	}
	l.mu.Unlock()
	if say {
		l.log.Warn("many first log-ins at once: clients have to try again while their passwords are verified")
	}
	return codeUnavailable
}

// enqueue adds to the queue, which a goroutine works off. It reports whether there
// was room. Call it with the lock held.
func (l *logins) enqueue(g *gate, attempt *login, wake func()) bool {
	if len(l.queue) >= waitAtMost || l.queueBytes+attempt.size() > waitBytes {
		return false
	}
	l.queue = append(l.queue, attempt)
	l.queueBytes += attempt.size()
	if !l.working {
		l.working = true
		g.goes("verify", func() { l.work(g, wake) })
	}
	return true
}

// work verifies what is queued, one after another: more at once would take the
// broker's own core.
func (l *logins) work(g *gate, wake func()) {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 || g.ctx.Err() != nil {
			if len(l.answered) > 0 && g.ctx.Err() == nil {
				// A signal that comes just before the broker falls asleep is lost.
				l.mu.Unlock()
				time.Sleep(wakeEvery)
				wake()
				continue
			}
			l.working = false
			l.mu.Unlock()
			return
		}
		attempt := l.queue[0]
		l.queue[0] = nil // or the array would hold on to it
		l.queue = l.queue[1:]
		l.queueBytes -= attempt.size()
		l.mu.Unlock()

		g.panics.guard("verify", func() {
			inject("verify")
			u, known := g.snapshot.Load().User(attempt.username, g.now())
			attempt.stored = u.Password
			attempt.accepted = g.verify(attempt.credentials, u, known)
		})
		l.mu.Lock()
		if attempt.putOff {
			delete(l.putOff, attempt.sum)
		} else {
			l.answered = append(l.answered, attempt)
		}
		l.mu.Unlock()
		wake()
	}
}

// outcome is the answer to a login that was delayed.
type outcome struct {
	clientID string
	code     int
}

// takeAnswers returns the answers to delayed logins that have come since the last
// call, in the order in which the logins came.
func (g *gate) takeAnswers() []outcome {
	l := g.logins
	l.mu.Lock()
	answered := l.answered
	l.answered = nil
	var current []*login
	for _, a := range answered {
		if l.waiting[a.clientID] == a {
			delete(l.waiting, a.clientID)
			current = append(current, a)
		}
	}
	l.mu.Unlock()

	var out []outcome
	for _, a := range current {
		code := codeAuth
		// The user may have been changed while the password was verified.
		u, known := g.snapshot.Load().User(a.username, g.now())
		if a.accepted && known && !u.Disabled && u.Password == a.stored {
			code = codeSuccess
		}
		out = append(out, outcome{a.clientID, code})
	}
	return out
}

// The throttle allows so many wrong passwords at once, and one more after each
// time. Right ones are not counted.
var (
	perPair    = limit{5, 30 * time.Second}  // of one username from one address
	perName    = limit{20, 30 * time.Second} // of one username from everywhere
	perAddress = limit{30, time.Second}      // of all usernames from one address
)

// pairReserve are the tries that an address keeps for a username when strangers
// elsewhere have used up those of the username.
const pairReserve = 2

// throttleAtMost bounds the usernames, addresses and pairs that are counted.
const throttleAtMost = 1 << 16

// limit is a bucket of tries that fills by one in each time.
type limit struct {
	tries int
	every time.Duration
}

// throttle slows the guessing of passwords, by username and by address, so that a
// stranger cannot keep a user out: a password that was verified before is
// accepted without asking the throttle, and an address that has not failed lately
// keeps tries of its own for each username. The zero throttle is ready for use.
type throttle struct {
	mu      sync.Mutex
	buckets map[throttleKey]bucket
}

// throttleKey is a username, an address or, if both are set, a pair.
type throttleKey struct {
	name, address string
	kind          *limit
}

// bucket is as full as a limit allows from full on.
type bucket struct{ full time.Time }

// tries returns how many tries are left at a time.
func (b bucket) tries(l *limit, now time.Time) int {
	missing := max(0, b.full.Sub(now))
	return l.tries - int((missing+l.every-1)/l.every)
}

func keys(name, address string) [3]throttleKey {
	address = network(address)
	if len(name) > sha256.Size {
		// A stranger may send 64 KiB, which would be kept here.
		sum := sha256.Sum256([]byte(name))
		name = string(sum[:])
	}
	return [3]throttleKey{{name, address, &perPair}, {name, "", &perName}, {"", address, &perAddress}}
}

// allows reports whether a password may be tried.
func (t *throttle) allows(name, address string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.left(keys(name, address), now)
}

// take reports whether a password may be tried, and counts the try.
func (t *throttle) take(name, address string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := keys(name, address)
	if !t.left(k, now) {
		return false
	}
	for i := range k {
		t.add(k[i], 1, now)
	}
	return true
}

// left reports whether there is a try left.
func (t *throttle) left(k [3]throttleKey, now time.Time) bool {
	var left [3]int
	for i := range k {
		left[i] = t.buckets[k[i]].tries(k[i].kind, now)
	}
	pair, byName, byAddress := left[0], left[1], left[2]
	return pair >= 1 && byAddress >= 1 && (byName >= 1 || pair > perPair.tries-pairReserve)
}

// giveBack uncounts a try: the password was right.
func (t *throttle) giveBack(name, address string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys(name, address) {
		t.add(k, -1, now)
	}
}

// add counts n tries.
func (t *throttle) add(k throttleKey, n int, now time.Time) {
	b, ok := t.buckets[k]
	if !ok && len(t.buckets) >= throttleAtMost {
		t.makeRoom(now)
	}
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(time.Duration(n) * k.kind.every)
	if most := now.Add(time.Duration(k.kind.tries) * k.kind.every); b.full.After(most) {
		b.full = most
	}
	if !b.full.After(now) {
		delete(t.buckets, k)
		return
	}
	if t.buckets == nil {
		t.buckets = make(map[throttleKey]bucket)
	}
	t.buckets[k] = b
}

// makeRoom forgets the full buckets and, if there are none, some others.
func (t *throttle) makeRoom(now time.Time) {
	for k, b := range t.buckets {
		if !b.full.After(now) {
			delete(t.buckets, k)
		}
	}
	for k := range t.buckets {
		if len(t.buckets) < throttleAtMost*7/8 {
			break
		}
		delete(t.buckets, k)
	}
}

// network is what counts as one address: whoever has an IPv6 address has 2^64.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	p, _ := ip.Prefix(64) // an IPv6 address has 64 bits
	return p.String()
}
