package legacy

import (
	"errors"
	"net/http"

	"github.com/iotaledger/iota.go/guards"
	"github.com/iotaledger/iota.go/trinary"
)

func (n *Node) getTransactionsToApprove(body []byte) (any, error) {
	var query struct{ Reference string }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	if !n.synced() {
		return nil, fail{status: http.StatusServiceUnavailable, text: "node is not synchronized"}
	}
	trunk, branch := n.solid().hash, n.solid().hash
	if n.tangle.tip != nil && n.sees(n.tangle.tip) {
		trunk = n.tangle.tip.hash
	}
	if query.Reference != "" {
		if !guards.IsTransactionHash(query.Reference) {
			return nil, bad("Invalid reference hash supplied: %s", query.Reference)
		}
		if x := n.tangle.byHash[query.Reference]; x == nil || !n.sees(x) {
			return nil, bad("unknown reference transaction")
		}
		branch = query.Reference
	}
	return struct {
		TrunkTransaction  trinary.Hash `json:"trunkTransaction"`
		BranchTransaction trinary.Hash `json:"branchTransaction"`
		timing
	}{trunk, branch, timing{}}, nil
}

func (n *Node) attachToTangle(body []byte) (any, error) {
	var query struct {
		TrunkTransaction, BranchTransaction string
		MinWeightMagnitude                  int
		Trytes                              []string
	}
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	if query.MinWeightMagnitude != n.tangle.mwm {
		return nil, bad("Wrong MinWeightMagnitude. requested: %d, expected: %d", query.MinWeightMagnitude, n.tangle.mwm)
	}
	if len(query.Trytes) == 0 {
		return nil, bad("No trytes provided")
	}
	if !guards.IsTransactionHash(query.TrunkTransaction) || !guards.IsTransactionHash(query.BranchTransaction) {
		return nil, bad("Invalid trunk or branch hash supplied")
	}
	attached, err := n.tangle.attach(query.TrunkTransaction, query.BranchTransaction, query.Trytes, n.tangle.now())
	if errors.Is(err, errTrytes) {
		return nil, bad("%s", err)
	}
	if err != nil {
		return nil, err
	}
	return struct {
		Trytes []trinary.Trytes `json:"trytes"`
		timing
	}{n.tangle.remember(attached), timing{}}, nil
}

func (n *Node) broadcastTransactions(body []byte) (any, error) {
	var query struct{ Trytes []string }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	if len(query.Trytes) == 0 {
		return nil, bad("No trytes provided")
	}
	if err := n.tangle.store(n, query.Trytes); err != nil {
		return nil, bad("%s", err)
	}
	return timing{}, nil
}
