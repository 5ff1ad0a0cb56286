package rebased

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/rebased/graphql"
)

// lists are the answers for the addresses of one request.
type lists[T any] struct{ A0, A1, A2, A3, A4, A5, A6, A7 T }

func (l *lists[T]) at(i int) *T {
	return []*T{&l.A0, &l.A1, &l.A2, &l.A3, &l.A4, &l.A5, &l.A6, &l.A7}[i]
}

// Confirmed implements tangle.Ledger. It reads the newest transactions of all
// addresses from the first node that works, with one request for each eight
// addresses, and further pages only where all of these transactions are new.
//
// Only one goroutine may call Confirmed and Balances.
func (l *Ledger) Confirmed(ctx context.Context, from map[string]tangle.Mark) (tangle.Batch, error) {
	if err := l.begin(from); err != nil {
		return tangle.Batch{}, err
	}
	if l.dueExamine() {
		l.examine(ctx)
	}
	var b tangle.Batch
	b.Marks = make(map[string]tangle.Mark)
	var faults []error
	nodes := l.order()
	read := false
	for i, n := range nodes {
		if ctx.Err() != nil {
			break
		}
		nodeCtx, cancel := share(ctx, len(nodes)-i)
		payments, err := l.poll(nodeCtx, n, b.Marks)
		b.Payments = append(b.Payments, payments...)
		if err == nil {
			l.worked(n)
			read = true
			resolved := l.resolve(nodeCtx, n)
			b.Payments = append(b.Payments, resolved...)
			cancel()
			break
		}
		cancel()
		if ctx.Err() == nil {
			l.failed(n, err)
		}
		faults = append(faults, fmt.Errorf("node %s: %w", n.client.Name(), err))
	}
	slices.SortStableFunc(b.Payments, func(x, y tangle.Payment) int { return cmp.Compare(x.Position, y.Position) })
	b.Partial = l.close(b.Marks)
	switch {
	case ctx.Err() != nil && !read:
		return b, fmt.Errorf("read the ledger: %w", ctx.Err())
	case !read:
		l.examineAt = time.Time{} // examine the nodes again at the next call
		l.hurry()
		return b, l.nobody(faults)
	}
	return b, nil
}

// begin takes over the marks. Where a mark is not the one issued last, reading
// starts from that mark.
func (l *Ledger) begin(from map[string]tangle.Mark) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	chain := ""
	for _, d := range l.deposits {
		mark := from[d.text]
		if mark.Chain == "" {
			continue
		}
		if chain != "" && mark.Chain != chain {
			return fmt.Errorf("%w: payments are recorded of chains %q and %q in one store", ErrChain, chain, mark.Chain)
		}
		chain = mark.Chain
	}
	if chain != "" {
		l.chain = chain
	}
	for _, d := range l.deposits {
		mark, ok := from[d.text]
		if ok && d.started && mark == d.issued {
			continue
		}
		*d = deposit{
			text: d.text, address: d.address, started: ok, issued: mark, base: mark.Position, walked: mark.Position,
			recent: make(map[string]int64), learned: make(map[string]int64), unread: make(map[string]*unread),
		}
	}
	return nil
}

// poll reads all addresses from one node. It returns the payments found, and
// sets the marks of addresses that are read for the first time.
func (l *Ledger) poll(ctx context.Context, n *node, marks map[string]tangle.Mark) ([]tangle.Payment, error) {
	var listed, fresh []*deposit
	for _, d := range l.deposits {
		if d.walk != nil && d.walk.node != n {
			d.walk = nil // another node's cursors
		}
		switch {
		case !d.started:
			fresh = append(fresh, d)
		case d.walk == nil:
			listed = append(listed, d)
		}
	}
	var now status
	for group := range slices.Chunk(listed, perRequest) {
		s, err := l.pollGroup(ctx, n, group)
		if err != nil {
			return nil, err
		}
		now = s
	}
	if now.Checkpoint == nil && (len(fresh) > 0 || len(listed) == 0) {
		var t tipAnswer
		answer, err := n.client.Do(ctx, tipDocument, nil, &t)
		if err == nil {
			err = l.admit(n, answer, t.status)
		}
		if err != nil {
			return nil, err
		}
		now = t.status
	}
	for _, d := range fresh {
		mark := tangle.Mark{Chain: now.ChainIdentifier, Position: now.Checkpoint.SequenceNumber}
		d.started, d.issued, d.base, d.walked = true, mark, mark.Position, mark.Position
		marks[d.text] = mark
	}
	var payments []tangle.Payment
	for _, d := range l.deposits {
		if d.walk == nil {
			continue
		}
		done, err := l.goBack(ctx, n, d)
		if err != nil {
			return payments, err
		}
		if done {
			found, err := l.finish(ctx, n, d)
			if err != nil {
				return payments, err
			}
			payments = append(payments, found...)
		}
	}
	return payments, nil
}

// pollGroup asks for the newest transactions of some addresses and begins their
// walks.
func (l *Ledger) pollGroup(ctx context.Context, n *node, group []*deposit) (status, error) {
	variables := make(map[string]any)
	mark := group[0].walked
	for i, d := range group {
		variables[fmt.Sprintf("a%d", i)] = d.text
		mark = min(mark, d.walked)
	}
	variables["mark"] = mark
	var a struct {
		status
		Mark *struct{ SequenceNumber int64 }
		lists[*page]
	}
	answer, err := n.client.Do(ctx, pollDocument(len(group), n.by), variables, &a)
	var errs graphql.Errors
	if errors.As(err, &errs) && n.by == affected && errs.Unknown(string(affected)) {
		l.cfg.Log.WithError(err).WithField("node", n.client.Name()).
			Warn("node lacks the filter affectedAddress: payments that it has pruned cannot be noticed")
		n.by = received
		answer, err = n.client.Do(ctx, pollDocument(len(group), n.by), variables, &a)
	}
	spoiled := false // the lists, perhaps by one transaction
	var size *graphql.SizeError
	if errors.As(err, &errs) || errors.As(err, &size) {
		var t tipAnswer
		refused := err
		if answer, err = n.client.Do(ctx, tipDocument, nil, &t); err != nil {
			return status{}, refused
		}
		spoiled, a.status = true, t.status
	}
	if err == nil {
		err = l.admit(n, answer, a.status)
	}
	if err != nil {
		return status{}, err
	}
	for i, d := range group {
		w := &walk{
			node: n, tip: a.Checkpoint.SequenceNumber, floor: max(d.base, d.walked-overlap), digests: make(map[string]int64), keep: l.keep,
			pruned: a.Mark == nil && !spoiled && mark <= a.Checkpoint.SequenceNumber,
		}
		d.walk = w
		if list := *a.at(i); !spoiled && list != nil {
			if err := w.add(d, list); err != nil {
				d.walk = nil
				return status{}, err
			}
		} else {
			w.lean = 1
		}
	}
	return a.status, nil
}

// close returns the partial addresses, and adds the marks.
func (l *Ledger) close(marks map[string]tangle.Mark) (partial []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Now()
	for _, d := range l.deposits {
		if d.gap || d.walk != nil || len(d.unread) > 0 {
			partial = append(partial, d.text)
		}
		if !d.started || l.chain == "" {
			continue
		}
		position := d.walked - overlap
		var digests []string
		for _, u := range d.unread {
			position = min(position, u.bound-1)
			if now.Sub(u.since) > patience {
				digests = append(digests, u.digest)
			}
		}
		if d.issued.Chain != l.chain || position > d.issued.Position {
			d.issued = tangle.Mark{Chain: l.chain, Position: max(position, d.issued.Position)}
		}
		marks[d.text] = d.issued
		if len(digests) > 0 && now.Sub(d.reminded) >= remindEvery {
			d.reminded = now
			slices.Sort(digests)
			l.cfg.Log.WithFields(logrus.Fields{"address": d.text, "transactions": digests[:min(len(digests), 10)], "count": len(digests)}).
				WithError(d.unread[digests[0]].err).Warn("transactions cannot be read, they are asked for again")
		}
	}
	return partial
}
