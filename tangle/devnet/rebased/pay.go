package rebased

import (
	"errors"
	"fmt"
	"slices"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// Transfer is what a payment gives to one address.
type Transfer struct {
	To     txn.Address
	Amount uint64       // in base units of the coin
	Coin   txn.CoinType // IOTA if zero
	NFT    bool         // an object that is no coin, instead of an amount
}

// Payment is a transaction that the simulator makes by itself, with coins that it
// adds for the purpose. It is executed at once: [Config].Execution and
// [Node.Misbehave] do not apply.
type Payment struct {
	// From pays; a new key if nil. A payer's
	// coins are added as needed.
	From *txn.Key
	// Sponsor pays for the gas, if not nil.
	Sponsor *txn.Key
	// Transfers are made in order, all in one transaction.
	Transfers []Transfer
	// Memo are unused pure inputs, each a string.
	Memo []string
	// Fail asks for more than the payer has, so that the transaction fails and
	// costs gas.
	Fail bool
	// Sweep gives all coins of From, and so what is left after gas, to the first
	// transfer's address. Their amounts do not count.
	Sweep bool
}

// payBudget is the gas budget of such payments.
const payBudget = 1_000_000_000

// Pay executes a payment and returns its digest. The next checkpoint includes it.
func (n *Node) Pay(p Payment) (digest string, err error) {
	x, err := n.pay(p)
	if err != nil {
		return "", err
	}
	return x.digest.String(), nil
}

func (n *Node) pay(p Payment) (*transaction, error) {
	if len(p.Transfers) == 0 {
		return nil, errors.New("pay: no transfers")
	}
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	c := n.chain
	coinOf := c.coinOf
	if p.From == nil { // it has no coins yet
		k := txn.NewKey()
		p.From = &k
		coinOf = func(owner txn.Address, nanos uint64) txn.ObjectRef { return c.fund(owner, txn.IOTA, nanos).ref() }
	}
	payer := p.From.Address()
	t := txn.Transaction{Sender: payer, Gas: txn.Gas{Owner: payer, Price: referenceGasPrice, Budget: payBudget}}
	signers := []txn.Key{*p.From}

	need := uint64(payBudget)
	for _, tr := range p.Transfers {
		if tr.Coin == (txn.CoinType{}) || tr.Coin == txn.IOTA {
			if need+tr.Amount < need && !p.Sweep {
				return nil, fmt.Errorf("pay %d: more than a coin can hold with the gas", tr.Amount)
			}
			need += tr.Amount
		}
	}
	input := func(in txn.Input) txn.Argument {
		t.Inputs = append(t.Inputs, in)
		return txn.InputAt(uint16(len(t.Inputs) - 1))
	}
	from := txn.GasCoin
	switch {
	case p.Sweep:
		t.Gas.Coins = c.coins(payer, 0)
		if len(t.Gas.Coins) == 0 {
			return nil, fmt.Errorf("sweep %s: it has no coins", payer)
		}
		t.Gas.Budget = 50_000_000
	case p.Sponsor != nil:
		sponsor := p.Sponsor.Address()
		t.Gas.Owner = sponsor
		t.Gas.Coins = []txn.ObjectRef{c.coinOf(sponsor, payBudget)}
		signers = append(signers, *p.Sponsor)
		from = input(txn.Owned(coinOf(payer, need-payBudget)))
	default:
		t.Gas.Coins = []txn.ObjectRef{coinOf(payer, need)}
	}
	for i, tr := range p.Transfers {
		to := input(txn.PureAddress(tr.To))
		switch {
		case p.Sweep:
			if i == 0 {
				t.Commands = append(t.Commands, txn.TransferObjects{Objects: []txn.Argument{txn.GasCoin}, To: to})
			}
		case tr.NFT:
			t.Commands = append(t.Commands, txn.MoveCall{Package: simulator, Module: "nft", Function: "mint", Arguments: []txn.Argument{to}})
		case tr.Coin != (txn.CoinType{}) && tr.Coin != txn.IOTA:
			coin := input(txn.PureString(tr.Coin.String()))
			amount := input(txn.PureU64(tr.Amount))
			t.Commands = append(t.Commands, txn.MoveCall{Package: simulator, Module: "faucet", Function: "mint", Arguments: []txn.Argument{coin, amount, to}})
		default:
			amount := input(txn.PureU64(tr.Amount))
			t.Commands = append(t.Commands,
				txn.SplitCoins{Coin: from, Amounts: []txn.Argument{amount}},
				txn.TransferObjects{Objects: []txn.Argument{txn.NestedResult(uint16(len(t.Commands)), 0)}, To: to})
		}
	}
	for _, memo := range p.Memo {
		input(txn.PureString(memo))
	}
	if p.Fail {
		all := input(txn.PureU64(1<<64 - 1))
		t.Commands = slices.Insert(t.Commands, 0, txn.Command(txn.SplitCoins{Coin: from, Amounts: []txn.Argument{all}}))
	}
	raw := t.Encode()
	if err := c.refuse(t, raw, false); err != nil {
		return nil, fmt.Errorf("pay: %w", err)
	}
	if x := c.byDigest[txn.DigestOf(raw)]; x != nil {
		return x, nil
	}
	x := c.execute(t, raw)
	c.commit(x, nil, signers)
	return x, nil
}

// coins returns an address's coins of the network's own, the largest first, none
// smaller than least, and at most as many as may pay for gas.
func (c *chain) coins(owner txn.Address, least uint64) []txn.ObjectRef {
	var all []*object
	for _, o := range c.objects {
		if o.owner == owner && o.isIOTA() && o.balance >= least {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b *object) int {
		if a.balance > b.balance {
			return -1
		}
		return 1
	})
	var refs []txn.ObjectRef
	for _, o := range all[:min(len(all), txn.MaxGasCoins)] {
		refs = append(refs, o.ref())
	}
	return refs
}

// coinOf returns a coin of an address with an amount, which is made if there is
// none.
func (c *chain) coinOf(owner txn.Address, least uint64) txn.ObjectRef {
	if all := c.coins(owner, least); len(all) > 0 {
		return all[0]
	}
	return c.fund(owner, txn.IOTA, least).ref()
}

// Flood executes many payments of one amount from one payer to an address, each a
// transaction, and issues the checkpoints that they need, so that all of them are
// in the ledger when it returns. It makes about 50,000 a second.
func (n *Node) Flood(to txn.Address, count int, nanos uint64) error {
	from := txn.NewKey()
	c := n.chain
	c.mu.Lock()
	defer c.mu.Unlock()
	need := uint64(payBudget) + uint64(count)*(nanos+3_000_000)
	if count < 0 || need/uint64(count+1) < nanos {
		return fmt.Errorf("flood with %d payments of %d nanos: more than a coin can hold", count, nanos)
	}
	coin := c.fund(from.Address(), txn.IOTA, need).ref()
	for i := range count {
		t := txn.Transaction{
			Sender: from.Address(),
			Gas:    txn.Gas{Coins: []txn.ObjectRef{coin}, Owner: from.Address(), Price: referenceGasPrice, Budget: payBudget / 100},
			Inputs: []txn.Input{txn.PureU64(nanos), txn.PureAddress(to)},
			Commands: []txn.Command{
				txn.SplitCoins{Coin: txn.GasCoin, Amounts: []txn.Argument{txn.InputAt(0)}},
				txn.TransferObjects{Objects: []txn.Argument{txn.NestedResult(0, 0)}, To: txn.InputAt(1)},
			},
		}
		x := c.execute(t, t.Encode())
		if x.failure != nil {
			return fmt.Errorf("flood: payment %d: %s", i, x.failure)
		}
		c.commit(x, nil, []txn.Key{from})
		coin = x.gasObject.ref()
		if (i+1)%maxPerCheckpoint == 0 || i == count-1 {
			c.step()
		}
	}
	return nil
}
