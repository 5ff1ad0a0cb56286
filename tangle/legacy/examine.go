package legacy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/iotaledger/iota.go/trinary"

	"github.com/iotoll/iotoll/tangle/legacy/node"
)

// examine asks the nodes that are due, all at once, how they are. In a sweep all
// are due, and asked thoroughly. In between, nodes that failed are due after their
// back-off, and those that are not being read for a comparison: a node that was
// cut off from its neighbours shows only by another that is ahead.
func (l *Ledger) examine(ctx context.Context, sweep bool) {
	l.hurry()
	order := l.order()
	enough := len(order) >= l.cfg.Agree
	shared, cancel := share(ctx, len(l.nodes)+1)
	defer cancel()
	var all sync.WaitGroup
	now := time.Now()
	results := make([]func(), len(l.nodes))
	for i, n := range l.nodes {
		l.mu.Lock()
		thorough := sweep || !n.usable
		skip := now.Before(n.backOff) || !thorough && (slices.Index(order, n) == 0 || now.Before(n.compareAt))
		l.mu.Unlock()
		if skip {
			continue
		}
		limit := l.cfg.Timeout
		switch { // enough nodes work: do not keep them waiting
		case !thorough:
			limit = min(limit, compareLimit)
		case enough:
			limit /= 2
		}
		all.Go(func() {
			asking, cancel := context.WithTimeout(shared, limit)
			defer cancel()
			info, issued, err := l.question(asking, n, thorough)
			took := time.Since(now)
			results[i] = func() { l.note(n, info, issued, err, took, thorough) }
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return
	}
	for _, note := range results { // in the order of the configuration
		if note != nil {
			note()
		}
	}
}

// note notes how an examination went. A comparison that takes long says nothing,
// but makes the next ones rarer, so that they take a tenth of the time at most.
func (l *Ledger) note(n *peer, info node.Info, issued time.Time, err error, took time.Duration, thorough bool) {
	l.mu.Lock()
	n.compareAt = time.Now().Add(10 * took)
	l.mu.Unlock()
	if errors.Is(err, context.DeadlineExceeded) && !thorough {
		return
	}
	if err == nil {
		err = l.admit(n, info, issued)
	}
	if err != nil {
		l.failed(n, err)
		return
	}
	l.worked(n)
}

// question asks a node how it is and, if thorough, everything else that settling
// needs: some nodes permit a part of the API only. issued is when the coordinator
// issued the node's newest milestone; zero if that was not asked or is unknown.
func (l *Ledger) question(ctx context.Context, n *peer, thorough bool) (info node.Info, issued time.Time, err error) {
	if info, err = n.Info(ctx); err != nil || !thorough || !info.Synced || info.Milestone == "" {
		return info, time.Time{}, err
	}
	milestone := []trinary.Hash{info.Milestone}
	if _, err = n.Balances(ctx, l.hashes); err != nil {
		return info, time.Time{}, err
	}
	if _, err = n.Find(ctx, node.Query{Approvees: milestone}); err != nil {
		return info, time.Time{}, err
	}
	if _, err = n.Included(ctx, info.Milestone, milestone); err != nil {
		return info, time.Time{}, err
	}
	found, err := n.Transactions(ctx, milestone)
	if t := found[info.Milestone]; t != nil {
		issued = claimed(t)
	}
	return info, issued, err
}

// admit decides whether a node is of use, from its getNodeInfo reply.
func (l *Ledger) admit(n *peer, i node.Info, issued time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n.app = i.App
	n.start = i.Start
	n.clock, n.clockAt = i.Time, time.Now()
	if !i.Synced {
		return fmt.Errorf("getNodeInfo: %w: it is at milestone %d of %d", ErrUnsynced, i.Solid, i.Newest)
	}
	if c := i.Coordinator; c != "" {
		if l.coordinator == "" {
			l.coordinator, l.coordinatorFrom = c, n.Name()
		}
		if l.coordinator != c {
			return fmt.Errorf("getNodeInfo: %w: its coordinator is %.90s, that of node %s is %s", ErrNetwork, c, l.coordinatorFrom, l.coordinator)
		}
	}
	now := time.Now()
	n.usable = true
	n.advance(i.Solid, i.Milestone, now)
	// By the clocks of node and coordinator: ours may be wrong.
	if age := i.Time.Sub(issued); !issued.IsZero() && !i.Time.IsZero() && age > frozenAfter && n.index == i.Solid {
		n.indexAt = earlier(n.indexAt, now.Add(-age))
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
