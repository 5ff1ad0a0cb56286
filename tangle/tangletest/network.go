package tangletest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
)

// Network is a simulated ledger with one deposit address, for TestLedger.
type Network interface {
	// Open returns what reads the ledger, as a new process would.
	Open(t *testing.T) tangle.Ledger
	// Address returns the deposit address.
	Address() string
	// Pay transfers an amount to the deposit address, with a message. It need not
	// be final when Pay returns.
	Pay(t *testing.T, amount int64, message string)
	// Finish makes final what was paid so far.
	Finish(t *testing.T)
	// Down makes the nodes fail, or work again.
	Down(t *testing.T, on bool)
}

// TestLedger tests that a ledger keeps the promises of tangle.Ledger, alone and
// under two watchers of one store that restart at random while people pay and
// nodes and store fail.
func TestLedger(t *testing.T, open func(t *testing.T) Network) {
	t.Run("notation", func(t *testing.T) { testNotation(t, open(t)) })
	t.Run("marks", func(t *testing.T) { testMarks(t, open(t)) })
	for seed := range uint64(3) {
		t.Run(fmt.Sprintf("watchers %d", seed), func(t *testing.T) { testWatchers(t, open(t), seed) })
	}
}

func testNotation(t *testing.T, n Network) {
	l := n.Open(t)
	if got, err := l.ParseAddress(n.Address()); err != nil || got != n.Address() {
		t.Errorf("ParseAddress(%s): got %s, %v, want it unchanged", n.Address(), got, err)
	}
	for _, text := range []string{"", "x", n.Address() + "0", n.Address()[1:], " " + n.Address()} {
		if got, err := l.ParseAddress(text); err == nil {
			t.Errorf("ParseAddress(%q): got %s, want an error", text, got)
		}
	}
	c := l.Currency()
	if c.Unit == "" || c.Max <= 0 || c.Dust < 0 || l.Ledger() == "" {
		t.Errorf("ledger is %q, currency %+v", l.Ledger(), c)
	}
	for _, amount := range []int64{0, 1, 999_999_999, 1_000_000_000, c.Max} {
		if got, err := c.Parse(c.Format(amount)); err != nil || got != amount {
			t.Errorf("Parse(%s): got %d, %v, want %d", c.Format(amount), got, err, amount)
		}
	}
}

// testMarks: a payment is returned by every process whose mark is before it.
func testMarks(t *testing.T, n Network) {
	l := n.Open(t)
	base := l.Currency().Dust + 1000
	confirm := func(l tangle.Ledger, from map[string]tangle.Mark) (amounts map[int64]bool, marks map[string]tangle.Mark) {
		t.Helper()
		b, err := l.Confirmed(t.Context(), from)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Partial) > 0 {
			t.Errorf("partial is %v", b.Partial)
		}
		amounts = make(map[int64]bool)
		for i, p := range b.Payments {
			if p.ID == "" || p.Ledger != l.Ledger() || p.Address != n.Address() || p.Position == 0 || p.Confirmed.IsZero() || p.Seen.IsZero() {
				t.Errorf("payment is %+v", p)
			}
			if i > 0 && p.Position < b.Payments[i-1].Position {
				t.Errorf("position %d comes after %d", p.Position, b.Payments[i-1].Position)
			}
			amounts[p.Amount] = true
		}
		return amounts, b.Marks
	}
	n.Pay(t, base, `{"username":"john"}`)
	n.Finish(t)
	got, first := confirm(l, nil)
	if cuts := first != nil; cuts == got[base] {
		t.Errorf("first look: marks %v, payments %v, want either", first, got)
	}
	n.Pay(t, base+1, `{"username":"john"}`)
	n.Finish(t)
	got, second := confirm(l, first)
	if !got[base+1] || got[base] {
		t.Errorf("got payments of %v, want %d", got, base+1)
	}
	if got, _ := confirm(l, second); len(got) > 0 {
		t.Errorf("again: got payments of %v", got)
	}
	if got, _ := confirm(n.Open(t), first); !got[base+1] || got[base] != (first == nil) {
		t.Errorf("after a restart: got payments of %v, want %d", got, base+1)
	}
	n.Down(t, true)
	if b, err := l.Confirmed(t.Context(), second); err == nil || len(b.Payments) > 0 {
		t.Errorf("with the nodes down: got %v, %v", b, err)
	}
}

// testWatchers makes random payments and checks that each counts once.
func testWatchers(t *testing.T, n Network, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 7))
	filter, err := acl.ParseFilter("sensor/live")
	if err != nil {
		t.Fatal(err)
	}
	base := n.Open(t).Currency().Dust + 1000
	offers, err := tangle.NewOffers(tangle.Offer{ID: "live", Filters: []acl.Filter{filter}, Price: base, Period: time.Hour, Address: n.Address()})
	if err != nil {
		t.Fatal(err)
	}
	store := new(Store)
	store.AddUser("john")
	store.AddUser("mary")
	var mu sync.Mutex
	rough := false // the store fails now and then
	store.Fault = func(p Point) error {
		mu.Lock()
		defer mu.Unlock()
		if rough && random.IntN(20) == 0 {
			return errors.New("store fails")
		}
		return nil
	}
	log := logrus.New()
	log.SetOutput(io.Discard)

	type process struct {
		stop context.CancelFunc
		done chan error
		w    *tangle.Watcher
	}
	begin := func() *process {
		w := &tangle.Watcher{
			Ledger: n.Open(t), Store: store, Offers: offers, Interval: 5 * time.Millisecond, Timeout: 5 * time.Second, Log: log,
		}
		ctx, stop := context.WithCancel(context.Background())
		p := &process{stop: stop, done: make(chan error, 1), w: w}
		go func() { p.done <- w.Run(ctx) }()
		return p
	}
	end := func(p *process) {
		t.Helper()
		p.stop()
		if err := <-p.done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	// wait waits for what holds sooner or later.
	wait := func(what string, holds func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not within 30 s", what)
			}
		}
	}

	n.Pay(t, base+900, `{"username":"john"}`) // before anybody watched
	n.Finish(t)
	both := []*process{begin(), begin()}
	defer func() {
		for _, p := range both {
			end(p)
		}
	}()
	wait("first look", func() bool {
		marks, err := store.Marks(context.Background(), both[0].w.Ledger.Ledger())
		return err == nil && len(marks) == 1 && !both[0].w.Health().LastSuccess.IsZero() && !both[1].w.Health().LastSuccess.IsZero()
	})

	paid := map[string]map[int64]bool{"john": {}, "mary": {}, "": {}}
	for i := range int64(22) {
		mu.Lock()
		rough = true
		choice, who := random.IntN(8), []string{"john", "john", "mary", ""}[random.IntN(4)]
		mu.Unlock()
		message := fmt.Sprintf(`{"username":%q}`, who)
		if who == "" {
			message = "" // held
		}
		n.Pay(t, base+i-10, message)
		paid[who][base+i-10] = true
		switch choice {
		case 0, 1:
			n.Finish(t)
		case 2:
			end(both[0])
			both[0] = begin()
		case 3:
			end(both[1])
			n.Finish(t)
			both[1] = begin()
		case 4:
			n.Down(t, true)
			n.Finish(t)
			time.Sleep(20 * time.Millisecond)
			n.Down(t, false)
		}
	}
	n.Finish(t)
	mu.Lock()
	rough = false
	mu.Unlock()

	wanted := len(paid["john"]) + len(paid["mary"]) + len(paid[""])
	settled := func() bool {
		done := 0
		for _, p := range store.Payments() {
			switch outcome, reason := store.Outcome(p.ID); outcome {
			case tangle.Credited, tangle.Underpaid:
				done++
			case tangle.Unmatched:
				if reason != "" {
					done++
				}
			}
		}
		return done >= wanted
	}
	wait("settling", settled)
	for _, who := range []string{"john", "mary"} {
		got := make(map[int64]bool)
		for _, e := range store.Account(who, "live") {
			if got[e.Amount] {
				t.Errorf("%s: %d counts twice", who, e.Amount)
			}
			got[e.Amount] = true
		}
		if !maps.Equal(got, paid[who]) {
			t.Errorf("%s: got %d payments, want %d: %v, want %v", who, len(got), len(paid[who]), got, paid[who])
		}
	}
	held := make(map[int64]bool)
	ids := make(map[string]bool)
	for _, p := range store.Payments() {
		if ids[p.ID] {
			t.Errorf("payment %s is recorded twice", p.ID)
		}
		ids[p.ID] = true
		if outcome, _ := store.Outcome(p.ID); outcome == tangle.Unmatched {
			held[p.Amount] = true
		}
	}
	if !maps.Equal(held, paid[""]) {
		t.Errorf("held are %v, want %v", held, paid[""])
	}
}
