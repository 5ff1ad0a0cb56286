package legacy

import (
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/transaction"
	"github.com/iotaledger/iota.go/trinary"
)

// ask sends a command and returns the status and the answer.
func ask(t *testing.T, n *Node, request map[string]any) (int, map[string]any) {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	n.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(string(body))))
	var out map[string]any
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatalf("%v: answer %.100q: %v", request["command"], w.Body, err)
		}
	}
	return w.Code, out
}

// tip is what getTipInfo says of a tail: "confirmed", "conflicting", "promote",
// "reattach", "" if none of it, or the error.
func tip(t *testing.T, n *Node, tail trinary.Hash) string {
	t.Helper()
	status, info := ask(t, n, map[string]any{"command": "getTipInfo", "tailTransaction": tail})
	if status != 200 {
		return info["error"].(string)
	}
	var is []string
	for _, key := range []string{"confirmed", "conflicting", "shouldPromote", "shouldReattach"} {
		if info[key].(bool) {
			is = append(is, key)
		}
	}
	return strings.Join(is, " ")
}

func find(t *testing.T, n *Node, query map[string]any) []string {
	t.Helper()
	query["command"] = "findTransactions"
	status, out := ask(t, n, query)
	if status != 200 {
		t.Fatalf("findTransactions: %d %v", status, out)
	}
	hashes := []string{}
	for _, h := range out["hashes"].([]any) {
		hashes = append(hashes, h.(string))
	}
	return hashes
}

// pay signs a transfer from address 0 of the demo seed that takes iotas from it,
// all for the seller's address 0.
func pay(t *testing.T, take uint64) []trinary.Trytes {
	t.Helper()
	return sign(t, Spend{Seed: DemoSeed, To: bundle.Transfers{{Address: addressOf(t, sellerSeed, 0), Value: take, Message: trytesOf(t, `{"username": "john"}`)}}})
}

func sign(t *testing.T, s Spend) []trinary.Trytes {
	t.Helper()
	signed, err := s.Sign()
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func send(t *testing.T, n *Node, signed []trinary.Trytes) trinary.Hash {
	t.Helper()
	tail, err := n.Send(signed)
	if err != nil {
		t.Fatal(err)
	}
	return tail
}

func replay(t *testing.T, n *Node, tail trinary.Hash) trinary.Hash {
	t.Helper()
	again, err := n.Replay(tail)
	if err != nil {
		t.Fatal(err)
	}
	if again == tail {
		t.Fatal("a replay has the hash of the original")
	}
	return again
}

// outcomes checks tails after a milestone, against what getTipInfo should say.
func outcomes(t *testing.T, n *Node, tails []trinary.Hash, wants ...string) {
	t.Helper()
	for i, tail := range tails {
		if got := tip(t, n, tail); got != wants[i] {
			t.Errorf("tail %d: got %q, want %q", i, got, wants[i])
		}
		_, out := ask(t, n, map[string]any{"command": "getInclusionStates", "transactions": []string{tail}})
		if included := out["states"].([]any)[0].(bool); included != (wants[i] == "confirmed") {
			t.Errorf("tail %d: got included %v", i, included)
		}
	}
}

func seller(t *testing.T, n *Node, want int64) {
	t.Helper()
	if got := n.Balance(addressOf(t, sellerSeed, 0)); got != want {
		t.Errorf("the seller's balance: got %d, want %d", got, want)
	}
}

// Of two transfers of one input the first to arrive is included, the other
// never, and a third after that neither. All are found.
func TestTwins(t *testing.T) {
	n, _ := start(t, Config{})
	first := send(t, n, pay(t, 1000000))
	second := send(t, n, sign(t, Spend{Seed: DemoSeed, To: bundle.Transfers{{Address: addressOf(t, sellerSeed, 0), Value: 999999}}, Take: 1000000, Remainder: addressOf(t, DemoSeed, 1)}))
	outcomes(t, n, []trinary.Hash{first, second}, "", "")
	milestones(t, n, 1)
	late := send(t, n, sign(t, Spend{Seed: DemoSeed, To: bundle.Transfers{{Address: addressOf(t, sellerSeed, 1), Value: 1000000}}}))
	milestones(t, n, 3)
	outcomes(t, n, []trinary.Hash{first, second, late}, "confirmed", "conflicting", "conflicting")
	seller(t, n, 1000000)
	if got := find(t, n, map[string]any{"addresses": []string{addressOf(t, sellerSeed, 0)}}); len(got) != 2 {
		t.Errorf("found %d transactions on the seller's address, want both", len(got))
	}
}

// The same signed transfer pays again as long as the input holds enough.
func TestReplayPaysAgain(t *testing.T) {
	n, _ := start(t, Config{})
	tails := []trinary.Hash{send(t, n, pay(t, 400000))}
	tails = append(tails, replay(t, n, tails[0]))
	milestones(t, n, 1)
	tails = append(tails, replay(t, n, tails[0]))
	milestones(t, n, 1)
	outcomes(t, n, tails, "confirmed", "confirmed", "conflicting")
	seller(t, n, 800000)
}

// Of the attachments of a transfer that spends the whole input, one is included.
func TestReattachment(t *testing.T) {
	n, _ := start(t, Config{})
	tails := []trinary.Hash{send(t, n, pay(t, 1000000))}
	tails = append(tails, replay(t, n, tails[0]), replay(t, n, tails[0]))
	milestones(t, n, 1)
	tails = append(tails, replay(t, n, tails[0]))
	milestones(t, n, 1)
	outcomes(t, n, tails, "confirmed", "conflicting", "conflicting", "conflicting")
	seller(t, n, 1000000)
}

// Messages are not signed: another attachment of the same bundle may carry
// another one, and conflicts with it as any other reattachment does.
func TestImpersonate(t *testing.T) {
	n, a := start(t, Config{})
	johns := send(t, n, pay(t, 1000000))
	mallorys, err := n.Impersonate(johns, `{"username": "mallory"}`)
	if err != nil {
		t.Fatal(err)
	}
	milestones(t, n, 1)
	outcomes(t, n, []trinary.Hash{johns, mallorys}, "confirmed", "conflicting")
	b, err := a.GetBundle(mallorys)
	if err != nil {
		t.Fatalf("the other attachment is not valid: %v", err)
	}
	if text, err := transaction.ExtractJSON(b); err != nil || text != `{"username": "mallory"}` {
		t.Errorf("its message: got %q, %v", text, err)
	}
	if original, err := a.GetBundle(johns); err != nil || original[0].Bundle != b[0].Bundle {
		t.Errorf("bundle hashes: got %v and %s, %v; want the same", original[0].Bundle, b[0].Bundle, err)
	}
}

// What claims more than the address holds conflicts.
func TestOverspend(t *testing.T) {
	n, _ := start(t, Config{})
	tail := send(t, n, pay(t, 1000001))
	milestones(t, n, 1)
	outcomes(t, n, []trinary.Hash{tail}, "conflicting")
	seller(t, n, 0)
}

// Bundles are applied in the order in which their tails arrived, each to what the
// ones before it left.
func TestOrderOfArrival(t *testing.T) {
	n, _ := start(t, Config{})
	there := sign(t, Spend{Seed: DemoSeed, To: bundle.Transfers{{Address: addressOf(t, sellerSeed, 1), Value: 1000000}}})
	on := sign(t, Spend{Seed: sellerSeed, Index: 1, To: bundle.Transfers{{Address: addressOf(t, sellerSeed, 0), Value: 1000000}}})
	early := send(t, n, on)
	first, second := send(t, n, there), send(t, n, on)
	milestones(t, n, 1)
	outcomes(t, n, []trinary.Hash{early, first, second}, "conflicting", "confirmed", "confirmed")
	seller(t, n, 1000000)
}

// A bundle without value is always included, and each attachment of it.
func TestZeroValue(t *testing.T) {
	n, _ := start(t, Config{})
	signed := sign(t, Spend{Seed: DemoSeed, To: bundle.Transfers{{Address: addressOf(t, sellerSeed, 0), Message: trytesOf(t, "hello")}}})
	tail := send(t, n, signed)
	tails := []trinary.Hash{tail, replay(t, n, tail)}
	milestones(t, n, 1)
	outcomes(t, n, tails, "confirmed", "confirmed")
	if got := find(t, n, map[string]any{"addresses": []string{addressOf(t, sellerSeed, 0)}, "valueOnly": true}); len(got) != 0 {
		t.Errorf("value only: found %d", len(got))
	}
}

// Several outputs to an address count together; each transaction of the bundle
// may be asked for.
func TestOutputs(t *testing.T) {
	n, a := start(t, Config{})
	to := addressOf(t, sellerSeed, 0)
	tail := send(t, n, sign(t, Spend{Seed: DemoSeed, Take: 1000000, Remainder: addressOf(t, DemoSeed, 1), To: bundle.Transfers{
		{Address: to, Value: 100}, {Address: to, Value: 20}, {Address: to, Value: 3},
	}}))
	milestones(t, n, 1)
	outcomes(t, n, []trinary.Hash{tail}, "confirmed")
	seller(t, n, 123)
	hashes := find(t, n, map[string]any{"addresses": []string{to}})
	if len(hashes) != 3 {
		t.Fatalf("found %d transactions, want 3", len(hashes))
	}
	states, err := a.GetInclusionStates(hashes)
	if err != nil || slices.Contains(states, false) {
		t.Errorf("inclusion of all outputs: got %v, %v", states, err)
	}
}

// The sender's timestamps are never looked at.
func TestForgedTimestamps(t *testing.T) {
	n, a := start(t, Config{})
	for _, at := range []int64{1000000000, 4000000000} {
		tail := send(t, n, sign(t, Spend{Seed: DemoSeed, Time: time.Unix(at, 0), To: bundle.Transfers{{Address: addressOf(t, sellerSeed, 0), Value: 500}}}))
		milestones(t, n, 1)
		outcomes(t, n, []trinary.Hash{tail}, "confirmed")
		b, err := a.GetBundle(tail)
		if err != nil || b[0].Timestamp != uint64(at) {
			t.Errorf("timestamp: got %v, %v, want %d", b[0].Timestamp, err, at)
		}
	}
}

// A bundle with a broken signature is taken and found, but never included, and
// not called conflicting.
func TestBadSignature(t *testing.T) {
	n, a := start(t, Config{})
	signed := pay(t, 1000)
	input := len(signed) - 2 // the last comes first
	first := "A"
	if signed[input][0] == 'A' {
		first = "B"
	}
	signed[input] = first + signed[input][1:]
	tail := send(t, n, signed)
	milestones(t, n, 2)
	outcomes(t, n, []trinary.Hash{tail}, "")
	if got := find(t, n, map[string]any{"addresses": []string{addressOf(t, sellerSeed, 0)}, "valueOnly": true}); len(got) != 1 {
		t.Errorf("found %d, want 1", len(got))
	}
	if _, err := a.GetBundle(tail); err == nil || !strings.Contains(err.Error(), "invalid signature") {
		t.Errorf("get bundle: got %v, want an invalid signature", err)
	}
	if spent, err := a.WereAddressesSpentFrom(addressOf(t, DemoSeed, 0)); err != nil || spent[0] {
		t.Errorf("spent: got %v, %v; a broken signature reveals nothing", spent, err)
	}
}

// A bundle of which a part is missing is found by its tail, and included only
// once the rest has arrived.
func TestIncomplete(t *testing.T) {
	n, _ := start(t, Config{})
	attached, err := n.Attach(pay(t, 1000))
	if err != nil {
		t.Fatal(err)
	}
	tail, err := n.Submit(attached[:1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Submit(attached[2:]); err != nil {
		t.Fatal(err)
	}
	milestones(t, n, 2)
	if got := tip(t, n, tail); got != "transaction is not solid" {
		t.Errorf("tip info: got %q", got)
	}
	if n.Included(tail) {
		t.Error("included though incomplete")
	}
	if got := find(t, n, map[string]any{"addresses": []string{addressOf(t, sellerSeed, 0)}}); len(got) != 1 {
		t.Errorf("found %d, want 1", len(got))
	}
	if _, err := n.Submit(attached[1:2]); err != nil {
		t.Fatal(err)
	}
	milestones(t, n, 1)
	outcomes(t, n, []trinary.Hash{tail}, "confirmed")
}

// The filters of findTransactions intersect; the answer is cut silently, always
// at the same transactions, and comes in no order.
func TestFind(t *testing.T) {
	n, _ := start(t, Config{})
	to := addressOf(t, sellerSeed, 0)
	one, two := send(t, n, pay(t, 1000)), send(t, n, sign(t, Spend{Seed: DemoSeed, To: bundle.Transfers{{Address: to, Value: 7, Tag: "ORDER"}}}))
	bundleOf := func(tail string) string { return n.tangle.byHash[tail].bundle }
	for _, c := range []struct {
		query map[string]any
		want  []string
	}{
		{map[string]any{"addresses": []string{to}}, []string{one, two}},
		{map[string]any{"addresses": []string{to[:81]}}, []string{one, two}},
		{map[string]any{"addresses": []string{to, to, addressOf(t, sellerSeed, 1)}}, []string{one, two}},
		{map[string]any{"addresses": []string{to}, "bundles": []string{bundleOf(one)}}, []string{one}},
		{map[string]any{"addresses": []string{to}, "bundles": []string{bundleOf(one), bundleOf(two)}, "tags": []string{"ORDER"}}, []string{two}},
		{map[string]any{"addresses": []string{to}, "approvees": []string{n.tangle.byHash[two].trunk}}, []string{two}},
		{map[string]any{"addresses": []string{}}, []string{}},
	} {
		got := find(t, n, c.query)
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("find %v: got %v, want %v", c.query, got, c.want)
		}
	}
	if err := n.Flood(to, 1500, ZeroValue); err != nil {
		t.Fatal(err)
	}
	all := find(t, n, map[string]any{"addresses": []string{to}})
	if len(all) != 1000 || slices.Contains(all, one) || slices.Contains(all, two) {
		t.Errorf("flooded: got %d with the payments %v, %v; want 1000 without them", len(all), slices.Contains(all, one), slices.Contains(all, two))
	}
	again := find(t, n, map[string]any{"addresses": []string{to}})
	if slices.Equal(all, again) {
		t.Error("two answers have the same order")
	}
	slices.Sort(all)
	slices.Sort(again)
	if !slices.Equal(all, again) {
		t.Error("two answers leave out different transactions")
	}
	if got := find(t, n, map[string]any{"addresses": []string{to}, "valueOnly": true}); len(got) != 2 {
		t.Errorf("value only: got %d, want 2", len(got))
	}
	if got := find(t, n, map[string]any{"addresses": []string{to}, "maxresults": 3}); len(got) != 3 {
		t.Errorf("maxresults 3: got %d", len(got))
	}
}

func TestSpendErrors(t *testing.T) {
	to := bundle.Transfers{{Address: addressOf(t, sellerSeed, 0), Value: 10}}
	for name, s := range map[string]Spend{
		"too little taken": {Seed: DemoSeed, To: to, Take: 5},
		"no remainder":     {Seed: DemoSeed, To: to, Take: 15},
		"no seed":          {To: to},
	} {
		if _, err := s.Sign(); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
