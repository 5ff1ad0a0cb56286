package legacy

import (
	"context"
	"slices"

	"github.com/iotaledger/iota.go/trinary"
)

// agree tells which of the tails enough nodes call included. asked is the node
// that did already. The others are asked one after another until enough agree on
// every tail: a node that does not know yet, or has pruned, has no veto.
func (l *Ledger) agree(ctx context.Context, asked *peer, tails []trinary.Hash) map[trinary.Hash]bool {
	votes := make(map[trinary.Hash]int)
	for _, t := range tails {
		votes[t] = 1
	}
	agreed := func(t trinary.Hash) bool { return votes[t] >= l.cfg.Agree }
	open := slices.DeleteFunc(slices.Clone(tails), agreed)
	for _, n := range l.order() {
		if len(open) == 0 {
			break
		}
		if n == asked {
			continue
		}
		states, err := n.Included(ctx, l.milestoneOf(n), open)
		if err != nil {
			if ctx.Err() == nil {
				l.failed(n, err)
			}
			continue
		}
		for _, t := range open {
			if states[t] {
				votes[t]++
			}
		}
		open = slices.DeleteFunc(open, agreed)
	}
	all := make(map[trinary.Hash]bool)
	for _, t := range tails {
		all[t] = agreed(t)
	}
	return all
}
