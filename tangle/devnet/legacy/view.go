package legacy

// view is what a node sees of the tangle: all of it if zero. Its methods need
// tangle.mu.
type view struct {
	blank    bool  // it knows nothing yet
	waiting  *ms   // it restarted when this was the newest milestone, and waits for another
	behind   *ms   // it knows of newer milestones than this, but cannot follow them
	isolated *ms   // it has no neighbours; this was the newest milestone when it lost them
	seen     int64 // the last arrival that it saw, if isolated
	start    int   // the first milestone that it did not prune; 0 if none
	iri      bool  // it is IRI 1.8.5
}

// newest is the latest milestone that the node knows of; nil if none.
func (n *Node) newest() *ms {
	switch {
	case n.blank:
		return nil
	case n.isolated != nil:
		return n.isolated
	default:
		return n.tangle.latest()
	}
}

// solid is the milestone that the node's ledger is at; nil if none.
func (n *Node) solid() *ms {
	switch {
	case n.blank:
		return nil
	case n.isolated != nil:
		return n.isolated
	case n.behind != nil:
		return n.behind
	default:
		return n.tangle.latest()
	}
}

// synced reports whether the node calls itself synced. One without neighbours does,
// since it does not hear of the milestones that it misses.
func (n *Node) synced() bool {
	return !n.blank && n.behind == nil && (n.waiting == nil || n.isolated == nil && n.waiting != n.tangle.latest())
}

// sees reports whether the node has a transaction.
func (n *Node) sees(x *tx) bool {
	switch {
	case n.blank, x.only != nil && x.only != n:
		return false
	case x.decided > 0 && x.decided < n.start:
		return false
	case n.isolated != nil && x.only == nil && x.arrival > n.seen:
		return false
	}
	return true
}

// includes reports whether the transaction is confirmed and not conflicting, as far
// as the node knows.
func (n *Node) includes(x *tx) bool {
	return x != nil && n.sees(x) && x.included > 0 && x.included <= n.solid().index
}

// balance is the confirmed balance of an address at the node's solid milestone.
func (n *Node) balance(address string) int64 {
	sum := n.tangle.balances[address]
	for _, m := range n.tangle.milestones[n.solid().index:] {
		sum -= m.diff[address]
	}
	return sum
}

// neighbors is how many other nodes the node is connected to.
func (n *Node) neighbors() int {
	if n.blank || n.isolated != nil || n.waiting != nil && n.waiting == n.tangle.latest() {
		return 0
	}
	return 1
}

// healthy reports what the node's health check answers.
func (n *Node) healthy() bool {
	return n.neighbors() > 0 && n.synced() && n.tangle.now().Sub(n.newest().at) < milestoneAge
}
