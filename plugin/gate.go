package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/mongostore"
)

// What a callback answers to the broker: the codes of mosquitto.h that are safe.
// Others close connections, and for READ not even the reader's.
const (
	codeSuccess = 0
	codeAuth    = 11 // MOSQ_ERR_AUTH: a login is refused
	codeDenied  = 12 // MOSQ_ERR_ACL_DENIED
	codeDefer   = 17 // MOSQ_ERR_PLUGIN_DEFER: let the next plugin say
	codeDelayed = -5 // MOSQ_ERR_AUTH_DELAYED, in Mosquitto 2.1: the answer comes later

	// codeUnavailable is MQTT's 0x88. Mosquitto 2.0, the only one that gets it,
	// closes the connection without an answer: clients try again, while after
	// "not authorized" many give up.
	codeUnavailable = 0x88
)

const (
	followEvery  = 50 * time.Millisecond // how often the store is asked what is new
	followTold   = time.Second           // the same, while it tells by itself when something is
	watchAgain   = 10 * time.Second      // how often a store that does not tell is asked to
	retryAtMost  = time.Second           // the longest pause while the store is away
	callTimeout  = 3 * time.Second       // for a question about what is new
	loadTimeout  = 2 * time.Minute       // for reading all users and grants
	startTimeout = 2 * time.Second       // how long the broker's start waits for the store
	stopTimeout  = 2 * time.Second       // how long the broker's end waits for our goroutines
	remindEvery  = time.Minute           // how often a failure that lasts is logged
)

// source is the store, as far as the gate reads it. Load and Changes may be called
// at the same time.
type source interface {
	// CheckVersion returns an error wrapping mongostore.ErrVersion for a schema
	// that this program does not know.
	CheckVersion(ctx context.Context) error
	// Load returns all users and grants, and the position in the log of changes
	// from which Changes goes on without a gap.
	Load(ctx context.Context) ([]acl.User, []acl.Grant, mongostore.ResumeToken, error)
	// Changes returns what changed since a position, or the first part of it. It is
	// cheap when nothing did. An error wrapping mongostore.ErrReload says that only
	// a new Load can tell.
	Changes(ctx context.Context, since mongostore.ResumeToken) ([]acl.Change, mongostore.ResumeToken, error)
	// Watch calls news when the store begins to tell that something is new, and
	// then whenever something is. It returns when the store cannot, or ceases to.
	Watch(ctx context.Context, news func()) error
	Close(ctx context.Context) error
}

// gate answers the broker from memory, and keeps that memory up to date. It knows
// nothing of C: bridge.c and export.go call it.
type gate struct {
	config config
	store  source
	log    logrus.FieldLogger
	now    func() time.Time
	// changed is called after an answer that was given before may have become
	// another one.
	changed func()

	snapshot atomic.Pointer[acl.Snapshot]
	settings atomic.Pointer[settings]
	logins   *logins
	panics   *panics

	health atomic.Pointer[health]
	told   atomic.Bool   // the store tells when something is new
	news   chan struct{} // holds one if follow is to ask the store now
	reload atomic.Bool   // all is to be read anew: users may have been edited by hand
	reread atomic.Bool   // so are the settings

	ctx  context.Context // ends with close
	stop context.CancelFunc
	done sync.WaitGroup
}

// health is the state of the connection to the store.
type health struct {
	err   error     // of the last attempt; nil if it succeeded
	since time.Time // when err became nil, or ceased to be
}

// newGate returns a gate that knows nobody and permits what is public. start sets
// it going.
func newGate(c config, s source, log logrus.FieldLogger, changed func()) (*gate, error) {
	settings, err := c.readSettings()
	if err != nil {
		return nil, fmt.Errorf("plugin_opt_settings_file: %w", err)
	}
	logins, err := newLogins(log)
	if err != nil {
		return nil, err
	}
	g := &gate{config: c, store: s, log: log, now: time.Now, changed: changed, logins: logins, panics: &panics{log: log}, news: make(chan struct{}, 1)}
	g.ctx, g.stop = context.WithCancel(context.Background())
	g.snapshot.Store(acl.NewSnapshot(settings.public, settings.maxAge))
	g.settings.Store(&settings)
	g.health.Store(&health{err: errors.New("not reached yet"), since: g.now()})
	return g, nil
}

// start begins to follow the store. It waits a short while for the first answer,
// so that the first clients find what they may do, and returns an error only if
// the store has a schema that this program does not know.
func (g *gate) start() error {
	first := make(chan error, 1)
	g.goes("follow", func() { g.follow(g.ctx, first) })
	g.goes("watch", func() { g.watch(g.ctx) })
	select {
	case err := <-first:
		if errors.Is(err, mongostore.ErrVersion) {
			return err
		}
	case <-time.After(startTimeout):
	}
	return nil
}

// close ends what start began, and waits for it a bounded time. It reports whether
// all has ended.
func (g *gate) close() (ended bool) {
	g.stop()
	all := make(chan struct{})
	go func() {
		defer close(all)
		g.done.Wait()
	}()
	select {
	case <-all:
		ended = true
	case <-time.After(stopTimeout):
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := g.store.Close(ctx); err != nil {
		g.log.WithError(err).Debug("store not closed in order")
	}
	return ended
}

// goes runs f in a goroutine that close waits for.
func (g *gate) goes(op string, f func()) {
	g.done.Go(func() { g.panics.guard(op, f) })
}

// every calls f in a goroutine until close, now and then again.
func (g *gate) every(pause time.Duration, op string, f func()) {
	g.goes(op, func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-g.ctx.Done():
				return
			case <-tick.C:
				g.panics.guard(op, f)
			}
		}
	})
}

// follow keeps the snapshot up to date until ctx ends. It sends the first
// attempt's result to first.
func (g *gate) follow(ctx context.Context, first chan<- error) {
	f := follower{gate: g}
	pause, logged := followEvery, time.Time{}
	for ctx.Err() == nil {
		told := g.told.Load()
		err := errors.New("panic, see the log")
		g.panics.guard("refresh", func() { err = f.refresh(ctx) })
		if ctx.Err() != nil {
			return
		}
		before := g.health.Load()
		after := health{err: err, since: before.since}
		if (err == nil) != (before.err == nil) {
			after.since = g.now()
		}
		g.health.Store(&after)
		switch {
		case err == nil:
			if before.err != nil {
				users, grants := g.snapshot.Load().Size()
				g.log.WithFields(logrus.Fields{"users": users, "grants": grants}).Info("following the store")
			}
			if pause, logged = followEvery, (time.Time{}); told {
				pause = followTold
			}
		default:
			if now := g.now(); now.Sub(logged) >= remindEvery {
				logged = now
				g.log.WithError(err).Warn("cannot follow the store, going on with what is known")
			}
			pause = min(2*pause, retryAtMost)
		}
		select {
		case first <- err:
		default:
		}
		select {
		case <-ctx.Done():
		case <-g.news:
		case <-time.After(pause):
		}
	}
}

// watch lets the store tell when something is new, if it can, until ctx ends.
func (g *gate) watch(ctx context.Context) {
	for ctx.Err() == nil {
		g.panics.guard("watch", func() {
			g.store.Watch(ctx, func() { // follow notices what is wrong with the store
				g.told.Store(true)
				g.ask()
			})
		})
		if g.told.Swap(false) {
			g.ask()
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
}

// ask has follow ask the store now.
func (g *gate) ask() {
	select {
	case g.news <- struct{}{}:
	default: // it is going to, anyway
	}
}

// renew has the settings, and all users and grants, read anew.
func (g *gate) renew() {
	g.reread.Store(true)
	g.reload.Store(true)
	g.ask()
}

// follower is how far the snapshot follows the store.
type follower struct {
	gate   *gate
	loaded bool
	at     mongostore.ResumeToken
	// again is where what reload asked for will come from: meanwhile changes are
	// followed as before. It is nil at other times.
	again chan image
}

// image is all users and grants, as they were read from a moment on.
type image struct {
	asOf   time.Time
	users  []acl.User
	grants []acl.Grant
	at     mongostore.ResumeToken // from which Changes goes on
	err    error
}

// refresh brings the snapshot up to date once.
func (f *follower) refresh(ctx context.Context) error {
	inject("refresh")
	g := f.gate
	if g.reread.Swap(false) {
		g.readSettings()
	}
	if !f.loaded {
		g.reload.Store(false)
		all := g.load(ctx)
		if all.err != nil {
			return all.err
		}
		return f.adopt(ctx, all)
	}
	if f.again == nil && g.reload.Swap(false) {
		again := make(chan image, 1)
		f.again = again
		g.goes("reload", func() {
			all := image{err: errors.New("panic, see the log")}
			defer func() {
				again <- all
				g.ask()
			}()
			all = g.load(ctx)
		})
	}
	select {
	case all := <-f.again:
		f.again = nil
		if all.err != nil {
			g.reload.Store(true)
			return all.err
		}
		return f.adopt(ctx, all)
	default:
	}
	asOf := g.now()
	changes, at, err := g.changes(ctx, f.at)
	if errors.Is(err, mongostore.ErrReload) {
		f.loaded = false
		return f.refresh(ctx)
	}
	if err != nil {
		return err
	}
	g.publish(g.snapshot.Load().With(asOf, changes...), len(changes) > 0)
	if at.Seq != f.at.Seq {
		g.ask() // there may be more
	}
	f.at = at // last: after a panic the changes are applied again
	return nil
}

// readSettings puts the settings file in force as it is now, or else keeps what was
// in force.
func (g *gate) readSettings() {
	s, err := g.config.readSettings()
	if err != nil {
		g.log.WithError(err).Error("settings not changed")
		return
	}
	g.settings.Store(&s)
	g.publish(g.snapshot.Load().Configure(s.public, s.maxAge), true)
}

// adopt puts in force what was loaded, with all the changes since: some of them may
// have been in force already.
func (f *follower) adopt(ctx context.Context, all image) error {
	f.loaded = false // if this fails
	s := f.gate.snapshot.Load().Load(all.asOf, all.users, all.grants)
	for at, more := all.at, true; more; {
		changes, next, err := f.gate.changes(ctx, at)
		if err != nil {
			return err
		}
		s = s.With(all.asOf, changes...)
		more, at = next.Seq != at.Seq, next
		f.at = at
	}
	f.gate.publish(s, true)
	f.loaded = true
	return nil
}

// changes reads what changed since a position.
func (g *gate) changes(ctx context.Context, since mongostore.ResumeToken) ([]acl.Change, mongostore.ResumeToken, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	changes, at, err := g.store.Changes(ctx, since)
	if err != nil {
		return nil, at, fmt.Errorf("read changes: %w", err)
	}
	return changes, at, nil
}

// load reads all users and grants.
func (g *gate) load(ctx context.Context) (all image) {
	soon, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := g.store.CheckVersion(soon); err != nil {
		return image{err: err}
	}
	ctx, cancel = context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	all.asOf = g.now()
	if all.users, all.grants, all.at, all.err = g.store.Load(ctx); all.err != nil {
		all.err = fmt.Errorf("load users and grants: %w", all.err)
	}
	return all
}

// publish puts a snapshot in force. differs says that it may answer otherwise
// than the one before, apart from its age.
func (g *gate) publish(s *acl.Snapshot, differs bool) {
	differs = differs || !g.snapshot.Load().Fresh(g.now())
	g.snapshot.Store(s)
	if differs {
		g.changed()
	}
}

// answer is what the broker hears, and how long it may repeat it by itself.
type answer struct {
	code   int
	reason acl.Reason
	until  time.Time // zero: until the snapshot changes
	keep   bool
}

// decide answers an ACL_CHECK.
func (g *gate) decide(r acl.Request) answer {
	inject("decide")
	d := g.snapshot.Load().Decide(r, g.now())
	a := answer{code: codeDenied, reason: d.Reason, until: d.Until, keep: !d.PerClient}
	switch {
	case d.Permit:
		a.code = codeSuccess
	case g.settings.Load().deferUnknown && d.Reason == acl.UnknownUser:
		a.code = codeDefer
	}
	return a
}

// panics keeps what is wrong in our code from ending the broker.
type panics struct {
	log   logrus.FieldLogger
	count atomic.Uint64

	mu     sync.Mutex
	logged map[string]bool
}

// guard runs f, and recovers. The first panic of an op is logged with its stack,
// all are counted.
func (p *panics) guard(op string, f func()) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		p.count.Add(1)
		p.mu.Lock()
		again := p.logged[op]
		if !again {
			if p.logged == nil {
				p.logged = make(map[string]bool)
			}
			p.logged[op] = true
		}
		p.mu.Unlock()
		if !again {
			p.log.WithFields(logrus.Fields{"op": op, "panic": fmt.Sprint(v), "stack": string(debug.Stack())}).Error("panic in the plugin, the request is denied")
		}
	}()
	f()
}
