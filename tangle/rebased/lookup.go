package rebased

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/rebased/graphql"
)

// unread is a listed transaction that could not be read, or that too few nodes
// agree on.
type unread struct {
	digest string
	bound  int64 // it is in this checkpoint or a later one
	since  time.Time
	fails  int
	next   time.Time // of the next attempt
	votes  map[*node]record
	err    error
}

// resolve retries the transactions that could not be read, and asks other nodes
// to confirm payments. It returns the payments that this settled.
func (l *Ledger) resolve(ctx context.Context, first *node) []tangle.Payment {
	type pending struct {
		d *deposit
		u *unread
	}
	var due []pending
	now := l.cfg.Now()
	for _, d := range l.deposits {
		for _, u := range d.unread {
			if !now.Before(u.next) && len(due) < maxUnread {
				due = append(due, pending{d, u})
			}
		}
	}
	if len(due) == 0 {
		return nil
	}
	slices.SortFunc(due, func(a, b pending) int {
		return cmp.Or(cmp.Compare(a.u.bound, b.u.bound), strings.Compare(a.u.digest, b.u.digest))
	})
	nodes := append([]*node{first}, slices.DeleteFunc(l.order(), func(n *node) bool { return n == first })...)
	for _, n := range nodes {
		var open []pending
		for _, p := range due {
			if _, voted := p.u.votes[n]; !voted && !l.agreed(p.u) {
				open = append(open, p)
			}
		}
		for group := range slices.Chunk(open, perLookup) {
			digests := make([]string, len(group))
			for i, p := range group {
				digests[i] = p.u.digest
			}
			found, err := l.lookup(ctx, n, digests)
			if err != nil {
				if ctx.Err() == nil && n != first {
					l.failed(n, err)
				}
				l.mu.Lock()
				for _, p := range group {
					p.u.err = fmt.Errorf("node %s: %w", n.client.Name(), err)
				}
				l.mu.Unlock()
				break
			}
			for i, p := range group {
				r, err := l.readWhole(ctx, n, p.d, found[i])
				l.mu.Lock()
				if err != nil {
					p.u.err = fmt.Errorf("node %s: %w", n.client.Name(), err)
				} else {
					p.u.votes[n] = r
				}
				l.mu.Unlock()
			}
		}
	}
	var payments []tangle.Payment
	if slices.ContainsFunc(due, func(p pending) bool { return !l.agreed(p.u) }) {
		l.hurry() // whichever node is missing
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range due {
		if !l.agreed(p.u) {
			wait := maxRetry
			if len(p.u.votes) > 0 { // it can be read, and only other nodes are missing
				p.u.err, wait = errAgree, maxAsk
			}
			p.u.next = now.Add(min(time.Second<<min(p.u.fails, 10), wait))
			p.u.fails++
			continue
		}
		delete(p.d.unread, p.u.digest)
		r := l.verdict(p.u)
		if len(p.d.learned) >= maxUnread {
			clear(p.d.learned)
		}
		p.d.learned[p.u.digest], p.d.recent[p.u.digest] = r.position, r.position
		if r.amount > 0 && !l.ours[r.sender] {
			payments = append(payments, r.payment(p.d.text, now))
		}
	}
	return payments
}

// agreed reports whether enough nodes give the same account of a transaction.
func (l *Ledger) agreed(u *unread) bool { return l.verdict(u) != nil }

// verdict returns the record that enough nodes agree on, or nil.
func (l *Ledger) verdict(u *unread) *record {
	for _, r := range u.votes {
		same := 0
		for _, other := range u.votes {
			if r.equal(other) {
				same++
			}
		}
		if same >= l.cfg.Agree {
			return &r
		}
	}
	return nil
}

// lookup returns the transactions with the digests given; nil for one that the
// node does not know or cannot read.
func (l *Ledger) lookup(ctx context.Context, n *node, digests []string) ([]*transaction, error) {
	variables := make(map[string]any)
	for i, d := range digests {
		variables[fmt.Sprintf("d%d", i)] = d
	}
	var a struct {
		ChainIdentifier string
		lookups
	}
	_, err := n.client.Do(ctx, lookupDocument(len(digests)), variables, &a)
	var errs graphql.Errors
	var size *graphql.SizeError
	switch {
	case errors.As(err, &errs) || errors.As(err, &size):
		// There is no data at all. One of the transactions may be the cause.
		if len(digests) == 1 {
			return make([]*transaction, 1), nil
		}
		var all []*transaction
		for _, d := range digests {
			one, err := l.lookup(ctx, n, []string{d})
			if err != nil {
				return nil, err
			}
			all = append(all, one...)
		}
		return all, nil
	case err != nil:
		return nil, err
	}
	if err := l.sameChain(n, a.ChainIdentifier); err != nil {
		return nil, err
	}
	all := make([]*transaction, len(digests))
	for i, d := range digests {
		t := *a.at(i)
		if t != nil && (t.Digest == nil || *t.Digest != d) {
			return nil, fmt.Errorf("%w: transaction %s instead of %s", graphql.ErrAnswer, deref(t.Digest), d)
		}
		all[i] = t
	}
	return all, nil
}

func deref(s *string) string {
	if s == nil {
		return "(none)"
	}
	return fmt.Sprintf("%.60q", *s)
}

// readWhole reads a transaction, all pages of its balance changes included.
func (l *Ledger) readWhole(ctx context.Context, n *node, d *deposit, t *transaction) (record, error) {
	if t == nil {
		return record{}, errUnknown
	}
	r, more, err := t.read(d.address)
	if err != nil || !more {
		return r, err
	}
	after := t.Effects.BalanceChanges.PageInfo.EndCursor
	for range maxChanges {
		if after == nil {
			return record{}, errIncomplete
		}
		var a struct {
			ChainIdentifier  string
			TransactionBlock *struct {
				Effects *struct{ BalanceChanges *changes }
			}
		}
		_, err := n.client.Do(ctx, changesDocument, map[string]any{"d": r.digest, "after": *after}, &a)
		if err != nil {
			return record{}, err
		}
		if err := l.sameChain(n, a.ChainIdentifier); err != nil {
			return record{}, err
		}
		if a.TransactionBlock == nil || a.TransactionBlock.Effects == nil || a.TransactionBlock.Effects.BalanceChanges == nil {
			return record{}, errIncomplete
		}
		c := a.TransactionBlock.Effects.BalanceChanges
		found, err := c.add(&r, d.address)
		if err != nil {
			return record{}, err
		}
		if found || !c.PageInfo.HasNextPage {
			return r, nil
		}
		after = c.PageInfo.EndCursor
	}
	return record{}, fmt.Errorf("%w: more than %d pages of balance changes", graphql.ErrAnswer, maxChanges)
}

// lookups are the answers for the digests of one request.
type lookups struct{ T0, T1, T2, T3, T4, T5, T6, T7 *transaction }

func (l *lookups) at(i int) **transaction {
	return []**transaction{&l.T0, &l.T1, &l.T2, &l.T3, &l.T4, &l.T5, &l.T6, &l.T7}[i]
}
