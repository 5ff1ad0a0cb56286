package legacy

import (
	"fmt"
	"maps"
	"time"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/transaction"
	"github.com/iotaledger/iota.go/trinary"
	"github.com/sirupsen/logrus"
)

// ms is a milestone.
type ms struct {
	index    int
	hash     trinary.Hash
	at       time.Time
	arrival  int64                  // everything up to here had arrived
	diff     map[trinary.Hash]int64 // what it changed, by address
	included []*tx                  // tails
	decided  []*tx                  // tails, included or conflicting
}

// milestone issues the next milestone: it makes the transaction and applies pending
// bundles to the ledger.
func (t *tangle) milestone() (int, error) {
	t.issuing.Lock()
	defer t.issuing.Unlock()

	t.mu.Lock()
	index := len(t.milestones) + 1
	trunk, branch := consts.NullHashTrytes, consts.NullHashTrytes
	if index > 1 {
		trunk, branch = t.latest().hash, t.latest().hash
	}
	if t.tip != nil {
		trunk = t.tip.hash
	}
	t.mu.Unlock()
	x, err := t.milestoneTx(index, trunk, branch)
	if err != nil {
		return 0, err
	}

	t.confirm(index, x)
	return index, nil
}

// confirm applies pending bundles to the ledger, in the milestone with the given
// transaction.
func (t *tangle) confirm(index int, x *tx) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := &ms{index: index, hash: x.hash, at: t.now(), diff: make(map[trinary.Hash]int64)}
	var wait []*tx
	for _, tail := range t.pending {
		if tail.verdict == invalid {
			continue
		}
		if tail.verdict == unchecked { // incomplete
			wait = append(wait, tail)
			continue
		}
		t.apply(tail, m)
	}
	t.pending = wait
	t.insert(x)
	t.arrivals++
	x.arrival, x.epoch, x.verdict, x.decided, x.included = t.arrivals, index-1, valid, index, index
	m.arrival = t.arrivals
	t.milestones = append(t.milestones, m)
	t.log.WithFields(logrus.Fields{
		"index": index, "included": len(m.included), "conflicting": len(m.decided) - len(m.included), "incomplete": len(wait),
	}).Debug("milestone")
}

// apply decides a valid tail in a milestone: included, or conflicting if an input
// does not hold enough.
func (t *tangle) apply(tail *tx, m *ms) {
	b := t.bundleOf(tail)
	if b == nil { // Crash took a part of it
		return
	}
	changes := make(map[trinary.Hash]int64)
	for _, x := range b {
		changes[x.address] += x.value
	}
	ok := true
	for a, change := range changes {
		ok = ok && t.balances[a]+change >= 0
	}
	m.decided = append(m.decided, tail)
	for _, x := range b {
		x.decided = m.index
		if ok {
			x.included = m.index
		}
	}
	entry := t.log.WithFields(logrus.Fields{"milestone": m.index, "tail": tail.hash, "bundle": tail.bundle})
	if !ok {
		entry.Info("conflicting bundle")
		return
	}
	m.included = append(m.included, tail)
	maps.DeleteFunc(changes, func(_ trinary.Hash, change int64) bool { return change == 0 })
	for a, change := range changes {
		t.balances[a] += change
		m.diff[a] += change
	}
	entry.WithField("transactions", len(b)).Info("confirmed bundle")
}

// milestoneTx makes the transaction of a milestone, without the coordinator's
// signature, which nobody checks here.
func (t *tangle) milestoneTx(index int, trunk, branch trinary.Hash) (*tx, error) {
	now := t.now()
	b := bundle.AddEntry(nil, bundle.BundleEntry{
		Address:   t.coordinator,
		Tag:       trinary.IntToTrytes(int64(index), tagSize),
		Timestamp: uint64(now.Unix()),
	})
	b, err := bundle.FinalizeInsecure(b)
	if err != nil {
		return nil, fmt.Errorf("finalize milestone %d: %w", index, err)
	}
	trytes, err := transaction.TransactionToTrytes(&b[0])
	if err != nil {
		return nil, fmt.Errorf("encode milestone %d: %w", index, err)
	}
	attached, err := t.attach(trunk, branch, []trinary.Trytes{trytes}, now)
	if err != nil {
		return nil, fmt.Errorf("attach milestone %d: %w", index, err)
	}
	return attached[0], nil
}

// milestoneAt returns a milestone that the node's ledger contains. The error is
// Hornet's.
func (n *Node) milestoneAt(index int) (*ms, error) {
	solid := 0
	if m := n.solid(); m != nil {
		solid = m.index
	}
	if index < 1 || index > solid {
		return nil, bad("Invalid milestone index supplied, lsmi is %d", solid)
	}
	return n.tangle.milestones[index-1], nil
}
