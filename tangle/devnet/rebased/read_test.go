package rebased

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

const listDocument = `query($a: IotaAddress!, $first: Int, $after: String, $last: Int, $before: String) {
	transactionBlocks(first: $first, after: $after, last: $last, before: $before, filter: {affectedAddress: $a}) {
		pageInfo { hasPreviousPage hasNextPage startCursor endCursor } nodes { digest } } }`

// list returns the digests of a page of what affected an address.
func (w *world) list(a txn.Address, args map[string]any) (digests []string, got answer) {
	w.t.Helper()
	vars := map[string]any{"a": a.String()}
	for k, v := range args {
		vars[k] = v
	}
	got = w.ask(listDocument, vars)
	return got.each("transactionBlocks.nodes", "digest"), got
}

// walk returns all digests that affected an address, newest page first, as a
// watcher walks back.
func (w *world) walk(a txn.Address, size int) (digests []string, pages int) {
	w.t.Helper()
	args := map[string]any{"last": size}
	for {
		page, got := w.list(a, args)
		w.ok(got)
		digests = append(page, digests...)
		pages++
		if got.at("transactionBlocks.pageInfo.hasPreviousPage") != true {
			return digests, pages
		}
		args["before"] = got.at("transactionBlocks.pageInfo.startCursor")
	}
}

func TestPages(t *testing.T) {
	w := newWorld(t, Config{})
	shop := address()
	var all []string
	for i := range 7 {
		all = append(all, w.paid(Payment{Transfers: []Transfer{{To: shop, Amount: uint64(i + 1)}}}))
		w.paid(Payment{Transfers: []Transfer{{To: address(), Amount: 1}}}) // of others
		if i%3 == 0 {
			w.Step()
		}
	}
	w.Step()
	for size := 1; size <= 8; size++ {
		got, pages := w.walk(shop, size)
		if !slices.Equal(got, all) || pages != max(1, (7+size-1)/size) {
			t.Errorf("pages of %d, backward: got %d in %d pages, want 7 in order", size, len(got), pages)
		}
		var forward []string
		args := map[string]any{"first": size}
		for {
			page, got := w.list(shop, args)
			forward = append(forward, page...)
			if w.ok(got).at("transactionBlocks.pageInfo.hasNextPage") != true {
				break
			}
			args["after"] = got.at("transactionBlocks.pageInfo.endCursor")
		}
		if !slices.Equal(forward, all) {
			t.Errorf("pages of %d, forward: got %d, want 7 in order", size, len(forward))
		}
	}
	// The window between two cursors, and flags on both sides.
	_, got := w.list(shop, map[string]any{"first": 7})
	_, first := w.list(shop, map[string]any{"first": 2})
	digests, got := w.list(shop, map[string]any{"after": first.at("transactionBlocks.pageInfo.endCursor"), "before": got.at("transactionBlocks.pageInfo.endCursor")})
	if !slices.Equal(digests, all[2:6]) || got.at("transactionBlocks.pageInfo.hasPreviousPage") != true || got.at("transactionBlocks.pageInfo.hasNextPage") != true {
		t.Errorf("between cursors: got %v", got)
	}
	// A cursor whose row does not exist gives an empty page without an error.
	seq := 100_000
	digests, got = w.list(shop, map[string]any{"last": 5, "before": cursor{C: uint64(w.Tip()), T: &seq, I: false}.String()})
	if len(digests) != 0 || got.at("transactionBlocks.pageInfo.hasPreviousPage") != false || len(got.Errors) > 0 {
		t.Errorf("cursor of nothing: got %v", got)
	}
	for _, test := range []struct {
		args map[string]any
		code string
		want string
	}{
		{map[string]any{"first": 51}, badUserInput, "Connection's page size of 51 exceeds max of 50"},
		{map[string]any{"first": 1, "last": 1}, badUserInput, "'first' and 'last' must not be used together"},
		{map[string]any{"first": 1, "after": "bogus!"}, "", "invalid cursor"},
		{map[string]any{"first": 1, "after": cursor{C: 1, T: &seq}.String(), "before": cursor{C: 2, T: &seq}.String()}, badUserInput, "taken from different checkpoints"},
	} {
		_, got := w.list(shop, test.args)
		if code, message := w.failed(got); code != test.code || !strings.Contains(message, test.want) {
			t.Errorf("%v: got %s %q, want %s %q", test.args, code, message, test.code, test.want)
		}
	}
}

// A cursor pins the view: further pages show nothing newer.
func TestCursorPinsTheView(t *testing.T) {
	w := newWorld(t, Config{})
	shop := address()
	first := w.paid(Payment{Transfers: []Transfer{{To: shop, Amount: 1}}})
	w.Step()
	_, got := w.list(shop, map[string]any{"first": 5})
	end := got.at("transactionBlocks.pageInfo.endCursor")
	w.paid(Payment{Transfers: []Transfer{{To: shop, Amount: 2}}})
	w.Step()
	if digests, _ := w.list(shop, map[string]any{"first": 5, "after": end}); len(digests) != 0 {
		t.Errorf("after a stored cursor: got %v, want nothing", digests)
	}
	if digests, _ := w.list(shop, map[string]any{"first": 5}); len(digests) != 2 || digests[0] != first {
		t.Errorf("without a cursor: got %v, want 2", digests)
	}
	// Coins as well.
	k := w.payer(1e9, 1e9, 1e9)
	coins := func(after any) answer {
		return w.ask(`query($a: IotaAddress!, $after: String) { address(address: $a) { coins(first: 2, after: $after) { pageInfo { hasNextPage endCursor } nodes { address version coinBalance } } } }`,
			map[string]any{"a": k.Address().String(), "after": after})
	}
	one := w.ok(coins(nil))
	w.ok(w.send(k.pays(shop, 5), k.Key))
	w.Step()
	two := w.ok(coins(one.at("address.coins.pageInfo.endCursor")))
	if got := two.each("address.coins.nodes", "coinBalance"); !slices.Equal(got, []string{"1000000000"}) {
		t.Errorf("second page of coins: got %v, want the third coin as it was", got)
	}
	for range consistentCheckpoints {
		w.Step()
	}
	if _, message := w.failed(coins(one.at("address.coins.pageInfo.endCursor"))); message != "Requested data is outside the available range" {
		t.Errorf("cursor of long ago: got %q", message)
	}
}

// The rules of pruning, as in iota-graphql-e2e-tests/tests/prune.
func TestPruned(t *testing.T) {
	w := newWorld(t, Config{})
	shop := address()
	pay := func() string {
		d := w.paid(Payment{Transfers: []Transfer{{To: shop, Amount: 1}}})
		w.Step()
		return d
	}
	old := []string{pay(), pay()}
	_, before := w.list(shop, map[string]any{"first": 5})
	w.Step()
	kept := []string{pay(), pay(), pay()}
	w.Prune(4) // the tip is 6
	if got := w.Tip(); got != 6 {
		t.Fatalf("got tip %d, want 6", got)
	}

	check := func(name string, got answer, code, want string) {
		t.Helper()
		if c, message := w.failed(got); c != code || !strings.Contains(message, want) {
			t.Errorf("%s: got %s %q, want %s %q", name, c, message, code, want)
		}
	}
	_, got := w.list(shop, nil)
	check("forward from the beginning", got, dataPruned, "Requested data has been pruned: DB may be missing earliest history for address "+shop.String()+" due to pruning")
	digests, got := w.list(shop, map[string]any{"last": 10})
	if !slices.Equal(digests, kept) || got.at("transactionBlocks.pageInfo.hasPreviousPage") != false {
		t.Errorf("backward: got %v, want that it ends silently", got)
	}
	_, got = w.list(shop, map[string]any{"first": 10, "after": before.at("transactionBlocks.pageInfo.endCursor")})
	check("from a view that is pruned", got, dataPruned, "Requested data has been pruned: checkpoint 2 has been pruned")
	seq := 2
	_, got = w.list(shop, map[string]any{"last": 10, "before": cursor{C: 6, T: &seq, I: false}.String()})
	check("before a pruned cursor", got, dataPruned, "Requested data has been pruned: transaction 2 has been pruned (min available: 3)")

	filtered := func(filter string) []string {
		t.Helper()
		return w.ok(w.ask(fmt.Sprintf(`{ transactionBlocks(filter: %s) { nodes { digest } } }`, filter), nil)).each("transactionBlocks.nodes", "digest")
	}
	if got := filtered(fmt.Sprintf("{recvAddress: %q}", shop)); !slices.Equal(got, kept) {
		t.Errorf("recvAddress: got %v, want that rows are silently missing", got)
	}
	for _, after := range []int{1, 2, 3, 7} { // 4 is the oldest checkpoint that is kept
		if got := filtered(fmt.Sprintf("{recvAddress: %q, afterCheckpoint: %d}", shop, after)); len(got) != 0 {
			t.Errorf("afterCheckpoint %d: got %v, want an empty page", after, got)
		}
	}
	if got := filtered(fmt.Sprintf("{recvAddress: %q, afterCheckpoint: 4}", shop)); !slices.Equal(got, kept[1:]) {
		t.Errorf("afterCheckpoint 4: got %v, want %v", got, kept[1:])
	}
	if got := filtered(fmt.Sprintf("{affectedAddress: %q, beforeCheckpoint: 6}", shop)); !slices.Equal(got, kept[:2]) {
		t.Errorf("affectedAddress with beforeCheckpoint: got %v, want %v without an error", got, kept[:2])
	}

	point := func(digest string) any {
		t.Helper()
		return w.ok(w.ask(`query($d: String!) { transactionBlock(digest: $d) { digest } }`, map[string]any{"d": digest})).at("transactionBlock.digest")
	}
	if point(old[0]) != nil || point(kept[0]) != kept[0] {
		t.Errorf("by digest: got %v and %v", point(old[0]), point(kept[0]))
	}
	mark := w.ok(w.ask(`{ old: checkpoint(id: {sequenceNumber: 3}) { sequenceNumber } kept: checkpoint(id: {sequenceNumber: 4}) { sequenceNumber } range: availableRange { first { sequenceNumber } } }`, nil))
	if mark.at("old") != nil || mark.at("kept.sequenceNumber") != json.Number("4") {
		t.Errorf("checkpoints: got %v", mark)
	}

	w.Fallback(true)
	if got, _ := w.walk(shop, 2); !slices.Equal(got, append(old, kept...)) {
		t.Errorf("affectedAddress with fallback: got %v, want all", got)
	}
	if digests, _ := w.list(shop, nil); !slices.Equal(digests, append(old, kept...)) {
		t.Errorf("forward with fallback: got %v, want all", digests)
	}
	if got := filtered(fmt.Sprintf("{recvAddress: %q}", shop)); !slices.Equal(got, kept) {
		t.Errorf("recvAddress with fallback: got %v, want what is kept", got)
	}
	if point(old[0]) != old[0] {
		t.Error("by digest with fallback: got nothing")
	}
}

// availableRange is the window of object views, not the retention of transactions.
func TestAvailableRange(t *testing.T) {
	w := newWorld(t, Config{})
	for range consistentCheckpoints + 10 {
		w.Step()
	}
	a := w.ok(w.ask(`{ availableRange { first { sequenceNumber } last { sequenceNumber } } checkpoint(id: {sequenceNumber: 3}) { sequenceNumber } }`, nil))
	if a.at("availableRange.first.sequenceNumber") != json.Number("11") || a.at("checkpoint.sequenceNumber") != json.Number("3") {
		t.Errorf("got %v", a)
	}
}

// Balance changes come in pages of 50 at most, the rest by digest.
func TestManyRecipients(t *testing.T) {
	w := newWorld(t, Config{})
	var transfers []Transfer
	want := make(map[string]string)
	for i := range 130 {
		to := address()
		transfers = append(transfers, Transfer{To: to, Amount: uint64(i + 1)})
		want[to.String()] = fmt.Sprint(i + 1)
	}
	digest := w.paid(Payment{Transfers: transfers})
	w.Step()
	got := make(map[string]string)
	after := any(nil)
	for pages := 1; ; pages++ {
		a := w.ok(w.ask(`query($d: String!, $after: String) { transactionBlock(digest: $d) { effects { balanceChanges(first: 50, after: $after) {
			pageInfo { hasNextPage endCursor } nodes { amount owner { address } } } } } }`, map[string]any{"d": digest, "after": after}))
		list, _ := a.at("transactionBlock.effects.balanceChanges.nodes").([]any)
		for i := range list {
			at := fmt.Sprintf("transactionBlock.effects.balanceChanges.nodes.%d.", i)
			got[fmt.Sprint(a.at(at+"owner.address"))] = fmt.Sprint(a.at(at + "amount"))
		}
		if a.at("transactionBlock.effects.balanceChanges.pageInfo.hasNextPage") != true {
			if pages != 3 {
				t.Errorf("got %d pages, want 3", pages)
			}
			break
		}
		after = a.at("transactionBlock.effects.balanceChanges.pageInfo.endCursor")
	}
	if len(got) != 131 { // the payer's own as well
		t.Errorf("got %d changes, want 131", len(got))
	}
	for a, amount := range want {
		if got[a] != amount {
			t.Errorf("%s: got %s, want %s", a, got[a], amount)
		}
	}
}

// Reads by digest see a transaction at once, lists only once its checkpoint is
// indexed; before that it has no checkpoint, no time and no balance changes.
func TestFinality(t *testing.T) {
	w := newWorld(t, Config{Lag: 300 * time.Millisecond})
	shop := address()
	point := func(d string) answer {
		return w.ok(w.ask(`query($d: String!) { transactionBlock(digest: $d) { effects { status checkpoint { sequenceNumber } timestamp balanceChanges { nodes { amount } } } } }`, map[string]any{"d": d}))
	}
	d := w.paid(Payment{Transfers: []Transfer{{To: shop, Amount: 7}}})
	for _, step := range []string{"executed", "in a checkpoint"} {
		a := point(d)
		if a.at("transactionBlock.effects.status") != "SUCCESS" || a.at("transactionBlock.effects.checkpoint") != nil || a.at("transactionBlock.effects.timestamp") != nil ||
			len(a.each("transactionBlock.effects.balanceChanges.nodes", "amount")) != 0 {
			t.Errorf("%s: got %v by digest", step, a)
		}
		if got, _ := w.list(shop, nil); len(got) != 0 {
			t.Errorf("%s: got %v in the list", step, got)
		}
		if step == "executed" {
			w.Step()
			w.clock.advance(299 * time.Millisecond)
		}
	}
	w.clock.advance(time.Millisecond)
	if a := point(d); a.at("transactionBlock.effects.checkpoint.sequenceNumber") != json.Number("1") || len(a.each("transactionBlock.effects.balanceChanges.nodes", "amount")) != 2 {
		t.Errorf("indexed: got %v by digest", a)
	}
	if got, _ := w.list(shop, nil); len(got) != 1 {
		t.Errorf("indexed: got %v in the list", got)
	}

	// Held back: others overtake it, but what depends on it does not.
	k := txn.NewKey()
	w.Fund(k.Address(), 10e9)
	w.HoldBack(2)
	held := w.paid(Payment{From: &k, Transfers: []Transfer{{To: shop, Amount: 9}}})
	w.HoldBack(0)
	free := w.paid(Payment{Transfers: []Transfer{{To: shop, Amount: 10}}})
	after := w.paid(Payment{From: &k, Transfers: []Transfer{{To: shop, Amount: 11}}})
	w.Step()
	w.clock.advance(time.Second)
	if got, _ := w.list(shop, nil); slices.Contains(got, held) || slices.Contains(got, after) || !slices.Contains(got, free) {
		t.Errorf("held back: got %v", got)
	}
	if a := point(held); a.at("transactionBlock.effects.status") != "SUCCESS" || a.at("transactionBlock.effects.checkpoint") != nil {
		t.Errorf("held back: got %v by digest", a)
	}
	w.Step()
	w.Step()
	w.clock.advance(time.Second)
	if got, _ := w.list(shop, nil); !slices.Contains(got, held) || !slices.Contains(got, after) {
		t.Errorf("let go: got %v", got)
	}
	w.HoldBack(-1)
	never := w.paid(Payment{Transfers: []Transfer{{To: shop, Amount: 12}}})
	for range 100 {
		w.Step()
	}
	w.clock.advance(time.Second)
	if got, _ := w.list(shop, nil); slices.Contains(got, never) {
		t.Errorf("held back indefinitely: got %v", got)
	}
	w.HoldBack(0)
	w.Step()
	w.clock.advance(time.Second)
	if got, _ := w.list(shop, nil); !slices.Contains(got, never) {
		t.Errorf("let go: got %v", got)
	}
}

// The kinds of payments, by the balance changes at the addresses.
func TestPayments(t *testing.T) {
	w := newWorld(t, Config{})
	a, b := address(), address()
	k, sponsor := txn.NewKey(), txn.NewKey()
	fake := txn.CoinType{Address: simulator, Module: "iota", Name: "IOTA"}
	w.Fund(k.Address(), 10e9)
	const big = 1<<63 - 10
	for _, test := range []struct {
		name   string
		p      Payment
		failed bool
		want   map[txn.Address]string // of IOTA
	}{
		{"plain", Payment{Transfers: []Transfer{{To: a, Amount: 5}}}, false, map[txn.Address]string{a: "5"}},
		{"1 nano with memos", Payment{Transfers: []Transfer{{To: a, Amount: 1}}, Memo: []string{"x", "y"}}, false, map[txn.Address]string{a: "1"}},
		{"two addresses", Payment{Transfers: []Transfer{{To: a, Amount: 5}, {To: b, Amount: 6}}}, false, map[txn.Address]string{a: "5", b: "6"}},
		{"two coins for one address", Payment{Transfers: []Transfer{{To: a, Amount: 5}, {To: a, Amount: 6}}}, false, map[txn.Address]string{a: "11"}},
		{"near 2^63", Payment{Transfers: []Transfer{{To: a, Amount: big}}}, false, map[txn.Address]string{a: fmt.Sprint(uint64(big))}},
		{"sponsored", Payment{From: &k, Sponsor: &sponsor, Transfers: []Transfer{{To: a, Amount: 7}}}, false,
			map[txn.Address]string{a: "7", k.Address(): "-7", sponsor.Address(): "-3941200"}},
		{"failed", Payment{From: &k, Fail: true, Transfers: []Transfer{{To: a, Amount: 7}}}, true, map[txn.Address]string{a: ""}},
		{"failed and sponsored", Payment{From: &k, Sponsor: &sponsor, Fail: true, Transfers: []Transfer{{To: a, Amount: 7}}}, true, map[txn.Address]string{a: "", k.Address(): ""}},
		{"to itself", Payment{From: &k, Transfers: []Transfer{{To: k.Address(), Amount: 7}}}, false, map[txn.Address]string{k.Address(): "-1980400"}},
		{"another coin", Payment{Transfers: []Transfer{{To: a, Amount: 5e9, Coin: fake}}}, false, map[txn.Address]string{a: ""}},
		{"another coin as well", Payment{Transfers: []Transfer{{To: a, Amount: 5e9, Coin: fake}, {To: a, Amount: 3}}}, false, map[txn.Address]string{a: "3"}},
		{"NFT", Payment{Transfers: []Transfer{{To: a, NFT: true}}}, false, map[txn.Address]string{a: ""}},
	} {
		digest, err := w.Pay(test.p)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		w.Step()
		got := w.ok(w.ask(`query($d: String!) { transactionBlock(digest: $d) { effects { status balanceChanges { nodes { amount owner { address } coinType { repr } } } } } }`, map[string]any{"d": digest}))
		if failed := got.at("transactionBlock.effects.status") != "SUCCESS"; failed != test.failed {
			t.Errorf("%s: got %v", test.name, got)
		}
		sums := make(map[string]string)
		list, _ := got.at("transactionBlock.effects.balanceChanges.nodes").([]any)
		for i := range list {
			at := fmt.Sprintf("transactionBlock.effects.balanceChanges.nodes.%d.", i)
			if got.at(at+"coinType.repr") == txn.IOTA.String() {
				sums[fmt.Sprint(got.at(at+"owner.address"))] = fmt.Sprint(got.at(at + "amount"))
			}
		}
		for owner, want := range test.want {
			if sums[owner.String()] != want {
				t.Errorf("%s: %s: got %q, want %q", test.name, owner, sums[owner.String()], want)
			}
		}
		for _, owner := range []txn.Address{a} { // it is listed where it should be
			digests, _ := w.list(owner, map[string]any{"last": 1})
			if listed := len(digests) > 0 && digests[0] == digest; listed != (test.want[owner] != "" || test.name == "NFT" || strings.HasPrefix(test.name, "another")) {
				t.Errorf("%s: listed at %s: %v", test.name, owner, listed)
			}
		}
	}

	// A sweep: negative at the deposit address, and listed there.
	shop := w.settled(5e9, 6e9)
	bank := address()
	digest := w.paid(Payment{From: &shop.Key, Sweep: true, Transfers: []Transfer{{To: bank}}})
	w.Step()
	if got := w.Balance(bank); got != 11e9-1_000_000+980_400 {
		t.Errorf("sweep: bank got %d", got)
	}
	if got, _ := w.list(shop.Address(), map[string]any{"last": 1}); !slices.Equal(got, []string{digest}) {
		t.Errorf("sweep: got %v", got)
	}
	if _, err := w.Pay(Payment{From: &shop.Key, Sweep: true, Transfers: []Transfer{{To: bank}}}); err == nil {
		t.Error("sweep of nothing: got no error")
	}
	if _, err := w.Pay(Payment{}); err == nil {
		t.Error("payment of nothing: got no error")
	}
}

// Limits of the public service.
func TestLimits(t *testing.T) {
	w := newWorld(t, Config{})
	a := address().String()
	deep := `{ a: address(address: "` + a + `") { transactionBlocks(first: 1) { nodes ` + strings.Repeat(`{ effects { transactionBlock `, 10) + `{ digest }` + strings.Repeat("}", 20) + " } } }"
	var wide strings.Builder
	for i := range 301 {
		fmt.Fprintf(&wide, "a%d:chainIdentifier ", i)
	}
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "a%d:transactionBlocks(last:50){...F}", i)
		}
		return "{" + b.String() + "} fragment F on TransactionBlockConnection { nodes { digest effects { balanceChanges(first: 50) { nodes { amount coinType { repr } } } } } }"
	}
	for _, test := range []struct {
		name, document, want string
	}{
		{"depth", deep, "Query nesting is over 20"},
		{"nodes", "{" + wide.String() + "}", "Query has over 300 nodes"},
		{"payload", "{ chainIdentifier " + strings.Repeat(" ", 5000) + "}", "Query part too large: 5"},
		{"output nodes", many(12), ""},
		{"more output nodes", many(13), "Estimated output nodes exceeds 100000"},
		{"whole request", "{ chainIdentifier " + strings.Repeat(" ", 180_000) + "}", "Overall request too large"},
	} {
		got := w.ask(test.document, nil)
		if test.want == "" {
			w.ok(got)
			continue
		}
		if code, message := w.failed(got); code != badUserInput || !strings.HasPrefix(message, test.want) {
			t.Errorf("%s: got %s %q, want %q", test.name, code, message, test.want)
		}
	}
	// A transaction does not count as part of the query.
	k := w.payer(5e9)
	x := k.pays(address(), 1)
	for range 6 {
		x.Inputs = append(x.Inputs, txn.Pure(make([]byte, 16384)))
	}
	if a := w.ok(w.send(x, k.Key)); status(a) != "SUCCESS" {
		t.Errorf("large transaction: got %v", a)
	}
	for range 2 {
		x.Inputs = append(x.Inputs, txn.Pure(make([]byte, 16384)))
	}
	if _, message := w.failed(w.send(x, k.Key)); !strings.HasPrefix(message, "Transaction payload too large") && !strings.HasPrefix(message, "Overall request") && !strings.Contains(message, "more than 131072") {
		t.Errorf("too large transaction: got %q", message)
	}
	for document, want := range map[string]string{
		"{":         "Expected Name",
		"{ bogus }": `Unknown field "bogus" on type "Query"`,
		"query A { chainIdentifier } query B { chainIdentifier }": `Unknown operation named ""`,
		`{ address(address: "0xzz") { address } }`:                "Failed to parse",
		`{ transactionBlock(digest: "x") { digest } }`:            "Invalid digest",
		`subscription { transactions { __typename } }`:            "Schema does not support operation type",
	} {
		if a := w.ask(document, nil); len(a.Errors) == 0 || !strings.Contains(a.Errors[0].Message, want) {
			t.Errorf("%s: got %+v, want %q", document, a.Errors, want)
		}
	}
}

// Types and addresses in the answer of one poll of eight addresses: one request
// that is within the limits.
func TestPoll(t *testing.T) {
	w := newWorld(t, Config{})
	var b strings.Builder
	b.WriteString("{chainIdentifier checkpoint{sequenceNumber timestamp}")
	for i := range 8 {
		fmt.Fprintf(&b, `a%d:transactionBlocks(last:20,filter:{affectedAddress:"%s"}){pageInfo{hasPreviousPage startCursor}nodes{digest sender{address}kind{__typename ...on ProgrammableTransactionBlock{inputs(first:20){nodes{__typename ...on Pure{bytes}}}}}effects{status errors timestamp checkpoint{sequenceNumber}balanceChanges(first:50){pageInfo{hasNextPage}nodes{amount coinType{repr}owner{address}}}}}}`, i, address())
	}
	w.ok(w.ask(b.String()+"}", nil))
	res, err := http.Post(w.url, "application/json", bytes.NewReader([]byte(`{"query":"{chainIdentifier}"}`)))
	w.must(err)
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	if want := fmt.Sprintf(`{"data":{"chainIdentifier":"%s"}}`, w.ChainID()); string(text) != want || res.Header.Get("x-iota-rpc-version") == "" {
		t.Errorf("got %s, want %s", text, want)
	}
}
