package rebased

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/validator/rules"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// official returns the schema of the service.
var official = sync.OnceValue(func() *ast.Schema {
	text, err := os.ReadFile("testdata/official.graphql")
	if err != nil {
		panic(err)
	}
	// Directives that every implementation defines.
	own := regexp.MustCompile(`(?m)^("""\n[^"]*"""\n)?directive @(deprecated|include|skip|oneOf|specifiedBy)\b.*$`)
	return gqlparser.MustLoadSchema(&ast.Source{Name: "official.graphql", Input: own.ReplaceAllString(string(text), "")})
})

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a node, the clock that it reads, and a server in front of it.
type world struct {
	*Node
	t     *testing.T
	clock *clock
	url   string
}

func newWorld(t *testing.T, cfg Config) *world {
	t.Helper()
	c := newClock()
	cfg.Now = c.Now
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Node: n, t: t, clock: c}
	w.url = w.serve(n)
	return w
}

func (w *world) serve(n *Node) string {
	srv := httptest.NewServer(n)
	w.t.Cleanup(srv.Close)
	return srv.URL
}

// answer is a parsed answer of GraphQL.
type answer struct {
	Data   map[string]any
	Errors []struct {
		Message    string
		Path       []any
		Extensions struct{ Code string }
	}
}

// at returns what a path such as a.nodes.0.digest leads to, or nil.
func (a answer) at(path string) any {
	var v any = a.Data
	for _, key := range strings.Split(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			i := 0
			if _, err := fmt.Sscan(key, &i); err != nil || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

// each returns a field of all elements of a list.
func (a answer) each(path, field string) []string {
	list, _ := a.at(path).([]any)
	out := []string{}
	for _, e := range list {
		m, _ := e.(map[string]any)
		out = append(out, fmt.Sprint(m[field]))
	}
	return out
}

// ask sends a document, checks the answer against the official schema, and
// returns it.
func (w *world) ask(document string, variables map[string]any) answer {
	w.t.Helper()
	return w.askAt(w.url, document, variables)
}

func (w *world) askAt(url, document string, variables map[string]any) answer {
	w.t.Helper()
	a := w.parsed(url, document, variables)
	w.conforms(document, a)
	return a
}

// parsed sends a document and returns the answer unchecked.
func (w *world) parsed(url, document string, variables map[string]any) answer {
	w.t.Helper()
	body, err := json.Marshal(map[string]any{"query": document, "variables": variables})
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := http.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		w.t.Fatalf("%s: %v", document, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: got status %d, error %v", document, res.StatusCode, err)
	}
	var a answer
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&a); err != nil {
		w.t.Fatalf("%s: %v in %s", document, err, text)
	}
	return a
}

// conforms checks a document and its answer against the official schema.
func (w *world) conforms(document string, a answer) {
	w.t.Helper()
	doc, errs := gqlparser.LoadQueryWithRules(official(), document, rules.NewDefaultRules())
	if len(errs) > 0 {
		if len(a.Errors) == 0 {
			w.t.Errorf("%s: the official schema refuses it: %v", document, errs)
		}
		return
	}
	if a.Data == nil {
		if len(a.Errors) == 0 {
			w.t.Errorf("%s: neither data nor errors", document)
		}
		return
	}
	op := doc.Operations[0]
	root := official().Query
	if op.Operation == ast.Mutation {
		root = official().Mutation
	}
	c := conformance{partial: len(a.Errors) > 0}
	c.object(root.Name, op.SelectionSet, a.Data, root.Name)
	for _, fault := range c.faults {
		w.t.Errorf("%s: %s", document, fault)
	}
}

// conformance compares answers with the official schema.
type conformance struct {
	partial bool // errors came with the data, so more may be null
	faults  []string
}

func (c *conformance) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

func (c *conformance) object(typ string, set ast.SelectionSet, got map[string]any, path string) {
	if name, ok := got["__typename"].(string); ok {
		typ = name
	}
	want := make(map[string]*ast.Field)
	var collect func(ast.SelectionSet)
	collect = func(set ast.SelectionSet) {
		for _, s := range set {
			switch s := s.(type) {
			case *ast.Field:
				want[s.Alias] = s
			case *ast.InlineFragment:
				if s.TypeCondition == typ || s.TypeCondition == "" {
					collect(s.SelectionSet)
				}
			case *ast.FragmentSpread:
				if s.Definition.TypeCondition == typ {
					collect(s.Definition.SelectionSet)
				}
			}
		}
	}
	collect(set)
	for key, f := range want {
		v, ok := got[key]
		if !ok {
			c.fault("%s.%s is missing", path, key)
		} else if f.Name != "__typename" {
			c.value(f.Definition.Type, f.SelectionSet, v, path+"."+f.Name)
		}
	}
	if def := official().Types[typ]; def.Kind == ast.Object {
		for key := range got {
			if want[key] == nil {
				c.fault("%s.%s was not asked for", path, key)
			}
		}
	}
}

func (c *conformance) value(t *ast.Type, set ast.SelectionSet, v any, path string) {
	if v == nil {
		if t.NonNull && !c.partial {
			c.fault("%s is null but %s", path, t)
		}
		return
	}
	if t.Elem != nil {
		list, ok := v.([]any)
		if !ok {
			c.fault("%s is no list", path)
		}
		for _, e := range list {
			c.value(t.Elem, set, e, path+"[]")
		}
		return
	}
	def := official().Types[t.NamedType]
	n, isNumber := v.(json.Number)
	s, isText := v.(string)
	ok := true
	switch def.Kind {
	case ast.Object, ast.Interface, ast.Union:
		m, is := v.(map[string]any)
		if !is {
			c.fault("%s is no object", path)
			return
		}
		c.object(t.NamedType, set, m, path)
	case ast.Enum:
		ok = def.EnumValues.ForName(s) != nil
	default:
		switch t.NamedType {
		case "Int", "UInt53":
			i, err := n.Int64()
			ok = isNumber && err == nil && i >= 0
		case "BigInt":
			_, is := new(big.Int).SetString(s, 10)
			ok = isText && is
		case "Boolean":
			_, ok = v.(bool)
		case "IotaAddress":
			_, err := txn.ParseAddress(s)
			ok = isText && (err == nil || strings.Trim(s, "0x") == "")
		case "Base64":
			_, err := base64.StdEncoding.DecodeString(s)
			ok = isText && err == nil
		case "DateTime":
			_, err := time.Parse(time.RFC3339, s)
			ok = isText && err == nil
		case "String", "ID":
			ok = isText
		}
	}
	if !ok {
		c.fault("%s: %.60v is no %s", path, v, t.NamedType)
	}
}

// ok fails the test if an answer has errors.
func (w *world) ok(a answer) answer {
	w.t.Helper()
	if len(a.Errors) > 0 {
		w.t.Fatalf("got errors %+v", a.Errors)
	}
	return a
}

// failed returns the code and the message of an answer's only error.
func (w *world) failed(a answer) (code, message string) {
	w.t.Helper()
	if len(a.Errors) != 1 {
		w.t.Fatalf("got errors %+v, want one", a.Errors)
	}
	return a.Errors[0].Extensions.Code, a.Errors[0].Message
}

// must fails the test if a call did.
func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// paid pays and returns the digest.
func (w *world) paid(p Payment) string {
	w.t.Helper()
	d, err := w.Pay(p)
	w.must(err)
	return d
}

// payer is a key with coins.
type payer struct {
	txn.Key
	w *world
}

func (w *world) payer(coins ...uint64) payer {
	k := txn.NewKey()
	w.Fund(k.Address(), coins...)
	return payer{k, w}
}

// refs returns the payer's coins as executed, the largest first.
func (p payer) refs() []txn.ObjectRef {
	p.w.chain.mu.RLock()
	defer p.w.chain.mu.RUnlock()
	return p.w.chain.coins(p.Address(), 0)
}

// pays returns a transaction that pays amounts, each to a new coin of an address,
// with all coins of the payer.
func (p payer) pays(to txn.Address, amounts ...uint64) txn.Transaction {
	t := txn.Transaction{
		Sender: p.Address(), Gas: txn.Gas{Coins: p.refs(), Owner: p.Address(), Price: referenceGasPrice, Budget: 10_000_000},
		Inputs: []txn.Input{txn.PureAddress(to)},
	}
	for i, amount := range amounts {
		t.Inputs = append(t.Inputs, txn.PureU64(amount))
		t.Commands = append(t.Commands,
			txn.SplitCoins{Coin: txn.GasCoin, Amounts: []txn.Argument{txn.InputAt(uint16(i + 1))}},
			txn.TransferObjects{Objects: []txn.Argument{txn.NestedResult(uint16(2*i), 0)}, To: txn.InputAt(0)})
	}
	return t
}

const executeDocument = `mutation($tx: String!, $s: [String!]!) { executeTransactionBlock(txBytes: $tx, signatures: $s) {
	errors effects { status errors checkpoint { sequenceNumber } timestamp transactionBlock { digest } gasEffects { gasSummary { computationCost storageCost storageRebate } } } } }`

// send executes a transaction that the keys sign.
func (w *world) send(t txn.Transaction, keys ...txn.Key) answer {
	w.t.Helper()
	return w.ask(executeDocument, signed(t, keys...))
}

func signed(t txn.Transaction, keys ...txn.Key) map[string]any {
	raw := t.Encode()
	signatures := []string{}
	for _, k := range keys {
		signatures = append(signatures, k.Sign(raw))
	}
	return map[string]any{"tx": base64.StdEncoding.EncodeToString(raw), "s": signatures}
}

// status returns how an execution ended.
func status(a answer) any { return a.at("executeTransactionBlock.effects.status") }

// address returns an address whose key is thrown away.
func address() txn.Address { return txn.NewKey().Address() }
