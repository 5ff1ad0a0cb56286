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
	"github.com/iotaledger/iota.go/trinary"
	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
	"github.com/iotoll/iotoll/tangle/legacy/node"
)

// TestFlood: junk beyond what a node returns does not hide payments, as long as the
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
	w.ledger.deposits[0].differsSince = time.Now().Add(-time.Minute)
	w.retryNow()
	w.confirmed()
	found := false
	for _, e := range w.log.AllEntries() {
		if strings.Contains(e.Message, "no transaction explains") && e.Data["missing"] == int64(777) && e.Data["truncated"] == true {
			found = true
		}
	}
	if !found {
		t.Error("the seller was not told that 777 are missing")
	}
	w.node.setFault(nil)
	w.retryNow()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != hidden {
		t.Errorf("once the node tells: got %v", got)
	}
	if !w.logged("agree again") {
		t.Error("the end of it was not logged")
	}
}

// TestFloodedBundle: transactions that claim to belong to a payment's bundle do not
// hide it, wherever in the bundle its output is.
func TestFloodedBundle(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	var others bundle.Transfers
	for i := range uint64(3) {
		others = append(others, w.transfer(addressOf(t, janeSeed, 50+i), 7, ""))
	}
	tail := w.send(w.spend(devlegacy.Spend{To: append(others, w.transfer(w.jane, 500, fromJohn))}))
	found, err := w.ledger.nodes[0].Transactions(t.Context(), []trinary.Hash{tail})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.net.FloodBundle(found[tail].Bundle, 1100); err != nil {
		t.Fatal(err)
	}
	w.milestone()
	w.node.asked()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != tail+"/3" || got[0].Amount != 500 || string(got[0].Message) != fromJohn {
		t.Errorf("behind 1,100 transactions: got %+v, want the payment %s/3", got, tail)
	}
	if asked := w.node.asked(); len(asked) > 30 {
		t.Errorf("got %d requests, want a bounded number", len(asked))
	}
}

// TestFloodedFromStart: a truncated history is not complete, but nothing that comes
// later is missed if the node tells what its milestones change.
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
	if !w.logged("nearly as many transactions as a node returns") {
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
	w.retryNow()
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

// TestFloodedFormerAddress: a new address beside a flooded former one is paid at
// once.
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

// hide answers findTransactions by address with a thousand transactions that do not
// exist, as if truncation had removed the real ones.
func hide(command string, body []byte, w http.ResponseWriter) bool {
	if command != "findTransactions" || !strings.Contains(string(body), "addresses") {
		return false
	}
	var none []string
	for i := range node.MaxHashes {
		none = append(none, fmt.Sprintf("%q", trinary.IntToTrytes(int64(i+1), 81)))
	}
	fmt.Fprintf(w, `{"hashes":[%s]}`, strings.Join(none, ","))
	return true
}

// TestManyReplays: if a bundle was attached so often that a node truncates it, each
// attachment still counts, and those that are done cost nothing more.
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

// TestOutOfTime: payments that a scan found before its time ran out are kept, and the
// next one continues there.
func TestOutOfTime(t *testing.T) {
	_, s, l := replayed(t, 20)
	found := make(map[string]bool)
	for range 50 {
		n := 0
		ctx, cancel := context.WithCancel(t.Context())
		s.setFault(func(command string, _ []byte, _ http.ResponseWriter) bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			if n++; n > 13 { // what it takes to examine the node and find payments, and not to look at the balance again
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
