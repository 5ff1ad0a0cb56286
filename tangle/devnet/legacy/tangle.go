package legacy

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/curl"
	"github.com/iotaledger/iota.go/pow"
	"github.com/iotaledger/iota.go/transaction"
	"github.com/iotaledger/iota.go/trinary"
	"github.com/sirupsen/logrus"
)

// remembered is how many results of computations are kept to save them.
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

// tx is a stored transaction. All but the last block never changes; the strings
// are parts of trytes.
type tx struct {
	trytes                              trinary.Trytes
	hash                                trinary.Hash
	address, bundle, trunk, branch, tag trinary.Trytes
	value                               int64
	index, last                         uint64

	arrival  int64 // position in the order of arrival
	epoch    int   // the milestone before it
	only     *Node // the only node that has it, if it is not known to all
	decided  int   // the milestone that took it up, whatever became of it; 0 if none
	included int   // the milestone that applied it; 0 if none
	verdict  verdict
}

// verdict is what is known of the bundle of a tail, apart from balances.
type verdict int

const (
	unchecked verdict = iota // not complete, or not looked at yet
	valid
	invalid
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

// tangle is what all nodes share: the transactions, the milestones, the ledger.
type tangle struct {
	mwm         int
	coordinator trinary.Hash
	now         func() time.Time
	log         logrus.FieldLogger

	issuing sync.Mutex // held while a milestone is made

	mu         sync.Mutex
	byHash     map[trinary.Hash]*tx
	byTrytes   map[trinary.Trytes]*tx // saves hashing what comes twice
	byAddress  map[trinary.Hash]*list
	byBundle   map[trinary.Hash]*list
	byTag      map[trinary.Trytes]*list
	byApprovee map[trinary.Hash]*list
	arrivals   int64
	pending    []*tx // tails that no milestone took up, in order of arrival
	tip        *tx   // the last valid tail that arrived
	milestones []*ms // by index, from 1 at position 0
	balances   map[trinary.Hash]int64
	spent      map[trinary.Hash]bool // addresses that a valid signature was seen of
	stalled    bool
	nodes      []*Node

	attachments, floods int // made by Attach and Flood, to tell them apart

	// What is known already, so that it is not computed again: the verdict on
	// bundles that are replayed, and the hash of transactions attached here.
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

// Errors of storing a transaction, with the words of Hornet 0.5.6.
var (
	errTrytes = errors.New("invalid transaction trytes")
	errPoW    = errors.New("invalid transaction hash")
)

// parse reads the trytes of an attached transaction and checks its proof of work.
func (t *tangle) parse(trytes trinary.Trytes) (*tx, error) {
	x, err := read(trytes)
	if err != nil {
		return nil, err
	}
	hash, err := curl.HashTrytes(trytes)
	if err != nil {
		return nil, errTrytes
	}
	trits := trinary.MustTrytesToTrits(hash)
	if int(trinary.TrailingZeros(trits)) < t.mwm || hash == consts.NullHashTrytes {
		return nil, errPoW
	}
	x.hash = hash
	return x, nil
}

// read takes the fields out of the trytes of a transaction, but for its hash.
func read(trytes trinary.Trytes) (*tx, error) {
	parsed, err := transaction.AsTransactionObject(trytes, consts.NullHashTrytes)
	if err != nil {
		return nil, errTrytes
	}
	return slice(trytes, parsed.Value, parsed.CurrentIndex, parsed.LastIndex), nil
}

// slice makes a transaction of trytes and the numbers that they contain.
func slice(trytes trinary.Trytes, value int64, index, last uint64) *tx {
	return &tx{
		trytes:  trytes,
		address: trytes[addressAt:valueAt],
		bundle:  trytes[bundleAt:trunkAt],
		trunk:   trytes[trunkAt:branchAt],
		branch:  trytes[branchAt:tagAt],
		tag:     trytes[tagAt:attachedAt],
		value:   value,
		index:   index,
		last:    last,
	}
}

// store takes transactions in, all or none of them. What arrives at a node
// without neighbours stays there.
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

// add enters transactions that were parsed, or that are known already.
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

	for _, b := range complete { // signatures take long, and need no lock
		t.check(b)
	}
}

// insert enters a transaction into the indexes.
func (t *tangle) insert(x *tx) {
	t.byHash[x.hash] = x
	t.byTrytes[x.trytes] = x
	enter(t.byAddress, x.address, x)
	enter(t.byBundle, x.bundle, x)
	enter(t.byTag, x.tag, x)
	enter(t.byApprovee, x.trunk, x)
	if x.branch != x.trunk {
		enter(t.byApprovee, x.branch, x)
	}
}

func enter(index map[trinary.Trytes]*list, key trinary.Trytes, x *tx) {
	if index[key] == nil {
		index[key] = new(list)
	}
	index[key].txs = append(index[key].txs, x)
	index[key].sorted = false
}

// complete returns the attachments that the transactions made complete.
func (t *tangle) complete(txs []*tx) [][]*tx {
	var all [][]*tx
	seen := make(map[*tx]bool)
	var walk func(x *tx)
	walk = func(x *tx) { // back to the tails
		if seen[x] {
			return
		}
		seen[x] = true
		if x.index == 0 {
			if b := t.bundleOf(x); x.verdict == unchecked && b != nil {
				all = append(all, b)
			}
			return
		}
		if l := t.byApprovee[x.hash]; l != nil {
			for _, y := range l.txs {
				if y.trunk == x.hash && y.bundle == x.bundle && y.index == x.index-1 {
					walk(y)
				}
			}
		}
	}
	for _, x := range txs {
		walk(x)
	}
	return all
}

// bundleOf follows the trunks from a tail to the end of its bundle. It returns
// nil if a transaction is missing, or known to one node only.
func (t *tangle) bundleOf(tail *tx) []*tx {
	b := []*tx{tail}
	for x := tail; x.index < tail.last; b = append(b, x) {
		next := t.byHash[x.trunk]
		if next == nil || next.only != tail.only || next.bundle != tail.bundle || next.index != x.index+1 || next.last != tail.last {
			return nil
		}
		x = next
	}
	return b
}

// judge says whether a complete bundle is valid.
func (t *tangle) judge(b []*tx) verdict {
	key := fingerprint(b)
	t.mu.Lock()
	v := t.checked[key]
	t.mu.Unlock()
	if v != unchecked {
		return v
	}
	v = invalid
	if validate(b) == nil {
		v = valid
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.checked) >= remembered {
		clear(t.checked)
	}
	t.checked[key] = v
	return v
}

// check notes on the tail of a complete bundle whether it is valid.
func (t *tangle) check(b []*tx) {
	v := t.judge(b)
	t.mu.Lock()
	defer t.mu.Unlock()
	b[0].verdict = v
	if v == valid && b[0].only == nil {
		t.tip = b[0]
	}
	for _, x := range b {
		if v == valid && x.value < 0 {
			t.spent[x.address] = true
		}
	}
}

// fingerprint identifies what the validity of a bundle depends on: what its
// hash covers, and its signatures.
func fingerprint(b []*tx) (sum [sha256.Size]byte) {
	inputs := make(map[trinary.Hash]bool)
	for _, x := range b {
		if x.value < 0 {
			inputs[x.address] = true
		}
	}
	h := sha256.New()
	for _, x := range b {
		if x.value <= 0 && inputs[x.address] {
			h.Write([]byte(x.trytes[:addressAt]))
		}
		h.Write([]byte(x.trytes[addressAt:trunkAt]))
	}
	h.Sum(sum[:0])
	return sum
}

// validate checks a bundle with iota.go: sums, indexes, hash and signatures.
func validate(b []*tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("validate bundle: %v", p)
		}
	}()
	txs := make(bundle.Bundle, len(b))
	for i, x := range b {
		parsed, err := transaction.AsTransactionObject(x.trytes, x.hash)
		if err != nil {
			return err
		}
		txs[i] = *parsed
	}
	return bundle.ValidBundle(txs)
}

// milestone issues the next one: it makes the transaction, and applies to the
// ledger what is pending.
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

// confirm applies to the ledger what is pending, by the milestone with that
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

// apply takes a valid tail up into a milestone: it moves the money, or finds
// that some input does not hold enough.
func (t *tangle) apply(tail *tx, m *ms) {
	b := t.bundleOf(tail)
	if b == nil { // it was complete; Crash may have taken a part
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

// milestoneTx makes the transaction that a coordinator would issue. It is not
// signed: nobody here checks.
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

// attach gives transactions their place in the tangle and does their proof of
// work. They come as iota.go sends them, the bundle's last first, and are
// returned in the reverse order.
func (t *tangle) attach(trunk, branch trinary.Hash, trytes []trinary.Trytes, at time.Time) ([]*tx, error) {
	attached := make([]*tx, len(trytes))
	stamps := trinary.IntToTrytes(at.UnixMilli(), timeSize) +
		trinary.IntToTrytes(consts.LowerBoundAttachmentTimestamp, timeSize) +
		trinary.IntToTrytes(consts.UpperBoundAttachmentTimestamp, timeSize)
	for i, s := range trytes {
		if _, err := read(s); err != nil {
			return nil, err
		}
		s = s[:trunkAt] + trunk + branch + s[tagAt:attachedAt] + stamps
		nonce, err := pow.GoProofOfWork(s+consts.NullNonceTrytes, t.mwm)
		if err != nil {
			return nil, fmt.Errorf("proof of work: %w", err)
		}
		s += nonce
		hash, err := curl.HashTrytes(s)
		if err != nil {
			return nil, fmt.Errorf("hash transaction: %w", err)
		}
		if i == 0 {
			branch = trunk
		}
		trunk = hash
		x, err := read(s)
		if err != nil {
			return nil, err
		}
		x.hash = hash
		attached[len(trytes)-1-i] = x
	}
	return attached, nil
}

// remember keeps attached transactions, which are likely to be submitted next,
// and returns their trytes.
func (t *tangle) remember(attached []*tx) []trinary.Trytes {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.attached)+len(attached) > remembered {
		clear(t.attached)
	}
	trytes := make([]trinary.Trytes, len(attached))
	for i, x := range attached {
		trytes[i] = x.trytes
		t.attached[x.trytes] = x
	}
	return trytes
}

// milestoneAt returns a milestone that the node's ledger contains, or an error in
// the words of Hornet.
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

// list is an index entry: transactions that have something in common.
type list struct {
	txs    []*tx
	sorted bool
}

// inOrder returns the transactions as Hornet's database has them: those without
// value first, then by hash. The API cuts in this order, so that it is always
// the same ones that it leaves out.
func (l *list) inOrder() []*tx {
	if l == nil {
		return nil
	}
	if !l.sorted {
		slices.SortFunc(l.txs, func(a, b *tx) int {
			if (a.value == 0) != (b.value == 0) {
				if a.value == 0 {
					return -1
				}
				return 1
			}
			return cmp.Compare(a.hash, b.hash)
		})
		l.sorted = true
	}
	return l.txs
}
