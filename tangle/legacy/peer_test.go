package legacy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
)

// TestSeveralNodes: the first node that works is read, and Health tells of each.
func TestSeveralNodes(t *testing.T) {
	w := newWorld(t)
	a, b := w.net.Peer(), w.net.Peer()
	first, second := serve(t, a), serve(t, b)
	l := w.read(Config{Nodes: []string{first.URL, second.URL}, Addresses: []string{w.jane}})
	w.ledger = l
	w.confirmed()
	w.confirmed()
	second.asked()
	l.nodes[1].compareAt = time.Time{}
	w.confirmed()
	if asked := second.asked(); !slices.Equal(asked, []string{"getNodeInfo"}) {
		t.Errorf("the second node was asked %q while the first works, want only how it is", asked)
	}

	// Unsynced: the second is asked within the same call.
	a.Lag(true)
	tail := w.pay(500, fromJohn)
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("first node lags: got %v", got)
	}
	if h := l.Health(); !errors.Is(h[0].Err, ErrUnsynced) || h[1].Err != nil || h[0].Behind != 1 {
		t.Errorf("first node lags: Health: got %+v", h)
	}
	a.Lag(false)
	w.milestone()
	l.nodes[0].backOff = time.Time{}
	w.sweep()
	if h := l.Health(); h[0].Err != nil || !w.logged("node can be used again") {
		t.Errorf("first node is back: Health: got %+v", h)
	}

	// Blank, and down.
	a.Blank(true)
	first.asked()
	tail = w.pay(500, fromJohn)
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("first node is blank: got %v", got)
	}
	first.Close()
	tail = w.pay(500, fromJohn)
	w.milestone()
	l.nodes[0].backOff = time.Time{}
	if got := w.sweep(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("first node is down: got %v", got)
	}
	second.Close()
	if _, _, err := confirmed(l, t.Context()); err == nil || !strings.Contains(err.Error(), second.URL) {
		t.Errorf("both down: got %v", err)
	}
	if _, _, err := confirmed(l, t.Context()); err == nil || !strings.Contains(err.Error(), first.URL) || !strings.Contains(err.Error(), second.URL) {
		t.Errorf("both down, asked again: got %v, want both named", err)
	}
}

// TestIsland: a node without neighbours still calls itself synced. Once another is
// more than three milestones ahead, the next poll reads that one.
func TestIsland(t *testing.T) {
	w := newWorld(t)
	a := w.net.Peer()
	first := serve(t, a)
	l := w.read(Config{Nodes: []string{first.URL, w.node.URL}, Addresses: []string{w.jane}})
	w.ledger = l
	w.confirmed()
	a.Isolate(true)
	tail := w.pay(500, fromJohn)
	for range farBehind {
		w.milestone()
	}
	l.nodes[1].compareAt = time.Time{}
	if got := w.confirmed(); len(got) != 0 {
		t.Fatalf("three milestones behind: got %v, want the isolated node to be read", got)
	}
	for range 2 {
		w.milestone()
	}
	l.nodes[1].compareAt = time.Time{} // as if a poll's interval had passed
	if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("five milestones behind: got %v, want the payment from the second node", got)
	}
	if h := l.Health(); h[0].Behind != 5 || h[0].Err != nil {
		t.Errorf("Health: got %+v", h)
	}
}

// TestFrozen: a node whose newest milestone is older than five minutes is still read
// if there is no other, and the seller is told. A process that has just started, as
// iotoll doctor, tells it too.
func TestFrozen(t *testing.T) {
	w := newWorld(t)
	l := w.read(Config{Nodes: []string{w.node.URL}, Addresses: []string{w.jane}})
	w.ledger = l
	w.confirmed()
	l.nodes[0].indexAt = time.Now().Add(-frozenAfter - time.Second)
	w.confirmed()
	if h := l.Health(); !h[0].Frozen || !w.logged("node stands still") {
		t.Errorf("Health: got %+v, want it frozen, and a line in the log", h)
	}

	now := time.Now().Add(-frozenAfter - time.Minute)
	net, err := devlegacy.New(devlegacy.Config{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		age    time.Duration
		frozen bool
	}{{0, false}, {frozenAfter - time.Second, false}, {2 * time.Second, true}} {
		now = now.Add(test.age)
		l := w.read(Config{Nodes: []string{serve(t, net).URL}, Addresses: []string{w.jane}})
		if _, err := l.Balances(t.Context()); err != nil {
			t.Fatal(err)
		}
		if h := l.Health()[0]; h.Frozen != test.frozen || h.Err != nil {
			t.Errorf("milestone of %s: got %+v, want frozen %t", test.age, h, test.frozen)
		}
	}
}

func TestOtherNetwork(t *testing.T) {
	w := newWorld(t)
	other, err := devlegacy.New(devlegacy.Config{Genesis: bank(), Coordinator: strings.Repeat("OTHER9NET", 9)})
	if err != nil {
		t.Fatal(err)
	}
	second := serve(t, other)
	l := w.read(Config{Nodes: []string{w.node.URL, second.URL}, Addresses: []string{w.jane}})
	if _, _, err := confirmed(l, t.Context()); err != nil {
		t.Fatal(err)
	}
	if h := l.Health(); h[0].Err != nil || !errors.Is(h[1].Err, ErrNetwork) {
		t.Errorf("Health: got %+v, want the second node on another network", h)
	}
	second.asked()
	for range 3 {
		if _, _, err := confirmed(l, t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.node.Close()
	if _, _, err := confirmed(l, t.Context()); err == nil {
		t.Error("with the first node down, the one on another network was taken")
	}
	if asked := second.asked(); slices.Contains(asked, "getBalances") {
		t.Errorf("the node on another network was asked %q", asked)
	}
}

// TestTime: a batch carries the node's time, not ours.
func TestTime(t *testing.T) {
	const ahead = 48 * time.Hour
	net, err := devlegacy.New(devlegacy.Config{Now: func() time.Time { return time.Now().Add(ahead) }})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	l := w.read(Config{Nodes: []string{serve(t, net).URL}, Addresses: []string{w.jane}})
	b, err := l.Confirmed(t.Context(), nil)
	if off := time.Until(b.NodeTime) - ahead; err != nil || off.Abs() > 2*time.Second { // a node tells whole seconds
		t.Errorf("got %s, %v, want the time in %s", b.NodeTime, err, ahead)
	}
}

// TestOldIRI: payments are found on IRI 1.8.5, which refuses requests without
// what later versions ignore.
func TestOldIRI(t *testing.T) {
	w := newWorld(t)
	w.net.IRI(true)
	for range 3 {
		w.milestone()
	}
	if _, complete, err := everything(t.Context(), w.ledger); err != nil || !complete {
		t.Fatalf("first look: got complete %t, %v", complete, err)
	}
	tail := w.pay(500, fromJohn)
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("got %v, want the payment %s", got, tail)
	}
	if h := w.ledger.Health()[0]; h.Err != nil || h.App != "IRI 1.8.5-RELEASE" {
		t.Errorf("Health: got %+v", h)
	}
}

// TestRefused: a spare node that refuses a part of what settling needs is not good,
// also while there is nothing to settle.
func TestRefused(t *testing.T) {
	for _, refused := range []string{"getBalances", "findTransactions", "getInclusionStates", "getTrytes"} {
		w := newWorld(t)
		spare := serve(t, w.net.Peer())
		spare.setFault(func(command string, _ []byte, a http.ResponseWriter) bool {
			if command == refused {
				a.WriteHeader(http.StatusUnauthorized)
				fmt.Fprintf(a, `{"error":"COMMAND %s is not available on this node"}`, refused)
			}
			return command == refused
		})
		w.ledger = w.read(Config{Nodes: []string{w.node.URL, spare.URL}, Addresses: []string{w.jane}})
		for range 3 {
			if _, err := w.ledger.Balances(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.ledger.nodes[1].backOff, w.ledger.nodes[1].compareAt = time.Time{}, time.Time{}
			w.confirmed()
			if h := w.ledger.Health(); h[0].Err != nil || h[1].Err == nil || !strings.Contains(h[1].Err.Error(), refused) {
				t.Errorf("%s: Health: got %+v, want the error of the second node", refused, h)
			}
		}
	}
}

// TestBackOff: a failing node is tried seldom while another works, and soon if none
// does.
func TestBackOff(t *testing.T) {
	w := newWorld(t)
	failing := serve(t, http.NotFoundHandler())
	l := w.read(Config{Nodes: []string{failing.URL, w.node.URL}, Addresses: []string{w.jane}})
	w.ledger = l
	for range 20 {
		w.sweep()
		l.mu.Lock()
		n := l.nodes[0]
		if !n.backOff.IsZero() && n.fails < 11 {
			n.backOff = time.Now() // as if the time had passed
		}
		l.mu.Unlock()
	}
	if n := l.nodes[0]; time.Until(n.backOff) < 4*time.Minute || n.err == nil {
		t.Errorf("got %+v, want it left alone for minutes", n)
	}
	w.node.Close()
	for range 2 {
		if _, _, err := confirmed(l, t.Context()); err == nil {
			t.Error("with both gone: got no error")
		}
	}
	if n := l.nodes[0]; time.Until(n.backOff) > neededMost {
		t.Errorf("with both gone: got %+v, want it tried again soon", n)
	}
}

// TestHangingSpare: a node that begins to hang while another is read is compared
// less often, and stays good until the next sweep.
func TestHangingSpare(t *testing.T) {
	w := newWorld(t)
	spare := serve(t, w.net.Peer())
	l := w.read(Config{Nodes: []string{w.node.URL, spare.URL}, Addresses: []string{w.jane}, Timeout: 2 * time.Second})
	w.ledger = l
	w.confirmed()
	release := make(chan struct{})
	defer close(release)
	spare.setFault(func(string, []byte, http.ResponseWriter) bool { <-release; return true })
	l.nodes[1].compareAt = time.Time{}
	tail := w.pay(500, fromJohn)
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("got %v, want the payment %s", got, tail)
	}
	if n := l.nodes[1]; n.err != nil || time.Until(n.compareAt) < 4*time.Second {
		t.Errorf("got %+v, want it good, and no comparison for ten times its silence", n)
	}
	w.sweep()
	if n := l.nodes[1]; n.err == nil || time.Until(n.backOff) < 9*time.Second {
		t.Errorf("after a sweep: got %+v, want it bad and left alone for 10 s", n)
	}
}

// TestSlowNode: a node that is slow as a whole, though each request is in time, leaves
// enough time to the next one.
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
