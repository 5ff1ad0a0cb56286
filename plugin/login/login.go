// Package login verifies the passwords of clients that connect.
//
// A password hash is slow on purpose, about 25 ms, and Mosquitto has one thread
// for all clients. Therefore:
//
//   - A password that was verified once is remembered as a fast keyed hash, which is
//     worthless outside this process.
//   - A password that iotoll generated has a hash that is fast in itself.
//   - Mosquitto 2.1 accepts the answer later. A goroutine verifies the password.
//   - Mosquitto 2.0 does not. The first logins block it. Once they have blocked it for
//     longer than blockAtMost and blockShare allow, a login is deferred: the broker
//     closes the connection without an answer, a goroutine verifies the password, and
//     the client's retry finds it remembered.
//
// The goroutine serves the networks of the waiting clients in turn, so that many
// logins from one network hardly delay those from another.
package login

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/plugin/guard"
)

const (
	// rememberAtMost bounds the remembered logins, about 100 bytes each.
	rememberAtMost = 1 << 20
	// wakeEvery is how often the broker is woken until it has taken an outcome.
	wakeEvery = 5 * time.Millisecond
	// warnAtMost bounds the usernames whose unreadable hash was logged.
	warnAtMost = 1000
	// remindEvery is how often deferred logins are logged while they go on.
	remindEvery = time.Minute
	// blockAtMost is the longest burst of password hashing that may block Mosquitto
	// 2.0's only thread: less than the time between two readings. blockShare is the
	// inverse of the share of time in the long run: fewer than one delivery in a
	// hundred waits for a hash.
	blockAtMost = 250 * time.Millisecond
	blockShare  = 200
)

// Answer is what the broker is told about a login.
type Answer int

const (
	Refuse      Answer = iota // the client gets "not authorized", after which many give up
	Accept                    // the client is logged in
	Defer                     // the next plugin or allow_anonymous decides
	Later                     // Outcomes returns the answer
	Unavailable               // the connection is closed without an answer, after which clients retry
)

// Patience says how the broker waits for the answer to a login.
type Patience int

const (
	Blocking   Patience = iota // the broker and all its clients wait; a refusal may be retried
	MustAnswer                 // never deferred: a refusal here drops an existing session
	Async                      // the broker accepts the answer Later
)

// Credentials are what a client sends when it connects.
type Credentials struct {
	Username, Password       string
	HasUsername, HasPassword bool
	ClientID                 string
	Address                  string // the IP address; empty for a Unix socket
}

// size returns how many bytes the strings take.
func (c *Credentials) size() int {
	return len(c.Username) + len(c.Password) + len(c.ClientID) + len(c.Address)
}

// Users tells who may log in. Its methods answer from memory.
type Users interface {
	// User returns a user as of now. known is false if there is no such user. fresh
	// is false while that is unknown.
	User(name string) (u acl.User, known, fresh bool)
	// DeferUnknown reports whether unknown users are left to the next plugin.
	DeferUnknown() bool
}

// Logins answers logins. [New] makes one; [Logins.Run] has to run at the same time.
type Logins struct {
	users    Users
	guard    *guard.Guard
	wake     func()
	log      logrus.FieldLogger
	now      func() time.Time
	verify   func(stored, password string) (bool, error)
	key      [sha256.Size]byte // of the remembered logins; random for each process
	decoy    string            // a hash that costs as much as a user's and has no known password
	throttle throttle
	deferred atomic.Uint64

	mu         sync.Mutex
	remembered map[string][sha256.Size]byte // by username
	warned     map[string]bool
	waiting    map[string]*attempt        // by client ID: the newest attempt only
	queue      queue                      // attempts to verify
	retries    map[[sha256.Size]byte]bool // the queued attempts whose client retries, by mac
	blocked    time.Time                  // when the broker may be blocked for blockAtMost again
	reminded   time.Time                  // when deferred logins were last logged
	answered   []*attempt                 // verified; the broker has not been told yet
	work       chan struct{}              // has room for one: the queue is not empty
}

// attempt is a login whose password is verified by Run.
type attempt struct {
	Credentials
	sum      [sha256.Size]byte // in retries, if retry is set
	retry    bool              // the client retries; the broker is told nothing
	stored   string            // the hash that the password was compared with
	accepted bool
}

// New returns Logins for users. wake is called, from another goroutine, when the
// broker should call [Logins.Outcomes].
func New(users Users, g *guard.Guard, wake func(), log logrus.FieldLogger) (*Logins, error) {
	l := &Logins{
		users: users, guard: g, wake: wake, log: log,
		now:        time.Now,
		verify:     password.Verify,
		remembered: make(map[string][sha256.Size]byte),
		warned:     make(map[string]bool),
		waiting:    make(map[string]*attempt),
		retries:    make(map[[sha256.Size]byte]bool),
		work:       make(chan struct{}, 1),
	}
	rand.Read(l.key[:]) // never fails, see crypto/rand
	var err error
	if l.decoy, err = password.Hash(rand.Text()); err != nil {
		return nil, fmt.Errorf("hash a decoy password: %w", err)
	}
	return l, nil
}

// Deferred returns how many logins were deferred, so that their client had to retry.
func (l *Logins) Deferred() uint64 { return l.deferred.Load() }

// Login answers a login. It returns Later only if the broker's patience is Async.
func (l *Logins) Login(c Credentials, p Patience) Answer {
	if !c.HasUsername {
		return Defer // allow_anonymous decides
	}
	if c.Username == "" {
		return Refuse // the broker would treat the client as anonymous from then on
	}
	u, known, fresh := l.users.User(c.Username)
	now := l.now()
	switch {
	case !fresh:
		return Unavailable
	case !known && l.users.DeferUnknown():
		return Defer
	case !c.HasPassword:
		return Refuse
	case known && !u.Disabled && (l.isRemembered(c, u.Password) || isGenerated(c, u.Password)):
		return Accept
	case p == Async:
		return l.answerLater(c)
	case !l.throttle.allows(c.Username, c.Address, now):
		return Refuse
	case p == Blocking && !l.mayBlock(now):
		return l.deferLogin(c, u.Password)
	}
	ok := l.check(c, u, known)
	l.countBlocked(now, l.now().Sub(now))
	if !ok {
		return Refuse
	}
	return Accept
}

// isGenerated reports whether the password is a generated one and the user's.
func isGenerated(c Credentials, stored string) bool {
	if !password.Cheap(stored) {
		return false
	}
	ok, _ := password.Verify(stored, c.Password) // check logs the error
	return ok
}

// mayBlock reports whether another login may block the broker.
func (l *Logins) mayBlock(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.blocked.Sub(now) < blockAtMost*blockShare
}

// countBlocked counts how long a login blocked the broker.
func (l *Logins) countBlocked(now time.Time, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.blocked.Before(now) {
		l.blocked = now
	}
	l.blocked = l.blocked.Add(took * blockShare)
}

// check compares a password with the user's hash. It takes as long for a user who
// does not exist.
func (l *Logins) check(c Credentials, u acl.User, known bool) bool {
	if !l.throttle.take(c.Username, c.Address, l.now()) {
		return false
	}
	stored := l.decoy
	if known {
		stored = u.Password
	}
	ok, err := l.verify(stored, c.Password)
	if err != nil {
		l.warn(c.Username, err)
	}
	if !ok && (err != nil || !strings.HasPrefix(stored, "$argon2id$")) {
		// A cheap or unreadable hash must not reveal that the user exists.
		l.verify(l.decoy, c.Password)
	}
	if !ok || !known || u.Disabled {
		return false
	}
	l.throttle.giveBack(c.Username, c.Address, l.now())
	l.remember(c, stored)
	return true
}

// warn logs, once for each username, that its stored hash cannot be used.
func (l *Logins) warn(username string, err error) {
	l.mu.Lock()
	again := l.warned[username]
	if !again && len(l.warned) < warnAtMost {
		l.warned[username] = true
	}
	l.mu.Unlock()
	if !again {
		l.log.WithError(err).WithField("username", username).Warn("user cannot log in, set a new password")
	}
}

// mac returns the keyed hash under which a login is remembered. Each part follows
// its length, so two different logins never hash the same bytes.
func (l *Logins) mac(c Credentials, stored string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, l.key[:])
	for _, part := range []string{c.Username, stored, c.Password} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	h.Sum(sum[:0])
	return sum
}

// isRemembered reports whether this password was verified against this stored hash.
func (l *Logins) isRemembered(c Credentials, stored string) bool {
	want := l.mac(c, stored)
	l.mu.Lock()
	got, ok := l.remembered[c.Username]
	l.mu.Unlock()
	return ok && hmac.Equal(got[:], want[:])
}

func (l *Logins) remember(c Credentials, stored string) {
	sum := l.mac(c, stored)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.remembered[c.Username]; !ok && len(l.remembered) >= rememberAtMost {
		for name := range l.remembered { // a random one
			delete(l.remembered, name)
			break
		}
	}
	l.remembered[c.Username] = sum
}

// answerLater queues a login whose outcome the broker is told later.
func (l *Logins) answerLater(c Credentials) Answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &attempt{Credentials: c}
	if !l.enqueue(a) {
		return Unavailable
	}
	// The client of an older attempt under this ID has gone: its outcome must not
	// let this client in.
	l.waiting[c.ClientID] = a
	return Later
}

// deferLogin queues a login whose client has to retry. The answer does not reveal
// whether the user exists.
func (l *Logins) deferLogin(c Credentials, stored string) Answer {
	a := &attempt{Credentials: c, retry: true, sum: l.mac(c, stored)}
	l.deferred.Add(1)
	now := l.now()
	l.mu.Lock()
	if !l.retries[a.sum] && l.enqueue(a) {
		l.retries[a.sum] = true
	}
	remind := now.Sub(l.reminded) >= remindEvery
	if remind {
		l.reminded = now
	}
	l.mu.Unlock()
	if remind {
		l.log.Warn("many first logins, clients have to retry while their passwords are verified")
	}
	return Unavailable
}

// enqueue adds an attempt to the queue and reports whether there was room. Call it
// with the lock held.
func (l *Logins) enqueue(a *attempt) bool {
	dropped, ok := l.queue.push(a)
	for _, d := range dropped {
		l.finish(d)
	}
	select {
	case l.work <- struct{}{}:
	default:
	}
	return ok
}

// finish takes an attempt that has left the queue. Call it with the lock held.
func (l *Logins) finish(a *attempt) {
	if a.retry {
		delete(l.retries, a.sum)
	} else {
		l.answered = append(l.answered, a)
	}
}

// Run verifies queued logins until ctx ends, one after another: more at once would
// take the broker's own core.
func (l *Logins) Run(ctx context.Context) {
	for ctx.Err() == nil {
		l.mu.Lock()
		a, answered := l.queue.pop(), len(l.answered) > 0
		l.mu.Unlock()
		switch {
		case a != nil:
			l.guard.Run("verify", func() {
				u, known, _ := l.users.User(a.Username)
				a.stored = u.Password
				a.accepted = l.check(a.Credentials, u, known)
			})
			l.mu.Lock()
			l.finish(a)
			l.mu.Unlock()
			l.wake()
		case answered:
			// The broker misses a signal that arrives just before it sleeps.
			select {
			case <-ctx.Done():
			case <-l.work:
			case <-time.After(wakeEvery):
			}
			l.wake()
		default:
			select {
			case <-ctx.Done():
			case <-l.work:
			}
		}
	}
}

// Outcome is the answer to a login that was answered Later.
type Outcome struct {
	Credentials
	Answer Answer
}

// Outcomes returns the outcomes since the last call. If a client ID has tried
// several times, only the last attempt has one.
func (l *Logins) Outcomes() (out []Outcome) {
	l.mu.Lock()
	answered := l.answered
	l.answered = nil
	current := answered[:0]
	for _, a := range answered {
		if l.waiting[a.ClientID] == a {
			delete(l.waiting, a.ClientID)
			current = append(current, a)
		}
	}
	l.mu.Unlock()
	for _, a := range current {
		o := Outcome{Credentials: a.Credentials}
		// The user may have changed while the password was verified.
		u, known, _ := l.users.User(a.Username)
		if a.accepted && known && !u.Disabled && u.Password == a.stored {
			o.Answer = Accept
		}
		out = append(out, o)
	}
	return out
}
