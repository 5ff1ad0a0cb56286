package legacy

import (
	"crypto/sha256"
	"fmt"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/curl"
	"github.com/iotaledger/iota.go/transaction"
	"github.com/iotaledger/iota.go/trinary"
)

// verdict is what is known of the bundle of a tail, apart from balances.
type verdict int

const (
	unchecked verdict = iota // incomplete, or not checked yet
	valid
	invalid
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

// read returns the transaction that trytes encode, without its hash.
func read(trytes trinary.Trytes) (*tx, error) {
	parsed, err := transaction.AsTransactionObject(trytes, consts.NullHashTrytes)
	if err != nil {
		return nil, errTrytes
	}
	return slice(trytes, parsed.Value, parsed.CurrentIndex, parsed.LastIndex), nil
}

// slice returns a transaction without its hash, from trytes and the numbers in them.
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

// complete returns the attachments that became complete with some transactions.
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

// bundleOf follows the trunks from a tail to the end of its bundle. It returns nil
// if a transaction is missing or known to one node only.
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

// judge returns whether a complete bundle is valid.
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

// check judges a complete bundle and records the verdict on its tail.
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

// fingerprint identifies what the validity of a bundle depends on: what its hash
// covers, and its signatures.
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
