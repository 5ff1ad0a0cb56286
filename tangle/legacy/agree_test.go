package legacy

import (
	"net/http"
	"testing"
	"time"

	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
)

// TestAgree: a payment that only one node calls confirmed waits.
func TestAgree(t *testing.T) {
	w := newWorld(t)
	a := w.net.Peer()
	first, second := serve(t, w.net), serve(t, a)
	l := w.read(Config{Nodes: []string{first.URL, second.URL}, Addresses: []string{w.jane}, Agree: 2})
	w.ledger = l
	w.confirmed()
	w.confirmed()
	a.Isolate(true)
	tail := w.pay(500, fromJohn)
	w.milestone()
	for range 3 {
		w.retryNow()
		if got := w.confirmed(); len(got) != 0 {
			t.Fatalf("with one node's word: got %v", got)
		}
	}
	a.Isolate(false)
	w.retryNow()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("with both: got %v", got)
	}
	second.Close()
	w.pay(500, fromJohn)
	w.milestone()
	for range 2 {
		w.retryNow()
		if got := w.confirmed(); len(got) != 0 {
			t.Errorf("with the second node down: got %v", got)
		}
		l.deposits[0].differsSince = time.Now().Add(-time.Minute)
	}
	if !w.logged("wait until enough nodes") {
		t.Error("the seller was not told")
	}
	if h := l.Health(); h[1].Err == nil {
		t.Errorf("Health: got %+v", h)
	}
}

// TestAgreeAfterOutage: a node that is needed for an agreement is tried again within
// seconds, however long it was away, and a payment that waited for it is found at
// once.
func TestAgreeAfterOutage(t *testing.T) {
	w := newWorld(t)
	second := serve(t, w.net.Peer())
	l := w.read(Config{Nodes: []string{w.node.URL, second.URL}, Addresses: []string{w.jane}, Agree: 2})
	w.ledger = l
	w.confirmed()
	second.setFault(func(_ string, _ []byte, a http.ResponseWriter) bool {
		a.WriteHeader(http.StatusBadGateway)
		return true
	})
	tail := w.pay(500, fromJohn)
	w.milestone()
	for range 15 { // hours
		l.nodes[1].backOff, l.nodes[1].compareAt, l.retryAt = time.Time{}, time.Time{}, time.Time{}
		if got := w.confirmed(); len(got) != 0 {
			t.Fatalf("with one node's word: got %v", got)
		}
	}
	w.confirmed()
	if in := time.Until(l.nodes[1].backOff); in > neededMost {
		t.Errorf("the missing node is left alone for %s, want %s at most", in, neededMost)
	}
	second.setFault(nil)
	l.nodes[1].backOff = time.Time{}
	l.retryAt = time.Now().Add(retryMost)
	if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("once it is back: got %v, want the payment %s", got, tail)
	}
}

// TestAgreeOnHistory: if one node has pruned what another still has, the two never
// agree on it, and the seller is told.
func TestAgreeOnHistory(t *testing.T) {
	w := newWorld(t)
	w.pay(500, fromJohn)
	w.milestone()
	w.milestone()
	pruned := w.net.Peer()
	pruned.Prune(w.net.Index())
	w.ledger = w.read(Config{Nodes: []string{w.node.URL, serve(t, pruned).URL}, Addresses: []string{w.jane}, Agree: 2})
	for range 2 {
		if got, complete, err := everything(t.Context(), w.ledger); err != nil || complete || len(got) != 0 {
			t.Errorf("got %v, complete %t, %v, want nothing, and not complete", got, complete, err)
		}
		w.retryNow()
		w.ledger.deposits[0].differsSince = time.Now().Add(-time.Minute)
	}
	if !w.logged("wait until enough nodes") {
		t.Error("the seller was not told")
	}
}

// TestAgreeTwoOfThree: any two of three nodes are enough.
func TestAgreeTwoOfThree(t *testing.T) {
	for out := range 2 { // the one that is asked second, or third, does not know
		w := newWorld(t)
		peers := []*devlegacy.Node{w.net.Peer(), w.net.Peer()}
		l := w.read(Config{Nodes: []string{w.node.URL, serve(t, peers[0]).URL, serve(t, peers[1]).URL}, Addresses: []string{w.jane}, Agree: 2})
		w.ledger = l
		w.confirmed()
		peers[out].Isolate(true)
		tail := w.pay(500, fromJohn)
		w.milestone()
		if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
			t.Errorf("without peer %d: got %v, want the payment, on which two of three agree", out, got)
		}
		// With both away, one is not enough.
		peers[1-out].Isolate(true)
		w.pay(500, fromJohn)
		w.milestone()
		if got := w.confirmed(); len(got) != 0 {
			t.Errorf("without both: got %v", got)
		}
	}
}
