package legacy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/curl"
	"github.com/iotaledger/iota.go/trinary"
	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
	"github.com/sirupsen/logrus"
)

// TestOutputs: one bundle with several outputs to the address is one payment.
func TestOutputs(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	elsewhere := addressOf(t, janeSeed, 50)
	tail := w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{
		w.transfer(w.jane, 20, fromJohn), w.transfer(elsewhere, 7000, "not for Jane"), w.transfer(w.jane, 30, ""), w.transfer(w.jane, 50, ""),
	}, Take: 1_000_000, Remainder: addressOf(t, bankSeed, 100)}))
	w.milestone()
	got := w.confirmed()
	if len(got) != 1 || got[0].ID != tail || got[0].Amount != 100 || string(got[0].Message) != fromJohn {
		t.Errorf("got %+v, want one payment of 100", got)
	}
}

// TestTwoMessages: outputs that say different things leave the payer open.
func TestTwoMessages(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	const fromMary = `{"username": "mary"}`
	for _, test := range []struct{ first, second, want string }{
		{fromJohn, fromMary, fromJohn + doubt + fromMary},
		{fromJohn, fromJohn, fromJohn},
		{"", fromJohn, fromJohn},
		{fromJohn, "", fromJohn},
	} {
		w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{w.transfer(w.jane, 20, test.first), w.transfer(w.jane, 30, test.second)}}))
		w.milestone()
		if got := w.confirmed(); len(got) != 1 || string(got[0].Message) != test.want {
			t.Errorf("%q and %q: got %+v, want the message %q", test.first, test.second, got, test.want)
		}
	}
}

// TestMessages: a message runs on through several transactions, and a character
// may be divided between two of them.
func TestMessages(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	for _, n := range []int{0, 1, 1092, 1093, 1094, 2187, 3000, 9000} {
		message := strings.Repeat("ab9 ~", n/5+1)[:n]
		tail := w.pay(500, message)
		w.milestone()
		got := w.confirmed()
		if len(got) != 1 || got[0].ID != tail || got[0].Amount != 500 || string(got[0].Message) != message[:min(n, maxMessage)] {
			t.Errorf("message of %d bytes: got %d payments, %+.200v", n, len(got), got)
		}
	}
}

// TestReplays: a bundle that leaves something at its input pays again each time
// that it is attached; a bundle that spends it whole pays once.
func TestReplays(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	whole := w.pay(500, fromJohn)
	for range 3 {
		if _, err := w.net.Replay(whole); err != nil {
			t.Fatal(err)
		}
	}
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != whole {
		t.Errorf("four attachments of a bundle that spends all: got %v, want one payment", got)
	}
	part := w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{w.transfer(w.jane, 1000, fromJohn)}}))
	tails := []string{part}
	for range 2 {
		again, err := w.net.Replay(part)
		if err != nil {
			t.Fatal(err)
		}
		tails = append(tails, again)
	}
	w.milestone()
	got := w.confirmed()
	slices.Sort(tails)
	if !slices.Equal(ids(got), tails) || sum(got) != 3000 {
		t.Errorf("three attachments of a bundle that leaves something: got %v, want three payments", got)
	}
	for _, p := range got {
		if p.Reference != got[0].Reference || string(p.Message) != fromJohn {
			t.Errorf("got %+v, want all of the same bundle", p)
		}
	}
	later, err := w.net.Replay(part)
	if err != nil {
		t.Fatal(err)
	}
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != later {
		t.Errorf("attached once more later: got %v", got)
	}
	if !w.ledger.deposits[0].settled() {
		t.Errorf("balance and payments differ: %+v", w.ledger.deposits[0])
	}
}

// TestImpersonated: neither a bundle's hash nor its signatures cover messages.
func TestImpersonated(t *testing.T) {
	const fromEve = `{"username": "eve"}`
	w := newWorld(t)
	w.confirmed()
	tail := w.pay(500, fromJohn)
	twin, err := w.net.Impersonate(tail, fromEve)
	if err != nil {
		t.Fatal(err)
	}
	w.milestone()
	got := w.confirmed()
	if len(got) != 1 || got[0].ID != tail && got[0].ID != twin || got[0].Amount != 500 {
		t.Fatalf("got %v, want one payment", got)
	}
	if text := string(got[0].Message); text != fromEve+doubt+fromJohn {
		t.Errorf("got message %q, want both", text)
	}
	// The same where both pay, one after the other.
	part := w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{w.transfer(w.jane, 1000, fromJohn)}}))
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || string(got[0].Message) != fromJohn {
		t.Errorf("before the twin: got %v", got)
	}
	if _, err := w.net.Impersonate(part, fromEve); err != nil {
		t.Fatal(err)
	}
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || string(got[0].Message) != fromEve+doubt+fromJohn {
		t.Errorf("the twin: got %v, want one payment with both messages", got)
	}
}

// TestBrokenTwin: an IRI takes a transaction whose index is beyond its bundle's
// last one, whoever sends it and whatever bundle it claims to be of. It holds up
// neither that bundle nor others.
func TestBrokenTwin(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	tail := w.pay(500, fromJohn)
	other := w.pay(700, fromJohn)
	w.milestone()
	// ask has the simulated node answer, which itself refuses such transactions.
	ask := func(body []byte, answer any) {
		r, err := http.NewRequest("POST", "/", bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		rec := &recorder{header: make(http.Header)}
		w.net.ServeHTTP(rec, r)
		if err := json.Unmarshal(rec.body, answer); err != nil {
			t.Error(err)
		}
	}
	var got struct{ Trytes []string }
	ask([]byte(`{"command": "getTrytes", "hashes": ["`+tail+`"]}`), &got)
	const index = 2331 // where the index is, in front of the last one: 9 trytes each
	broken := got.Trytes[0][:index] + "Z99999999" + got.Trytes[0][index+9:]
	hash, err := curl.HashTrytes(broken)
	if err != nil {
		t.Fatal(err)
	}
	w.node.setFault(func(command string, body []byte, a http.ResponseWriter) bool {
		var asked struct{ Bundles, Hashes []string }
		if err := json.Unmarshal(body, &asked); err != nil {
			t.Error(err)
		}
		switch {
		case command == "findTransactions" && len(asked.Bundles) > 0:
			var found struct{ Hashes []string }
			ask(body, &found)
			json.NewEncoder(a).Encode(map[string]any{"hashes": append(found.Hashes, hash)})
		case command == "getTrytes":
			var found struct{ Trytes []string }
			ask(body, &found)
			if i := slices.Index(asked.Hashes, hash); i >= 0 {
				found.Trytes[i] = broken
			}
			json.NewEncoder(a).Encode(map[string]any{"trytes": found.Trytes})
		default:
			return false
		}
		return true
	})
	want := []string{tail, other}
	slices.Sort(want)
	if got := ids(w.confirmed()); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if d := w.ledger.deposits[0]; !d.settled() {
		t.Errorf("got balance %d, explained %d", d.balance, d.accounted+d.offset)
	}
}

// TestInvalidIncluded: a bundle that iota.go finds invalid and a node calls
// included is no payment, and holds up no other. IRI takes some of those: between
// its rules for signatures and values and iota.go's there are gaps.
func TestInvalidIncluded(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	forged := w.spend(devlegacy.Spend{To: bundle.Transfers{w.transfer(w.jane, 600, fromJohn)}})
	forged[0] = strings.Repeat("A", 2187) + forged[0][2187:] // the second half of the signature
	bad := w.send(forged)
	tail := w.pay(500, fromJohn)
	w.milestone()
	w.node.setFault(func(command string, body []byte, a http.ResponseWriter) bool {
		var asked struct{ Transactions []string }
		if err := json.Unmarshal(body, &asked); err != nil {
			t.Error(err)
		}
		if command != "getInclusionStates" {
			return false
		}
		json.NewEncoder(a).Encode(map[string]any{"states": slices.Repeat([]bool{true}, len(asked.Transactions))})
		return true
	})
	got, whole, err := everything(t.Context(), w.ledger)
	if err != nil || !whole || !slices.Equal(ids(got), []string{tail}) {
		t.Errorf("got %v, whole %t, %v, want the payment %s alone", got, whole, err, tail)
	}
	for _, e := range w.log.AllEntries() {
		if e.Level == logrus.WarnLevel && e.Data["tail"] == bad {
			return
		}
	}
	t.Errorf("nobody was told of %s", bad)
}

// TestNoPayments: what no milestone confirms, or moves nothing, is none.
func TestNoPayments(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	jane := func(value uint64) bundle.Transfers { return bundle.Transfers{w.transfer(w.jane, value, fromJohn)} }

	first := w.spend(devlegacy.Spend{To: jane(500), Take: 1_000_000, Remainder: addressOf(t, bankSeed, 100)})
	second := devlegacy.Spend{Seed: bankSeed, Index: w.next - 1, To: jane(700), Take: 1_000_000, Remainder: addressOf(t, bankSeed, 100)}
	winner := w.send(first)
	w.send(w.spend(second))                               // the same input, to the same address
	w.send(w.spend(devlegacy.Spend{To: jane(5_000_000)})) // more than the address holds
	w.send(w.spend(devlegacy.Spend{To: jane(0)}))         // nothing
	broken := w.spend(devlegacy.Spend{To: jane(600)})     // a signature of something else
	if broken[0][0] == 'A' {
		broken[0] = "B" + broken[0][1:]
	} else {
		broken[0] = "A" + broken[0][1:]
	}
	w.send(broken)
	incomplete, err := w.net.Attach(w.spend(devlegacy.Spend{To: jane(800)}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.net.Submit(incomplete[:1]); err != nil {
		t.Fatal(err)
	}
	w.milestone()
	got := append(w.confirmed(), w.sweep()...)
	if !slices.Equal(ids(got), []string{winner}) || sum(got) != 500 {
		t.Errorf("got %v, want one payment of 500", got)
	}
	w.send(w.spend(second)) // once more, after the first was confirmed
	w.milestone()
	if got := append(w.confirmed(), w.sweep()...); len(got) != 0 {
		t.Errorf("a late double spend: got %v", got)
	}
	// The rest of the bundle arrives after all.
	if _, err := w.net.Submit(incomplete); err != nil {
		t.Fatal(err)
	}
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].Amount != 800 {
		t.Errorf("once the bundle is complete: got %v, want 800", got)
	}
}

func TestForgedTimes(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	for _, at := range []int64{1, 1_000_000_000, 4_000_000_000, 253402300799, 999_999_999_999} {
		w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{w.transfer(w.jane, 500, fromJohn)}, Time: time.Unix(at, 0)}))
		w.milestone()
		got := w.confirmed()
		if len(got) != 1 || got[0].Amount != 500 || time.Since(got[0].Confirmed) > time.Minute {
			t.Fatalf("dated %d: got %+v", at, got)
		}
		if want := time.Unix(at, 0); at < 253402300800 && !got[0].Claimed.Equal(want) || at >= 253402300800 && !got[0].Claimed.IsZero() {
			t.Errorf("dated %d: got claimed %s", at, got[0].Claimed)
		}
	}
}

// TestOwnSpends: what Jane takes from her address is no payment, nor is what
// comes back to it.
func TestOwnSpends(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	w.pay(1000, fromJohn)
	w.milestone()
	if got := w.confirmed(); len(got) != 1 {
		t.Fatalf("got %v", got)
	}
	w.send(w.spend(devlegacy.Spend{
		Seed: janeSeed, To: bundle.Transfers{w.transfer(addressOf(t, janeSeed, 9), 300, fromJohn)}, Take: 1000, Remainder: w.jane,
	}))
	w.milestone()
	if got := w.confirmed(); len(got) != 0 {
		t.Errorf("change to the deposit address: got %v", got)
	}
	if d := w.ledger.deposits[0]; !d.settled() || d.balance != 700 {
		t.Errorf("balance and payments differ: %+v", d)
	}
	if !w.logged("is no payment") {
		t.Error("the seller's own bundle was not logged")
	}
	w.ledger.spentAt = time.Time{}
	w.sweep()
	if !w.logged("deposit address was spent from") {
		t.Error("no warning that the address was spent from")
	}
	// An income and a spend of the same size leave the balance as it was.
	tail := w.pay(700, fromJohn)
	w.send(w.spend(devlegacy.Spend{Seed: janeSeed, To: bundle.Transfers{w.transfer(addressOf(t, janeSeed, 9), 700, "")}}))
	w.milestone()
	if got := w.confirmed(); len(got) != 0 {
		t.Errorf("with the balance as before: got %v, want nothing until the next sweep", got)
	}
	if got := w.sweep(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("the sweep: got %v, want the payment", got)
	}
}

// TestAddresses: what one bundle pays to two addresses are two payments, whose
// IDs do not depend on what is configured.
func TestAddresses(t *testing.T) {
	second := addressOf(t, janeSeed, 1)
	w := newWorld(t, addressOf(t, janeSeed, 0), second)
	w.confirmed()
	tail := w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{
		w.transfer(addressOf(t, janeSeed, 50), 5, ""), w.transfer(second, 20, fromJohn), w.transfer(w.jane, 30, `{"username": "mary"}`),
	}}))
	single := w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{w.transfer(second, 40, fromJohn)}}))
	w.milestone()
	want := []string{tail + "/1", tail + "/2", single}
	slices.Sort(want)
	got := w.confirmed()
	if !slices.Equal(ids(got), want) {
		t.Fatalf("got %q, want %q", ids(got), want)
	}
	for _, p := range got {
		if p.ID == tail+"/1" && (p.Address != second || p.Amount != 20 || string(p.Message) != fromJohn) ||
			p.ID == tail+"/2" && (p.Address != w.jane || p.Amount != 30 || string(p.Message) != `{"username": "mary"}`) {
			t.Errorf("got %+v", p)
		}
	}
	alone := w.read(Config{Nodes: []string{w.node.URL}, Addresses: []string{w.jane}})
	if payments, _, err := confirmed(alone, t.Context()); err != nil || len(payments) != 1 || payments[0].ID != tail+"/2" {
		t.Errorf("with one address configured: got %v, %v, want the same ID", payments, err)
	}
}

// TestPruned: a node forgets, and its silence about a payment proves nothing.
func TestPruned(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	w.pay(1234, fromJohn)
	w.milestone()
	if got := w.confirmed(); len(got) != 1 {
		t.Fatalf("got %v", got)
	}
	w.milestone()
	w.net.Prune(w.net.Index())
	if got := w.sweep(); len(got) != 0 {
		t.Errorf("after pruning: got %v", got)
	}
	if got := w.confirmed(); len(got) != 0 || !w.ledger.deposits[0].settled() {
		t.Errorf("after pruning: got %v, %+v", got, w.ledger.deposits[0])
	}
	w.ledger = w.read(w.ledger.cfg)
	if got, complete, err := everything(t.Context(), w.ledger); err != nil || !complete || len(got) != 0 {
		t.Errorf("another process: got %v, %t, %v", got, complete, err)
	}
	if !w.logged("older than what the nodes still have") {
		t.Error("the forgotten part of the balance was not logged")
	}
	tail := w.pay(500, fromJohn)
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("a new payment: got %v", got)
	}
}

// TestFirstLookReadsAllNodes: what one node has pruned, another still has; it
// must not turn up as new when that one is asked later.
func TestFirstLookReadsAllNodes(t *testing.T) {
	w := newWorld(t)
	tail := w.pay(1234, fromJohn)
	w.milestone()
	w.milestone()
	full := serve(t, w.net.Peer())
	w.net.Prune(w.net.Index())
	w.ledger = w.read(Config{Nodes: []string{w.node.URL, full.URL}, Addresses: []string{w.jane}})
	got, complete, err := everything(t.Context(), w.ledger)
	if err != nil || !complete || len(got) != 1 || got[0].ID != tail {
		t.Errorf("first look: got %v, %t, %v, want the payment that only the second node has", got, complete, err)
	}
	if got := w.confirmed(); len(got) != 0 {
		t.Errorf("again: got %v", got)
	}
	if d := w.ledger.deposits[0]; !d.settled() || d.offset != 0 {
		t.Errorf("got %+v, want the whole balance explained", d)
	}
}

// TestRollback: an unclean restart takes confirmed payments back, and they may
// be confirmed again.
func TestRollback(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	signed := w.spend(devlegacy.Spend{To: bundle.Transfers{w.transfer(w.jane, 500, fromJohn)}})
	attached, err := w.net.Attach(signed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.net.Submit(attached); err != nil {
		t.Fatal(err)
	}
	w.milestone()
	if got := w.confirmed(); len(got) != 1 {
		t.Fatalf("got %v", got)
	}
	if err := w.net.Crash(1); err != nil {
		t.Fatal(err)
	}
	if _, _, err := confirmed(w.ledger, t.Context()); err == nil || !strings.Contains(err.Error(), "not in sync") {
		t.Errorf("right after the restart: got %v, want that the node is not in sync", err)
	}
	w.milestone()
	w.milestone()
	time.Sleep(600 * time.Millisecond) // until the node is tried again
	if got := w.confirmed(); len(got) != 0 {
		t.Errorf("after the roll-back: got %v", got)
	}
	if _, err := w.net.Submit(attached); err != nil {
		t.Fatal(err)
	}
	w.milestone()
	if got := append(w.confirmed(), w.sweep()...); len(got) != 0 {
		t.Errorf("confirmed again: got %v, want nothing new", got)
	}
	if d := w.ledger.deposits[0]; !d.settled() {
		t.Errorf("got %+v", d)
	}
}

// TestFlood: junk beyond what a node shows does not hide payments, as long as the
// node tells what its milestones changed.
func TestFlood(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	if err := w.net.Flood(w.jane, 3000, devlegacy.ZeroValue); err != nil {
		t.Fatal(err)
	}
	first := w.pay(500, fromJohn)
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != first {
		t.Errorf("with 3,000 transactions without value: got %v", got)
	}
	if err := w.net.Flood(w.jane, 3000, devlegacy.Unconfirmable); err != nil {
		t.Fatal(err)
	}
	var tails []string
	for range 5 {
		tails = append(tails, w.pay(500, fromJohn))
		w.milestone()
	}
	slices.Sort(tails)
	w.node.asked()
	got := w.confirmed()
	if !slices.Equal(ids(got), tails) {
		t.Errorf("with 3,000 that claim value: got %d payments, want 5", len(got))
	}
	w.node.mu.Lock()
	size := w.node.bytes
	w.node.mu.Unlock()
	asked := w.node.asked()
	t.Logf("found in %d requests, %d bytes of answers", len(asked), size)
	if len(asked) > 40 || size > 1<<20 {
		t.Errorf("got %d requests and %d bytes, want a bounded number", len(asked), size)
	}
	w.milestone()
	w.node.asked()
	w.confirmed()
	if asked := w.node.asked(); !slices.Equal(asked, []string{"getBalances"}) {
		t.Errorf("idle in a flood: got %q", asked)
	}

	// Where the node refuses to tell, the seller is told.
	w.node.setFault(func(command string, body []byte, a http.ResponseWriter) bool {
		if command == "getLedgerDiffExt" {
			a.WriteHeader(http.StatusForbidden)
			fmt.Fprint(a, `{"error":"command [getLedgerDiffExt] is protected"}`)
			return true
		}
		return hide(command, body, a)
	})
	hidden := w.pay(777, fromJohn)
	w.milestone()
	if got := w.confirmed(); len(got) != 0 {
		t.Fatalf("hidden: got %v", got)
	}
	w.ledger.deposits[0].apart = time.Now().Add(-time.Minute)
	w.settledNow()
	w.confirmed()
	found := false
	for _, e := range w.log.AllEntries() {
		if strings.Contains(e.Message, "no transaction explains") && e.Data["missing"] == int64(777) && e.Data["cut"] == true {
			found = true
		}
	}
	if !found {
		t.Error("the seller was not told that 777 are missing")
	}
	w.node.setFault(nil)
	w.settledNow()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != hidden {
		t.Errorf("once the node tells: got %v", got)
	}
	if !w.logged("agree again") {
		t.Error("the end of it was not logged")
	}
}

// TestFloodedFromStart: history that cannot be read as a whole is not complete,
// but from then on nothing is missed if the node tells what milestones change.
func TestFloodedFromStart(t *testing.T) {
	w := newWorld(t)
	if err := w.net.Flood(w.jane, 1000, devlegacy.Unconfirmable); err != nil {
		t.Fatal(err)
	}
	var refuse atomic.Bool
	refuse.Store(true)
	w.node.setFault(func(command string, body []byte, a http.ResponseWriter) bool {
		if command == "getLedgerDiffExt" && refuse.Load() {
			a.WriteHeader(http.StatusForbidden)
			return true
		}
		return hide(command, body, a)
	})
	if _, complete, err := everything(t.Context(), w.ledger); err != nil || complete {
		t.Errorf("refused: got complete %t, %v, want not complete", complete, err)
	}
	if !w.logged("nearly as many transactions as a node shows") {
		t.Error("the seller was not told")
	}
	w.node.asked()
	for range 20 {
		if _, complete, err := everything(t.Context(), w.ledger); err != nil || complete {
			t.Errorf("refused: got complete %t, %v, want not complete", complete, err)
		}
	}
	if asked := w.node.asked(); len(asked) > 60 {
		t.Errorf("20 polls made %d requests", len(asked))
	}
	refuse.Store(false)
	w.settledNow()
	if _, complete, err := everything(t.Context(), w.ledger); err != nil || !complete {
		t.Errorf("all milestones since the first: got complete %t, %v, want complete", complete, err)
	}

	// Another process, when the first milestones are longer ago.
	for range maxDiffs + 1 {
		w.milestone()
	}
	w.ledger = w.read(w.ledger.cfg)
	if _, complete, err := everything(t.Context(), w.ledger); err != nil || complete {
		t.Errorf("another process: got complete %t, %v, want not complete", complete, err)
	}
	tail := w.pay(500, fromJohn)
	w.milestone()
	got, complete, err := everything(t.Context(), w.ledger)
	if err != nil || complete || len(got) != 1 || got[0].ID != tail {
		t.Errorf("a new payment: got %v, complete %t, %v", got, complete, err)
	}
	w.node.setFault(nil)
}

// TestFloodedFormerAddress: who leaves a flooded address for a new one is paid
// there at once.
func TestFloodedFormerAddress(t *testing.T) {
	fresh := addressOf(t, janeSeed, 1)
	w := newWorld(t, addressOf(t, janeSeed, 0), fresh)
	if err := w.net.Flood(w.jane, 1000, devlegacy.Unconfirmable); err != nil {
		t.Fatal(err)
	}
	w.node.setFault(func(command string, _ []byte, a http.ResponseWriter) bool {
		if command == "getLedgerDiffExt" {
			a.WriteHeader(http.StatusForbidden)
		}
		return command == "getLedgerDiffExt"
	})
	for range 3 {
		if _, partial, err := confirmed(w.ledger, t.Context()); err != nil || !slices.Equal(partial, []string{w.jane}) {
			t.Errorf("got partial %q, %v, want the flooded address alone", partial, err)
		}
	}
	tail := w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{w.transfer(fresh, 500, fromJohn)}}))
	w.milestone()
	if got := w.confirmed(); !slices.Equal(ids(got), []string{tail}) {
		t.Errorf("got %v, want the payment to the new address", got)
	}
}

// hide answers findTransactions by address with a thousand transactions that do
// not exist, as a cut that takes away what is real.
func hide(command string, body []byte, w http.ResponseWriter) bool {
	if command != "findTransactions" || !strings.Contains(string(body), "addresses") {
		return false
	}
	var none []string
	for i := range maxHashes {
		none = append(none, fmt.Sprintf("%q", trinary.IntToTrytes(int64(i+1), 81)))
	}
	fmt.Fprintf(w, `{"hashes":[%s]}`, strings.Join(none, ","))
	return true
}

// TestManyReplays: a bundle that was attached so often that a node does not show
// all of it. Each attachment counts, at a cost that does not grow with those
// dealt with.
func TestManyReplays(t *testing.T) {
	const count = 40 // of 3 transactions each
	net, s, l := replayed(t, count)
	s.setFault(func(command string, body []byte, w http.ResponseWriter) bool {
		if command != "findTransactions" || !strings.Contains(string(body), "bundles") {
			return false
		}
		answer := &recorder{header: make(http.Header)}
		net.ServeHTTP(answer, httptest.NewRequest("POST", "/", bytes.NewReader(body)))
		var all struct {
			Hashes []string `json:"hashes"`
		}
		if err := json.Unmarshal(answer.body, &all); err != nil {
			t.Error(err)
		}
		all.Hashes = all.Hashes[:30] // as a real node at 1,000
		json.NewEncoder(w).Encode(all)
		return true
	})
	got, complete, err := everything(t.Context(), l)
	if err != nil || !complete || len(slices.Compact(ids(got))) != count {
		t.Fatalf("got %d payments, %t, %v, want %d", len(got), complete, err, count)
	}
	for range 3 {
		again, err := net.Replay(got[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := net.Milestone(); err != nil {
			t.Fatal(err)
		}
		s.asked()
		if more, _, err := confirmed(l, t.Context()); err != nil || len(more) != 1 || more[0].ID != again || string(more[0].Message) != fromJohn {
			t.Errorf("once more: got %v, %v", more, err)
		}
		if asked := s.asked(); len(asked) > 12 {
			t.Errorf("once more: got %d requests", len(asked))
		}
	}
}

// TestOutOfTime: what a look found before its time ran out is kept, and the next
// one goes on from there.
func TestOutOfTime(t *testing.T) {
	_, s, l := replayed(t, 20)
	found := make(map[string]bool)
	for range 50 {
		n := 0
		ctx, cancel := context.WithCancel(t.Context())
		s.setFault(func(command string, _ []byte, _ http.ResponseWriter) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			if n++; n > 8 { // what it takes to find payments, and not to look at the balance again
				cancel()
			}
			return false
		})
		got, complete, err := everything(ctx, l)
		cancel()
		for _, p := range got {
			if found[p.ID] {
				t.Errorf("payment %s was returned twice", p.ID)
			}
			found[p.ID] = true
		}
		if complete {
			break
		}
		if err == nil {
			t.Error("not complete, but no error")
		}
	}
	if len(found) != 20 {
		t.Errorf("got %d payments, want 20", len(found))
	}
}

// TestHangingNode: a node that hangs holds the others up seldom.
func TestHangingNode(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	hanging := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer close(release)
	l := w.read(Config{Nodes: []string{hanging.URL, w.node.URL}, Addresses: []string{w.jane}, Timeout: 50 * time.Millisecond})
	w.ledger = l
	for range 20 {
		w.sweep()
		l.mu.Lock()
		n := l.nodes[0]
		if !n.until.IsZero() && n.fails < 11 {
			n.until = time.Now() // as if the time had passed
		}
		l.mu.Unlock()
	}
	if n := l.nodes[0]; time.Until(n.until) < 4*time.Minute || n.err == nil {
		t.Errorf("got %+v, want it left alone for minutes", n.state)
	}
	w.node.Close()
	if _, _, err := confirmed(l, t.Context()); err == nil {
		t.Error("with both gone: got no error")
	}
	if n := l.nodes[0]; time.Until(n.until) > maxOutage {
		t.Errorf("with both gone: got %+v, want it tried again soon", n.state)
	}
}

// TestSlowNode: a node whose requests all stay within their time, but not the
// look as a whole, leaves enough of it to the next one.
func TestSlowNode(t *testing.T) {
	w := newWorld(t)
	tail := w.pay(500, fromJohn)
	w.milestone()
	release := make(chan struct{})
	slow := serve(t, w.net)
	defer close(release)
	slow.setFault(func(command string, _ []byte, _ http.ResponseWriter) bool {
		if command == "getTrytes" {
			<-release
		}
		return false
	})
	l := w.read(Config{Nodes: []string{slow.URL, w.node.URL}, Addresses: []string{w.jane}, Timeout: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	if got, _, err := confirmed(l, ctx); err != nil || !slices.Equal(ids(got), []string{tail}) {
		t.Errorf("got %v, %v, want the payment %s", got, err, tail)
	}
	if h := l.Health(); h[0].Err == nil || h[1].Err != nil {
		t.Errorf("got %+v, want trouble with the first node alone", h)
	}
}
