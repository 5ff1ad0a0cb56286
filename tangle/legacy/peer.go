package legacy

import (
	"errors"
	"slices"
	"time"

	"github.com/iotaledger/iota.go/trinary"
	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/legacy/node"
)

// How nodes are judged.
const (
	frozenAfter  = 5 * time.Minute        // without a new milestone; Hornet's own measure of health
	farBehind    = 3                      // milestones
	compareLimit = 500 * time.Millisecond // longest time that a comparison may delay a poll

	// Pauses between attempts at a failing node: of one that others replace, since a
	// hanging one delays them, and if too few are left.
	spareFirst, spareMost   = 10 * time.Second, 5 * time.Minute
	neededFirst, neededMost = 250 * time.Millisecond, 5 * time.Second

	remindEvery = 10 * time.Minute // between log lines on trouble that goes on
)

// Faults of a node, for errors.Is.
var (
	// ErrAnswer means that an answer is not what the API promises.
	ErrAnswer = node.ErrAnswer
	// ErrUnsynced means that the node has not caught up with the network.
	ErrUnsynced = node.ErrUnsynced
	// ErrNetwork means that the node is on another network than the others.
	ErrNetwork = errors.New("node is on another network")
)

// peer is a node and how it fares. Ledger.mu guards all but the client.
type peer struct {
	*node.Client

	usable      bool // it answered the last examination well
	app         string
	index       int64        // of its newest milestone
	milestone   trinary.Hash // its transaction
	indexAt     time.Time    // when it got there
	start       int64        // first milestone that it still has
	clock       time.Time    // its own, at clockAt; zero if it does not tell
	clockAt     time.Time
	lastSuccess time.Time
	err         error // of the last request; nil if it succeeded
	since       time.Time
	fails       int
	backOff     time.Time // no attempt before
	compareAt   time.Time // no comparison before
	warnedAt    time.Time
	frozenTold  bool
}

// Health returns how each node fares, in the order of the configuration. It may
// be called at any time.
func (l *Ledger) Health() []tangle.NodeHealth {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	newest := l.newest()
	var all []tangle.NodeHealth
	for _, n := range l.nodes {
		h := tangle.NodeHealth{
			Node: n.Name(), App: n.app, Position: n.index, Frozen: n.frozen(now), Pruned: n.start,
			LastSuccess: n.lastSuccess, Err: n.err, Since: n.since,
		}
		if n.index > 0 {
			h.Behind = newest - n.index
		}
		all = append(all, h)
	}
	return all
}

// newest returns the newest milestone that any node told of. mu is held.
func (l *Ledger) newest() int64 {
	var newest int64
	for _, n := range l.nodes {
		newest = max(newest, n.index)
	}
	return newest
}

func (n *peer) frozen(now time.Time) bool {
	return !n.indexAt.IsZero() && now.Sub(n.indexAt) > frozenAfter
}

// advance notes the milestone that a node told of. mu is held.
func (n *peer) advance(index int64, milestone trinary.Hash, now time.Time) {
	if index > n.index || n.indexAt.IsZero() {
		n.index, n.indexAt = index, now
		n.frozenTold = false
	}
	if index == n.index {
		n.milestone = milestone
	}
}

// order returns the usable nodes, best first: in the order of the configuration,
// but those that stand still or lag behind come last.
func (l *Ledger) order() []*peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	newest := l.newest()
	var good, poor []*peer
	for _, n := range l.nodes {
		switch {
		case !n.usable || now.Before(n.backOff):
		case n.frozen(now) || n.index < newest-farBehind:
			poor = append(poor, n)
		default:
			good = append(good, n)
		}
	}
	return slices.Concat(good, poor)
}

// failed notes that a node is of no use for a while.
func (l *Ledger) failed(n *peer, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if n.err == nil {
		n.since = now
	}
	n.usable, n.err = false, err
	first, most := neededFirst, neededMost
	if l.working(now) >= l.cfg.Agree {
		first, most = spareFirst, spareMost
	}
	n.backOff = now.Add(tangle.BackOff(first, most, n.fails))
	n.fails++
	if n.warnedAt.IsZero() || now.Sub(n.warnedAt) >= remindEvery {
		n.warnedAt = now
		l.cfg.Log.WithError(err).WithFields(logrus.Fields{"node": n.Name(), "since": n.since.UTC().Format(time.RFC3339)}).
			Warn("node cannot be used")
	}
}

// hurry brings the next attempt at failing nodes forward if fewer work than must
// agree.
func (l *Ledger) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.working(now) >= l.cfg.Agree {
		return
	}
	for _, n := range l.nodes {
		n.backOff = earlier(n.backOff, now.Add(neededMost))
	}
}

// working returns how many nodes can be asked. mu is held.
func (l *Ledger) working(now time.Time) (count int) {
	for _, n := range l.nodes {
		if n.usable && !now.Before(n.backOff) {
			count++
		}
	}
	return count
}

// worked notes that a node answered well.
func (l *Ledger) worked(n *peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if n.err != nil {
		l.retryAt, l.retries = time.Time{}, 0 // it may be the one that others wait for to agree
		l.cfg.Log.WithFields(logrus.Fields{"node": n.Name(), "after": now.Sub(n.since).Round(time.Millisecond)}).
			Info("node can be used again")
	}
	n.err, n.since, n.fails, n.backOff, n.warnedAt = nil, time.Time{}, 0, time.Time{}, time.Time{}
	n.lastSuccess = now
	if n.frozen(now) && !n.frozenTold {
		n.frozenTold = true
		l.cfg.Log.WithFields(logrus.Fields{"node": n.Name(), "milestone": n.index, "since": n.indexAt.UTC().Format(time.RFC3339)}).
			Warn("node stands still, payments are not confirmed")
	}
}

// timeOf returns what a node's clock shows now; zero if it does not tell.
func (l *Ledger) timeOf(n *peer) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.clock.IsZero() {
		return time.Time{}
	}
	return n.clock.Add(time.Since(n.clockAt)) // monotonic: a step of our clock shows
}

// milestoneOf returns the transaction of the newest milestone that a node told of.
func (l *Ledger) milestoneOf(n *peer) trinary.Hash {
	l.mu.Lock()
	defer l.mu.Unlock()
	return n.milestone
}
