package wallet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/iotaledger/iota.go/trinary"

	"github.com/iotoll/iotoll/tangle/legacy/node"
)

// rivalsEvery is how many polls apart Wait looks for conflicting payments.
const rivalsEvery = 4

// Wait returns nil once the node says that the ledger has confirmed the payment,
// also if somebody attached it again and that attachment was confirmed. The error
// wraps ErrConflict if another payment from the same addresses was confirmed. A
// node that fails is asked again. Give ctx a deadline: a payment may stay pending
// for good, and then the error wraps that of ctx.
func (w *Wallet) Wait(ctx context.Context, r Receipt) error {
	n, err := w.connect()
	if err != nil {
		return err
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for i := 0; ; i++ {
		confirmed, err := confirmed(ctx, n, r, i%rivalsEvery == 0)
		if confirmed {
			return nil
		}
		if errors.Is(err, ErrConflict) {
			return fmt.Errorf("transaction %s will never be confirmed: %w", r.Tail, err)
		}
		select {
		case <-ctx.Done():
			if err == nil || errors.Is(err, ctx.Err()) {
				return fmt.Errorf("wait for the confirmation of %s: %w", r.Tail, ctx.Err())
			}
			return fmt.Errorf("wait for the confirmation of %s: %w (%s: %s)", r.Tail, ctx.Err(), n.Name(), err)
		case <-tick.C:
		}
	}
}

// confirmed tells whether the ledger has confirmed a payment. rivals asks to look
// also at what else was paid from its addresses.
func confirmed(ctx context.Context, n *node.Client, r Receipt, rivals bool) (bool, error) {
	info, err := n.Info(ctx)
	if err != nil {
		return false, err
	}
	states, err := n.Included(ctx, info.Milestone, []trinary.Hash{r.Tail})
	if err != nil || states[r.Tail] || !rivals || len(r.Inputs) == 0 {
		return states[r.Tail], err
	}
	hashes, err := n.Find(ctx, node.Query{Addresses: r.Inputs, ValueOnly: true})
	if err != nil {
		return false, err
	}
	if states, err = n.Included(ctx, info.Milestone, hashes); err != nil {
		return false, err
	}
	hashes = slices.DeleteFunc(hashes, func(h trinary.Hash) bool { return !states[h] })
	found, err := n.Transactions(ctx, hashes)
	if err != nil {
		return false, err
	}
	for _, t := range found {
		switch {
		case t.Value >= 0 || !slices.Contains(r.Inputs, t.Address):
		case t.Bundle == r.Bundle:
			return true, nil
		default:
			return false, fmt.Errorf("%w: bundle %s", ErrConflict, t.Bundle)
		}
	}
	return false, nil
}
