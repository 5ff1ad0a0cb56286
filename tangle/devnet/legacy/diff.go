package legacy

import (
	"github.com/iotaledger/iota.go/trinary"
)

func (n *Node) getLedgerDiffExt(body []byte) (any, error) {
	var query struct{ MilestoneIndex int }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	// The names of the fields are those of 0.5.6; 0.5.10 has them in camel case.
	type valueTx struct {
		TxHash, TailTxHash, BundleHash, Address trinary.Hash
		Value                                   int64
	}
	type bundleTx struct {
		TxHash, Address trinary.Hash
		Index           uint64
		Value           int64
	}
	type valueBundle struct {
		BundleHash, TailTxHash trinary.Hash
		LastIndex              uint64
		Txs                    []bundleTx
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	m, err := n.milestoneAt(query.MilestoneIndex)
	if err != nil {
		return nil, err
	}
	txs, bundles := []valueTx{}, []valueBundle{}
	for _, tail := range m.included {
		moves := false
		vb := valueBundle{BundleHash: tail.bundle, TailTxHash: tail.hash, LastIndex: tail.last}
		for _, x := range n.tangle.bundleOf(tail) {
			vb.Txs = append(vb.Txs, bundleTx{x.hash, x.address, x.index, x.value})
			if x.value != 0 {
				moves = true
				txs = append(txs, valueTx{x.hash, tail.hash, x.bundle, x.address, x.value})
			}
		}
		if moves {
			bundles = append(bundles, vb)
		}
	}
	return struct {
		ConfirmedTxWithValue      []valueTx              `json:"confirmedTxWithValue"`
		ConfirmedBundlesWithValue []valueBundle          `json:"confirmedBundlesWithValue"`
		Diff                      map[trinary.Hash]int64 `json:"diff"`
		MilestoneIndex            int                    `json:"milestoneIndex"`
		timing
	}{txs, bundles, m.diff, m.index, timing{}}, nil
}
