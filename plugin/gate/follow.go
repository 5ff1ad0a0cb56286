package gate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/mongostore"
)

const (
	pollEvery       = 50 * time.Millisecond // how often the store is asked for changes
	pollAnnounced   = time.Second           // the same, while the store announces changes
	watchAgain      = 10 * time.Second      // how often a store that does not announce is asked to
	retryAtMost     = time.Second           // longest pause while the store is unreachable
	callTimeout     = 3 * time.Second       // for one question about changes
	loadTimeout     = 2 * time.Minute       // for loading all users and grants
	closeTimeout    = time.Second           // for closing the store
	remindEvery     = time.Minute           // how often a lasting failure is logged
	clockSlipAtMost = time.Second           // between two polls; more is a step of the wall clock
)

// follow keeps the snapshot up to date until ctx ends.
func (g *Gate) follow(ctx context.Context) {
	f := follower{gate: g, wall: g.now(), elapsed: g.elapsed()}
	defer func() {
		if f.again != nil {
			<-f.again // its goroutine ends with ctx
		}
	}()
	pause, logged := pollEvery, time.Time{}
	for ctx.Err() == nil {
		announcing := g.announcing.Load()
		err := errors.New("panic, see the log")
		g.guard.Run("refresh", func() { err = f.refresh(ctx) })
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
			if pause, logged = pollEvery, (time.Time{}); announcing {
				pause = pollAnnounced
			}
		default:
			if now := g.now(); now.Sub(logged).Abs() >= remindEvery {
				logged = now
				g.log.WithError(err).Warn("cannot follow the store, users and grants stay as they are")
			}
			pause = min(2*pause, retryAtMost)
		}
		select {
		case g.first <- err:
		default:
		}
		select {
		case <-ctx.Done():
		case <-g.news:
		case <-time.After(pause):
		}
	}
}

// watch lets the store announce changes, if it can, until ctx ends.
func (g *Gate) watch(ctx context.Context) {
	for ctx.Err() == nil {
		g.guard.Run("watch", func() {
			g.source.Watch(ctx, func() { // follow notices the store's errors
				g.announcing.Store(true)
				g.ask()
			})
		})
		if g.announcing.Swap(false) {
			g.ask()
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
}

// follower is the progress of follow.
type follower struct {
	gate   *Gate
	loaded bool
	at     mongostore.ResumeToken
	// again receives the result of a reload that runs while changes are still
	// followed. It is nil while none runs.
	again chan image
	// wall and elapsed are the two clocks at the last look.
	wall    time.Time
	elapsed time.Duration
}

// image is all users, grants and offers, read from asOf on.
type image struct {
	asOf   time.Time
	users  []acl.User
	grants []acl.Grant
	offers []acl.Offer
	signup []byte
	at     mongostore.ResumeToken // from which Changes continues
	err    error
}

// refresh brings the snapshot up to date once.
func (f *follower) refresh(ctx context.Context) error {
	g := f.gate
	f.checkClock()
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
		go func() {
			all := image{err: errors.New("panic, see the log")}
			g.guard.Run("load", func() { all = g.load(ctx) })
			again <- all
			g.ask()
		}()
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
	for _, c := range changes {
		if c.Signup != nil {
			g.announceSignup(*c.Signup)
		}
	}
	if at.Seq != f.at.Seq {
		g.ask() // there may be more
	}
	f.at = at // last: after a panic the changes are applied again
	return nil
}

// checkClock compares the wall clock, by which grants begin and end, with the
// monotonic clock. After a step of the wall clock it makes the broker ask again
// about everything, and loads what an earlier, wrong time left out.
func (f *follower) checkClock() {
	g := f.gate
	wall, elapsed := g.now(), g.elapsed()
	step := wall.Round(0).Sub(f.wall.Round(0)) - (elapsed - f.elapsed)
	if step.Abs() >= clockSlipAtMost {
		g.log.WithField("step", step.Round(time.Millisecond).String()).Warn("wall clock was set, loading users and grants again")
		g.reload.Store(true)
		s := g.snapshot.Load()
		// The age stays what it was.
		g.publish(s.With(wall.Add(-f.wall.Add(elapsed-f.elapsed).Sub(s.AsOf()))), true)
	}
	f.wall, f.elapsed = wall, elapsed
}

// readSettings puts the settings file in force, or keeps the old settings if there
// is an error in it.
func (g *Gate) readSettings() {
	s, err := g.config.readSettings()
	if err != nil {
		g.log.WithError(err).Error("settings not changed")
		return
	}
	g.settings.Store(&s)
	g.publish(g.snapshot.Load().Configure(s.public, s.maxAge).RefuseUnpaid(s.refuseUnpaid), true)
}

// adopt puts an image in force together with all changes since, some of which may
// have been in force already.
func (f *follower) adopt(ctx context.Context, all image) error {
	f.loaded = false // if this fails
	s := f.gate.snapshot.Load().Load(all.asOf, all.users, all.grants).With(all.asOf, acl.Change{Offers: &all.offers})
	for at, more := all.at, true; more; {
		changes, next, err := f.gate.changes(ctx, at)
		if err != nil {
			return err
		}
		s = s.With(all.asOf, changes...)
		for _, c := range changes {
			if c.Signup != nil {
				all.signup = *c.Signup
			}
		}
		more, at = next.Seq != at.Seq, next
		f.at = at
	}
	f.gate.publish(s, true)
	f.gate.announceSignup(all.signup)
	f.loaded = true
	return nil
}

// changes reads the changes since a position.
func (g *Gate) changes(ctx context.Context, since mongostore.ResumeToken) ([]acl.Change, mongostore.ResumeToken, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	changes, at, err := g.source.Changes(ctx, since)
	if err != nil {
		return nil, at, fmt.Errorf("read changes: %w", err)
	}
	return changes, at, nil
}

// load reads all users, grants and offers.
func (g *Gate) load(ctx context.Context) (all image) {
	soon, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := g.source.CheckVersion(soon); err != nil {
		return image{err: err}
	}
	ctx, cancel = context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	all.asOf = g.now()
	if all.users, all.grants, all.at, all.err = g.source.Load(ctx); all.err != nil {
		all.err = fmt.Errorf("load users and grants: %w", all.err)
		return all
	}
	if all.offers, all.err = g.source.ForSale(ctx); all.err != nil {
		all.err = fmt.Errorf("load offers: %w", all.err)
		return all
	}
	if all.signup, all.err = g.source.SignupAnnouncement(ctx); all.err != nil {
		all.err = fmt.Errorf("load announcement of sign-up: %w", all.err)
	}
	return all
}
