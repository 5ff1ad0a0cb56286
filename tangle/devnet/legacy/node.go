// Package legacy is a simulated trinary tangle that speaks the HTTP API of IRI
// (https://github.com/iotaledger/iri, as Hornet 0.5.6 answered it), for the
// demonstration, for tests, and for a buyer to try a payment on.
//
// A [Node] accepts transactions from any client of that API, such as iota.go, does
// their proof of work, checks bundles and signatures, and confirms them by
// milestones: each applies the pending bundles in the order in which they arrived,
// if the balances allow it ("white flag", RFC 0005 of
// github.com/iotaledger/protocol-rfcs). It can also misbehave like real nodes: see
// [Node.Break], [Node.Prune], [Node.Crash], [Node.IRI] and the other faults.
//
// Three things are simpler than in reality. There is one tangle, of which several
// nodes have their views ([Node.Peer]), and no gossip. A milestone confirms
// everything pending, whatever it approves. Everything is in memory.
package legacy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/trinary"
	"github.com/sirupsen/logrus"
)

// DefaultCoordinator is the address of the coordinator, which identifies the
// network, unless Config names another.
const DefaultCoordinator = "IOTOLLDEVNETCOORDINATOR9999999999999999999999999999999999999999999999999999999999"

// Config says how a simulated tangle starts.
type Config struct {
	// Genesis is the balance of each address at the beginning, in iotas. Addresses
	// have 81 trytes, or 90 with a checksum. See [SeedGenesis].
	Genesis map[trinary.Hash]uint64

	// Milestone is the time between two milestones of [Node.Run], and so the longest
	// time until a payment is confirmed. Run needs it.
	Milestone time.Duration

	// MWM is the minimum weight magnitude: how many trits at the end of a
	// transaction's hash must be zero, from 1 to 14. Each adds a factor of three to
	// the work. 0 means 1.
	MWM int

	// Coordinator is the coordinator's address, 81 trytes; DefaultCoordinator
	// if empty.
	Coordinator trinary.Hash

	// Now tells the time; time.Now if nil.
	Now func() time.Time

	// Log receives milestones and the bundles that they confirmed; may be nil.
	Log logrus.FieldLogger
}

// Node is one node's view of a simulated tangle. It is an http.Handler that
// answers like a node's API, and is safe for concurrent use. Make one with New.
type Node struct {
	tangle   *tangle
	interval time.Duration

	view // guarded by tangle.mu
	tricks
}

// New makes a tangle with its first milestone and a node that sees all of it.
func New(cfg Config) (*Node, error) {
	if cfg.MWM == 0 {
		cfg.MWM = 1
	}
	if cfg.MWM < 1 || cfg.MWM > 14 {
		return nil, fmt.Errorf("minimum weight magnitude %d: want 1 to 14", cfg.MWM)
	}
	if cfg.Milestone < 0 {
		return nil, fmt.Errorf("milestone interval %s: want a positive duration", cfg.Milestone)
	}
	if cfg.Coordinator == "" {
		cfg.Coordinator = DefaultCoordinator
	}
	if len(cfg.Coordinator) != consts.HashTrytesSize || trinary.ValidTrytes(cfg.Coordinator) != nil {
		return nil, fmt.Errorf("coordinator address %q: want 81 trytes", cfg.Coordinator)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		quiet := logrus.New()
		quiet.SetOutput(io.Discard)
		cfg.Log = quiet
	}
	balances := make(map[trinary.Hash]int64, len(cfg.Genesis))
	var supply uint64
	for a, iotas := range cfg.Genesis {
		if err := address.ValidAddress(a); err != nil {
			return nil, fmt.Errorf("genesis address %q: %w", a, err)
		}
		if iotas > consts.TotalSupply || supply+iotas > consts.TotalSupply {
			return nil, fmt.Errorf("genesis balance %d of %s: there are only %d iotas", iotas, a, uint64(consts.TotalSupply))
		}
		supply += iotas
		balances[a[:consts.HashTrytesSize]] += int64(iotas)
	}
	t := newTangle(cfg, balances)
	if _, err := t.milestone(); err != nil {
		return nil, fmt.Errorf("issue first milestone: %w", err)
	}
	return t.node(cfg.Milestone), nil
}

// Peer returns another node of the same tangle, with its own view and faults.
func (n *Node) Peer() *Node {
	return n.tangle.node(n.interval)
}

// Run issues a milestone every Config.Milestone until ctx ends, except while the
// coordinator is stopped (see [Node.Stall]). Run one node of a tangle.
func (n *Node) Run(ctx context.Context) error {
	if n.interval <= 0 {
		return errors.New("run simulated tangle: Config.Milestone is not set")
	}
	tick := time.NewTicker(n.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if n.tangle.isStalled() {
				continue
			}
			if _, err := n.Milestone(); err != nil {
				return fmt.Errorf("run simulated tangle: %w", err)
			}
		}
	}
}

// Milestone issues a milestone now and returns its index. When it returns, pending
// bundles are confirmed or conflicting.
func (n *Node) Milestone() (int, error) {
	index, err := n.tangle.milestone()
	if err != nil {
		return 0, fmt.Errorf("issue milestone: %w", err)
	}
	return index, nil
}

// Index returns the index of the newest milestone of the tangle.
func (n *Node) Index() int {
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	return n.tangle.latest().index
}

// MWM returns the minimum weight magnitude that transactions need.
func (n *Node) MWM() int { return n.tangle.mwm }

// Balance returns the confirmed balance of an address of 81 or 90 trytes, in
// iotas: the truth, whatever the node's API answers.
func (n *Node) Balance(a trinary.Hash) int64 {
	if len(a) > consts.HashTrytesSize {
		a = a[:consts.HashTrytesSize]
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	return n.tangle.balances[a]
}

// Included reports whether a milestone confirmed the transaction and applied
// its bundle: the truth, whatever the node's API answers.
func (n *Node) Included(hash trinary.Hash) bool {
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	x := n.tangle.byHash[hash]
	return x != nil && x.included > 0
}
