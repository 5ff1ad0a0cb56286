package legacy

import (
	"fmt"
	"slices"
)

// Stall stops the coordinator or starts it again. While it is stopped, Run issues no
// milestones and nothing is confirmed. Milestone still works.
func (n *Node) Stall(on bool) {
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	n.tangle.stalled = on
}

// Isolate cuts the node off from its neighbours or connects it again. An isolated
// node still calls itself synced, and answers with the milestone, inclusion states
// and balances of that moment. Transactions that it receives stay with it, also
// afterwards: gossip does not resend. They must be sent again, to a connected node.
func (n *Node) Isolate(on bool) {
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	n.isolated = nil
	if on {
		n.isolated, n.seen = n.tangle.latest(), n.tangle.arrivals
	}
}

// Lag makes the node hear of further milestones without following them, or lets it
// catch up. A lagging node says that it is not synced.
func (n *Node) Lag(on bool) {
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	n.behind = nil
	if on {
		n.behind = n.tangle.latest()
	}
}

// Blank makes the node a new one that knows nothing of the tangle yet, or ends
// that.
func (n *Node) Blank(on bool) {
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	n.blank = on
}

// Restart restarts the node cleanly: it keeps its data, but is not synced until the
// next milestone.
func (n *Node) Restart() {
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	n.waiting = n.tangle.latest()
}

// Prune makes the node delete the transactions that milestones before the given one
// confirmed or found conflicting. Balances stay. It cannot be undone.
func (n *Node) Prune(before int) {
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	n.start = max(n.start, before)
}

// Crash rolls the tangle back by a number of milestones, as an unclean restart does.
// On all nodes, transactions that arrived since are lost, and those that were
// confirmed since are not confirmed any more. They may be sent again, with another
// outcome. This node then waits for a milestone, as after Restart.
func (n *Node) Crash(milestones int) error {
	t := n.tangle
	t.issuing.Lock()
	defer t.issuing.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	keep := len(t.milestones) - milestones
	if milestones < 0 || keep < 1 {
		return fmt.Errorf("roll back %d milestones: there are %d, and the first one stays", milestones, len(t.milestones))
	}
	for _, m := range t.milestones[keep:] {
		for a, change := range m.diff {
			t.balances[a] -= change
		}
	}
	t.milestones = t.milestones[:keep]
	last := t.latest()
	var rest []*tx
	for _, x := range t.byHash {
		if x.arrival <= last.arrival {
			rest = append(rest, x)
		}
	}
	slices.SortFunc(rest, func(a, b *tx) int { return int(a.arrival - b.arrival) })
	clear(t.byHash)
	clear(t.byTrytes)
	clear(t.byAddress)
	clear(t.byBundle)
	clear(t.byTag)
	clear(t.byApprovee)
	clear(t.spent)
	t.pending, t.tip = nil, nil
	for _, x := range rest {
		if x.decided > keep {
			x.decided, x.included = 0, 0
		}
		t.insert(x)
	}
	for _, x := range rest {
		if x.index != 0 {
			continue
		}
		b := t.bundleOf(x)
		if b == nil {
			x.verdict = unchecked
		}
		if x.decided == 0 && x.verdict != invalid && x.only == nil {
			t.pending = append(t.pending, x)
		}
		if x.verdict == valid {
			t.tip = x
			for _, y := range b {
				if y.value < 0 {
					t.spent[y.address] = true
				}
			}
		}
	}
	for _, other := range t.nodes {
		other.start = min(other.start, keep)
		for _, m := range []**ms{&other.isolated, &other.behind, &other.waiting} {
			if *m != nil && (*m).index > keep {
				*m = last
			}
		}
	}
	n.waiting = last
	return nil
}
