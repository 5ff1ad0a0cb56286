package legacy

import (
	"strings"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotoll/iotoll/tangle"
	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
)

// TestPruned: that a node pruned a payment proves nothing.
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
	if b, err := w.ledger.Confirmed(t.Context(), map[string]tangle.Mark{w.jane: {}}); err != nil || len(b.Partial) > 0 || len(b.Payments) != 0 {
		t.Errorf("another process: got %+v, %v, want no payment", b, err)
	}
	tail := w.pay(500, fromJohn)
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("a new payment: got %v", got)
	}
}

// TestOpeningBalance: the part of a new address's balance that no transaction explains
// is one payment that nobody is credited for, so that the book adds up.
func TestOpeningBalance(t *testing.T) {
	w := newWorld(t)
	w.pay(1234, fromJohn)
	w.milestone()
	w.milestone()
	w.net.Prune(w.net.Index())
	for range 2 { // with the same ID from another process
		w.ledger = w.read(w.ledger.cfg)
		got, complete, err := everything(t.Context(), w.ledger)
		if err != nil || !complete || len(got) != 1 || got[0].ID != "opening/"+w.jane || got[0].Amount != 1234 || got[0].Unreadable == "" {
			t.Errorf("got %+v, %t, %v, want one payment of the opening balance", got, complete, err)
		}
		if got := w.sweep(); len(got) != 0 {
			t.Errorf("again: got %v", got)
		}
	}
	tail := w.pay(500, fromJohn)
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("a new payment: got %v", got)
	}
}

// TestFirstScanReadsAllNodes: what one node has pruned, another still has; it
// must not turn up as new when that one is asked later.
func TestFirstScanReadsAllNodes(t *testing.T) {
	w := newWorld(t)
	tail := w.pay(1234, fromJohn)
	w.milestone()
	w.milestone()
	full := serve(t, w.net.Peer())
	w.net.Prune(w.net.Index())
	w.ledger = w.read(Config{Nodes: []string{w.node.URL, full.URL}, Addresses: []string{w.jane}})
	got, complete, err := everything(t.Context(), w.ledger)
	if err != nil || complete || len(got) != 1 || got[0].ID != tail {
		t.Errorf("first scan: got %v, %t, %v, want the payment that only the second node has", got, complete, err)
	}
	if got, complete, err := everything(t.Context(), w.ledger); err != nil || !complete || len(got) != 0 {
		t.Errorf("again: got %v, %t, %v, want that it is complete", got, complete, err)
	}
	if d := w.ledger.deposits[0]; !d.settled() || d.opening != 0 {
		t.Errorf("got %+v, want the whole balance explained", d)
	}
}

// TestRollback: after an unclean restart, payments are unconfirmed and may be
// confirmed again.
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
	w.ledger.nodes[0].backOff = time.Time{} // as if its time had passed
	if got := w.confirmed(); len(got) != 0 {
		t.Errorf("after the rollback: got %v", got)
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
