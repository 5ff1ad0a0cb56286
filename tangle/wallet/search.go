package wallet

import (
	"context"
	"fmt"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/api"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/trinary"

	"github.com/iotoll/iotoll/tangle/legacy/node"
)

const (
	gap          = 5     // unused addresses in a row that end the search for funds
	maxAddresses = 10000 // that are searched: a node may call every address used
)

// funds is what a payment is made from.
type funds struct {
	inputs []api.Input  // enough for the amount; each is spent whole
	fresh  trinary.Hash // for the remainder: never used, with its checksum
	total  int64        // of all addresses that can be spent from
}

// search goes through the addresses of the seed in order, until so many in a row
// are unused that no more are to be expected.
func (w *Wallet) search(ctx context.Context, n *node.Client, amount int64) (f funds, err error) {
	var spendable, taken, burnt int64
	unused := 0
	for index := uint64(0); unused < gap; index += gap {
		if index == maxAddresses {
			return funds{}, fmt.Errorf("the first %d addresses of the seed are all used, says the node", maxAddresses)
		}
		addresses, err := address.GenerateAddresses(w.Seed, index, gap, consts.SecurityLevelMedium, true)
		if err != nil {
			return funds{}, fmt.Errorf("generate addresses: %w", err)
		}
		hashes := make([]trinary.Hash, len(addresses)) // without checksums
		for i, a := range addresses {
			hashes[i] = a[:consts.HashTrytesSize]
		}
		balances, err := n.Balances(ctx, hashes)
		if err != nil {
			return funds{}, err
		}
		spent, err := n.SpentFrom(ctx, hashes)
		if err != nil {
			return funds{}, err
		}
		for i, a := range addresses {
			balance := balances.Amounts[i]
			used, signed, err := history(ctx, n, hashes[i])
			if err != nil {
				return funds{}, fmt.Errorf("address %s: %w", a, err)
			}
			switch {
			case spent[i] || signed:
				burnt += balance
				unused = 0
			case balance > 0:
				spendable += balance
				unused = 0
				if taken < amount {
					taken += balance
					f.inputs = append(f.inputs, api.Input{
						Address: a, Balance: uint64(balance), KeyIndex: index + uint64(i), Security: consts.SecurityLevelMedium,
					})
				}
			case used:
				unused = 0
			default:
				if unused == 0 { // the first after all that are used
					f.fresh = a
				}
				unused++
			}
		}
	}
	if spendable < amount {
		err := fmt.Errorf("%w: %d are confirmed and spendable, %d needed", ErrInsufficient, spendable, amount)
		if burnt > 0 {
			err = fmt.Errorf("%w; %d more are on addresses that were spent from, or on their way", err, burnt)
		}
		return funds{}, err
	}
	f.total = spendable
	return f, nil
}

// Balance returns what the seed can spend, in iotas, and the first address that was
// never used, with its checksum.
func (w *Wallet) Balance(ctx context.Context) (amount int64, fresh trinary.Hash, err error) {
	if err := w.check(); err != nil {
		return 0, "", err
	}
	n, err := w.connect()
	if err != nil {
		return 0, "", err
	}
	f, err := w.search(ctx, n, 0)
	if err != nil {
		return 0, "", fmt.Errorf("read balance at %s: %w", n.Name(), err)
	}
	return f.total, f.fresh, nil
}

// history tells whether an address occurs on the tangle, and whether somebody
// signed for it there: a payment on its way spends it already, before the node
// counts it as spent.
func history(ctx context.Context, n *node.Client, hash trinary.Hash) (used, signed bool, err error) {
	hashes, err := n.Find(ctx, node.Query{Addresses: []trinary.Hash{hash}})
	if err != nil || len(hashes) == 0 {
		return false, false, err
	}
	found, err := n.Transactions(ctx, hashes)
	for _, t := range found {
		signed = signed || t.Value < 0 && t.Address == hash
	}
	return true, signed, err
}
