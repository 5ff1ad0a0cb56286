package rebased

import (
	"fmt"
	"strings"
	"testing"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// settled gives a payer coins that were bought, and so have a storage rebate.
func (w *world) settled(coins ...uint64) payer {
	w.t.Helper()
	p := payer{txn.NewKey(), w}
	var transfers []Transfer
	for _, nanos := range coins {
		transfers = append(transfers, Transfer{To: p.Address(), Amount: nanos})
	}
	w.paid(Payment{Transfers: transfers})
	w.Step()
	return p
}

// The numbers are those of mainnet (iota-cost/tests/snapshots, and the recorded
// tests of iota-graphql-e2e-tests).
func TestGas(t *testing.T) {
	many := func(n int) (coins []uint64) {
		for range n {
			coins = append(coins, 1e9)
		}
		return coins
	}
	for _, test := range []struct {
		name     string
		coins    []uint64
		genesis  bool // the coins have no rebate
		amounts  []uint64
		whole    bool
		price    uint64
		net      int64
		failure  string
		storage  uint64
		received uint64
	}{
		{name: "one coin", coins: many(1), amounts: []uint64{5e8}, net: 1_980_400, storage: 1_960_800, received: 5e8},
		{name: "two coins", coins: many(2), amounts: []uint64{5e8}, net: 1_000_000, storage: 1_960_800, received: 5e8},
		{name: "three coins", coins: many(3), amounts: []uint64{5e8}, net: 19_600, storage: 1_960_800, received: 5e8},
		{name: "four coins", coins: many(4), amounts: []uint64{5e8}, net: -960_800, storage: 1_960_800, received: 5e8},
		{name: "255 coins", coins: many(255), amounts: []uint64{5e8}, net: 1_000_000 + 1_960_800 - 980_400*255, storage: 1_960_800, received: 5e8},
		{name: "two recipients", coins: many(1), amounts: []uint64{1, 2}, net: 2_960_800, storage: 2_941_200, received: 3},
		{name: "whole coin", coins: many(1), whole: true, net: 1_000_000, storage: 980_400, received: 1e9 - 1_000_000},
		{name: "genesis coin", coins: many(1), genesis: true, amounts: []uint64{5e8}, net: 2_960_800, storage: 1_960_800, received: 5e8},
		{name: "price", coins: many(1), amounts: []uint64{5e8}, price: 3000, net: 3_980_400, storage: 1_960_800, received: 5e8},
		{name: "too much", coins: many(1), amounts: []uint64{1e9}, net: 1_000_000, failure: "Error in 1st command, Insufficient coin balance for operation.", storage: 980_400},
		{name: "into the budget", coins: many(1), amounts: []uint64{1e9 - 9_999_999}, net: 1_000_000, failure: "Error in 1st command, Insufficient coin balance for operation.", storage: 980_400},
		{name: "up to the budget", coins: many(1), amounts: []uint64{1e9 - 10_000_000}, net: 1_980_400, storage: 1_960_800, received: 1e9 - 10_000_000},
		{name: "fourth amount too much", coins: many(1), amounts: []uint64{1, 1, 1, 1e10}, net: 1_000_000, failure: "Error in 7th command, Insufficient coin balance for operation.", storage: 980_400},
		{name: "failed with four coins", coins: many(4), amounts: []uint64{1e10}, net: 1_000_000 - 3*980_400, failure: "Error in 1st command, Insufficient coin balance for operation.", storage: 980_400},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.payer(test.coins...)
			if !test.genesis {
				p = w.settled(test.coins...)
			}
			shop := address()
			x := p.pays(shop, test.amounts...)
			if test.whole {
				x.Commands = []txn.Command{txn.TransferObjects{Objects: []txn.Argument{txn.GasCoin}, To: txn.InputAt(0)}}
			}
			if test.price > 0 {
				x.Gas.Price = test.price
			}
			before := int64(w.Balance(p.Address()))
			a := w.ok(w.send(x, p.Key))
			want, failure := "SUCCESS", any(nil)
			if test.failure != "" {
				want, failure = "FAILURE", test.failure
			}
			if status(a) != want || a.at("executeTransactionBlock.effects.errors") != failure {
				t.Fatalf("got %v, %v; want %v, %v", status(a), a.at("executeTransactionBlock.effects.errors"), want, failure)
			}
			if got := a.at("executeTransactionBlock.effects.gasEffects.gasSummary.storageCost"); got != fmt.Sprint(test.storage) {
				t.Errorf("got storage cost %v, want %d", got, test.storage)
			}
			if got := w.Balance(shop); got != test.received {
				t.Errorf("recipient got %d, want %d", got, test.received)
			}
			if got := before - int64(w.Balance(p.Address())) - int64(test.received); got != test.net {
				t.Errorf("payer lost %d besides the payment, want %d", got, test.net)
			}
			w.Step()
			d := a.at("executeTransactionBlock.effects.transactionBlock.digest")
			a = w.ok(w.ask(`query($d: String!) { transactionBlock(digest: $d) { effects { balanceChanges { nodes { amount owner { address } } } } } }`, map[string]any{"d": d}))
			sum := make(map[string]string)
			for i, owner := range a.each("transactionBlock.effects.balanceChanges.nodes", "owner") {
				sum[owner] = a.each("transactionBlock.effects.balanceChanges.nodes", "amount")[i]
			}
			key := fmt.Sprint(map[string]any{"address": p.Address().String()})
			if got, want := sum[key], fmt.Sprint(-test.net-int64(test.received)); got != want {
				t.Errorf("got a balance change of the payer of %s, want %s", got, want)
			}
		})
	}
}

// A transaction whose storage costs more than its budget fails, and is charged
// for what it touched.
func TestInsufficientGas(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.settled(1e9)
	x := p.pays(address(), 1, 2, 3)
	x.Gas.Budget = 2_000_000
	a := w.ok(w.send(x, p.Key))
	if status(a) != "FAILURE" || a.at("executeTransactionBlock.effects.errors") != "Insufficient Gas." {
		t.Fatalf("got %v, %v", status(a), a.at("executeTransactionBlock.effects.errors"))
	}
	if got := w.Balance(p.Address()); got != 1e9-1_000_000 {
		t.Errorf("payer has %d, want %d", got, int64(1e9-1_000_000))
	}
	// A genesis coin's storage alone is too much: the whole budget is taken.
	p = w.payer(1e9)
	x = p.pays(address(), 1)
	x.Gas.Budget = 1_000_000
	w.ok(w.send(x, p.Key))
	if got := w.Balance(p.Address()); got != 1e9-1_000_000 {
		t.Errorf("payer has %d, want %d", got, int64(1e9-1_000_000))
	}
}

// All objects that a transaction writes have version 1 + the highest of its
// inputs; new ones have IDs that follow from its digest.
func TestVersions(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.payer(1e9, 2e9)
	for i := range 3 {
		old := w.payer(1e9)
		w.ok(w.send(old.pays(p.Address(), 1e6), old.Key))
		x := p.pays(address(), 1, 2)
		high := uint64(0)
		for _, ref := range x.Gas.Coins {
			high = max(high, ref.Version)
		}
		a := w.ok(w.send(x, p.Key))
		if status(a) != "SUCCESS" {
			t.Fatalf("payment %d: got %v", i, a)
		}
		digest := txn.DigestOf(x.Encode())
		w.chain.mu.RLock()
		for n := range uint64(2) {
			id := txn.Address(hash([]byte{0xf1}, digest[:], []byte{byte(n), 0, 0, 0, 0, 0, 0, 0}))
			if o := w.chain.objects[id]; o == nil || o.version != high+1 || o.balance != n+1 {
				t.Errorf("payment %d: object %d: got %+v, want version %d", i, n, o, high+1)
			}
		}
		if gas := w.chain.objects[x.Gas.Coins[0].ID]; gas == nil || gas.version != high+1 {
			t.Errorf("payment %d: got gas coin %+v, want version %d", i, gas, high+1)
		}
		for _, ref := range x.Gas.Coins[1:] {
			if w.chain.objects[ref.ID] != nil {
				t.Errorf("payment %d: gas coin %s is still there", i, ref.ID)
			}
		}
		w.chain.mu.RUnlock()
		if got := len(p.refs()); got != 1 {
			t.Errorf("payment %d: payer has %d coins, want 1", i, got)
		}
	}
}

// What is refused leaves no trace and costs nothing.
func TestRefused(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.payer(5e9)
	other := w.payer(5e9)
	for _, test := range []struct {
		name   string
		change func(*txn.Transaction)
		keys   []txn.Key
		want   string
	}{
		{"price", func(x *txn.Transaction) { x.Gas.Price = 999 }, nil, "Gas price 999 under reference gas price (RGP) 1000"},
		{"high price", func(x *txn.Transaction) { x.Gas.Price = 100_001; x.Gas.Budget = 2e8 }, nil, "Gas price cannot exceed 100000 nanos"},
		{"small budget", func(x *txn.Transaction) { x.Gas.Budget = 999_999 }, nil, "Gas budget: 999999 is lower than min: 1000000"},
		{"large budget", func(x *txn.Transaction) { x.Gas.Budget = 50_000_000_001 }, nil, "Gas budget: 50000000001 is higher than max: 50000000000"},
		{"budget above coins", func(x *txn.Transaction) { x.Gas.Budget = 5_000_000_001 }, nil, "Balance of gas object 5000000000 is lower than the needed amount: 5000000001"},
		{"no gas", func(x *txn.Transaction) { x.Gas.Coins = nil }, nil, "Missing gas payment"},
		{"the same coin twice", func(x *txn.Transaction) { x.Gas.Coins = append(x.Gas.Coins, x.Gas.Coins[0]) }, nil, "cannot appear more than one"},
		{"no commands", func(x *txn.Transaction) { x.Commands = nil }, nil, "Empty command input"},
		{"unknown object", func(x *txn.Transaction) { x.Gas.Coins[0].ID[0]++ }, nil, "Could not find the referenced object"},
		{"stale version", func(x *txn.Transaction) { x.Gas.Coins[0].Version = 7 }, nil, "is not available for consumption, its current version: SequenceNumber(1)"},
		{"wrong digest", func(x *txn.Transaction) { x.Gas.Coins[0].Digest[0]++ }, nil, "Invalid Object digest"},
		{"the coin of another", func(x *txn.Transaction) { x.Gas.Coins = other.refs() }, nil, "is owned by account address"},
		{"expired", func(x *txn.Transaction) { x.Expiration = txn.Until(0) }, nil, "Transaction is expired"},
		{"long memo", func(x *txn.Transaction) { x.Inputs = append(x.Inputs, txn.Pure(make([]byte, 16385))) }, nil, "exceeds the size of 16384 bytes"},
		{"wrong key", func(*txn.Transaction) {}, []txn.Key{other.Key}, "Required Signature from " + p.Address().String() + " is absent"},
		{"no signature", func(*txn.Transaction) {}, []txn.Key{}, "Expect 1 signer signatures but got 0"},
		{"no sponsor signature", func(x *txn.Transaction) { x.Gas.Owner, x.Gas.Coins = other.Address(), other.refs() }, []txn.Key{p.Key}, "Expect 2 signer signatures but got 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			if test.name == "expired" {
				w.EndEpoch()
			}
			x := p.pays(address(), 1e6)
			test.change(&x)
			keys := test.keys
			if keys == nil {
				keys = []txn.Key{p.Key}
			}
			code, message := w.failed(w.send(x, keys...))
			if code != internal || !strings.Contains(message, test.want) {
				t.Errorf("got %s %q, want %s %q", code, message, internal, test.want)
			}
			if got := w.Balance(p.Address()); got != 5e9 {
				t.Errorf("payer has %d, want 5000000000", got)
			}
		})
	}
	w.t = t
	if a := w.ok(w.send(p.pays(address(), 1e6), p.Key)); status(a) != "SUCCESS" {
		t.Errorf("got %v, want that nothing was locked", a)
	}
	// A transaction of 256 gas coins, which the protocol's own limit excludes.
	rich := w.payer(make([]uint64, 256)...)
	x := rich.pays(address(), 1)
	w.chain.mu.RLock()
	for _, o := range w.chain.objects {
		if o.owner == rich.Address() && len(x.Gas.Coins) < 256 {
			x.Gas.Coins = append(x.Gas.Coins, o.ref())
		}
	}
	w.chain.mu.RUnlock()
	if _, message := w.failed(w.send(x, rich.Key)); !strings.Contains(message, "maximum number of gas payment objects is 256") {
		t.Errorf("256 gas coins: got %q", message)
	}
	if a := w.ask(executeDocument, map[string]any{"tx": "AAAA", "s": []string{}}); !strings.Contains(a.Errors[0].Message, "Failed to deserialize") {
		t.Errorf("bad BCS: got %+v", a)
	}
	if a := w.ask(executeDocument, map[string]any{"tx": "!", "s": []string{}}); a.Errors[0].Extensions.Code != badUserInput {
		t.Errorf("bad base64: got %+v", a)
	}
}
