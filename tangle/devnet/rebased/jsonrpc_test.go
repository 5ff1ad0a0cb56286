package rebased

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// openRPC returns the schema of a method's result. The specification's known
// slips are mended: signatures are texts, versions are texts or numbers.
var openRPC = sync.OnceValue(func() func(method string) (*jsonschema.Schema, error) {
	text, err := os.ReadFile("testdata/openrpc.json")
	if err != nil {
		panic(err)
	}
	spec, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		panic(err)
	}
	schemas := spec.(map[string]any)["components"].(map[string]any)["schemas"].(map[string]any)
	schemas["GenericSignature"] = map[string]any{"type": "string"}
	for _, name := range []string{"SequenceNumber", "SequenceNumber2"} {
		schemas[name] = map[string]any{"type": []any{"string", "integer"}}
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	if err := c.AddResource("openrpc.json", spec); err != nil {
		panic(err)
	}
	results := make(map[string]int)
	for i, m := range spec.(map[string]any)["methods"].([]any) {
		results[m.(map[string]any)["name"].(string)] = i
	}
	return func(method string) (*jsonschema.Schema, error) {
		i, ok := results[method]
		if !ok {
			return nil, fmt.Errorf("method %s is not in the specification", method)
		}
		return c.Compile(fmt.Sprintf("openrpc.json#/methods/%d/result/schema", i))
	}
})

// call calls a method, checks its result against the specification, and returns
// it; message and code are those of an error.
func (w *world) call(method string, params ...any) (result any, code int, message string) {
	w.t.Helper()
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
	w.must(err)
	if params == nil { // as some clients have it
		body = []byte(fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":%q}`, method))
	}
	status, _, text, err := w.raw(w.t.Context(), string(body))
	if err != nil || status != 200 {
		w.t.Fatalf("%s: got %d, %v", method, status, err)
	}
	a, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	w.must(err)
	m := a.(map[string]any)
	if fmt.Sprint(m["id"]) != "7" || m["jsonrpc"] != "2.0" {
		w.t.Errorf("%s: got %s", method, text)
	}
	if e, ok := m["error"].(map[string]any); ok {
		n, _ := e["code"].(json.Number).Int64()
		return nil, int(n), e["message"].(string)
	}
	schema, err := openRPC()(method)
	if err != nil {
		w.t.Errorf("%s: %v", method, err)
	} else if err := schema.Validate(m["result"]); err != nil {
		w.t.Errorf("%s: %v in %.2000s", method, err, text)
	}
	return m["result"], 0, ""
}

// in returns what a path leads to in a result.
func in(result any, path string) any {
	return answer{Data: map[string]any{"r": result}}.at("r." + path)
}

func TestJSONRPC(t *testing.T) {
	w := newWorld(t, Config{})
	k := w.settled(5e9)
	to := address()
	shop, owner := to.String(), k.Address().String()
	coin := txn.CoinType{Address: simulator, Module: "tin", Name: "TIN"}
	w.paid(Payment{Transfers: []Transfer{{To: k.Address(), Amount: 3, Coin: coin}, {To: k.Address(), NFT: true}}})
	w.Step()
	result := func(method string, params ...any) any {
		t.Helper()
		r, code, message := w.call(method, params...)
		if code != 0 {
			t.Fatalf("%s: got %d %s", method, code, message)
		}
		return r
	}
	all := map[string]any{"showInput": true, "showRawInput": true, "showEffects": true, "showEvents": true, "showObjectChanges": true, "showBalanceChanges": true}

	if got := result("iota_getChainIdentifier"); got != w.ChainID() {
		t.Errorf("chain: got %v", got)
	}
	if got := result("iotax_getReferenceGasPrice"); got != "1000" {
		t.Errorf("gas price: got %v", got)
	}
	if got := result("iota_getLatestCheckpointSequenceNumber"); got != "2" {
		t.Errorf("tip: got %v", got)
	}
	result("iota_getTotalTransactionBlocks")
	coins := result("iotax_getCoins", owner, nil, nil, 0) // 0 is the default
	if in(coins, "data.0.balance") != "5000000000" || in(coins, "hasNextPage") != false || in(coins, "data.1") != nil {
		t.Errorf("coins: got %v", coins)
	}
	if all := result("iotax_getAllCoins", owner); len(in(all, "data").([]any)) != 2 {
		t.Errorf("all coins: got %v", all)
	}
	if got := result("iotax_getBalance", owner); in(got, "totalBalance") != "5000000000" || in(got, "coinType") != "0x2::iota::IOTA" {
		t.Errorf("balance: got %v", got)
	}
	if got := result("iotax_getBalance", shop); in(got, "totalBalance") != "0" {
		t.Errorf("balance of nobody: got %v", got)
	}
	if got := result("iotax_getAllBalances", owner); len(got.([]any)) != 2 {
		t.Errorf("balances: got %v", got)
	}
	result("iotax_getCoinMetadata", "0x2::iota::IOTA")

	x := k.pays(to, 1e9)
	x.Inputs = append(x.Inputs, txn.PureString("inv:7"))
	args := signed(x, k.Key)
	dry := result("iota_dryRunTransactionBlock", args["tx"])
	if in(dry, "effects.gasUsed.storageCost") != "1960800" {
		t.Errorf("dry run: got %v", dry)
	}
	done := result("iota_executeTransactionBlock", args["tx"], args["s"], all, "")
	digest, _ := in(done, "digest").(string)
	if in(done, "effects.status.status") != "success" || in(done, "checkpoint") != nil || digest != txn.DigestOf(x.Encode()).String() {
		t.Errorf("execute: got %v", done)
	}
	if early := result("iota_getTransactionBlock", digest, all); in(early, "checkpoint") != nil || in(early, "timestampMs") != nil {
		t.Errorf("before the checkpoint: got %v", early)
	}
	w.Step()
	got := result("iota_getTransactionBlock", digest, all)
	if in(got, "checkpoint") != "3" || in(got, "timestampMs") == nil || len(in(got, "balanceChanges").([]any)) != 2 {
		t.Errorf("read: got %v", got)
	}
	inputs := "transaction.data.transaction.inputs."
	if in(got, inputs+"0.value") != shop || in(got, inputs+"1.value") != "1000000000" || fmt.Sprint(in(got, inputs+"2.value")) != "[5 105 110 118 58 55]" || in(got, inputs+"2.valueType") != nil {
		t.Errorf("inputs: got %v", in(got, inputs[:len(inputs)-1]))
	}
	raw, err := base64.StdEncoding.DecodeString(in(got, "rawTransaction").(string))
	if err != nil || !strings.Contains(string(raw), string(x.Encode())) {
		t.Errorf("raw: got %v", err)
	}
	if got := result("iota_multiGetTransactionBlocks", []string{digest}, all); len(got.([]any)) != 1 {
		t.Errorf("several: got %v", got)
	}
	for _, id := range []any{"3", in(result("iota_getCheckpoint", "3"), "digest")} {
		if got := result("iota_getCheckpoint", id); fmt.Sprint(in(got, "transactions")) != "["+digest+"]" {
			t.Errorf("checkpoint: got %v", got)
		}
	}
	id, _ := in(coins, "data.0.coinObjectId").(string)
	if got := result("iota_getObject", id, map[string]any{"showType": true, "showOwner": true, "showPreviousTransaction": true, "showStorageRebate": true}); in(got, "data.type") != "0x2::coin::Coin<0x2::iota::IOTA>" || in(got, "data.storageRebate") != "980400" {
		t.Errorf("object: got %v", got)
	}
	if got := result("iota_getObject", shop); in(got, "error.code") != "notExists" {
		t.Errorf("no object: got %v", got)
	}

	for filter, want := range map[string]int{
		fmt.Sprintf(`{"ToAddress":%q}`, shop): 1, fmt.Sprintf(`{"FromAddress":%q}`, shop): 0, fmt.Sprintf(`{"FromAddress":%q}`, owner): 1,
		fmt.Sprintf(`{"ToAddress":%q}`, owner): 3, fmt.Sprintf(`{"FromOrToAddress":{"addr":%q}}`, shop): 1, fmt.Sprintf(`{"FromAndToAddress":{"from":%q,"to":%q}}`, owner, shop): 1,
		`{"Checkpoint":"3"}`: 1, `{"TransactionKind":"ProgrammableTransaction"}`: 3, `null`: 4,
	} {
		got := result("iotax_queryTransactionBlocks", map[string]any{"filter": json.RawMessage(filter), "options": all})
		if n := len(in(got, "data").([]any)); n != want {
			t.Errorf("%s: got %d, want %d", filter, n, want)
		}
	}

	// The error codes.
	for _, test := range []struct {
		method string
		params []any
		code   int
		want   string
	}{
		{"iotax_bogus", []any{}, rpcMethod, "Method not found"},
		{"iotax_getCoins", []any{"0xzz"}, rpcParams, "Invalid params"},
		{"iotax_getCoins", []any{shop, "x"}, rpcParams, "Invalid params"},
		{"iotax_getCoins", []any{shop, 7}, rpcParams, "Invalid params"},
		{"iota_getTransactionBlock", []any{shop}, rpcParams, "Invalid params"},
		{"iota_getTransactionBlock", []any{txn.Digest(to).String()}, rpcInternal, "not found"},
		{"iota_multiGetTransactionBlocks", []any{[]string{digest, digest}}, rpcParams, "duplicate"},
		{"iota_multiGetTransactionBlocks", []any{[]string{txn.Digest(to).String()}}, rpcInternal, "not found"},
		{"iota_multiGetTransactionBlocks", []any{make([]string, 51)}, rpcParams, "maximum transaction number"},
		{"iota_getCheckpoint", []any{"99"}, rpcInternal, "Checkpoint 99 not found"},
		{"iota_dryRunTransactionBlock", []any{"!"}, rpcParams, "transaction bytes"},
		{"iota_dryRunTransactionBlock", []any{"AAAA"}, rpcParams, "Invalid params"},
		{"iota_dryRunTransactionBlock", []any{signed(txn.Transaction{Commands: x.Commands, Sender: x.Sender, Gas: txn.Gas{Price: 1}})["tx"]}, rpcRejected, "under reference gas price"},
		{"iota_executeTransactionBlock", []any{args["tx"], []string{}}, rpcRejected, "Expect 1 signer signatures but got 0"},
		{"iotax_queryTransactionBlocks", []any{map[string]any{"filter": map[string]any{"Bogus": 1}}}, rpcInvalid, "Unsupported feature"},
		{"iotax_queryTransactionBlocks", []any{map[string]any{"filter": map[string]any{"ToAddress": shop, "FromAddress": shop}}}, rpcParams, "one condition"},
		{"iotax_queryTransactionBlocks", []any{map[string]any{}, txn.Digest(to).String()}, rpcParams, "Could not find the referenced transaction"},
	} {
		if _, code, message := w.call(test.method, test.params...); code != test.code || !strings.Contains(message, test.want) {
			t.Errorf("%s %v: got %d %q, want %d %q", test.method, test.params, code, message, test.code, test.want)
		}
	}
	for body, want := range map[string]string{
		`[{"jsonrpc":"2.0","id":1,"method":"iota_getChainIdentifier"}]`: `"code":-32005`,
		`{"jsonrpc":"2.0","id":1,"method":5}`:                           `"code":-32600`,
		`{"jsonrpc":"2.0","method":"iotax_getCoins","params":"x"}`:      `"code":-32602`,
		`{"jsonrpc":"2.0","method":"iota_getChainIdentifier"}`:          `"id":null,"result"`,
	} {
		if _, _, text, _ := w.raw(t.Context(), body); !strings.Contains(text, want) {
			t.Errorf("%s: got %s, want %s", body, text, want)
		}
	}
	for m, code := range map[Misbehaviour]int{ExecutedError: rpcRejected, ExecutedTimeout: rpcTransient} {
		k := w.payer(5e9)
		args := signed(k.pays(to, 1), k.Key)
		w.must(w.Misbehave(m, 1))
		if _, got, message := w.call("iota_executeTransactionBlock", args["tx"], args["s"]); got != code {
			t.Errorf("%s: got %d %s, want %d", m, got, message, code)
		}
		result("iota_executeTransactionBlock", args["tx"], args["s"], map[string]any{"showEffects": true}, "WaitForLocalExecution")
	}
}

// Pages in both directions, by digest; a pruned cursor is an error.
func TestJSONRPCPages(t *testing.T) {
	w := newWorld(t, Config{})
	to := address()
	shop := to.String()
	var want []string
	for range 5 {
		want = append(want, w.paid(Payment{Transfers: []Transfer{{To: to, Amount: 1}}}))
		w.Step()
	}
	query := map[string]any{"filter": map[string]any{"ToAddress": shop}}
	for _, descending := range []bool{false, true} {
		var got []string
		cursor := any(nil)
		for {
			r, code, message := w.call("iotax_queryTransactionBlocks", query, cursor, 2, descending)
			if code != 0 {
				t.Fatal(message)
			}
			for _, x := range in(r, "data").([]any) {
				got = append(got, in(x, "digest").(string))
			}
			if cursor = in(r, "nextCursor"); in(r, "hasNextPage") != true {
				break
			}
		}
		if descending {
			slices.Reverse(got)
		}
		if !slices.Equal(got, want) {
			t.Errorf("descending %v: got %v, want %v", descending, got, want)
		}
	}
	w.Prune(3)
	if _, code, message := w.call("iotax_queryTransactionBlocks", query, want[0], 2); code != rpcInternal || message != "Missing data due to pruning: `transaction 1 has been pruned (min available: 3)`" {
		t.Errorf("pruned cursor: got %d %q", code, message)
	}
	count := func(filter map[string]any) int {
		r, _, _ := w.call("iotax_queryTransactionBlocks", map[string]any{"filter": filter})
		return len(in(r, "data").([]any))
	}
	both := map[string]any{"FromOrToAddress": map[string]any{"addr": shop}}
	if got := count(map[string]any{"ToAddress": shop}); got != 3 {
		t.Errorf("pruned: got %d, want 3", got)
	}
	w.Fallback(true)
	if count(map[string]any{"ToAddress": shop}) != 3 || count(both) != 5 {
		t.Errorf("fallback: got %d and %d, want 3 and 5", count(map[string]any{"ToAddress": shop}), count(both))
	}
	w.must(w.Unreadable(want[4], true))
	if _, code, _ := w.call("iotax_queryTransactionBlocks", map[string]any{"filter": both, "options": map[string]any{"showEffects": true}}); code != rpcInternal {
		t.Errorf("unreadable: got %d", code)
	}
	coins, _, _ := w.call("iotax_getCoins", shop, nil, nil, 3)
	more, _, _ := w.call("iotax_getCoins", shop, nil, in(coins, "nextCursor"), 3)
	if len(in(coins, "data").([]any)) != 3 || in(coins, "hasNextPage") != true || len(in(more, "data").([]any)) != 2 || in(more, "hasNextPage") != false {
		t.Errorf("coins: got %v and %v", coins, more)
	}
}
