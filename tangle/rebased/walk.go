package rebased

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/rebased/graphql"
	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// page is a part of the list of an address's transactions, oldest first.
type page struct {
	PageInfo struct {
		HasPreviousPage bool
		StartCursor     *string
	}
	Nodes []*transaction
}

// walk reads the list of an address's transactions back from the tip. It may take
// several calls of Confirmed.
type walk struct {
	node     *node
	tip      int64 // of the view
	floor    int64 // where to stop
	pruned   bool  // the node does not have the checkpoint of the mark
	before   string
	lean     int // 1 reads few transactions at once, 2 no more than their digests
	pages    int
	idle     int              // pages in a row that brought nothing new
	keep     int              // found is not to grow much beyond
	found    []item           // newest first
	digests  map[string]int64 // seen, with their checkpoints
	cut      bool             // found lacks the newest
	oldest   int64            // checkpoint of the oldest transaction seen
	anything bool             // oldest is known
	done     bool
	reached  bool // the floor, rather than the list's end
}

// item is a transaction in a list: a record or, with err, one to be asked for.
type item struct {
	record
	err error
}

// unknown is the position of a transaction whose checkpoint the list does not
// show.
const unknown = -1

// goBack reads pages until the walk is done, or this call has reached a limit on
// pages or time.
func (l *Ledger) goBack(ctx context.Context, n *node, d *deposit) (done bool, err error) {
	w := d.walk
	var slowest time.Duration
	for pages := 0; !w.done; pages++ {
		if pages == l.pages || pages > 0 && soon(ctx, slowest) {
			l.cfg.Log.WithFields(logrus.Fields{"address": d.text, "pages": w.pages, "checkpoint": w.oldest, "until": w.floor}).
				Info("reading what was paid in the meantime")
			return false, nil
		}
		variables := map[string]any{"a": d.text}
		if w.before != "" {
			variables["before"] = w.before
		}
		document := pageDocument(n.by, perPage)
		switch w.lean {
		case 1:
			document = pageDocument(n.by, perLean)
		case 2:
			document = digestsDocument(n.by)
		}
		var a struct {
			ChainIdentifier string
			A0              *page
		}
		start := time.Now()
		answer, err := n.client.Do(ctx, document, variables, &a)
		slowest = max(slowest, time.Since(start))
		var errs graphql.Errors
		var size *graphql.SizeError
		switch {
		case errors.As(err, &errs) || errors.As(err, &size) || err == nil && a.A0 == nil:
			if w.lean == 2 {
				d.walk = nil
				return false, cause(err, answer.Errors)
			}
			w.lean++
			continue
		case err != nil:
			return false, err
		}
		if err := l.sameChain(n, a.ChainIdentifier); err != nil {
			d.walk = nil
			return false, err
		}
		if err := w.add(d, a.A0); err != nil {
			d.walk = nil
			return false, err
		}
	}
	return true, nil
}

// cause says why there is no list.
func cause(err error, errs graphql.Errors) error {
	if err != nil {
		return err
	}
	if len(errs) > 0 {
		return errs
	}
	return fmt.Errorf("%w: a list is missing", graphql.ErrAnswer)
}

// soon reports whether ctx may end before one more request that takes a few
// times as long as the slowest one so far.
func soon(ctx context.Context, slowest time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < 3*slowest
}

// add takes a page into the walk.
func (w *walk) add(d *deposit, p *page) error {
	w.pages++
	added, news := false, false
	for _, t := range slices.Backward(p.Nodes) {
		if t == nil || t.Digest == nil {
			return fmt.Errorf("%w: a transaction without a digest", graphql.ErrAnswer)
		}
		if _, err := txn.ParseDigest(*t.Digest); err != nil {
			return fmt.Errorf("%w: %w", graphql.ErrAnswer, err)
		}
		if _, ok := w.digests[*t.Digest]; ok {
			continue
		}
		added = true
		it := item{}
		var more bool
		it.record, more, it.err = t.read(d.address)
		if more {
			it.err = errMore
		}
		it.digest = *t.Digest
		it.position = unknown
		position, known := t.position()
		if !known {
			position, known = d.learned[it.digest]
		}
		if known {
			it.position = position
			w.oldest, w.anything = position, true
			if position <= w.floor {
				w.done, w.reached = true, true
				break // all others are older
			}
		}
		w.digests[it.digest] = it.position
		if _, ok := d.recent[it.digest]; ok {
			continue
		}
		news = true
		if it.err != nil || it.amount > 0 {
			w.found = append(w.found, it)
		}
	}
	if len(w.found) >= w.keep+w.keep/3 { // not for each payment
		w.found = slices.Clone(w.found[len(w.found)-w.keep:])
		w.cut = true
	}
	if !news && w.anything && w.oldest <= d.walked {
		// This page goes back beyond the mark and holds nothing new, so that the
		// pages before it were read already.
		w.done, w.reached = true, true
	}
	if w.done {
		return nil
	}
	if !p.PageInfo.HasPreviousPage {
		w.done = true
		return nil
	}
	next := p.PageInfo.StartCursor
	if next == nil || *next == "" || *next == w.before || !added && w.idle == maxIdle {
		return fmt.Errorf("%w: a list does not go on after its cursor", graphql.ErrAnswer)
	}
	if w.idle++; added {
		w.idle = 0
	}
	w.before = *next
	return nil
}

// finish ends a walk: it returns the payments found, oldest first, and records
// which transactions must be retried.
func (l *Ledger) finish(ctx context.Context, n *node, d *deposit) ([]tangle.Payment, error) {
	w := d.walk
	if err := l.checkGap(ctx, n, d); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	upTo := w.tip
	if w.cut {
		i := slices.IndexFunc(w.found, func(it item) bool { return it.position != unknown })
		upTo = d.walked
		if i >= 0 {
			upTo = max(upTo, w.found[i].position-1)
		}
	}
	now := l.cfg.Now()
	var payments []tangle.Payment
	bound := d.base // of what is older than any transaction seen
	for _, it := range slices.Backward(w.found) {
		if it.position != unknown {
			bound = it.position
		}
		if bound > w.tip {
			break // of a later view
		}
		if _, ok := d.unread[it.digest]; ok {
			continue
		}
		ask := it.err != nil || l.cfg.Agree > 1
		if ask && len(d.unread) == maxUnread {
			upTo = min(upTo, bound-1) // the rest has to wait
			break
		}
		d.recent[it.digest] = bound
		switch {
		case it.err == nil && l.ours[it.sender]:
		case !ask:
			payments = append(payments, it.payment(d.text, now))
		default:
			u := &unread{digest: it.digest, bound: bound, since: now, votes: make(map[*node]record), err: it.err}
			if it.err == nil {
				u.votes[n] = it.record
				u.err = errAgree
			}
			d.unread[it.digest] = u
		}
	}
	d.walked = max(d.walked, upTo)
	for digest, position := range w.digests {
		if position != unknown && position <= upTo {
			d.recent[digest] = position
		}
	}
	maps.DeleteFunc(d.recent, func(_ string, position int64) bool { return position <= d.walked-overlap })
	d.walk = nil
	if w.pages > maxPages/4 {
		l.cfg.Log.WithFields(logrus.Fields{"address": d.text, "pages": w.pages, "payments": len(payments)}).
			Info("read what was paid in the meantime")
	}
	return payments, nil
}

// checkGap logs an error and marks the address as partial if the node may have
// pruned transactions between the mark and the oldest transaction in the list.
func (l *Ledger) checkGap(ctx context.Context, n *node, d *deposit) error {
	w := d.walk
	if w.reached || !w.pruned || d.walked == 0 || d.walked > w.tip || w.anything && w.oldest <= d.walked {
		return nil
	}
	// The mark that the poll asked for may be another address's.
	var a struct {
		tipAnswer
		Mark *struct{ SequenceNumber int64 }
	}
	answer, err := n.client.Do(ctx, markDocument, map[string]any{"mark": d.walked}, &a)
	switch {
	case err != nil:
		return err
	case len(answer.Errors) > 0 && a.Mark == nil:
		return answer.Errors
	case a.Mark != nil:
		return nil
	case a.Checkpoint == nil || a.Checkpoint.SequenceNumber < d.walked:
		return fmt.Errorf("%w: its tip went back behind %d", graphql.ErrAnswer, d.walked)
	}
	// The list goes back before the node's first checkpoint: it is served from an
	// archive and complete.
	if first := a.Checkpoints.Nodes; n.by == affected && len(first) > 0 && w.anything && w.oldest < first[0].SequenceNumber {
		return nil
	}
	to := w.tip
	if w.anything {
		to = w.oldest
	}
	l.keeps(n, a.tipAnswer)
	l.mu.Lock()
	d.gap = true
	l.mu.Unlock()
	l.cfg.Log.WithFields(logrus.Fields{"node": n.client.Name(), "address": d.text, "from": d.walked, "to": to}).
		Error("payments may be missing: the node has pruned checkpoints that were not read; compare the balance with the book (iotoll doctor)")
	return nil
}
