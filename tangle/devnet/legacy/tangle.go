package legacy

import (
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/trinary"
	"github.com/sirupsen/logrus"
)

// remembered is how many results of costly computations are kept.
const remembered = 1 << 16

// milestoneAge is how old the newest milestone of a healthy node may be, as in
// Hornet.
const milestoneAge = 5 * time.Minute

// Offsets in the trytes of a transaction.
const (
	addressAt  = consts.SignatureMessageFragmentSizeInTrytes
	valueAt    = addressAt + consts.HashTrytesSize
	bundleAt   = consts.BundleTrinaryOffset / consts.TritsPerTryte
	trunkAt    = bundleAt + consts.HashTrytesSize
	branchAt   = trunkAt + consts.HashTrytesSize
	tagAt      = branchAt + consts.HashTrytesSize
	attachedAt = tagAt + tagSize
	nonceAt    = consts.TransactionTrytesSize - nonceSize

	tagSize   = consts.TagTrinarySize / consts.TritsPerTryte
	nonceSize = consts.NonceTrinarySize / consts.TritsPerTryte
	timeSize  = consts.AttachmentTimestampTrinarySize / consts.TritsPerTryte
)

// tx is a stored transaction. The first block never changes; its strings are parts of
// trytes.
type tx struct {
	trytes                              trinary.Trytes
	hash                                trinary.Hash
	address, bundle, trunk, branch, tag trinary.Trytes
	value                               int64
	index, last                         uint64

	arrival  int64 // position in the order of arrival
	epoch    int   // the milestone before it
	only     *Node // the only node that has it; nil if all have
	decided  int   // the milestone that included it or found it conflicting; 0 if none
	included int   // the milestone that included it; 0 if none
	verdict  verdict
}

// tangle is what all nodes share: transactions, milestones and the ledger.
type tangle struct {
	mwm         int
	coordinator trinary.Hash
	now         func() time.Time
	log         logrus.FieldLogger

	issuing sync.Mutex // held while a milestone is made

	mu         sync.Mutex
	byHash     map[trinary.Hash]*tx
	byTrytes   map[trinary.Trytes]*tx // saves hashing
	byAddress  map[trinary.Hash]*list
	byBundle   map[trinary.Hash]*list
	byTag      map[trinary.Trytes]*list
	byApprovee map[trinary.Hash]*list
	arrivals   int64
	pending    []*tx // tails that no milestone decided, in order of arrival
	tip        *tx   // the last valid tail that arrived
	milestones []*ms // by index, from 1 at position 0
	balances   map[trinary.Hash]int64
	spent      map[trinary.Hash]bool // addresses that a valid signature was seen of
	stalled    bool
	nodes      []*Node

	attachments, floods int // made by Attach and Flood, to tell them apart

	// Results that save a computation: the verdict on replayed bundles, and
	// transactions attached here.
	checked  map[[sha256.Size]byte]verdict
	attached map[trinary.Trytes]*tx
}

func newTangle(cfg Config, balances map[trinary.Hash]int64) *tangle {
	return &tangle{
		mwm:         cfg.MWM,
		coordinator: cfg.Coordinator,
		now:         cfg.Now,
		log:         cfg.Log,
		byHash:      make(map[trinary.Hash]*tx),
		byTrytes:    make(map[trinary.Trytes]*tx),
		byAddress:   make(map[trinary.Hash]*list),
		byBundle:    make(map[trinary.Hash]*list),
		byTag:       make(map[trinary.Trytes]*list),
		byApprovee:  make(map[trinary.Hash]*list),
		balances:    balances,
		spent:       make(map[trinary.Hash]bool),
		checked:     make(map[[sha256.Size]byte]verdict),
		attached:    make(map[trinary.Trytes]*tx),
	}
}

func (t *tangle) node(interval time.Duration) *Node {
	n := &Node{tangle: t, interval: interval}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nodes = append(t.nodes, n)
	return n
}

func (t *tangle) isStalled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stalled
}

// latest returns the newest milestone; nil before the first. It needs t.mu.
func (t *tangle) latest() *ms {
	if len(t.milestones) == 0 {
		return nil
	}
	return t.milestones[len(t.milestones)-1]
}

// Errors of storing a transaction, with the texts of Hornet 0.5.6.
var (
	errTrytes = errors.New("invalid transaction trytes")
	errPoW    = errors.New("invalid transaction hash")
)

// store adds attached transactions, all or none of them. Those that arrive at a node
// without neighbours stay there.
func (t *tangle) store(n *Node, trytes []trinary.Trytes) error {
	t.mu.Lock()
	fresh := make([]*tx, len(trytes))
	for i, s := range trytes {
		fresh[i] = t.byTrytes[s]
		if x := t.attached[s]; fresh[i] == nil && x != nil {
			fresh[i] = x
			delete(t.attached, s)
		}
	}
	t.mu.Unlock()
	for i, s := range trytes {
		if fresh[i] != nil {
			continue
		}
		var err error
		if fresh[i], err = t.parse(s); err != nil {
			return err
		}
	}
	t.add(n, fresh)
	return nil
}

// add adds parsed transactions, also those that are known already.
func (t *tangle) add(n *Node, txs []*tx) {
	t.mu.Lock()
	var only *Node
	if n.blank || n.isolated != nil {
		only = n
	}
	var added []*tx
	for _, x := range txs {
		old := t.byHash[x.hash]
		switch {
		case old == nil:
			t.insert(x)
			x.only = only
		case old.only != nil && old.only != only:
			old.only = nil // sent again, to a node that passes it on
			x = old
		default:
			continue
		}
		t.arrivals++
		x.arrival = t.arrivals
		x.epoch = len(t.milestones)
		if x.index == 0 && x.only == nil {
			t.pending = append(t.pending, x)
		}
		added = append(added, x)
	}
	complete := t.complete(added)
	t.mu.Unlock()

	for _, b := range complete { // checking signatures takes long and needs no lock
		t.check(b)
	}
}
