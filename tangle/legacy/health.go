package legacy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/iotaledger/iota.go/trinary"
	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
)

// state is what is known of how a node fares.
type state struct {
	usable      bool // its last answer to getNodeInfo was good
	app         string
	index       int64     // of its latest milestone
	indexAt     time.Time // when it got there
	start       int64     // first milestone that it still has
	lastSuccess time.Time
	err         error // nil if the last request worked
	since       time.Time
	fails       int
	until       time.Time // left alone
	logged      time.Time
	frozenTold  bool
}

// Health returns how each node fares, in the order of the configuration. It may
// be called at any time.
func (l *Ledger) Health() []tangle.NodeHealth {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	best := l.best()
	var all []tangle.NodeHealth
	for _, n := range l.nodes {
		h := tangle.NodeHealth{
			Node: n.name, App: n.app, Position: n.index, Frozen: n.frozen(now), Pruned: n.start,
			LastSuccess: n.lastSuccess, Err: n.err, Since: n.since,
		}
		if n.index > 0 {
			h.Behind = best - n.index
		}
		all = append(all, h)
	}
	return all
}

// best returns the newest milestone that any node told of. mu is held.
func (l *Ledger) best() int64 {
	var best int64
	for _, n := range l.nodes {
		best = max(best, n.index)
	}
	return best
}

func (n *node) frozen(now time.Time) bool {
	return !n.indexAt.IsZero() && now.Sub(n.indexAt) > frozenAfter
}

// advance notes the milestone that a node told of. mu is held.
func (n *node) advance(index int64, now time.Time) {
	if index > n.index || n.indexAt.IsZero() {
		n.index, n.indexAt = index, now
		n.frozenTold = false
	}
}

// order returns the nodes to ask, best first: in the order of the configuration,
// but those that stand still or lag behind after the others.
func (l *Ledger) order() []*node {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	best := l.best()
	var good, poor []*node
	for _, n := range l.nodes {
		switch {
		case !n.usable || now.Before(n.until):
		case n.frozen(now) || n.index < best-3:
			poor = append(poor, n)
		default:
			good = append(good, n)
		}
	}
	return slices.Concat(good, poor)
}

// examine asks all nodes at once how they are, but for those that were found
// bad a short time ago.
func (l *Ledger) examine(ctx context.Context) {
	type answer struct {
		info info
		err  error
	}
	answers := make([]*answer, len(l.nodes))
	var all sync.WaitGroup
	now := time.Now()
	for i, n := range l.nodes {
		l.mu.Lock()
		wait := now.Before(n.until)
		l.mu.Unlock()
		if wait {
			continue
		}
		all.Go(func() {
			i2, err := n.getNodeInfo(ctx)
			answers[i] = &answer{i2, err}
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return
	}
	for i, n := range l.nodes {
		if answers[i] == nil {
			continue
		}
		err := answers[i].err
		if err == nil {
			err = l.admit(n, answers[i].info)
		}
		if err != nil {
			l.failed(n, err)
			continue
		}
		l.worked(n)
	}
}

// admit decides by its own account whether a node is of use.
func (l *Ledger) admit(n *node, i info) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n.app = trim(i.AppName + " " + i.AppVersion)
	n.start = i.MilestoneStartIndex
	if !i.synced() {
		return fmt.Errorf("getNodeInfo: %w: it is at milestone %d of %d", ErrUnsynced, *i.SolidIndex, *i.LatestIndex)
	}
	if c := i.CoordinatorAddress; c != "" {
		if l.coordinator == "" {
			l.coordinator, l.coordinators = c, n.name
		}
		if l.coordinator != c {
			return fmt.Errorf("getNodeInfo: %w: its coordinator is %.90s, that of node %s is %s", ErrNetwork, trim(c), l.coordinators, l.coordinator)
		}
	}
	n.usable = true
	n.advance(*i.SolidIndex, time.Now())
	return nil
}

// trim keeps what a node says about itself printable and short.
func trim(s string) string {
	clean := make([]rune, 0, 100)
	for _, r := range s {
		if len(clean) == cap(clean) {
			break
		}
		if r > ' ' && r < 0x7f || r == ' ' {
			clean = append(clean, r)
		}
	}
	return string(clean)
}

// failed notes that a node is of no use for a while.
func (l *Ledger) failed(n *node, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if n.err == nil {
		n.since = now
	}
	in := maxBackOff
	if n.fails < 12 {
		in = min(in, 250*time.Millisecond<<n.fails)
	}
	n.usable, n.err, n.until = false, err, now.Add(in)
	n.fails++
	if n.logged.IsZero() || now.Sub(n.logged) >= remindEvery {
		n.logged = now
		l.cfg.Log.WithError(err).WithFields(logrus.Fields{"node": n.name, "since": n.since.UTC().Format(time.RFC3339)}).
			Warn("node cannot be used")
	}
}

// hurry has all nodes tried again soon: none of them works.
func (l *Ledger) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	latest := time.Now().Add(maxOutage)
	for _, n := range l.nodes {
		if n.until.After(latest) {
			n.until = latest
		}
	}
}

// worked notes that a node answered well.
func (l *Ledger) worked(n *node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if n.err != nil {
		l.cfg.Log.WithFields(logrus.Fields{"node": n.name, "after": now.Sub(n.since).Round(time.Millisecond)}).
			Info("node can be used again")
	}
	n.err, n.since, n.fails, n.until, n.logged = nil, time.Time{}, 0, time.Time{}, time.Time{}
	n.lastSuccess = now
	if n.frozen(now) && !n.frozenTold {
		n.frozenTold = true
		l.cfg.Log.WithFields(logrus.Fields{"node": n.name, "milestone": n.index, "since": n.indexAt.UTC().Format(time.RFC3339)}).
			Warn("node stands still, payments are not confirmed")
	}
}

// agree tells which of the tails enough nodes call included. asked is the node
// that did already. The others are asked one after another, until enough agree on
// every tail: one that does not know yet, or forgot, has no veto.
func (l *Ledger) agree(ctx context.Context, asked *node, tails []trinary.Hash) map[trinary.Hash]bool {
	votes := make(map[trinary.Hash]int)
	for _, t := range tails {
		votes[t] = 1
	}
	agreed := func(t trinary.Hash) bool { return votes[t] >= l.cfg.Agree }
	open := slices.DeleteFunc(slices.Clone(tails), agreed)
	for _, n := range l.order() {
		if len(open) == 0 {
			break
		}
		if n == asked {
			continue
		}
		states, err := n.included(ctx, open)
		if err != nil {
			if ctx.Err() == nil {
				l.failed(n, err)
			}
			continue
		}
		for _, t := range open {
			if states[t] {
				votes[t]++
			}
		}
		open = slices.DeleteFunc(open, agreed)
	}
	all := make(map[trinary.Hash]bool)
	for _, t := range tails {
		all[t] = agreed(t)
	}
	return all
}
