package legacy

import (
	"context"
	"fmt"
	"slices"

	"github.com/iotaledger/iota.go/api"
	"github.com/iotaledger/iota.go/guards"
	"github.com/iotaledger/iota.go/trinary"
)

// maxDiffs is how many milestones are read in one look.
const maxDiffs = 100

// beyond finds what changed an address since the last milestone up to which
// everything was found, or during the last hundred if that is longer ago, by
// asking what each milestone changed in the whole ledger. No number of
// transactions hides anything from it, but nodes answer it only to whom they
// permit to; then all is false.
func (l *Ledger) beyond(ctx context.Context, n *node, d *deposit, index int64) (hashes []trinary.Hash, all bool, err error) {
	from := max(d.covered, index-maxDiffs, 0)
	for i := from + 1; i <= index; i++ {
		more, err := n.ledgerDiff(ctx, i, d.hash)
		if err != nil {
			if ctx.Err() != nil {
				return nil, false, err
			}
			return hashes, false, nil
		}
		for _, h := range more {
			if !d.done[h] && !slices.Contains(hashes, h) {
				hashes = append(hashes, h)
			}
		}
	}
	d.gap = d.gap || from > d.covered // from 0, it was all that ever happened
	return hashes, true, nil
}

// ledgerDiff returns the transactions by which a milestone changed the balance
// of an address of 81 trytes. The names in the answer begin with capitals in
// Hornet 0.5.6 and do not in 0.5.10; encoding/json takes both.
func (n *node) ledgerDiff(ctx context.Context, index int64, address trinary.Hash) ([]trinary.Hash, error) {
	var a struct {
		ConfirmedTxWithValue *[]struct{ TxHash, Address trinary.Hash }
	}
	err := n.send(ctx, struct {
		api.Command
		MilestoneIndex int64 `json:"milestoneIndex"`
	}{api.Command{Command: "getLedgerDiffExt"}, index}, &a)
	if err != nil {
		return nil, fmt.Errorf("getLedgerDiffExt: %w", err)
	}
	if a.ConfirmedTxWithValue == nil {
		return nil, fmt.Errorf("getLedgerDiffExt: %w: it has no transactions", ErrAnswer)
	}
	var hashes []trinary.Hash
	for _, t := range *a.ConfirmedTxWithValue {
		if t.Address != address {
			continue
		}
		if !guards.IsTransactionHash(t.TxHash) {
			return nil, fmt.Errorf("getLedgerDiffExt: %w: a hash is %.90q", ErrAnswer, t.TxHash)
		}
		hashes = append(hashes, t.TxHash)
	}
	return hashes, nil
}
