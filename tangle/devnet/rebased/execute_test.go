package rebased

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// known reports whether a transaction can be read by its digest.
func (w *world) known(x txn.Transaction) bool {
	w.t.Helper()
	a := w.ok(w.ask(`query($d: String!) { transactionBlock(digest: $d) { effects { status } } }`, map[string]any{"d": txn.DigestOf(x.Encode()).String()}))
	return a.at("transactionBlock.effects.status") != nil
}

// lost sends a transaction and fails the test unless the connection is closed
// without an answer.
func (w *world) lost(x txn.Transaction, k txn.Key) {
	w.t.Helper()
	body, err := json.Marshal(map[string]any{"query": executeDocument, "variables": signed(x, k)})
	w.must(err)
	res, err := http.Post(w.url, "application/json", bytes.NewReader(body))
	if err == nil {
		res.Body.Close()
		w.t.Errorf("got status %d, want no answer", res.StatusCode)
	}
}

func TestMisbehave(t *testing.T) {
	const lockedOut = "Failed to sign transaction by a quorum of validators because of locked objects"
	for _, test := range []struct {
		m             Misbehaviour
		code, want    string // "" stands for no answer
		executed      bool   // at once
		again, rivals string // what the same bytes and other ones say after that
	}{
		{ExecutedError, internal, lockedOut, true, "SUCCESS", "is not available for consumption"},
		{ExecutedTimeout, timeout, "Mutation request timed out", true, "SUCCESS", "is not available for consumption"},
		{ExecutedLost, "", "", true, "SUCCESS", "is not available for consumption"},
		{Late, internal, "Transaction was not executed", false, "", ""},
		{Dropped, timeout, "Mutation request timed out", false, "SUCCESS", lockedOut},
		{DroppedLost, "", "", false, "SUCCESS", "SUCCESS"},
		{Split, internal, lockedOut, false, lockedOut, lockedOut},
	} {
		t.Run(string(test.m), func(t *testing.T) {
			w := newWorld(t, Config{})
			k := w.payer(5e9)
			shop := address()
			x, rival := k.pays(shop, 1e6), k.pays(shop, 2e6)
			w.must(w.Misbehave(test.m, 1))
			if test.code == "" {
				w.lost(x, k.Key)
			} else if code, message := w.failed(w.send(x, k.Key)); code != test.code || !strings.Contains(message, test.want) {
				t.Errorf("got %s %q, want %s %q", code, message, test.code, test.want)
			}
			if w.known(x) != test.executed {
				t.Errorf("known: got %v, want %v", w.known(x), test.executed)
			}
			check := func(name string, x txn.Transaction, want string) {
				t.Helper()
				if want == "" {
					return
				}
				a := w.send(x, k.Key)
				if want == "SUCCESS" {
					if status(w.ok(a)) != "SUCCESS" {
						t.Errorf("%s: got %v", name, a)
					}
				} else {
					if _, message := w.failed(a); !strings.Contains(message, want) {
						t.Errorf("%s: got %q, want %q", name, message, want)
					}
				}
			}
			if test.rivals != "SUCCESS" {
				check("rival", rival, test.rivals)
			}
			check("again", x, test.again)
			if test.m == Late {
				for range lateBy {
					w.Step()
					if w.known(x) {
						t.Fatal("executed too early")
					}
				}
				w.Step()
				if !w.known(x) || w.Balance(shop) != 1e6 {
					t.Error("not executed in the end")
				}
			}
			if test.m == Split {
				w.EndEpoch()
				check("after the epoch", x, "SUCCESS")
			}
			if test.executed && w.Balance(shop) != 1e6 {
				t.Errorf("shop has %d, want one payment", w.Balance(shop))
			}
		})
	}
	w := newWorld(t, Config{})
	if err := w.Misbehave("bogus", 1); err == nil {
		t.Error("bogus: got no error")
	}
	w.must(w.Misbehave(ExecutedError, -1))
	for range 3 {
		k := w.payer(5e9)
		w.failed(w.send(k.pays(address(), 1), k.Key))
	}
	w.must(w.Misbehave("", 0))
	k := w.payer(5e9)
	w.ok(w.send(k.pays(address(), 1), k.Key))
}

// A lock of a transaction that never was sequenced: until the epoch ends with
// certificates, 12 seconds with P-COOL.
func TestLocks(t *testing.T) {
	for _, conflicts := range []Conflicts{Certificates, PCool} {
		w := newWorld(t, Config{Conflicts: conflicts})
		k := w.payer(5e9)
		x, rival := k.pays(address(), 1e6), k.pays(address(), 2e6)
		w.must(w.Misbehave(Dropped, 1))
		w.failed(w.send(x, k.Key))
		w.clock.advance(softLock - time.Millisecond)
		w.failed(w.send(rival, k.Key))
		w.clock.advance(time.Millisecond)
		a := w.send(rival, k.Key)
		if free := len(a.Errors) == 0; free != (conflicts == PCool) {
			t.Errorf("%s: after 12 s: got %+v", conflicts, a)
		}
		if conflicts == PCool {
			continue
		}
		w.EndEpoch()
		w.ok(w.send(rival, k.Key))
	}
}

// Of two transactions that use one coin at the same time one wins, or with
// certificates and a split neither.
func TestConflict(t *testing.T) {
	for _, test := range []struct {
		name      string
		conflicts Conflicts
		split     bool
		winners   int
	}{
		{"certificates", Certificates, false, 1},
		{"split", Certificates, true, 0},
		{"pcool", PCool, true, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, Config{Conflicts: test.conflicts})
			w.SplitConflicts(test.split)
			k := w.payer(5e9)
			shop := address()
			rivals := []txn.Transaction{k.pays(shop, 1e6), k.pays(shop, 2e6)}
			answers := make([]answer, len(rivals))
			// The second one comes while the first one is under way.
			w.Node.sleep = func(time.Duration) {
				w.Node.sleep = func(time.Duration) {}
				answers[1] = w.send(rivals[1], k.Key)
			}
			answers[0] = w.send(rivals[0], k.Key)
			winners := 0
			for _, a := range answers {
				if status(a) == "SUCCESS" {
					winners++
				}
			}
			if winners != test.winners {
				t.Fatalf("got %d winners: %+v, want %d", winners, answers, test.winners)
			}
			if test.split {
				again := w.send(rivals[0], k.Key)
				if test.conflicts == Certificates && len(again.Errors) == 0 {
					t.Errorf("got %v, want that it stays locked", again)
				}
				w.EndEpoch()
			}
			if test.winners == 0 {
				w.ok(w.send(rivals[1], k.Key))
			}
		})
	}
}

// The same bytes from two clients at once are executed once.
func TestSameBytesAtOnce(t *testing.T) {
	const clients = 4
	w := newWorld(t, Config{})
	var all sync.WaitGroup
	all.Add(clients)
	w.Node.sleep = func(time.Duration) {
		all.Done()
		all.Wait() // until all of them are under way
	}
	k := w.payer(5e9)
	shop := address()
	x := k.pays(shop, 1e6)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			if a := w.send(x, k.Key); status(a) != "SUCCESS" {
				t.Errorf("got %v", a)
			}
		})
	}
	wg.Wait()
	if got := w.Balance(shop); got != 1e6 {
		t.Errorf("shop has %d, want 1000000", got)
	}
}

// A dry run changes nothing, needs no signature, and says the gas.
func TestDryRun(t *testing.T) {
	w := newWorld(t, Config{})
	k := w.settled(5e9)
	dry := func(x txn.Transaction) answer {
		return w.ask(`query($tx: String!) { dryRunTransactionBlock(txBytes: $tx) { error transaction { digest effects { status checkpoint { sequenceNumber } gasEffects { gasSummary { computationCost storageCost storageRebate } } balanceChanges { nodes { amount } } } } } }`,
			map[string]any{"tx": signed(x)["tx"]})
	}
	a := w.ok(dry(k.pays(address(), 1e6)))
	gas := "dryRunTransactionBlock.transaction.effects.gasEffects.gasSummary."
	if a.at(gas+"computationCost") != "1000000" || a.at(gas+"storageCost") != "1960800" || a.at(gas+"storageRebate") != "980400" || a.at("dryRunTransactionBlock.error") != nil {
		t.Errorf("got %v", a)
	}
	if len(a.each("dryRunTransactionBlock.transaction.effects.balanceChanges.nodes", "amount")) != 0 || a.at("dryRunTransactionBlock.transaction.effects.checkpoint") != nil {
		t.Errorf("got %v, want no balance changes and no checkpoint", a)
	}
	if a := w.ok(dry(k.pays(address(), 1e12))); a.at("dryRunTransactionBlock.error") != "Error in 1st command, Insufficient coin balance for operation." {
		t.Errorf("too much: got %v", a)
	}
	x := k.pays(address(), 1e6)
	x.Gas.Coins = nil // one is lent
	if a := w.ok(dry(x)); a.at("dryRunTransactionBlock.transaction.effects.status") != "SUCCESS" {
		t.Errorf("without coins: got %v", a)
	}
	x = k.pays(address(), 1e6)
	x.Gas.Coins[0].Version++
	if code, message := w.failed(dry(x)); code != internal || !strings.Contains(message, "Unable to dry run transaction") {
		t.Errorf("stale: got %s %q", code, message)
	}
	if got := w.Balance(k.Address()); got != 5e9 {
		t.Errorf("payer has %d, want 5000000000", got)
	}
}

// Further commands that a payer may send, and how they fail.
func TestCommands(t *testing.T) {
	w := newWorld(t, Config{})
	in, nested := txn.InputAt, txn.NestedResult
	shop := address()
	split := func(amounts ...txn.Argument) txn.Command {
		return txn.SplitCoins{Coin: txn.GasCoin, Amounts: amounts}
	}
	give := func(objects ...txn.Argument) txn.Command {
		return txn.TransferObjects{Objects: objects, To: in(0)}
	}
	utf8 := func(a txn.Argument) txn.Command {
		return txn.MoveCall{Package: txn.Address{31: 1}, Module: "string", Function: "utf8", Arguments: []txn.Argument{a}}
	}
	for _, test := range []struct {
		name     string
		inputs   []txn.Input // after the shop's address
		commands []txn.Command
		want     string // the failure in the form of JSON-RPC
		received uint64
	}{
		{"several amounts", []txn.Input{txn.PureU64(3), txn.PureU64(4)}, []txn.Command{split(in(1), in(2)), give(nested(0, 0), nested(0, 1))}, "", 7},
		{"a result of one", []txn.Input{txn.PureU64(3)}, []txn.Command{split(in(1)), give(txn.Argument{Kind: txn.ResultKind})}, "", 3},
		{"merged again", []txn.Input{txn.PureU64(3)}, []txn.Command{split(in(1)), txn.MergeCoins{Into: txn.GasCoin, From: []txn.Argument{nested(0, 0)}}}, "", 0},
		{"memo", []txn.Input{txn.PureU64(3), txn.PureString("hi")}, []txn.Command{split(in(1)), give(nested(0, 0)), utf8(in(2))}, "", 3},
		{"bad memo", []txn.Input{txn.PureString("\xff")}, []txn.Command{utf8(in(1))}, "MoveAbort", 0},
		{"unused coin", []txn.Input{txn.PureU64(3)}, []txn.Command{split(in(1))}, "UnusedValueWithoutDrop { result_idx: 0, secondary_idx: 0 }", 0},
		{"given twice", []txn.Input{txn.PureU64(3)}, []txn.Command{split(in(1)), give(nested(0, 0)), give(nested(0, 0))}, "InvalidValueUsage } in command 2", 0},
		{"no such input", nil, []txn.Command{split(in(9))}, "CommandArgumentError { arg_idx: 1, kind: IndexOutOfBounds { idx: 9 } } in command 0", 0},
		{"no such command", nil, []txn.Command{give(nested(3, 0))}, "IndexOutOfBounds { idx: 3 }", 0},
		{"no such result", []txn.Input{txn.PureU64(3)}, []txn.Command{split(in(1)), give(nested(0, 1))}, "SecondaryIndexOutOfBounds", 0},
		{"a result of two", []txn.Input{txn.PureU64(3)}, []txn.Command{split(in(1), in(1)), give(txn.Argument{Kind: txn.ResultKind})}, "InvalidResultArity", 0},
		{"amount of 4 bytes", []txn.Input{txn.Pure{1, 2, 3, 4}}, []txn.Command{split(in(1)), give(nested(0, 0))}, "InvalidBCSBytes } in command 0", 0},
		{"amount is the gas coin", nil, []txn.Command{split(txn.GasCoin)}, "TypeMismatch", 0},
		{"a number as a coin", []txn.Input{txn.PureU64(3)}, []txn.Command{give(in(1))}, "TypeMismatch", 0},
		{"no such function", nil, []txn.Command{txn.MoveCall{Package: txn.Address{31: 2}, Module: "coin", Function: "burn"}}, "FunctionNotFound in command 0", 0},
		{"minted IOTA", []txn.Input{txn.PureString("0x2::iota::IOTA"), txn.PureU64(5)}, []txn.Command{
			txn.MoveCall{Package: simulator, Module: "faucet", Function: "mint", Arguments: []txn.Argument{in(1), in(2), in(0)}}}, "InvalidBCSBytes", 0},
	} {
		k := w.settled(5e9)
		x := k.pays(shop)
		x.Inputs = append(x.Inputs, test.inputs...)
		x.Commands = test.commands
		before := w.Balance(shop)
		a := w.ok(w.send(x, k.Key))
		got := ""
		if errors := a.each("executeTransactionBlock", "errors"); len(errors) == 0 {
			if list, _ := a.at("executeTransactionBlock.errors").([]any); len(list) > 0 {
				got, _ = list[0].(string)
			}
		}
		if (test.want == "") != (status(a) == "SUCCESS") || !strings.Contains(got, test.want) {
			t.Errorf("%s: got %v, want %q", test.name, a, test.want)
		}
		if got := w.Balance(shop) - before; got != test.received {
			t.Errorf("%s: shop got %d, want %d", test.name, got, test.received)
		}
		if test.want != "" && w.Balance(k.Address()) != 5e9-1_000_000 {
			t.Errorf("%s: payer has %d", test.name, w.Balance(k.Address()))
		}
	}
}

// All money is accounted for: what is charged and not given back is gone, and
// nothing else.
func TestMoneyIsKept(t *testing.T) {
	w := newWorld(t, Config{})
	total := func() (sum uint64) {
		w.chain.mu.RLock()
		defer w.chain.mu.RUnlock()
		for _, o := range w.chain.objects {
			sum += o.balance + o.rebate
		}
		return sum
	}
	k := w.payer(5e9, 6e9, 7e9)
	sponsor := w.payer(2e9)
	for i := range 40 {
		x := k.pays(address(), uint64(i), 1e7)
		keys := []txn.Key{k.Key}
		switch i % 4 {
		case 1:
			x.Inputs[1] = txn.PureU64(1e12) // fails
		case 2:
			x = k.pays(k.Address(), 1e6, 1e6)
		case 3:
			coin := x.Gas.Coins[0]
			x.Gas.Coins, x.Gas.Owner = sponsor.refs(), sponsor.Address()
			x.Inputs = append(x.Inputs, txn.Owned(coin))
			for j, c := range x.Commands {
				if split, ok := c.(txn.SplitCoins); ok {
					split.Coin = txn.InputAt(3)
					x.Commands[j] = split
				}
			}
			keys = append(keys, sponsor.Key)
		}
		before := total()
		w.ok(w.send(x, keys...))
		if got := before - total(); got != 1_000_000 {
			t.Errorf("transaction %d: %d nanos are gone, want 1000000", i, got)
		}
	}
}
