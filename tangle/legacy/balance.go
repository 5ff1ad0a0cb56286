package legacy

import (
	"context"
	"fmt"

	"github.com/iotoll/iotoll/tangle"
)

// Balances asks the first node that works for the balance of each deposit
// address, in the order of the configuration, for comparison with a book. Like
// Confirmed, it is for one goroutine at a time.
func (l *Ledger) Balances(ctx context.Context) ([]tangle.Balance, error) {
	if len(l.order()) == 0 {
		l.examine(ctx)
	}
	var faults []error
	for _, n := range l.order() {
		amounts, index, err := n.getBalances(ctx, l.hashes)
		var spent []bool
		if err == nil {
			spent, err = n.spent(ctx, l.hashes)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("node %s: %w", n.name, err))
			continue
		}
		balances := make([]tangle.Balance, len(l.deposits))
		for i, d := range l.deposits {
			balances[i] = tangle.Balance{Address: d.address, Amount: amounts[i], Spent: spent[i], Node: n.name, Position: index}
		}
		return balances, nil
	}
	return nil, fmt.Errorf("read balances: %w", l.nobody(faults))
}
