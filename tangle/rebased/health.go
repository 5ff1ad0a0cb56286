package rebased

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/rebased/graphql"
)

// Faults of a node, for errors.Is.
var (
	// ErrChain means that the node serves another chain than the one whose
	// payments are in the book: another network, or a network that was reset.
	ErrChain = errors.New("node is on another chain")
)

// node is one GraphQL service and what is known of it.
type node struct {
	client *graphql.Client
	by     filter // for the goroutine that calls Confirmed

	// Ledger.mu guards the rest.
	usable      bool // its last answer was good
	app         string
	index       int64     // its tip
	indexAt     time.Time // when it got there
	start       int64     // first checkpoint that it still has
	lastSuccess time.Time
	err         error // nil if the last request worked
	since       time.Time
	fails       int
	until       time.Time // left alone
	asked       bool      // the node itself asked to be left alone that long
	logged      time.Time
	frozenTold  bool
}

// Health implements tangle.Inspector.
func (l *Ledger) Health() []tangle.NodeHealth {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Now()
	best := l.best()
	var all []tangle.NodeHealth
	for _, n := range l.nodes {
		h := tangle.NodeHealth{
			Node: n.client.Name(), App: n.app, Position: n.index, Frozen: n.still(now) > frozenAfter, Pruned: n.start,
			LastSuccess: n.lastSuccess, Err: n.err, Since: n.since,
		}
		if !n.indexAt.IsZero() {
			h.Behind = best - n.index
		}
		all = append(all, h)
	}
	return all
}

// Tip implements tangle.Ordered: the newest checkpoint that any node reported; the zero value if none
// did. It may be called at any time.
func (l *Ledger) Tip() tangle.Tip {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tip
}

// Unread implements tangle.Ordered.
func (l *Ledger) Unread() []tangle.Unread {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []tangle.Unread
	for _, d := range l.deposits {
		for _, u := range d.unread {
			all = append(all, tangle.Unread{Digest: u.digest, Address: d.text, Since: u.since, Err: u.err})
		}
	}
	slices.SortFunc(all, func(a, b tangle.Unread) int {
		return cmp.Or(strings.Compare(a.Digest, b.Digest), strings.Compare(a.Address, b.Address))
	})
	return all
}

// best returns the newest checkpoint that any node reported. mu is held.
func (l *Ledger) best() int64 {
	var best int64
	for _, n := range l.nodes {
		best = max(best, n.index)
	}
	return best
}

// still returns for how long the tip has stood still. mu is held.
func (n *node) still(now time.Time) time.Duration {
	if n.indexAt.IsZero() {
		return 0
	}
	return now.Sub(n.indexAt)
}

// order returns the nodes to read, best first: in the order of the configuration,
// but those that stand still or lag behind after the others.
func (l *Ledger) order() []*node {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Now()
	best := l.best()
	var good, poor []*node
	for _, n := range l.nodes {
		switch {
		case now.Before(n.until):
		case n.still(now) > frozenAfter || n.index < best-maxBehind || !n.usable:
			poor = append(poor, n)
		default:
			good = append(good, n)
		}
	}
	return slices.Concat(good, poor)
}

// dueExamine reports whether it is time to look at the nodes that are not read.
func (l *Ledger) dueExamine() bool {
	if len(l.nodes) < 2 {
		return false
	}
	now := l.cfg.Now()
	if !now.Before(l.examineAt) {
		return true
	}
	order := l.order()
	l.mu.Lock()
	defer l.mu.Unlock()
	// While the tip of the node that is read stands still, the node may be cut off
	// from the network. It is then compared with the others every few seconds.
	return len(order) > 0 && order[0].still(now) > staleAfter && l.examineAt.Sub(now) < examineEvery-staleAfter
}

// examine asks all nodes in parallel for their tips, except those that are in
// their back-off.
func (l *Ledger) examine(ctx context.Context) {
	var all sync.WaitGroup
	now := l.cfg.Now()
	l.examineAt = now.Add(examineEvery)
	errs, examined := make([]error, len(l.nodes)), make([]bool, len(l.nodes))
	for i, n := range l.nodes {
		l.mu.Lock()
		wait := now.Before(n.until)
		l.mu.Unlock()
		if wait {
			continue
		}
		examined[i] = true
		all.Go(func() {
			var t tipAnswer
			answer, err := n.client.Do(ctx, tipDocument, nil, &t)
			if err == nil {
				err = l.admit(n, answer, t.status)
			}
			errs[i] = err
			l.keeps(n, t)
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return
	}
	for i, n := range l.nodes {
		switch {
		case errs[i] != nil:
			l.failed(n, errs[i])
		case examined[i]:
			l.worked(n)
		}
	}
}

// status is the part of each answer that describes the node.
type status struct {
	ChainIdentifier string
	Checkpoint      *struct {
		SequenceNumber int64
		Timestamp      string
	}
}

// tipAnswer is the answer to tipDocument.
type tipAnswer struct {
	status
	Checkpoints struct {
		Nodes []struct{ SequenceNumber int64 }
	}
}

// admit returns an error if the node that answered must not be used; otherwise it
// records the node's tip.
func (l *Ledger) admit(n *node, answer graphql.Answer, s status) error {
	if err := l.sameChain(n, s.ChainIdentifier); err != nil {
		return err
	}
	if s.Checkpoint == nil || s.Checkpoint.SequenceNumber < 0 {
		return fmt.Errorf("%w: it has no checkpoint", graphql.ErrAnswer)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Now()
	n.app = "iota-graphql-rpc"
	if answer.Version != "" {
		n.app += " " + answer.Version
	}
	// A service has several readers, so that the tip may go back a little.
	if s.Checkpoint.SequenceNumber > n.index || n.indexAt.IsZero() {
		n.index, n.indexAt, n.frozenTold = s.Checkpoint.SequenceNumber, now, false
	}
	n.usable = true
	at, err := time.Parse(time.RFC3339, s.Checkpoint.Timestamp)
	if err == nil && s.Checkpoint.SequenceNumber >= l.tip.Position {
		l.tip = tangle.Tip{Chain: s.ChainIdentifier, Position: s.Checkpoint.SequenceNumber, Time: at.UTC(), Read: now}
	}
	return nil
}

// keeps records the first checkpoint that a node still has.
func (l *Ledger) keeps(n *node, t tipAnswer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if first := t.Checkpoints.Nodes; len(first) > 0 {
		n.start = first[0].SequenceNumber
	}
}

// sameChain refuses a node on another chain than the one that is read.
func (l *Ledger) sameChain(n *node, chain string) error {
	if chain == "" || len(chain) > 100 {
		return fmt.Errorf("%w: chain identifier %.40q", graphql.ErrAnswer, chain)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.chain == "" {
		l.chain = chain
	}
	if chain != l.chain {
		return fmt.Errorf("%w: its chain is %.40q, but payments are recorded of chain %q; settling stops until the node or the store is changed", ErrChain, chain, l.chain)
	}
	return nil
}

// failed records an error of a node and starts its back-off.
func (l *Ledger) failed(n *node, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Now()
	if n.err == nil {
		n.since = now
	}
	in := maxBackOff
	if n.fails < 12 {
		in = min(in, 250*time.Millisecond<<n.fails)
	}
	n.asked = false
	var s *graphql.StatusError
	if errors.As(err, &s) && s.RetryAfter > 0 {
		in, n.asked = s.RetryAfter, true
	}
	n.usable, n.err, n.until = false, err, now.Add(in)
	n.fails++
	if n.logged.IsZero() || now.Sub(n.logged) >= remindEvery {
		n.logged = now
		l.cfg.Log.WithError(err).WithFields(logrus.Fields{"node": n.client.Name(), "since": n.since.UTC().Format(time.RFC3339)}).
			Warn("node cannot be used")
	}
}

// hurry shortens the back-off of all nodes to maxOutage, except where the node
// itself asked for more time.
func (l *Ledger) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	latest := l.cfg.Now().Add(maxOutage)
	for _, n := range l.nodes {
		if n.until.After(latest) && !n.asked {
			n.until = latest
		}
	}
}

// worked records that a node answered, and ends its back-off.
func (l *Ledger) worked(n *node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Now()
	if n.err != nil {
		l.cfg.Log.WithFields(logrus.Fields{"node": n.client.Name(), "after": now.Sub(n.since).Round(time.Millisecond)}).
			Info("node can be used again")
	}
	n.err, n.since, n.fails, n.until, n.asked, n.logged = nil, time.Time{}, 0, time.Time{}, false, time.Time{}
	n.lastSuccess = now
	if n.still(now) > frozenAfter && !n.frozenTold {
		n.frozenTold = true
		l.cfg.Log.WithFields(logrus.Fields{"node": n.client.Name(), "checkpoint": n.index, "since": n.indexAt.UTC().Format(time.RFC3339)}).
			Warn("node stands still: new payments are not seen")
	}
}

// nobody returns the error that no node could be read.
func (l *Ledger) nobody(faults []error) error {
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	for _, h := range l.Health() {
		if h.Err != nil {
			faults = append(faults, fmt.Errorf("node %s: %w", h.Node, h.Err))
		}
	}
	return errors.Join(faults...)
}

// share returns ctx with a deadline that leaves an equal part of the time to each
// of the nodes.
func share(ctx context.Context, nodes int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || nodes == 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(nodes))
}
