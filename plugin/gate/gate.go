// Package gate decides what the broker's clients may do. It answers from a snapshot
// of the store in memory ([Gate.Decide]), follows the store ([Gate.Run]), notices
// which sessions must end ([Gate.Kicks]), announces what the store says to everybody
// ([Gate.Announcements]) and reports its state ([Gate.Report]).
package gate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/plugin/guard"
)

// Source is the store as far as the gate reads it. Load and Changes may run at the
// same time.
type Source interface {
	// CheckVersion returns an error wrapping mongostore.ErrVersion for a schema
	// that this program does not know.
	CheckVersion(ctx context.Context) error
	// Load returns all users and grants, and the position in the log of changes
	// from which Changes continues without a gap.
	Load(ctx context.Context) ([]acl.User, []acl.Grant, mongostore.ResumeToken, error)
	// ForSale returns what is for sale. Call it after Load: Changes continues from
	// the position that Load returned.
	ForSale(ctx context.Context) ([]acl.Offer, error)
	// SignupAnnouncement returns what those who want to sign up need, nil if nobody
	// can. Call it after Load, too.
	SignupAnnouncement(ctx context.Context) ([]byte, error)
	// Changes returns the changes since a position, or the first of them. It is
	// cheap if there are none. An error wrapping mongostore.ErrReload means that
	// only a new Load can tell what changed.
	Changes(ctx context.Context, since mongostore.ResumeToken) ([]acl.Change, mongostore.ResumeToken, error)
	// Watch calls news once the store has begun to announce changes, and then for
	// each announcement. It returns when the store stops announcing or cannot.
	Watch(ctx context.Context, news func()) error
	Close(ctx context.Context) error
}

// Host is the broker as far as the gate needs it. Its functions may be called from
// any goroutine.
type Host struct {
	// Changed is called when an earlier answer may have become wrong.
	Changed func()
	// Wake makes the broker call Kicks and Announcements soon.
	Wake func()
}

// Gate answers the broker from memory and keeps that memory up to date.
type Gate struct {
	config Config
	source Source
	host   Host
	guard  *guard.Guard
	log    logrus.FieldLogger
	now    func() time.Time
	// elapsed is a monotonic clock, which no correction of the wall clock moves.
	elapsed func() time.Duration

	snapshot atomic.Pointer[acl.Snapshot]
	settings atomic.Pointer[settings]
	sessions sessions
	signup   announcement

	health     atomic.Pointer[health]
	announcing atomic.Bool   // the store announces changes
	news       chan struct{} // has room for one: follow asks the store now
	reload     atomic.Bool   // load all users and grants again
	reread     atomic.Bool   // read the settings file again
	first      chan error    // the result of the first attempt to load
}

// health is the state of the connection to the store.
type health struct {
	err   error     // of the last attempt; nil if it succeeded
	since time.Time // when err last became nil, or stopped being nil
}

// New returns a gate without users, which permits only what is public. [Gate.Run]
// loads the rest. It returns an error if the settings file cannot be read.
func New(c Config, s Source, h Host, g *guard.Guard, log logrus.FieldLogger) (*Gate, error) {
	settings, err := c.readSettings()
	if err != nil {
		return nil, fmt.Errorf("plugin_opt_settings_file: %w", err)
	}
	started := time.Now()
	gate := &Gate{
		config: c, source: s, host: h, guard: g, log: log,
		now:      time.Now,
		elapsed:  func() time.Duration { return time.Since(started) },
		sessions: newSessions(),
		news:     make(chan struct{}, 1),
		first:    make(chan error, 1),
	}
	gate.snapshot.Store(acl.NewSnapshot(settings.public, settings.maxAge).RefuseUnpaid(settings.refuseUnpaid))
	gate.settings.Store(&settings)
	gate.health.Store(&health{err: errors.New("not reached yet"), since: gate.now()})
	return gate, nil
}

// Run follows the store until ctx ends, and closes it.
func (g *Gate) Run(ctx context.Context) {
	var loops sync.WaitGroup
	for op, loop := range map[string]func(context.Context){"follow": g.follow, "watch": g.watch, "shares": g.watchShares} {
		loops.Go(func() { g.guard.Run(op, func() { loop(ctx) }) })
	}
	loops.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := g.source.Close(ctx); err != nil {
		g.log.WithError(err).Debug("close store")
	}
}

// First returns a channel that receives the result of the first attempt to load
// users and grants, nil if it succeeded.
func (g *Gate) First() <-chan error { return g.first }

// Verdict is what the broker does with a request.
type Verdict int

// The verdicts. DeferToNext leaves the request to the next plugin.
const (
	Deny Verdict = iota
	Permit
	DeferToNext
)

// Answer is a decision for the broker, which may repeat it by itself.
type Answer struct {
	Verdict Verdict
	Reason  acl.Reason
	Until   time.Time // when it ends; zero: when the snapshot changes
	Keep    bool      // it holds for every client of the subject
}

// Decide answers an ACL_CHECK: this is where a delivery is decided.
func (g *Gate) Decide(r acl.Request) Answer {
	d := g.snapshot.Load().Decide(r, g.now())
	a := Answer{Reason: d.Reason, Until: d.Until, Keep: !d.PerClient}
	switch {
	case d.Permit:
		a.Verdict = Permit
	case d.Reason == acl.UnknownUser && g.DeferUnknown():
		a.Verdict = DeferToNext
	}
	return a
}

// User returns a user as of now, for a login. known is false if there is no such
// user; fresh is false before the first snapshot and when it is too old.
func (g *Gate) User(name string) (u acl.User, known, fresh bool) {
	s, now := g.snapshot.Load(), g.now()
	u, known = s.User(name, now)
	return u, known, s.Fresh(now)
}

// DeferUnknown reports whether unknown users are left to the next plugin.
func (g *Gate) DeferUnknown() bool { return g.settings.Load().deferUnknown }

// Reload makes Run read the settings file, and load all users and grants again.
func (g *Gate) Reload() {
	g.reread.Store(true)
	g.reload.Store(true)
	g.ask()
}

// ask makes follow ask the store now.
func (g *Gate) ask() {
	select {
	case g.news <- struct{}{}:
	default: // it is about to
	}
}

// publish puts a snapshot in force. differs is true if its answers may differ from
// those of the one before, apart from their age.
func (g *Gate) publish(s *acl.Snapshot, differs bool) {
	before := g.snapshot.Load()
	differs = differs || !before.Fresh(g.now())
	g.snapshot.Store(s)
	if !differs {
		return
	}
	g.host.Changed()
	// After the new snapshot is in force: a login that still met the old one has
	// a session by the time that the broker takes the kick.
	var kicks []Kick
	for _, name := range before.Logouts(s) {
		kicks = append(kicks, Kick{Username: name})
	}
	g.kick(kicks)
	g.sessions.check()
}
