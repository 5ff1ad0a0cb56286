package rebased

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/validator/rules"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// Everything in our schema is in the official one, with the same type.
func TestSchemaIsPartOfTheOfficialOne(t *testing.T) {
	ours, old := schemas()
	for name, def := range ours.Types {
		if def.BuiltIn {
			continue
		}
		theirs := official().Types[name]
		if theirs == nil || theirs.Kind != def.Kind {
			t.Errorf("%s %s: not in the official schema", def.Kind, name)
			continue
		}
		for _, f := range def.Fields {
			if strings.HasPrefix(f.Name, "__") {
				continue
			}
			other := theirs.Fields.ForName(f.Name)
			if other == nil || other.Type.String() != f.Type.String() {
				t.Errorf("%s.%s: got %v, officially %v", name, f.Name, f.Type, other)
				continue
			}
			for _, a := range f.Arguments {
				if o := other.Arguments.ForName(a.Name); o == nil || o.Type.String() != a.Type.String() {
					t.Errorf("%s.%s(%s): got %v, officially %v", name, f.Name, a.Name, a.Type, o)
				}
			}
			for _, a := range other.Arguments {
				if f.Arguments.ForName(a.Name) == nil {
					t.Errorf("%s.%s: argument %s is missing", name, f.Name, a.Name)
				}
			}
		}
		for _, v := range def.EnumValues {
			if theirs.EnumValues.ForName(v.Name) == nil {
				t.Errorf("%s.%s: not in the official schema", name, v.Name)
			}
		}
		for _, member := range def.Types {
			if !slices.Contains(theirs.Types, member) {
				t.Errorf("%s: %s is no member officially", name, member)
			}
		}
	}
	if old.Types["TransactionBlockFilter"].Fields.ForName("affectedAddress") != nil || old.Types["AddressTransactionBlockRelationship"].EnumValues.ForName("AFFECTED") != nil {
		t.Error("the old schema has affectedAddress")
	}
}

// Each field has a resolver, and its value has the form of its type: a document
// asks for all of them.
func TestEveryFieldResolves(t *testing.T) {
	w := newWorld(t, Config{})
	k := txn.NewKey()
	sponsor := txn.NewKey()
	merger := w.payer(3e9)
	w.paid(Payment{From: &k, Sponsor: &sponsor, Memo: []string{"memo"}, Transfers: []Transfer{
		{To: merger.Address(), Amount: 5}, {To: address(), Amount: 6, Coin: txn.CoinType{Address: simulator, Module: "tin", Name: "TIN"}}, {To: k.Address(), NFT: true},
	}})
	failed := w.paid(Payment{Fail: true, Transfers: []Transfer{{To: address(), Amount: 1}}})
	w.Step()
	// One with every command.
	x := merger.pays(address(), 1)
	coins := x.Gas.Coins
	x.Gas.Coins = coins[:1]
	x.Inputs = append(x.Inputs, txn.Owned(coins[1]), txn.PureString("x"))
	x.Commands = append(x.Commands,
		txn.MergeCoins{Into: txn.GasCoin, From: []txn.Argument{txn.InputAt(2)}},
		txn.MoveCall{Package: txn.Address{31: 1}, Module: "string", Function: "utf8", Arguments: []txn.Argument{txn.InputAt(3)}})
	x.Expiration = txn.Until(0)
	if a := w.ok(w.send(x, merger.Key)); status(a) != "SUCCESS" {
		t.Fatalf("got %v", a)
	}
	w.Step()
	w.EndEpoch()
	w.Step()

	ours, _ := schemas()
	seen := make(map[string]bool) // concrete types that were in an answer
	var selection func(typ string, depth int) string
	selection = func(typ string, depth int) string {
		def := ours.Types[typ]
		var b strings.Builder
		b.WriteString("{ __typename ")
		for _, member := range def.Types {
			fmt.Fprintf(&b, "... on %s %s ", member, selection(member, depth))
		}
		for _, f := range def.Fields {
			inner := ours.Types[f.Type.Name()]
			switch {
			case strings.HasPrefix(f.Name, "__"):
				continue
			case inner.Kind == ast.Scalar || inner.Kind == ast.Enum:
				fmt.Fprintf(&b, "%s_%s: %s%s ", typ, f.Name, f.Name, argumentsFor(f))
			case depth > 0:
				fmt.Fprintf(&b, "%s_%s: %s%s %s ", typ, f.Name, f.Name, argumentsFor(f), selection(inner.Name, depth-1))
			}
		}
		b.WriteString("} ")
		return b.String()
	}
	look := func(v any) {}
	look = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if name, ok := v["__typename"].(string); ok {
				seen[name] = true
			}
			for _, e := range v {
				look(e)
			}
		case []any:
			for _, e := range v {
				look(e)
			}
		}
	}
	run := func(document string) {
		t.Helper()
		doc, errs := gqlparser.LoadQueryWithRules(ours, document, rules.NewDefaultRules())
		if len(errs) > 0 {
			t.Fatalf("%v in %s", errs, document)
		}
		out := w.Node.run(doc.Operations[0], nil).(*graphqlAnswer) // without the limits
		encoded, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		var a answer
		d := json.NewDecoder(strings.NewReader(string(encoded)))
		d.UseNumber()
		if err := d.Decode(&a); err != nil {
			t.Fatal(err)
		}
		for _, e := range a.Errors {
			t.Errorf("%s: %v: %s", document[:40], e.Path, e.Message)
		}
		w.conforms(document, a)
		look(a.Data)
	}
	raw := fmt.Sprintf("%q", signed(merger.pays(address(), 1), merger.Key)["tx"])
	for _, root := range []string{
		"chainIdentifier", "isTransactionIndexedOnNode(digest: \"" + failed + "\")", "availableRange", "serviceConfig", "epoch", "epoch(id: 0)",
		"checkpoint", "checkpoints(last: 3)", "transactionBlock(digest: \"" + failed + "\")", "transactionBlocksByDigests(digests: [\"" + failed + "\"])",
		"transactionBlocks(last: 5)", "protocolConfig", "coinMetadata(coinType: \"0x2::iota::IOTA\")", "address(address: \"" + k.Address().String() + "\")",
		"address(address: \"" + merger.Address().String() + "\")", "object(address: \"" + coins[0].ID.String() + "\")",
		"dryRunTransactionBlock(txBytes: " + raw + ")",
	} {
		name, _, _ := strings.Cut(root, "(")
		f := ours.Query.Fields.ForName(name)
		if inner := ours.Types[f.Type.Name()]; inner.Kind == ast.Object {
			root += selection(inner.Name, 4)
		}
		run("{ " + root + " }")
	}
	result := w.ok(w.send(merger.pays(address(), 1), merger.Key))
	look(result.Data)
	for _, name := range []string{"Query", "Mutation", "ExecutionResult", "Immutable"} {
		seen[name] = true // covered elsewhere; and nothing is immutable
	}
	for name, def := range ours.Types {
		if def.Kind == ast.Object && !def.BuiltIn && !strings.HasPrefix(name, "__") && !seen[name] {
			t.Errorf("no answer had a %s", name)
		}
	}
}

// argumentsFor returns arguments that a field needs.
func argumentsFor(f *ast.FieldDefinition) string {
	switch f.Name {
	case "isEnabled":
		return "(feature: COINS)"
	case "config":
		return `(key: "max_tx_gas")`
	case "transactionBlocks":
		return "(last: 2)"
	case "coins", "balances":
		if len(f.Arguments) > 0 {
			return "(first: 3)"
		}
	}
	return ""
}

// Documents of others that apply are answered, and the answers are official ones.
func TestKnownDocuments(t *testing.T) {
	text, err := os.ReadFile("testdata/graphql_queries.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Queries map[string]string }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, Config{})
	k := w.payer(5e9)
	digest := w.paid(Payment{Transfers: []Transfer{{To: k.Address(), Amount: 1e9}}, Memo: []string{"inv:1"}})
	w.Step()
	vars := map[string]any{"addr": k.Address().String(), "d": digest}
	x := signed(k.pays(address(), 5), k.Key)
	vars["tx"], vars["sigs"] = x["tx"], x["s"]
	if len(file.Queries) != 8 {
		t.Errorf("got %d documents, want 8", len(file.Queries))
	}
	for name, document := range file.Queries {
		given := make(map[string]any)
		for v, value := range vars {
			if strings.Contains(document, "$"+v) {
				given[v] = value
			}
		}
		a := w.ok(w.ask(document, given))
		if name == "payments" {
			if got := a.each("transactionBlocks.nodes", "digest"); !slices.Equal(got, []string{digest}) {
				t.Errorf("payments: got %v, want %s", got, digest)
			}
		}
	}
}
