package rebased

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// Filters of transactionBlocks, alone and combined.
func TestFilters(t *testing.T) {
	w := newWorld(t, Config{})
	k := txn.NewKey()
	w.Fund(k.Address(), 50e9)
	shop, other := address(), address()
	a := w.paid(Payment{From: &k, Transfers: []Transfer{{To: shop, Amount: 1}}})
	w.Step() // 1
	b := w.paid(Payment{From: &k, Transfers: []Transfer{{To: other, Amount: 2}}})
	c := w.paid(Payment{Transfers: []Transfer{{To: shop, Amount: 3}}})
	w.Step() // 2
	d := w.paid(Payment{From: &k, Transfers: []Transfer{{To: shop, Amount: 4}}})
	w.Step() // 3
	w.chain.mu.RLock()
	digest, err := txn.ParseDigest(a)
	w.must(err)
	coin := w.chain.byDigest[digest].gasObject.id
	made := w.chain.byDigest[digest].created[0].id
	genesisDigest := w.chain.genesis.digest.String()
	w.chain.mu.RUnlock()

	for filter, want := range map[string][]string{
		"{}":                                          {genesisDigest, a, b, c, d},
		"{kind: PROGRAMMABLE_TX}":                     {a, b, c, d},
		"{kind: SYSTEM_TX}":                           {genesisDigest},
		"{kind: END_OF_EPOCH_TX}":                     {},
		"{atCheckpoint: 2}":                           {b, c},
		"{atCheckpoint: 0}":                           {genesisDigest},
		"{atCheckpoint: 9}":                           {},
		"{afterCheckpoint: 1}":                        {b, c, d},
		"{beforeCheckpoint: 2}":                       {genesisDigest, a},
		"{beforeCheckpoint: 0}":                       {},
		"{afterCheckpoint: 1, beforeCheckpoint: 3}":   {b, c},
		"{afterCheckpoint: 3, beforeCheckpoint: 3}":   {},
		fmt.Sprintf("{sentAddress: %q}", k.Address()): {a, b, d},
		fmt.Sprintf("{recvAddress: %q}", k.Address()): {a, b, d}, // its gas coin
		fmt.Sprintf("{recvAddress: %q}", shop):        {a, c, d},
		fmt.Sprintf("{affectedAddress: %q, sentAddress: %q}", shop, k.Address()): {a, d},
		fmt.Sprintf("{recvAddress: %q, afterCheckpoint: 1}", shop):               {c, d},
		fmt.Sprintf("{inputObject: %q}", coin):                                   {a, b, d},
		fmt.Sprintf("{changedObject: %q}", made):                                 {a},
		fmt.Sprintf("{transactionIds: [%q, %q, %q]}", d, b, b):                   {b, d},
		fmt.Sprintf("{transactionIds: [%q], recvAddress: %q}", b, shop):          {},
		"{transactionIds: []}":                                                   {},
		fmt.Sprintf("{transactionIds: [%q]}", txn.Digest(shop)):                  {},
		fmt.Sprintf("{sentAddress: %q}", shop):                                   {},
		`{sentAddress: "0x0"}`:                                                   {},
	} {
		got := w.ok(w.ask(fmt.Sprintf("{ transactionBlocks(filter: %s) { nodes { digest } } }", filter), nil)).each("transactionBlocks.nodes", "digest")
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", filter, got, want)
		}
	}
	if got := w.ok(w.ask(fmt.Sprintf("{ transactionBlocks(scanLimit: 100, filter: {recvAddress: %q, kind: PROGRAMMABLE_TX}) { edges { cursor node { digest } } } }", shop), nil)); len(got.each("transactionBlocks.edges", "cursor")) != 3 {
		t.Errorf("scan: got %v", got)
	}
	for filter, want := range map[string]string{
		fmt.Sprintf("filter: {recvAddress: %q, kind: PROGRAMMABLE_TX}", shop): "A scan limit must be specified",
		"scanLimit: 1000001":                          "Scan limit exceeds max limit of '1000000'",
		`filter: {transactionIds: ["x"]}`:             "Invalid digest",
		`filter: {sentAddress: "x"}`:                  `Failed to parse "IotaAddress"`,
		`filter: {changedObject: "0x"}`:               `Failed to parse "IotaAddress"`,
		"filter: {atCheckpoint: -1}":                  `Failed to parse "UInt53"`,
		`filter: {beforeCheckpoint: "1"}`:             `Failed to parse "UInt53"`,
		"filter: {afterCheckpoint: 9007199254740992}": `Failed to parse "UInt53"`,
	} {
		if _, message := w.failed(w.ask("{ transactionBlocks("+filter+") { nodes { digest } } }", nil)); !strings.HasPrefix(message, want) {
			t.Errorf("%s: got %q, want %q", filter, message, want)
		}
	}
	ids := make([]string, 1001)
	for i := range ids {
		ids[i] = a
	}
	if got := checkFilter(nil, arguments{"transactionIds": toAny(ids)}); got == nil || got.Error() != "Transaction IDs exceed max limit of '1000'" {
		t.Errorf("1001 IDs: got %v", got)
	}

	// By address and relation; a filter that contradicts it matches nothing.
	for relation, want := range map[string][]string{
		"": {a, b, d}, "relation: SENT": {a, b, d}, "relation: RECV": {a, b, d}, "relation: AFFECTED": {a, b, d},
		"filter: {afterCheckpoint: 2}": {d}, fmt.Sprintf("filter: {sentAddress: %q}", shop): {}, fmt.Sprintf("relation: RECV, filter: {sentAddress: %q}", shop): {},
	} {
		if relation != "" {
			relation = "(" + relation + ")"
		}
		got := w.ok(w.ask(fmt.Sprintf("{ address(address: %q) { transactionBlocks%s { nodes { digest } } } }", k.Address(), relation), nil)).each("address.transactionBlocks.nodes", "digest")
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", relation, got, want)
		}
	}
	got := w.ok(w.ask(fmt.Sprintf("{ checkpoint(id: {sequenceNumber: 2}) { transactionBlocks(filter: {recvAddress: %q}) { nodes { digest } } } }", shop), nil))
	if digests := got.each("checkpoint.transactionBlocks.nodes", "digest"); !slices.Equal(digests, []string{c}) {
		t.Errorf("in a checkpoint: got %v", digests)
	}
}

func toAny(all []string) []any {
	out := make([]any, len(all))
	for i, s := range all {
		out[i] = s
	}
	return out
}

// Pages of checkpoints, also after pruning
// (iota-graphql-e2e-tests/tests/prune/checkpoint_pagination.snap).
func TestCheckpointPages(t *testing.T) {
	w := newWorld(t, Config{})
	for range 9 {
		w.Step()
	}
	w.Prune(7)
	list := func(args string) answer {
		return w.ask("{ checkpoints"+args+" { pageInfo { hasPreviousPage hasNextPage startCursor endCursor } nodes { sequenceNumber } } }", nil)
	}
	at := func(s int64) string { return cursor{C: 9, S: &s}.String() }
	for _, test := range []struct {
		args       string
		want       []string
		prev, next bool
	}{
		{"", []string{"7", "8", "9"}, false, false},
		{"(first: 2)", []string{"7", "8"}, false, true},
		{"(last: 2)", []string{"8", "9"}, true, false},
		{fmt.Sprintf("(first: 5, after: %q)", at(7)), []string{"8", "9"}, true, false},
		{fmt.Sprintf("(last: 1, before: %q)", at(9)), []string{"8"}, true, true},
	} {
		got := w.ok(list(test.args))
		if n := got.each("checkpoints.nodes", "sequenceNumber"); !slices.Equal(n, test.want) || got.at("checkpoints.pageInfo.hasPreviousPage") != test.prev || got.at("checkpoints.pageInfo.hasNextPage") != test.next {
			t.Errorf("%s: got %v, want %v", test.args, got, test)
		}
	}
	for s, want := range map[int64]string{2: dataPruned, 42: badUserInput} {
		if code, message := w.failed(list(fmt.Sprintf("(after: %q)", at(s)))); code != want || !strings.Contains(message, "the available range 7..=9") {
			t.Errorf("after %d: got %s %q, want %s", s, code, message, want)
		}
	}
	a := w.ok(w.ask("{ a: checkpoint(id: {sequenceNumber: 8}) { digest } b: epoch(id: 7) { epochId } }", nil))
	byDigest := fmt.Sprintf("{ checkpoint(id: {digest: %q}) { sequenceNumber } wrong: checkpoint(id: {digest: %q, sequenceNumber: 7}) { digest } }", a.at("a.digest"), a.at("a.digest"))
	if got := w.ok(w.ask(byDigest, nil)); got.at("checkpoint.sequenceNumber") != json.Number("8") || got.at("wrong") != nil || a.at("b") != nil {
		t.Errorf("by digest: got %v", got)
	}
}

// What GraphQL itself defines: aliases, fragments, directives, variables.
func TestExecution(t *testing.T) {
	w := newWorld(t, Config{})
	w.Step()
	a := w.ok(w.parsed(w.url, `query Q($yes: Boolean!, $n: UInt53 = 1) {
		__typename
		first: checkpoint(id: {sequenceNumber: 0}) { ...F }
		second: checkpoint(id: {sequenceNumber: $n}) { ...F sequenceNumber }
		... on Query @include(if: $yes) { chainIdentifier @skip(if: $yes) epoch { epochId } }
		... @skip(if: $yes) { serviceConfig { maxPageSize } }
		epoch { startTimestamp }
	}
	fragment F on Checkpoint { n: sequenceNumber epoch { epochId } }`, map[string]any{"yes": true}))
	if a.at("__typename") != "Query" || a.at("first.n") != json.Number("0") || a.at("second.sequenceNumber") != json.Number("1") || a.at("epoch.epochId") == nil || a.at("epoch.startTimestamp") == nil {
		t.Errorf("got %v", a)
	}
	if _, ok := a.Data["chainIdentifier"]; ok || a.at("serviceConfig") != nil {
		t.Errorf("got %v, want what is skipped left out", a)
	}
	if got := w.ask(`query($d: String!) { transactionBlock(digest: $d) { digest } }`, map[string]any{"d": 5}); len(got.Errors) != 1 {
		t.Errorf("variable of a wrong type: got %v", got)
	}
	if got := w.ask(`query($d: String!) { transactionBlock(digest: $d) { digest } }`, nil); len(got.Errors) != 1 {
		t.Errorf("variable missing: got %v", got)
	}
	// An error in one field leaves the others, unless it must not be null.
	got := w.ask(`{ chainIdentifier bad: transactionBlock(digest: "x") { digest } }`, nil)
	if got.at("chainIdentifier") != w.ChainID() || fmt.Sprint(got.Errors[0].Path) != "[bad]" {
		t.Errorf("got %+v", got)
	}
	if got := w.ask(`{ chainIdentifier transactionBlocks(first: 51) { nodes { digest } } }`, nil); got.Data != nil || len(got.Errors) != 1 {
		t.Errorf("got %+v, want no data", got)
	}
}
