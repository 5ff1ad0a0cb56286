package node

import (
	"context"
	"fmt"

	"github.com/iotaledger/iota.go/guards"
	"github.com/iotaledger/iota.go/trinary"
)

// workFactor is how many times longer than other requests proof of work may
// take.
const workFactor = 10

// Tips returns the trunk and branch that a new transaction should approve. depth
// is how many milestones back the node starts to choose.
func (c *Client) Tips(ctx context.Context, depth int) (trunk, branch trinary.Hash, err error) {
	var a struct{ TrunkTransaction, BranchTransaction trinary.Hash }
	if err := c.ask(ctx, "getTransactionsToApprove", fields{"depth": depth}, &a); err != nil {
		return "", "", err
	}
	if !guards.IsTransactionHash(a.TrunkTransaction) || !guards.IsTransactionHash(a.BranchTransaction) {
		return "", "", fmt.Errorf("getTransactionsToApprove: %w: trunk %.90q and branch %.90q", ErrAnswer, a.TrunkTransaction, a.BranchTransaction)
	}
	return a.TrunkTransaction, a.BranchTransaction, nil
}

// Attach has the node do the proof of work for the transactions of a bundle. It
// returns what the node made of them, unchecked but for their number. It may take
// ten times as long as other requests.
func (c *Client) Attach(ctx context.Context, trunk, branch trinary.Hash, mwm int, trytes []trinary.Trytes) ([]trinary.Trytes, error) {
	var a struct{ Trytes []trinary.Trytes }
	err := c.askWithin(ctx, workFactor*c.timeout, "attachToTangle", fields{
		"trunkTransaction": trunk, "branchTransaction": branch, "minWeightMagnitude": mwm, "trytes": trytes,
	}, &a)
	if err != nil {
		return nil, err
	}
	if len(a.Trytes) != len(trytes) {
		return nil, fmt.Errorf("attachToTangle: %w: %d transactions instead of %d", ErrAnswer, len(a.Trytes), len(trytes))
	}
	return a.Trytes, nil
}

// Send has the node store attached transactions and pass them on. After an error
// the node may have done so or not.
func (c *Client) Send(ctx context.Context, attached []trinary.Trytes) error {
	for _, command := range []string{"storeTransactions", "broadcastTransactions"} {
		var a *struct{}
		if err := c.ask(ctx, command, fields{"trytes": attached}, &a); err != nil {
			return err
		}
		if a == nil {
			return fmt.Errorf("%s: %w: null", command, ErrAnswer)
		}
	}
	return nil
}
