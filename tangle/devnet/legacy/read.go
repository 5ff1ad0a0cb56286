package legacy

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/guards"
	"github.com/iotaledger/iota.go/trinary"
)

// unknownTrytes is what getTrytes returns for a transaction that the node does not
// have.
var unknownTrytes = strings.Repeat("9", consts.TransactionTrytesSize)

var errUnsynced = bad("node not synced")

func (n *Node) findTransactions(body []byte) (any, error) {
	var query struct {
		Addresses, Bundles, Tags, Approvees []string
		MaxResults                          int
		ValueOnly                           bool
	}
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	addresses := make([]string, len(query.Addresses))
	for i, a := range query.Addresses {
		if address.ValidAddress(a) != nil {
			return nil, bad("address hash invalid: %s", a)
		}
		addresses[i] = a[:consts.HashTrytesSize]
	}
	for _, b := range query.Bundles {
		if !guards.IsTransactionHash(b) {
			return nil, bad("bundle hash invalid: %s", b)
		}
	}
	for _, a := range query.Approvees {
		if !guards.IsTransactionHash(a) {
			return nil, bad("approvee hash invalid: %s", a)
		}
	}
	tags := make([]string, len(query.Tags))
	for i, tag := range query.Tags {
		if trinary.ValidTrytes(tag) != nil || len(tag) > tagSize {
			return nil, bad("tag invalid: %s", tag)
		}
		tags[i] = tag + strings.Repeat("9", tagSize-len(tag))
	}
	limit := maxFind
	if query.MaxResults > 0 && query.MaxResults < limit {
		limit = query.MaxResults
	}

	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	hashes := []trinary.Hash{}
	searched := false
	// The first kind of filter searches up to the limit. The others only remove from
	// what it found.
	for _, filter := range []struct {
		keys    []string
		index   map[string]*list
		matches func(x *tx, key string) bool
	}{
		{query.Bundles, n.tangle.byBundle, func(x *tx, key string) bool { return x.bundle == key }},
		{addresses, n.tangle.byAddress, func(x *tx, key string) bool { return x.address == key }},
		{query.Approvees, n.tangle.byApprovee, func(x *tx, key string) bool { return x.trunk == key || x.branch == key }},
		{tags, n.tangle.byTag, func(x *tx, key string) bool { return x.tag == key }},
	} {
		if len(filter.keys) == 0 {
			continue
		}
		if searched {
			hashes = slices.DeleteFunc(hashes, func(h trinary.Hash) bool {
				x := n.tangle.byHash[h]
				return !slices.ContainsFunc(filter.keys, func(key string) bool { return filter.matches(x, key) })
			})
			continue
		}
		searched = true
		found := make(map[trinary.Hash]bool)
		for _, key := range filter.keys {
			for _, x := range filter.index[key].inOrder() {
				if len(hashes) >= limit {
					break
				}
				if !found[x.hash] && n.sees(x) && (!query.ValueOnly || x.value != 0) {
					found[x.hash] = true
					hashes = append(hashes, x.hash)
				}
			}
		}
	}
	rand.Shuffle(len(hashes), func(i, j int) { hashes[i], hashes[j] = hashes[j], hashes[i] })
	return struct {
		Hashes []trinary.Hash `json:"hashes"`
		timing
	}{hashes, timing{}}, nil
}

func (n *Node) getTrytes(body []byte) (any, error) {
	var query struct{ Hashes []string }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	if len(query.Hashes) > maxTrytes {
		return nil, bad("Too many hashes. maximum allowed: %d", maxTrytes)
	}
	trytes := make([]trinary.Trytes, len(query.Hashes))
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	for i, h := range query.Hashes {
		if !guards.IsTransactionHash(h) {
			return nil, bad("Invalid hash supplied: %s", h)
		}
		trytes[i] = unknownTrytes
		if x := n.tangle.byHash[h]; x != nil && n.sees(x) {
			trytes[i] = x.trytes
		}
	}
	return struct {
		Trytes []trinary.Trytes `json:"trytes"`
		timing
	}{trytes, timing{}}, nil
}

func (n *Node) getInclusionStates(body []byte) (any, error) {
	var query struct{ Transactions []string }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	for _, h := range query.Transactions {
		if !guards.IsTransactionHash(h) {
			return nil, bad("Invalid reference hash supplied: %s", h)
		}
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	if !n.synced() {
		return nil, errUnsynced
	}
	states := make([]bool, len(query.Transactions))
	for i, h := range query.Transactions {
		states[i] = n.includes(n.tangle.byHash[h])
	}
	return inclusion{states, timing{}}, nil
}

type inclusion struct {
	States []bool `json:"states"`
	timing
}

func (n *Node) getBalances(body []byte) (any, error) {
	var query struct{ Addresses []string }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	if len(query.Addresses) == 0 {
		return nil, bad("No addresses provided")
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	if !n.synced() {
		return nil, errUnsynced
	}
	balances := make([]string, len(query.Addresses))
	for i, a := range query.Addresses {
		if address.ValidAddress(a) != nil {
			return nil, bad("address hash invalid: %s", a)
		}
		if len(a) != consts.HashTrytesSize {
			return nil, fail{status: http.StatusInternalServerError} // Hornet panics
		}
		balances[i] = strconv.FormatInt(n.balance(a), 10)
	}
	m := n.solid()
	return struct {
		Balances       []string       `json:"balances"`
		References     []trinary.Hash `json:"references"`
		MilestoneIndex int            `json:"milestoneIndex"`
		timing
	}{balances, []trinary.Hash{m.hash}, m.index, timing{}}, nil
}

func (n *Node) wereAddressesSpentFrom(body []byte) (any, error) {
	var query struct{ Addresses []string }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	if !n.synced() {
		return nil, errUnsynced
	}
	if len(query.Addresses) == 0 {
		return nil, bad("No addresses provided")
	}
	states := make([]bool, len(query.Addresses))
	for i, a := range query.Addresses {
		if address.ValidAddress(a) != nil {
			return nil, bad("Provided address hash invalid: %s", a)
		}
		states[i] = n.tangle.spent[a[:consts.HashTrytesSize]]
	}
	return struct {
		States []bool `json:"states"`
		timing
	}{states, timing{}}, nil
}

// checkConsistency always answers true, as in Hornet 0.5.
func (n *Node) checkConsistency([]byte) (any, error) {
	return struct {
		State bool `json:"state"`
		timing
	}{true, timing{}}, nil
}

func (n *Node) getTipInfo(body []byte) (any, error) {
	var query struct{ TailTransaction string }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	if !n.synced() {
		return nil, bad("node is not synced")
	}
	if !guards.IsTransactionHash(query.TailTransaction) {
		return nil, bad("Invalid hash supplied: %s", query.TailTransaction)
	}
	x := n.tangle.byHash[query.TailTransaction]
	if x == nil || !n.sees(x) {
		return nil, bad("unknown tail transaction")
	}
	if x.index != 0 {
		return nil, bad("transaction is not a tail")
	}
	if n.tangle.bundleOf(x) == nil {
		return nil, bad("transaction is not solid")
	}
	info := struct {
		Confirmed      bool `json:"confirmed"`
		Conflicting    bool `json:"conflicting"`
		ShouldPromote  bool `json:"shouldPromote"`
		ShouldReattach bool `json:"shouldReattach"`
		timing
	}{Confirmed: n.includes(x)}
	info.Conflicting = x.decided > 0 && x.included == 0 && x.decided <= n.solid().index
	if x.decided == 0 && x.verdict == valid {
		age := n.solid().index - x.epoch
		info.ShouldReattach = age >= reattachAfter
		info.ShouldPromote = age >= promoteAfter && !info.ShouldReattach
	}
	return info, nil
}
