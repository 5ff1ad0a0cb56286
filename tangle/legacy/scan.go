package legacy

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/iotaledger/iota.go/trinary"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/legacy/node"
)

const (
	portion  = 50  // included transactions that are resolved at a time: what is done stays done when time runs out
	maxDiffs = 100 // milestones whose changes are read in one scan
)

// scan is one reading of one node. What it found before an error is good.
type scan struct {
	*Ledger
	node *peer

	index     int64        // the milestone as of which the node answers
	milestone trinary.Hash // its transaction
	known     map[trinary.Hash]*node.Transaction

	payments []tangle.Payment
	complete []*deposit // of which everything was found that the node has
}

// run asks for the balances and scans the addresses whose balance the known
// payments do not explain; all of them in a sweep.
func (s *scan) run(ctx context.Context, sweep bool) error {
	before, err := s.node.Balances(ctx, s.hashes)
	if err != nil {
		return err
	}
	s.index, s.milestone = before.Index, before.Milestone
	s.mu.Lock()
	s.node.advance(before.Index, before.Milestone, time.Now())
	// A node, or one of several behind a name, that has fallen back says nothing
	// about the present.
	behind := before.Index < s.node.index
	s.mu.Unlock()
	now := time.Now()
	var due []*deposit
	for i, d := range s.deposits {
		moved := !behind && d.balance != before.Amounts[i]
		if moved {
			d.balance = before.Amounts[i]
		}
		if sweep || !d.settled() && (moved || !now.Before(s.retryAt)) {
			due = append(due, d)
		}
	}
	if len(due) == 0 {
		return nil
	}
	for _, d := range due {
		complete, err := s.address(ctx, d)
		if err != nil {
			return err
		}
		if complete {
			s.complete = append(s.complete, d)
		}
	}
	after, err := s.node.Balances(ctx, s.hashes)
	if err != nil {
		return err
	}
	// If a milestone came in between, balances and payments do not belong together.
	if !behind && after.Index == before.Index && slices.Equal(after.Amounts, before.Amounts) {
		for _, d := range due {
			s.compare(d)
		}
	}
	s.pace()
	if sweep && !now.Before(s.spentAt) {
		s.warnSpent(ctx)
	}
	return nil
}

// pace makes the scans rarer that a lasting difference calls for.
func (l *Ledger) pace() {
	if !slices.ContainsFunc(l.deposits, func(d *deposit) bool { return !d.settled() }) {
		l.retries, l.retryAt = 0, time.Time{}
		return
	}
	l.retryAt = time.Now().Add(tangle.BackOff(retryFirst, retryMost, l.retries))
	l.retries++
}

// address finds the confirmed bundles that touch one address and are not done. An
// unconfirmed transaction costs its hash in two requests.
func (s *scan) address(ctx context.Context, d *deposit) (complete bool, err error) {
	hashes, err := s.node.Find(ctx, node.Query{Addresses: []trinary.Hash{d.hash}, ValueOnly: true})
	if err != nil {
		return false, err
	}
	s.warnNear(d, len(hashes))
	again := d.reopen()
	d.disputed = false
	var open []trinary.Hash
	for _, h := range hashes {
		if again || !d.done[h] {
			open = append(open, h)
		}
	}
	d.sight(open, s.cfg.Now())
	states, err := s.node.Included(ctx, s.milestone, open)
	if err != nil {
		return false, err
	}
	included := slices.DeleteFunc(open, func(h trinary.Hash) bool { return !states[h] })
	d.current = true
	if full := len(hashes) >= node.MaxHashes; !full {
		d.skipped, d.truncated = false, false
	} else {
		changed, err := s.changed(ctx, d)
		if err != nil {
			return false, err
		}
		for _, h := range changed {
			if !slices.Contains(included, h) {
				included = append(included, h)
			}
		}
		d.truncated = d.skipped || !d.current
	}
	complete = !d.truncated
	s.known = make(map[trinary.Hash]*node.Transaction)
	for some := range slices.Chunk(included, portion) {
		some = slices.DeleteFunc(some, func(h trinary.Hash) bool { return d.done[h] && !again })
		if len(some) == 0 { // done with others of the same bundle
			continue
		}
		if len(s.known) > 2*node.MaxHashes {
			clear(s.known)
		}
		all, err := s.resolve(ctx, d, some)
		if err != nil {
			return false, err
		}
		complete = complete && all
		d.current = d.current && all
	}
	if d.current {
		d.readTo = s.index
	}
	d.forget(hashes)
	return complete, nil
}

// changed finds what changed an address since the last milestone up to which
// everything was found, or during the last hundred if that is longer ago, from
// what each milestone changed in the whole ledger. No number of transactions
// hides anything from it. d.current becomes false if the node does not answer.
func (s *scan) changed(ctx context.Context, d *deposit) (hashes []trinary.Hash, err error) {
	from := max(d.readTo, s.index-maxDiffs, 0)
	for i := from + 1; i <= s.index; i++ {
		more, err := s.node.Changed(ctx, i, d.hash)
		if err != nil {
			d.current = false
			return hashes, ctx.Err() // most nodes do not permit the question
		}
		for _, h := range more {
			if !d.done[h] && !slices.Contains(hashes, h) {
				hashes = append(hashes, h)
			}
		}
	}
	d.skipped = d.skipped || from > d.readTo // from 0, it was all that ever happened
	return hashes, nil
}

// warnSpent warns the seller of deposit addresses that were spent from: each
// further signature with such a key gives more of it away (Winternitz one-time
// signatures).
func (s *scan) warnSpent(ctx context.Context) {
	states, err := s.node.SpentFrom(ctx, s.hashes)
	if err != nil {
		return // some nodes do not know; the next question is at the next sweep
	}
	s.spentAt = time.Now().Add(spentEvery)
	for i, d := range s.deposits {
		if states[i] && !d.warnedSpent {
			d.warnedSpent = true
			s.log(d).Warn("deposit address was spent from, whoever pays to it now risks the money: change to a new deposit address")
		}
	}
}

// fetch adds transactions to known that are not there yet.
func (s *scan) fetch(ctx context.Context, hashes []trinary.Hash) error {
	missing := slices.DeleteFunc(slices.Clone(hashes), func(h trinary.Hash) bool { return s.known[h] != nil })
	more, err := s.node.Transactions(ctx, missing)
	if err != nil {
		return err
	}
	maps.Copy(s.known, more)
	return nil
}
