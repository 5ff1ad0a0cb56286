package rebased

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
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

// page is a part of the list of an address's transactions, oldest first.
type page struct {
	PageInfo struct {
		HasPreviousPage bool
		StartCursor     *string
	}
	Nodes []*transaction
}

// parseAmount reads an amount in nanos that is not negative.
func parseAmount(text string) (int64, error) {
	amount, ok := new(big.Int), false
	if len(text) <= 40 {
		_, ok = amount.SetString(text, 10)
	}
	if !ok || !amount.IsInt64() || amount.Sign() < 0 {
		return 0, fmt.Errorf("%w: an amount of %.60q", graphql.ErrAnswer, text)
	}
	return amount.Int64(), nil
}

// Confirmed implements tangle.Ledger. It asks the first node that works for the
// newest transactions of all addresses, one request for eight of them, and reads
// further back only if the oldest of these is newer than what was read before.
//
// It is for one goroutine at a time.
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
	slices.SortStableFunc(b.Payments, func(x, y tangle.Payment) int { return int(min(max(x.Position-y.Position, -1), 1)) })
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

// begin takes over the marks. A mark that this process did not issue last means
// that reading begins there.
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
// adds the marks of addresses that are looked at for the first time.
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
	if errors.As(err, &errs) && n.by == affected && errs.Mention(string(affected)) {
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
			node: n, tip: a.Checkpoint.SequenceNumber, floor: max(d.base, d.walked-overlap), digests: make(map[string]int64),
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

// goBack reads pages until the walk is done, or this call has read enough.
func (l *Ledger) goBack(ctx context.Context, n *node, d *deposit) (done bool, err error) {
	w := d.walk
	var slowest time.Duration
	for pages := 0; !w.done; pages++ {
		if pages == maxPages || pages > 0 && soon(ctx, slowest) {
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
		if t == nil || t.Digest == nil || *t.Digest == "" || len(*t.Digest) > 100 {
			return fmt.Errorf("%w: a transaction without a digest", graphql.ErrAnswer)
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
	if len(w.found) >= maxFound+trimBlock {
		w.found = slices.Clone(w.found[len(w.found)-maxFound:])
		w.cut = true
	}
	if !news && w.anything && w.oldest <= d.walked {
		// The rest was read before. Only lists that show something late could
		// have more, and not a whole page below what they showed before.
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

// finish ends a walk: it returns the payments found, oldest first, and notes
// which transactions are to be asked for again.
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

// checkGap finds out whether something between the mark and the oldest
// transaction in the list may have been pruned, and says so.
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
	// The list shows what the node itself has pruned: it has an archive to fall
	// back on, and the list is complete.
	if first := a.Checkpoints.Nodes; n.by == affected && len(first) > 0 && w.anything && w.oldest < first[0].SequenceNumber {
		return nil
	}
	to := w.tip
	if w.anything {
		to = w.oldest
	}
	l.mu.Lock()
	d.gap = true
	if first := a.Checkpoints.Nodes; len(first) > 0 {
		n.start = first[0].SequenceNumber
	}
	l.mu.Unlock()
	l.cfg.Log.WithFields(logrus.Fields{"node": n.client.Name(), "address": d.text, "from": d.walked, "to": to}).
		Error("payments may be missing: the node has pruned checkpoints that were not read; compare the balance with the book (iotoll doctor)")
	return nil
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

// resolve asks once more for the transactions that could not be read, and for
// other nodes' word on payments. It returns what became payments.
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
		if a.u.bound != b.u.bound {
			return int(min(max(a.u.bound-b.u.bound, -1), 1))
		}
		return slices.Compare([]byte(a.u.digest), []byte(b.u.digest))
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
			if len(p.u.votes) > 0 {
				p.u.err = errAgree
			}
			p.u.next = now.Add(min(time.Second<<min(p.u.fails, 10), maxRetry))
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

// agreed reports whether enough nodes say the same of a transaction.
func (l *Ledger) agreed(u *unread) bool { return l.verdict(u) != nil }

// verdict returns what enough nodes say of a transaction, or nil.
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

// lookup asks for transactions by their digests. A digest that the node does not
// know, or cannot answer for, gets nil.
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
		// Nothing at all: one of them may have spoiled it.
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
