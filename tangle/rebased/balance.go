package rebased

import (
	"context"
	"fmt"
	"math/big"
	"slices"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/rebased/graphql"
)

// Balances implements tangle.Inspector. Keys of this ledger may be used any number
// of times, so that Spent is always false, and owners may spend.
func (l *Ledger) Balances(ctx context.Context) ([]tangle.Balance, error) {
	var faults []error
	nodes := l.order()
	for i, n := range nodes {
		nodeCtx, cancel := share(ctx, len(nodes)-i)
		all, err := l.balances(nodeCtx, n)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				l.failed(n, err)
			}
			faults = append(faults, fmt.Errorf("node %s: %w", n.client.Name(), err))
			continue
		}
		l.worked(n)
		return all, nil
	}
	return nil, fmt.Errorf("read balances: %w", l.nobody(faults))
}

func (l *Ledger) balances(ctx context.Context, n *node) ([]tangle.Balance, error) {
	var all []tangle.Balance
	for group := range slices.Chunk(l.deposits, perRequest) {
		var a struct {
			tipAnswer
			lists[*struct {
				Balance *struct{ TotalBalance *string }
			}]
		}
		variables := make(map[string]any)
		for i, d := range group {
			variables[fmt.Sprintf("a%d", i)] = d.text
		}
		answer, err := n.client.Do(ctx, balancesDocument(len(group)), variables, &a)
		if err == nil {
			err = l.admit(n, answer, a.status)
			l.keeps(n, a.tipAnswer)
		}
		if err != nil {
			return nil, err
		}
		for i, d := range group {
			b := tangle.Balance{Address: d.text, Node: n.client.Name(), Position: a.Checkpoint.SequenceNumber, Spendable: true}
			if owner := *a.at(i); owner != nil && owner.Balance != nil && owner.Balance.TotalBalance != nil {
				if b.Amount, err = parseAmount(*owner.Balance.TotalBalance); err != nil {
					return nil, err
				}
			} else if len(answer.Errors) > 0 {
				return nil, answer.Errors
			}
			all = append(all, b)
		}
	}
	return all, nil
}

// parseAmount reads an amount in nanos that is not negative.
func parseAmount(text string) (int64, error) {
	amount, ok := new(big.Int), false
	if len(text) <= 40 {
		_, ok = amount.SetString(text, 10)
	}
	if !ok || !amount.IsInt64() || amount.Sign() < 0 {
		return 0, fmt.Errorf("%w: an amount of %.60q", graphql.ErrAnswer, text)
	}
	return amount.Int64(), nil
}
