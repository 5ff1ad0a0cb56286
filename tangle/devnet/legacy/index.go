package legacy

import (
	"cmp"
	"slices"

	"github.com/iotaledger/iota.go/trinary"
)

// insert adds a transaction to the indexes.
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

// list is an entry of an index.
type list struct {
	txs    []*tx
	sorted bool
}

// inOrder returns the transactions in the order of Hornet's database: those without
// value first, then by hash. Truncated answers always lack the same ones.
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
