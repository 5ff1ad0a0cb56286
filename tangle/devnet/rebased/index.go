package rebased

import (
	"bytes"
	"math"
	"slices"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// index finds what is in checkpoints by address, as an indexer does.
type index struct {
	affected map[txn.Address][]int // sequence numbers, ascending
	received map[txn.Address][]int
	sent     map[txn.Address][]int
	held     map[txn.Address][]*holding // what an address holds or held, by object ID
	fresh    map[txn.Address][]*holding // what is to be added to that; those who lost something are keys as well
	newest   map[txn.Address]*holding   // by object
}

// holding is a version of an object, and in which checkpoints it was the newest:
// from inclusive, to exclusive.
type holding struct {
	*object
	from, to int64
	before   *holding // the version before this one, for views of the past
}

func newIndex() index {
	return index{
		affected: make(map[txn.Address][]int), received: make(map[txn.Address][]int), sent: make(map[txn.Address][]int),
		held: make(map[txn.Address][]*holding), fresh: make(map[txn.Address][]*holding), newest: make(map[txn.Address]*holding),
	}
}

// include adds a transaction that has just got its place.
func (ix *index) include(x *transaction) {
	for _, o := range x.deleted {
		ix.remove(o.id, x.checkpoint)
	}
	for _, list := range [][]*object{x.created, x.mutated} {
		for _, o := range list {
			ix.add(o, x.checkpoint)
		}
	}
	if x.kind != programmable {
		return
	}
	note := func(m map[txn.Address][]int, a txn.Address) {
		if list := m[a]; len(list) == 0 || list[len(list)-1] != x.seq {
			m[a] = append(list, x.seq)
		}
	}
	note(ix.sent, x.sender)
	for _, a := range append(x.recipients(), x.sender, x.payer) {
		note(ix.affected, a)
	}
	for _, a := range x.recipients() {
		note(ix.received, a)
	}
}

// add makes o the newest version of its object from a checkpoint on.
func (ix *index) add(o *object, from int64) {
	h := &holding{object: o, from: from, to: math.MaxInt64, before: ix.remove(o.id, from)}
	ix.newest[o.id] = h
	ix.fresh[o.owner] = append(ix.fresh[o.owner], h)
}

// remove ends the newest version of an object with a checkpoint, and returns the
// newest version that a view of the past may need.
func (ix *index) remove(id txn.Address, at int64) *holding {
	h := ix.newest[id]
	if h == nil {
		return nil
	}
	h.to = at
	if _, ok := ix.fresh[h.owner]; !ok {
		ix.fresh[h.owner] = nil
	}
	if h.before != nil && h.before.to < at-consistentCheckpoints {
		h.before = nil
	}
	if h.from == at { // no view shows it
		return h.before
	}
	return h
}

// settle brings what changed into order, after a checkpoint.
func (ix *index) settle(tip int64) {
	compare := func(a, b *holding) int {
		if c := bytes.Compare(a.id[:], b.id[:]); c != 0 {
			return c
		}
		return int(a.from - b.from)
	}
	for a, fresh := range ix.fresh {
		slices.SortFunc(fresh, compare)
		old := ix.held[a]
		merged := make([]*holding, 0, len(old)+len(fresh))
		for len(old)+len(fresh) > 0 {
			var h *holding
			if len(fresh) == 0 || len(old) > 0 && compare(old[0], fresh[0]) < 0 {
				h, old = old[0], old[1:]
			} else {
				h, fresh = fresh[0], fresh[1:]
			}
			if h.from < h.to && h.to >= tip-consistentCheckpoints {
				merged = append(merged, h)
			}
		}
		ix.held[a] = merged
	}
	clear(ix.fresh)
}

// owned returns what an address held at a checkpoint, by ID.
func (ix *index) owned(a txn.Address, at int64) []*object {
	var all []*object
	for _, h := range ix.held[a] {
		if h.from <= at && at < h.to {
			all = append(all, h.object)
		}
	}
	return all
}

// object returns the newest version of an object at a checkpoint, or nil.
func (ix *index) object(id txn.Address, at int64) *object {
	for h := ix.newest[id]; h != nil; h = h.before {
		if h.from <= at && h.from < h.to {
			if at < h.to {
				return h.object
			}
			return nil
		}
	}
	return nil
}
