package rebased

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"math"
	"math/big"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/blake2b"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// Values of the protocol, version 38 on mainnet
// (crates/iota-protocol-config/src/snapshots of iotaledger/iota).
const (
	protocolVersion       = 38
	referenceGasPrice     = 1000
	maxGasPrice           = 100_000
	computationUnits      = 1000 // the least that is charged, and enough for any payment
	maxBudget             = 50_000_000_000
	maxInputs             = 2048
	maxArguments          = 512
	maxCommands           = 1024
	maxPerCheckpoint      = 10_000
	consistentCheckpoints = 9000 // for how many checkpoints object views are kept
)

// transactionKind tells transactions of users from the network's own.
type transactionKind uint8

const (
	programmable transactionKind = iota
	genesis
)

// transaction is a transaction that was executed. Only seq, checkpoint and
// holdUntil change afterwards.
type transaction struct {
	kind       transactionKind
	digest     txn.Digest
	bytes      []byte
	signatures []string  // as submitted; nil if signers made the transaction
	signers    []txn.Key // of the simulator's own payments, which are signed when they are read
	sender     txn.Address
	payer      txn.Address
	epoch      uint64
	version    uint64 // of all objects written
	failure    *failure
	gas        gasUsed
	gasObject  *object // as written
	inputs     []*object
	created    []*object
	mutated    []*object
	deleted    []*object // as they were
	changes    []balanceChange
	depends    []txn.Digest

	seq        int   // in the ledger's order; -1 before it is in a checkpoint
	checkpoint int64 // -1 before it is in one
	holdUntil  int64 // the first checkpoint that may include it
}

// never is a checkpoint that never comes.
const never = math.MaxInt64

// balanceChange is what a transaction did to an address's sum of coins of a type.
type balanceChange struct {
	owner  txn.Address
	coin   txn.CoinType
	amount *big.Int
}

// signed returns the signatures.
func (x *transaction) signed() []string {
	if x.signatures != nil || len(x.signers) == 0 {
		return x.signatures
	}
	var all []string
	for _, k := range x.signers {
		all = append(all, k.Sign(x.bytes))
	}
	return all
}

// data returns what was submitted; only programmable transactions have it.
func (x *transaction) data() txn.Transaction {
	t, err := txn.Decode(x.bytes)
	if err != nil {
		panic(err) // it was decoded before it was executed
	}
	return t
}

// recipients returns the owners of the objects that x wrote.
func (x *transaction) recipients() []txn.Address {
	var all []txn.Address
	for _, o := range x.created {
		all = append(all, o.owner)
	}
	for _, o := range x.mutated {
		all = append(all, o.owner)
	}
	return all
}

// checkpoint is a step of the ledger, which is never taken back.
type checkpoint struct {
	number int64
	epoch  uint64
	digest txn.Digest
	time   time.Time // consensus time, in milliseconds, never before the previous one's
	made   time.Time // by the simulator's clock, but never before the previous one
	first  int       // the sequence number of its first transaction
	total  int       // transactions in the ledger at its end
	gas    gasUsed   // of the epoch so far
}

// epochInfo is when an epoch began, and with which checkpoint.
type epochInfo struct {
	start time.Time
	first int64
}

// lock keeps an object version for one transaction.
type lock struct {
	by    txn.Digest
	epoch uint64    // it falls when this epoch ends
	until time.Time // it falls then, if set (P-COOL)
	dead  bool      // the validators are split: not even by can use the object
}

type version struct {
	id      txn.Address
	version uint64
}

// chain is the state of a simulated network, which several nodes may show.
type chain struct {
	mu sync.RWMutex

	now       func() time.Time
	epochTime time.Duration
	conflicts Conflicts

	id          string // the chain identifier
	salt        [32]byte
	genesis     *transaction
	objects     map[txn.Address]*object
	byDigest    map[txn.Digest]*transaction
	ordered     []*transaction // by seq
	pending     []*transaction // executed and in no checkpoint, in order of execution
	later       []late         // to be executed in spite of what was answered
	checkpoints []*checkpoint
	epochs      []epochInfo
	locks       map[version]lock
	inFlight    map[version]txn.Digest
	hold        int64   // for how many checkpoints new transactions are held back; below 0 indefinitely
	issued      uint64  // coins that fund made
	nodes       []*Node // whose views end with the chain
	index
}

// late is a transaction that will be executed at a checkpoint.
type late struct {
	t          txn.Transaction
	bytes      []byte
	signatures []string
	at         int64
}

func newChain(now func() time.Time, epoch time.Duration, conflicts Conflicts) *chain {
	c := &chain{now: now, epochTime: epoch, conflicts: conflicts}
	c.reset()
	return c
}

// reset begins a new chain with nothing in it but checkpoint 0.
func (c *chain) reset() {
	rand.Read(c.salt[:])
	c.objects = make(map[txn.Address]*object)
	c.byDigest = make(map[txn.Digest]*transaction)
	c.locks = make(map[version]lock)
	c.inFlight = make(map[version]txn.Digest)
	c.ordered, c.pending, c.later, c.checkpoints, c.hold = nil, nil, nil, nil, 0
	c.epochs = []epochInfo{{start: c.now()}}
	c.index = newIndex()
	c.genesis = &transaction{kind: genesis, digest: hash([]byte("genesis"), c.salt[:]), version: 1, seq: -1, checkpoint: -1}
	c.byDigest[c.genesis.digest] = c.genesis
	c.pending = []*transaction{c.genesis}
	first := c.step()
	c.id = hex.EncodeToString(first.digest[:4])
}

// epoch returns the number of the present epoch.
func (c *chain) epoch() uint64 { return uint64(len(c.epochs) - 1) }

// tip returns the newest checkpoint, indexed or not.
func (c *chain) tip() *checkpoint {
	if len(c.checkpoints) == 0 {
		return nil
	}
	return c.checkpoints[len(c.checkpoints)-1]
}

// fund makes a coin that is treated as if it had been there from the beginning:
// it has version 1 and no storage rebate, and every node sees it at once.
func (c *chain) fund(owner txn.Address, coin txn.CoinType, balance uint64) *object {
	c.issued++
	o := &object{
		id: hash([]byte("genesis object"), c.salt[:], binary.LittleEndian.AppendUint64(nil, c.issued)), version: 1,
		owner: owner, coin: &coin, balance: balance, previous: c.genesis.digest,
	}
	o.seal()
	c.objects[o.id] = o
	c.index.add(o, 0)
	c.index.settle(0)
	return o
}

// step issues a checkpoint with all that is pending and not held back.
func (c *chain) step() *checkpoint {
	now := c.now()
	number := int64(len(c.checkpoints))
	var waiting []late
	for _, l := range c.later {
		if l.at > number {
			waiting = append(waiting, l)
		} else if c.refuse(l.t, l.bytes, false) == nil {
			c.commit(c.execute(l.t, l.bytes), l.signatures, nil)
		}
	}
	c.later = waiting

	cp := &checkpoint{number: number, epoch: c.epoch(), time: now.Truncate(time.Millisecond), made: now, first: len(c.ordered)}
	var previous []byte
	if last := c.tip(); last != nil {
		cp.time, cp.made = later(cp.time, last.time), later(now, last.made)
		previous = last.digest[:]
		if last.epoch == cp.epoch {
			cp.gas = last.gas
		}
	}
	digest := newHash()
	digest.Write(c.salt[:])
	digest.Write(previous)
	digest.Write(binary.LittleEndian.AppendUint64(nil, uint64(number)))
	digest.Write(binary.LittleEndian.AppendUint64(nil, uint64(cp.time.UnixMilli())))
	held := make(map[txn.Digest]bool)
	var rest []*transaction
	for i, x := range c.pending {
		if len(c.ordered)-cp.first == maxPerCheckpoint {
			rest = append(rest, c.pending[i:]...)
			break
		}
		// What depends on a transaction cannot come before it.
		if x.holdUntil > number || slices.ContainsFunc(x.depends, func(d txn.Digest) bool { return held[d] }) {
			held[x.digest] = true
			rest = append(rest, x)
			continue
		}
		x.seq, x.checkpoint = len(c.ordered), number
		c.ordered = append(c.ordered, x)
		c.index.include(x)
		cp.gas.add(x.gas)
		digest.Write(x.digest[:])
	}
	c.index.settle(number)
	c.pending = rest
	cp.total = len(c.ordered)
	digest.Sum(cp.digest[:0])
	c.checkpoints = append(c.checkpoints, cp)
	if c.epochTime > 0 && cp.time.Sub(c.epochs[len(c.epochs)-1].start) >= c.epochTime {
		c.endEpoch()
	}
	return cp
}

// endEpoch begins the next epoch with the next checkpoint. All locks fall.
func (c *chain) endEpoch() {
	c.epochs = append(c.epochs, epochInfo{start: later(c.tip().time, c.now().Truncate(time.Millisecond)), first: int64(len(c.checkpoints))})
	maps.DeleteFunc(c.locks, func(_ version, l lock) bool { return l.epoch < c.epoch() })
}

// lockedBy returns the lock on an object version, if one holds now.
func (c *chain) lockedBy(v version) (lock, bool) {
	l, ok := c.locks[v]
	if ok && !l.until.IsZero() && !c.now().Before(l.until) {
		return lock{}, false
	}
	return l, ok
}

// commit adds what execute returned to the state.
func (c *chain) commit(x *transaction, signatures []string, signers []txn.Key) {
	x.signatures, x.signers = signatures, signers
	for _, o := range x.inputs {
		delete(c.locks, version{o.id, o.version})
	}
	for _, o := range x.deleted {
		delete(c.objects, o.id)
	}
	for _, o := range x.created {
		c.objects[o.id] = o
	}
	for _, o := range x.mutated {
		c.objects[o.id] = o
	}
	switch {
	case c.hold < 0:
		x.holdUntil = never
	case c.hold > 0:
		x.holdUntil = int64(len(c.checkpoints)) + c.hold
	}
	c.byDigest[x.digest] = x
	c.pending = append(c.pending, x)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func newHash() hasher {
	h, err := blake2b.New256(nil)
	if err != nil {
		panic(err) // only a key could be wrong, and there is none
	}
	return h
}

type hasher interface {
	Write([]byte) (int, error)
	Sum([]byte) []byte
}

// hash returns the BLAKE2b-256 of the concatenation of parts.
func hash(parts ...[]byte) [32]byte {
	h := newHash()
	for _, p := range parts {
		h.Write(p)
	}
	return [32]byte(h.Sum(nil))
}
