package wallet

import (
	"context"
	"fmt"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/api"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/transaction"
	"github.com/iotaledger/iota.go/trinary"
)

// funds is what a payment is made from.
type funds struct {
	inputs []api.Input  // enough for the amount; each is spent whole
	fresh  trinary.Hash // for the remainder: never used, with its checksum
	total  int64        // confirmed and spendable, on all addresses
}

// search goes through the addresses of the seed in order, until so many in a row
// are unused that no more are to be expected.
func (w *Wallet) search(ctx context.Context, node *api.API, amount int64) (funds, error) {
	var f funds
	var taken, burnt int64
	unused := 0
	for index := uint64(0); unused < gap; index += gap {
		if err := ctx.Err(); err != nil {
			return funds{}, err
		}
		addresses, err := address.GenerateAddresses(w.Seed, index, gap, consts.SecurityLevelMedium, true)
		if err != nil {
			return funds{}, fmt.Errorf("generate addresses: %w", err)
		}
		balances, err := contain(func() (*api.Balances, error) { return node.GetBalances(addresses) })
		if err != nil {
			return funds{}, fmt.Errorf("get balances: %w", err)
		}
		spent, err := contain(func() ([]bool, error) { return node.WereAddressesSpentFrom(addresses...) })
		if err != nil {
			return funds{}, fmt.Errorf("ask which addresses were spent from: %w", err)
		}
		if len(balances.Balances) != gap || len(spent) != gap {
			return funds{}, fmt.Errorf("the node told %d balances and %d spent states of %d addresses", len(balances.Balances), len(spent), gap)
		}
		for i, a := range addresses {
			if balances.Balances[i] > consts.TotalSupply {
				return funds{}, fmt.Errorf("the node told a balance of %d iotas, more than there are", balances.Balances[i])
			}
			balance := int64(balances.Balances[i])
			used, signed, err := history(node, a)
			if err != nil {
				return funds{}, err
			}
			switch {
			case spent[i] || signed:
				burnt += balance
				unused = 0
			case balance > 0:
				f.total += balance
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
	if f.total < amount {
		err := fmt.Errorf("%w: %d are confirmed and spendable, %d needed", ErrInsufficient, f.total, amount)
		if burnt > 0 {
			err = fmt.Errorf("%w; %d more are on addresses that were spent from, or on their way", err, burnt)
		}
		return funds{}, err
	}
	return f, nil
}

// history tells whether an address occurs on the tangle, and whether somebody
// signed for it there: a payment on its way spends it already, before the node
// counts it as spent.
func history(node *api.API, a trinary.Hash) (used, signed bool, err error) {
	hashes, err := contain(func() (trinary.Hashes, error) {
		return node.FindTransactions(api.FindTransactionsQuery{Addresses: trinary.Hashes{a}})
	})
	if err != nil {
		return false, false, fmt.Errorf("find transactions of %s: %w", a, err)
	}
	if len(hashes) == 0 {
		return false, false, nil
	}
	trytes, err := contain(func() ([]trinary.Trytes, error) { return node.GetTrytes(hashes...) })
	if err != nil {
		return false, false, fmt.Errorf("get transactions of %s: %w", a, err)
	}
	if len(trytes) != len(hashes) {
		return false, false, fmt.Errorf("the node gave %d transactions of %s instead of %d", len(trytes), a, len(hashes))
	}
	for _, s := range trytes {
		tx, err := transaction.AsTransactionObject(s, consts.NullHashTrytes)
		if err != nil {
			return false, false, fmt.Errorf("malformed transaction of %s: %w", a, err)
		}
		if tx.Value < 0 && tx.Address == a[:consts.HashTrytesSize] {
			signed = true
		}
	}
	return true, signed, nil
}
