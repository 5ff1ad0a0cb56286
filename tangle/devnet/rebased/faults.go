package rebased

import (
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// Misbehaviour is a way in which executing a transaction goes wrong.
type Misbehaviour string

// The misbehaviours of [Node.Misbehave].
const (
	// ExecutedError executes the transaction and answers that it is locked out.
	ExecutedError Misbehaviour = "executed-error"
	// ExecutedTimeout executes it and answers with a timeout.
	ExecutedTimeout Misbehaviour = "executed-timeout"
	// ExecutedLost executes it and closes the connection.
	ExecutedLost Misbehaviour = "executed-lost"
	// Late answers that it was rejected, and executes it 8 checkpoints later.
	Late Misbehaviour = "late"
	// Dropped answers with a timeout. The transaction is not executed but keeps its
	// objects: until the epoch ends, or 12 s with PCool. The same bytes again are
	// executed.
	Dropped Misbehaviour = "dropped"
	// DroppedLost closes the connection, and nothing happened.
	DroppedLost Misbehaviour = "dropped-lost"
	// Split locks its objects until the epoch ends, for itself as for others.
	Split Misbehaviour = "split"
)

var misbehaviours = []Misbehaviour{ExecutedError, ExecutedTimeout, ExecutedLost, Late, Dropped, DroppedLost, Split}

// Misbehave makes the next executions go wrong, as many as times says, or all of
// them if it is below 0. "" ends that.
func (n *Node) Misbehave(m Misbehaviour, times int) error {
	if m != "" && !slices.Contains(misbehaviours, m) {
		return fmt.Errorf("misbehave with %q: want one of %q", m, misbehaviours)
	}
	n.tricks.mu.Lock()
	defer n.tricks.mu.Unlock()
	n.execute, n.times = m, times
	return nil
}

// misbehave returns how the next execution goes wrong.
func (n *Node) misbehave() Misbehaviour {
	n.tricks.mu.Lock()
	defer n.tricks.mu.Unlock()
	if n.execute == "" || n.times == 0 {
		return ""
	}
	if n.times > 0 {
		n.times--
	}
	return n.execute
}

// SplitConflicts makes validators split over two transactions that use one object
// at the same time, so that neither is executed before the epoch ends. It needs
// Certificates. Otherwise the first one wins.
func (n *Node) SplitConflicts(on bool) {
	n.tricks.mu.Lock()
	defer n.tricks.mu.Unlock()
	n.split = on
}

func (n *Node) splits() bool {
	n.tricks.mu.Lock()
	defer n.tricks.mu.Unlock()
	return n.split
}

// Lag sets how long after a checkpoint the lists show it. What they showed
// already stays.
func (n *Node) Lag(d time.Duration) {
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	n.floor = n.indexed()
	n.lag = d
}

// StopIndexer keeps lists, balances and coins as they are, or lets the indexer
// catch up. Reads by digest and executing go on.
func (n *Node) StopIndexer(on bool) {
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	if tip := n.indexed(); on {
		n.stopped = &tip
	} else {
		n.floor, n.stopped = tip, nil
	}
}

// Behind puts a second server behind the same address that is some checkpoints
// behind the first. They answer in turn, so that the tip goes backwards.
func (n *Node) Behind(checkpoints int64) {
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	n.behind = max(0, checkpoints)
}

// Prune makes the node forget checkpoints before the given one, and what is in
// them. Coins and balances stay. It cannot be undone.
func (n *Node) Prune(before int64) {
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	n.pruned = min(max(n.pruned, before), n.chain.tip().number)
}

// Fallback gives the node an archive from which it serves some of what it pruned:
// transactions by digest and by affectedAddress alone. recvAddress has none.
func (n *Node) Fallback(on bool) {
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	n.fallback = on
}

// Old makes the node one of before July 2026, whose schema has no affectedAddress.
func (n *Node) Old(on bool) {
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	n.old = on
}

// Repeat makes pages of lists repeat a transaction of the page before.
func (n *Node) Repeat(on bool) {
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	n.repeat = on
}

// Disable switches a feature group of GraphQL off, or on again: coins,
// system-state, analytics, subscriptions or dynamic-fields.
func (n *Node) Disable(feature string, off bool) error {
	if _, ok := features[feature]; !ok {
		return fmt.Errorf("disable %q: want coins, system-state, analytics, subscriptions or dynamic-fields", feature)
	}
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	if n.disabled == nil {
		n.disabled = make(map[string]bool)
	}
	n.disabled[feature] = off
	return nil
}

// Unreadable makes the effects of one transaction an error wherever they are
// asked for, or mends that.
func (n *Node) Unreadable(digest string, on bool) error {
	d, err := txn.ParseDigest(digest)
	if err != nil {
		return err
	}
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	if n.unreadable == nil {
		n.unreadable = make(map[txn.Digest]bool)
	}
	n.unreadable[d] = on
	return nil
}

// Spelling is how a node writes the addresses in types.
type Spelling string

// The spellings. They mean the same.
const (
	Long  Spelling = "long"  // 64 digits, as GraphQL has them
	Short Spelling = "short" // 0x2, as JSON-RPC has them
	Upper Spelling = "upper" // 64 digits, upper case
)

var spellings = []Spelling{Long, Short, Upper}

// Spell sets how the node writes the addresses in types; "" is the usual way.
func (n *Node) Spell(s Spelling) error {
	if s != "" && !slices.Contains(spellings, s) {
		return fmt.Errorf("spell %q: want one of %q", s, spellings)
	}
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	n.spelling = s
	return nil
}

// HoldBack keeps transactions that are executed from now on out of as many of the
// next checkpoints; below 0 out of all of them. 0 ends that, and lets the next
// checkpoint include those that were held back indefinitely. What depends on a
// transaction waits as well.
func (n *Node) HoldBack(checkpoints int64) {
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	n.chain.hold = checkpoints
	for _, x := range n.chain.pending {
		if checkpoints == 0 && x.holdUntil == never {
			x.holdUntil = 0
		}
	}
}

// Forge makes the node lie: what it says that addresses received is ten times as
// much.
func (n *Node) Forge(on bool) {
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	n.forging = on
}

func (n *Node) forge(amount *big.Int) *big.Int {
	if n.forging && amount.Sign() > 0 {
		return new(big.Int).Mul(amount, big.NewInt(10))
	}
	return amount
}
