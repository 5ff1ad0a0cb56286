package rebased_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
	devnet "github.com/iotoll/iotoll/tangle/devnet/rebased"
	"github.com/iotoll/iotoll/tangle/rebased"
	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

const iota = 1_000_000_000 // nanos

// world is a simulated network and a ledger that reads it.
type world struct {
	t       *testing.T
	node    *devnet.Node
	nodes   []*devnet.Node
	urls    []string
	to      []txn.Address
	agree   int
	timeout time.Duration
	log     *logs

	ledger *rebased.Ledger
	marks  map[string]tangle.Mark
	found  []tangle.Payment
	first  map[string]bool // IDs found

	mu        sync.Mutex
	clock     time.Time
	spoil     atomic.Value // func(request, answer string) string, makes other answers
	onRequest atomic.Value // func(int64), told of the number of each request
	asked     atomic.Int64 // requests
	sent      atomic.Int64 // bytes of the longest request
	got       atomic.Int64 // bytes of all answers
}

// logs is what the ledger logged.
type logs struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *logs) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.all.String(), text)
}

func newWorld(t *testing.T, addresses, nodes int) *world {
	t.Helper()
	w := &world{t: t, clock: time.Date(2026, 11, 26, 17, 0, 0, 0, time.UTC), marks: make(map[string]tangle.Mark), first: make(map[string]bool), log: new(logs), timeout: 10 * time.Second}
	n, err := devnet.New(devnet.Config{Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	w.node = n
	for i := range nodes {
		if i > 0 {
			n = w.node.Peer()
		}
		w.nodes = append(w.nodes, n)
		s := httptest.NewServer(w.count(n))
		t.Cleanup(s.Close)
		w.urls = append(w.urls, s.URL)
	}
	for range addresses {
		w.to = append(w.to, txn.NewKey().Address())
	}
	w.restart()
	return w
}

func (w *world) count(n http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n1 := w.asked.Add(1)
		if f, ok := w.onRequest.Load().(func(int64)); ok {
			f(n1)
		}
		w.sent.Store(max(w.sent.Load(), int64(len(body))))
		r.Body = io.NopCloser(bytes.NewReader(body))
		if spoil, ok := w.spoil.Load().(func(request, answer string) string); ok && spoil != nil {
			rec := httptest.NewRecorder()
			n.ServeHTTP(rec, r)
			io.WriteString(rw, spoil(string(body), rec.Body.String()))
			return
		}
		n.ServeHTTP(&counted{rw, &w.got}, r)
	})
}

type counted struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

// step lets time pass and issues a checkpoint.
func (w *world) step(d time.Duration) {
	w.mu.Lock()
	w.clock = w.clock.Add(d)
	w.mu.Unlock()
	w.node.Step()
}

// restart begins a new process, which knows nothing but the marks.
func (w *world) restart() {
	w.t.Helper()
	log := logrus.New()
	log.SetOutput(w.log)
	var addresses []string
	for _, a := range w.to {
		addresses = append(addresses, a.String())
	}
	l, err := rebased.New(rebased.Config{Nodes: w.urls, Addresses: addresses, Agree: max(1, w.agree), Timeout: w.timeout, Log: log, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	w.ledger = l
}

// poll calls Confirmed once and checks what holds for every batch.
func (w *world) poll() (tangle.Batch, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	b, err := w.ledger.Confirmed(ctx, maps.Clone(w.marks))
	for address, m := range b.Marks {
		if old, ok := w.marks[address]; ok && old.Chain == m.Chain && m.Position < old.Position {
			w.t.Errorf("mark of %s goes back from %d to %d", address, old.Position, m.Position)
		}
		if m.Position > w.node.Tip() {
			w.t.Errorf("mark of %s is %d, beyond the tip %d", address, m.Position, w.node.Tip())
		}
		w.marks[address] = m
	}
	last := int64(0)
	for _, p := range b.Payments {
		if p.Amount <= 0 || p.Ledger != "iota" || p.ID != strings.SplitN(p.ID, "/", 2)[0]+"/"+p.Address || p.Final.IsZero() || p.Sender == "" {
			w.t.Errorf("payment is %+v", p)
		}
		if p.Position < last {
			w.t.Errorf("payments are not in order: %d after %d", p.Position, last)
		}
		last = p.Position
		w.first[p.ID] = true
		w.found = append(w.found, p)
	}
	return b, err
}

// want polls and wants just these digests, paid to the first address.
func (w *world) want(digests ...string) tangle.Batch {
	w.t.Helper()
	b, err := w.poll()
	if err != nil {
		w.t.Errorf("poll: %v", err)
	}
	var got []string
	for _, p := range b.Payments {
		if p.Address == w.to[0].String() {
			got = append(got, p.Reference[:0]+strings.SplitN(p.ID, "/", 2)[0])
		}
	}
	slices.Sort(got)
	slices.Sort(digests)
	if !slices.Equal(got, digests) {
		w.t.Errorf("got payments %v, want %v", got, digests)
	}
	return b
}

func (w *world) pay(p devnet.Payment) string {
	w.t.Helper()
	digest, err := w.node.Pay(p)
	if err != nil {
		w.t.Fatal(err)
	}
	return digest
}

func (w *world) john(nanos uint64) string {
	w.t.Helper()
	return w.pay(devnet.Payment{Transfers: []devnet.Transfer{{To: w.to[0], Amount: nanos}}, Memo: []string{`{"username":"john"}`}})
}

func TestPayment(t *testing.T) {
	w := newWorld(t, 1, 1)
	before := w.john(iota)
	w.step(time.Second)
	w.want() // the first look cuts
	john := txn.NewKey()
	d := w.pay(devnet.Payment{From: &john, Transfers: []devnet.Transfer{{To: w.to[0], Amount: 1_250_000_000}}, Memo: []string{`{"username":"john"}`}})
	w.want() // no checkpoint has it yet
	w.step(time.Second)
	w.want(d)
	p := w.found[0]
	if p.Amount != 1_250_000_000 || string(p.Message) != `{"username":"john"}` || p.Sender != john.Address().String() || p.Position != 2 || !p.Final.Equal(w.now()) {
		t.Errorf("payment is %+v", p)
	}
	for range 3 {
		w.step(time.Second)
		w.want()
	}
	if b, err := w.ledger.Balances(t.Context()); err != nil || len(b) != 1 || b[0].Amount != 2_250_000_000 || b[0].Position != w.node.Tip() {
		t.Errorf("balances: got %+v, %v", b, err)
	}
	if tip := w.ledger.Tip(); tip.Chain != w.node.ChainID() || tip.Position != w.node.Tip() || !tip.Time.Equal(w.now()) || !tip.Read.Equal(w.now()) {
		t.Errorf("tip: got %+v", tip)
	}
	h := w.ledger.Health()
	if len(h) != 1 || h[0].Err != nil || h[0].Position != w.node.Tip() || h[0].App != "iota-graphql-rpc 1.35.2" {
		t.Errorf("health: got %+v", h)
	}
	// A restart right after the first look does not bring back what was before.
	w.restart()
	w.want(d)
	if w.first[before] {
		t.Error("what was on the address before the first look came as a payment")
	}
}

// TestNoPayments: what affects a deposit address without paying it.
func TestNoPayments(t *testing.T) {
	w := newWorld(t, 2, 1)
	own := txn.NewKey()
	w.to[0] = own.Address()
	w.restart()
	w.want()
	other := txn.NewKey().Address()
	sponsor := txn.NewKey()
	fake := txn.CoinType{Address: other, Module: "iota", Name: "IOTA"}
	w.node.Fund(own.Address(), 10*iota)
	w.pay(devnet.Payment{Transfers: []devnet.Transfer{{To: w.to[0], Amount: 5 * iota, Coin: fake}}})
	w.pay(devnet.Payment{Transfers: []devnet.Transfer{{To: w.to[0], NFT: true}}})
	w.pay(devnet.Payment{Transfers: []devnet.Transfer{{To: w.to[0], Amount: 5 * iota}}, Fail: true})
	w.pay(devnet.Payment{From: &own, Transfers: []devnet.Transfer{{To: w.to[0], Amount: iota}}}) // self transfer
	w.pay(devnet.Payment{From: &own, Transfers: []devnet.Transfer{{To: w.to[1], Amount: iota}}}) // between our addresses
	w.pay(devnet.Payment{From: &own, Transfers: []devnet.Transfer{{To: other}}, Sweep: true})
	w.step(time.Second)
	if b, err := w.poll(); err != nil || len(b.Payments) != 0 || len(b.Partial) != 0 {
		t.Errorf("got %+v, %v, want nothing", b, err)
	}
	// And what does, at the edges.
	sponsored := w.pay(devnet.Payment{Sponsor: &sponsor, Transfers: []devnet.Transfer{{To: w.to[0], Amount: 7}}})
	nano := w.john(1)
	huge := w.john(math.MaxInt64 - 3*iota)
	w.step(time.Second)
	w.want(sponsored, nano, huge)
	amounts := map[int64]bool{}
	for _, p := range w.found {
		amounts[p.Amount] = true
	}
	if !amounts[7] || !amounts[1] || !amounts[math.MaxInt64-3*iota] {
		t.Errorf("got amounts %v", amounts)
	}
}

// TestManyRecipients: a batch payout has more balance changes than a page.
func TestManyRecipients(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.want()
	var all []devnet.Transfer
	for range 130 {
		all = append(all, devnet.Transfer{To: txn.NewKey().Address(), Amount: iota})
	}
	var digests []string
	for i := range 5 {
		transfers := slices.Clone(all)
		transfers = slices.Insert(transfers, i*30, devnet.Transfer{To: w.to[0], Amount: uint64(i + 1)})
		digests = append(digests, w.pay(devnet.Payment{Transfers: transfers}))
	}
	w.step(time.Second)
	w.want(digests...)
}

// TestIdentity: a payment is the same however many addresses are configured.
func TestIdentity(t *testing.T) {
	w := newWorld(t, 2, 1)
	a, b := w.to[0], w.to[1]
	w.to = []txn.Address{a}
	w.restart()
	w.want()
	d := w.pay(devnet.Payment{Transfers: []devnet.Transfer{{To: a, Amount: iota}, {To: b, Amount: 2 * iota}}})
	w.step(time.Second)
	w.want(d)
	w.to = []txn.Address{a, b}
	w.marks[b.String()] = tangle.Mark{} // from_start
	w.restart()
	w.poll()
	w.to = []txn.Address{b}
	w.restart()
	w.poll()
	if want := map[string]bool{d + "/" + a.String(): true, d + "/" + b.String(): true}; !maps.Equal(w.first, want) {
		t.Errorf("got %v, want %v", w.first, want)
	}
}

// TestHeldBack: what no checkpoint includes is no payment, for however long.
func TestHeldBack(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.want()
	w.node.HoldBack(-1)
	d := w.john(iota)
	for range 400 {
		w.step(time.Second)
	}
	w.want()
	w.node.HoldBack(0)
	w.step(time.Second)
	w.want(d)
}

func TestDuplicates(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.node.Repeat(true)
	w.want()
	var digests []string
	for range 120 {
		digests = append(digests, w.john(iota))
	}
	w.step(time.Second)
	w.want(digests...)
	w.want()
}

// TestMissed: after a downtime everything is read, in order.
func TestMissed(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.want()
	for range 50 {
		if err := w.node.Flood(w.to[0], 100, 2_000_000); err != nil {
			t.Fatal(err)
		}
	}
	w.restart()
	w.asked.Store(0)
	start := time.Now()
	for range 5 {
		if _, err := w.poll(); err != nil {
			t.Fatal(err)
		}
		if len(w.first) == 5000 {
			break
		}
	}
	if len(w.first) != 5000 {
		t.Errorf("got %d payments, want 5000", len(w.first))
	}
	if asked := w.asked.Load(); asked > 110 {
		t.Errorf("%d requests", asked)
	}
	t.Logf("5,000 missed payments: %d requests, %d KiB, %s", w.asked.Load(), w.got.Load()>>10, time.Since(start).Round(time.Millisecond))
	w.want()
}

// TestLongHistory: the first look and an idle poll cost the same on an address
// with 100,000 transactions as on an empty one.
func TestLongHistory(t *testing.T) {
	w := newWorld(t, 8, 1)
	w.poll()
	if asked := w.asked.Load(); asked > 3 {
		t.Errorf("first look: %d requests", asked)
	}
	idle := func() (requests, sent, got int64) {
		w.asked.Store(0)
		w.sent.Store(0)
		w.got.Store(0)
		w.step(time.Second)
		w.want()
		return w.asked.Load(), w.sent.Load(), w.got.Load()
	}
	requests, empty, _ := idle()
	if requests != 1 || empty > 4096 {
		t.Errorf("idle poll of 8 addresses: %d requests of %d bytes, want 1 of at most 4096", requests, empty)
	}
	if err := w.node.Flood(w.to[0], 100_000, 2_000_000); err != nil {
		t.Fatal(err)
	}
	w.marks = make(map[string]tangle.Mark)
	w.restart()
	w.asked.Store(0)
	w.got.Store(0)
	w.want()
	if asked, got := w.asked.Load(), w.got.Load(); asked > 3 || got > 50<<20 {
		t.Errorf("first look at 100,000 transactions: %d requests, %d bytes", asked, got)
	}
	requests, full, got := idle()
	if requests != 1 || full > empty+20 {
		t.Errorf("idle poll: %d requests of %d bytes, want 1 of %d", requests, full, empty)
	}
	t.Logf("idle poll of 8 addresses: %d bytes sent, %d KiB received", full, got>>10)
	d := w.john(iota)
	w.step(time.Second)
	w.want(d)
}

func TestManyAddresses(t *testing.T) {
	w := newWorld(t, 17, 1)
	w.poll()
	for i, to := range w.to {
		w.pay(devnet.Payment{Transfers: []devnet.Transfer{{To: to, Amount: uint64(i + 1)}}})
	}
	w.step(time.Second)
	w.asked.Store(0)
	b, err := w.poll()
	if err != nil || len(b.Payments) != 17 || w.asked.Load() != 3 {
		t.Errorf("got %d payments, %v, with %d requests, want 17 with 3", len(b.Payments), err, w.asked.Load())
	}
	for _, p := range b.Payments {
		if w.to[p.Amount-1].String() != p.Address {
			t.Errorf("%d nanos went to %s", p.Amount, p.Address)
		}
	}
	if balances, err := w.ledger.Balances(t.Context()); err != nil || len(balances) != 17 || balances[16].Amount != 17 || balances[16].Address != w.to[16].String() {
		t.Errorf("balances: got %+v, %v", balances, err)
	}
}

// TestUnreadable: a transaction that cannot be read holds up nothing, and is not
// passed over.
func TestUnreadable(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.want()
	a, b, c := w.john(iota), w.john(2*iota), w.john(3*iota)
	if err := w.node.Unreadable(b, true); err != nil {
		t.Fatal(err)
	}
	w.step(time.Second)
	at := w.node.Tip()
	batch := w.want(a, c)
	if !slices.Equal(batch.Partial, []string{w.to[0].String()}) {
		t.Errorf("partial is %v", batch.Partial)
	}
	for range 600 { // far beyond the overlap
		w.step(time.Second)
		if len(w.want().Partial) != 1 {
			t.Fatal("not partial any more")
		}
		if m := w.marks[w.to[0].String()]; m.Position >= at {
			t.Fatalf("mark %d passed the unread transaction at %d", m.Position, at)
		}
	}
	if u := w.ledger.Unread(); len(u) != 1 || u[0].Digest != b || u[0].Address != w.to[0].String() || u[0].Err == nil {
		t.Errorf("unread is %+v", u)
	}
	if !w.log.has(b) {
		t.Error("no log line names the digest")
	}
	w.restart()
	w.want(a, c) // again, since the mark is before them
	if err := w.node.Unreadable(b, false); err != nil {
		t.Fatal(err)
	}
	w.step(time.Second)
	w.step(time.Second)
	if batch := w.want(b); len(batch.Partial) != 0 || len(w.ledger.Unread()) != 0 {
		t.Errorf("still partial: %v", batch.Partial)
	}
	w.step(time.Second)
	w.want()
	if m := w.marks[w.to[0].String()]; m.Position < at {
		t.Errorf("mark is still %d", m.Position)
	}
}

// TestSpoiled: a transaction that makes every answer fail that would hold its
// details, rather than being null, holds up nothing either.
func TestSpoiled(t *testing.T) {
	for name, spoilt := range map[string]string{
		"errors":   `{"data":null,"errors":[{"message":"oh","extensions":{"code":"INTERNAL_SERVER_ERROR"}}]}`,
		"too long": `{"data":"` + strings.Repeat(" ", 33<<20) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2, 1)
			w.poll()
			a, b, c := w.john(iota), w.john(2*iota), w.john(3*iota)
			for range 7 {
				w.pay(devnet.Payment{Transfers: []devnet.Transfer{{To: w.to[1], Amount: iota}}})
			}
			w.step(time.Second)
			at := w.node.Tip()
			w.spoil.Store(func(request, answer string) string {
				if strings.Contains(answer, b) && strings.Contains(request, "balanceChanges") {
					return spoilt
				}
				return answer
			})
			for range 3 {
				if batch, err := w.poll(); err != nil || !slices.Contains(batch.Partial, w.to[0].String()) {
					t.Errorf("got %v, partial is %v", err, batch.Partial)
				}
				w.step(2 * time.Second)
			}
			if len(w.first) != 9 || !w.first[a+"/"+w.to[0].String()] || !w.first[c+"/"+w.to[0].String()] {
				t.Errorf("got %d payments, want 9: %v", len(w.first), w.first)
			}
			if m := w.marks[w.to[0].String()]; m.Position >= at {
				t.Errorf("mark %d passed the unread transaction at %d", m.Position, at)
			}
			w.spoil.Store(func(_, answer string) string { return answer })
			w.step(time.Minute)
			w.want(b)
			w.step(time.Second)
			if batch := w.want(); len(batch.Partial) > 0 || len(w.found) != 10 {
				t.Errorf("partial is %v, got %d payments", batch.Partial, len(w.found))
			}
		})
	}
}

// TestFaults: whatever is wrong with answers for a while, payments come once it
// is over, and once.
func TestFaults(t *testing.T) {
	for _, fault := range devnet.Faults() {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 1)
			if fault == devnet.Hang || fault == devnet.Endless {
				w.timeout = time.Second // for each of them
			}
			w.restart()
			w.want()
			a := w.john(iota)
			w.step(time.Second)
			if err := w.node.Break("", fault); err != nil {
				t.Fatal(err)
			}
			_, err := w.poll()
			harmless := fault == devnet.DataAndErrors || fault == devnet.WrongType
			if harmless == (err != nil) {
				t.Errorf("got %v", err)
			}
			b := w.john(2 * iota)
			w.step(time.Second)
			w.poll()
			if err := w.node.Break("", ""); err != nil {
				t.Fatal(err)
			}
			for tries := 0; tries < 100 && (len(w.first) < 2 || w.ledger.Health()[0].Err != nil); tries++ {
				w.step(3 * time.Second)
				w.poll()
			}
			w.want()
			if want := map[string]bool{a + "/" + w.to[0].String(): true, b + "/" + w.to[0].String(): true}; !maps.Equal(w.first, want) || len(w.found) != 2 {
				t.Errorf("got %v, want %v", w.found, want)
			}
			if h := w.ledger.Health()[0]; h.Err != nil || !h.Since.IsZero() {
				t.Errorf("health: got %+v", h)
			}
		})
	}
}

// TestFaultsWithPeer: a second node makes up for what is wrong with the first.
func TestFaultsWithPeer(t *testing.T) {
	for _, fault := range devnet.Faults() {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 2)
			if fault == devnet.Hang || fault == devnet.Endless {
				w.timeout = time.Second
			}
			w.restart()
			w.want()
			if err := w.node.Break("", fault); err != nil {
				t.Fatal(err)
			}
			a := w.john(iota)
			w.step(time.Second)
			w.want(a)
			if h := w.ledger.Health(); fault == devnet.HTML && (h[0].Err == nil || h[0].Since.IsZero() || h[1].Err != nil) {
				t.Errorf("health: got %+v", h)
			}
		})
	}
}

// TestRetryAfter: a node that asks to be left alone is.
func TestRetryAfter(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.want()
	if err := w.node.Break("", devnet.LimitedRetry); err != nil { // 2 s
		t.Fatal(err)
	}
	w.poll()
	asked := w.asked.Load()
	for range 3 {
		w.step(500 * time.Millisecond)
		if _, err := w.poll(); err == nil || !strings.Contains(err.Error(), "429") {
			t.Errorf("got %v", err)
		}
	}
	if w.asked.Load() != asked {
		t.Error("the node was asked before its Retry-After was over")
	}
	if err := w.node.Break("", ""); err != nil {
		t.Fatal(err)
	}
	w.step(time.Second)
	w.want()
}

// TestReset: a network that was reset, or another one, stops settling.
func TestReset(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.want()
	chain := w.node.ChainID()
	w.node.Reset()
	d := w.john(iota)
	w.step(time.Second)
	for range 2 {
		b, err := w.poll()
		if !errors.Is(err, rebased.ErrChain) || !strings.Contains(err.Error(), chain) || !strings.Contains(err.Error(), w.node.ChainID()) || len(b.Payments) > 0 {
			t.Errorf("got %v, %v, want an error that names both chains", b, err)
		}
		w.restart()
	}
	// With a store of its own the new network can be used.
	w.marks = make(map[string]tangle.Mark)
	w.restart()
	w.want()
	if w.first[d] {
		t.Error("the first look returned a payment")
	}
}

// TestTipBackwards: a server with readers of different age is not a reset.
func TestTipBackwards(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.want()
	w.node.Behind(5)
	var digests []string
	for range 40 {
		digests = append(digests, w.john(iota))
		w.step(time.Second)
		if b, err := w.poll(); err != nil || len(b.Partial) > 0 {
			t.Errorf("got %v, %v", b.Partial, err)
		}
	}
	for range 6 {
		w.step(time.Second)
		w.poll()
	}
	if len(w.found) != len(digests) || len(w.first) != len(digests) {
		t.Errorf("got %d payments, %d different ones, want %d", len(w.found), len(w.first), len(digests))
	}
	if w.log.has("pruned") {
		t.Error("took a lower tip for pruning")
	}
}

func TestIndexerStopped(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.want()
	w.node.StopIndexer(true)
	d := w.john(iota)
	for range 40 {
		w.step(time.Second)
		w.want()
	}
	if h := w.ledger.Health()[0]; !h.Frozen {
		t.Errorf("health: got %+v, want frozen", h)
	}
	if !w.log.has("node stands still") {
		t.Error("no warning")
	}
	w.node.StopIndexer(false)
	w.step(time.Second)
	w.want(d)
	if h := w.ledger.Health()[0]; h.Frozen {
		t.Errorf("health: got %+v, want not frozen", h)
	}
}

// TestIsland: a node that stands still is not read while another one moves.
func TestIsland(t *testing.T) {
	w := newWorld(t, 1, 2)
	w.want()
	w.node.StopIndexer(true)
	d := w.john(iota)
	start := w.now()
	for !w.first[d+"/"+w.to[0].String()] {
		w.step(250 * time.Millisecond)
		w.poll()
		if w.now().Sub(start) > 15*time.Second {
			t.Fatal("not found within 15 s")
		}
	}
	if h := w.ledger.Health(); h[0].Behind == 0 {
		t.Errorf("health: got %+v", h)
	}
}

// TestPruned: what may be missing is said, what is not is not.
func TestPruned(t *testing.T) {
	for name, test := range map[string]struct {
		fallback bool
		old      bool
		tail     int // payments after what is pruned
		gap      bool
	}{
		"without fallback": {tail: 3, gap: true},
		"nothing left":     {gap: true},
		"with fallback":    {fallback: true, tail: 3},
		"recvAddress":      {old: true, fallback: true, tail: 3, gap: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, 1)
			w.node.Old(test.old)
			w.step(time.Second)
			w.want()
			lost := w.john(iota)
			for range 300 {
				w.step(time.Second)
			}
			var digests []string
			for range test.tail {
				digests = append(digests, w.john(iota))
				w.step(time.Second)
			}
			w.node.Fallback(test.fallback)
			w.node.Prune(w.node.Tip() - 10)
			if !test.gap {
				digests = append(digests, lost)
			}
			w.restart()
			b := w.want(digests...)
			if got := len(b.Partial) == 1; got != test.gap {
				t.Errorf("partial is %v", b.Partial)
			}
			if got := w.log.has("payments may be missing"); got != test.gap {
				t.Errorf("alarm: %t, want %t", got, test.gap)
			}
			// It stays said, and reading goes on.
			d := w.john(iota)
			w.step(time.Second)
			if b := w.want(d); (len(b.Partial) == 1) != test.gap {
				t.Errorf("later partial is %v", b.Partial)
			}
		})
	}
	t.Run("nothing was missed", func(t *testing.T) {
		w := newWorld(t, 1, 1)
		w.want()
		for range 1000 {
			w.step(time.Second)
		}
		w.want()
		d := w.john(iota)
		w.step(time.Second)
		w.node.Prune(w.node.Tip() - 500)
		w.restart()
		if b := w.want(d); len(b.Partial) > 0 || w.log.has("payments may be missing") {
			t.Errorf("partial is %v", b.Partial)
		}
	})
}

// TestOld: servers from before affectedAddress are read by recvAddress.
func TestOld(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.node.Old(true)
	w.want()
	d := w.john(iota)
	w.step(time.Second)
	w.want(d)
	if !w.log.has("lacks the filter affectedAddress") {
		t.Error("no warning")
	}
}

// TestFeatures: reading needs no feature that operators can switch off.
func TestFeatures(t *testing.T) {
	w := newWorld(t, 1, 1)
	for _, feature := range []string{"coins", "system-state", "analytics", "subscriptions", "dynamic-fields"} {
		if err := w.node.Disable(feature, true); err != nil {
			t.Fatal(err)
		}
	}
	w.want()
	d := w.john(iota)
	w.step(time.Second)
	w.want(d)
}

// TestAgree: a payment counts once enough nodes say the same of it.
func TestAgree(t *testing.T) {
	w := newWorld(t, 1, 3)
	w.agree = 2
	w.restart()
	w.want()
	if err := w.nodes[1].Spell(devnet.Short); err != nil {
		t.Fatal(err)
	}
	if err := w.nodes[0].Spell(devnet.Upper); err != nil {
		t.Fatal(err)
	}
	a := w.john(iota)
	w.step(time.Second)
	w.want(a)

	// The other two cannot confirm it.
	for _, n := range w.nodes[1:] {
		if err := n.Break("", devnet.HTML); err != nil {
			t.Fatal(err)
		}
	}
	b := w.john(iota)
	w.step(time.Second)
	at := w.node.Tip()
	if batch := w.want(); len(batch.Partial) != 1 {
		t.Errorf("partial is %v", batch.Partial)
	}
	for range 300 {
		w.step(time.Second)
		w.want()
	}
	if m := w.marks[w.to[0].String()]; m.Position >= at {
		t.Errorf("mark %d passed a payment that is not agreed on", m.Position)
	}
	// One of them is back: within seconds.
	if err := w.nodes[2].Break("", ""); err != nil {
		t.Fatal(err)
	}
	start := w.now()
	for !w.first[b+"/"+w.to[0].String()] {
		w.step(time.Second)
		w.poll()
		if w.now().Sub(start) > 20*time.Second {
			t.Fatal("not agreed on within 20 s")
		}
	}
	if w.step(time.Second); len(w.want().Partial) != 0 {
		t.Error("still partial")
	}
}

// TestLag: lists that are behind delay payments and lose none.
func TestLag(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.want()
	w.node.Lag(30 * time.Second)
	for range 60 {
		w.john(iota)
		w.step(time.Second)
		w.poll()
	}
	w.node.Lag(0)
	w.step(time.Second)
	w.poll()
	if len(w.found) != 60 || len(w.first) != 60 {
		t.Errorf("got %d payments, %d different ones, want 60", len(w.found), len(w.first))
	}
}

// TestFlood: payments of 1 nano do not hold up real ones: what they cost is a
// request for 50 of them, once.
func TestFlood(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.want()
	if err := w.node.Flood(w.to[0], 3000, 1); err != nil {
		t.Fatal(err)
	}
	d := w.john(iota)
	w.step(time.Second)
	if err := w.node.Flood(w.to[0], 3000, 1); err != nil {
		t.Fatal(err)
	}
	w.asked.Store(0)
	start := time.Now()
	w.poll()
	if !w.first[d+"/"+w.to[0].String()] || len(w.found) != 6001 {
		t.Errorf("got %d payments, want 6,001", len(w.found))
	}
	if asked := w.asked.Load(); asked > 6001/50+5 {
		t.Errorf("%d requests", asked)
	}
	t.Logf("6,001 payments after %s and %d requests", time.Since(start).Round(time.Millisecond), w.asked.Load())
	// What was read is not read again, although it is of the last minute.
	w.asked.Store(0)
	w.want()
	if w.asked.Load() != 1 {
		t.Errorf("idle poll after the flood: %d requests", w.asked.Load())
	}
}

// TestInterrupted: history that takes longer than a call is read in several, and
// what is too much to be kept at once in parts, the oldest first.
func TestInterrupted(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.want()
	for range 30 {
		if err := w.node.Flood(w.to[0], 50, 2_000_000); err != nil {
			t.Fatal(err)
		}
	}
	w.ledger.Limit(7, 400)
	for calls := 0; len(w.found) < 1500; calls++ {
		before := len(w.found)
		b, err := w.poll()
		if err != nil {
			t.Fatal(err)
		}
		if n := len(w.found) - before; n == 0 && len(b.Partial) == 0 || n > 400+400/3+50 {
			t.Errorf("call %d: got %d payments, partial is %v", calls, n, b.Partial)
		}
		if calls == 50 {
			t.Fatalf("got %d payments with 50 calls", len(w.found))
		}
	}
	if !slices.IsSortedFunc(w.found, func(a, b tangle.Payment) int { return int(a.Position - b.Position) }) {
		t.Error("not in order")
	}
	if len(w.first) != 1500 || len(w.found) != 1500 {
		t.Errorf("got %d payments, %d different ones", len(w.found), len(w.first))
	}
	if b := w.want(); len(b.Partial) > 0 {
		t.Errorf("partial is %v", b.Partial)
	}
}

// TestCancelled: a call that ends early loses nothing, and the next one goes on.
func TestCancelled(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.want()
	if err := w.node.Flood(w.to[0], 1000, 2_000_000); err != nil {
		t.Fatal(err)
	}
	calls := 0
	for len(w.first) < 1000 && calls < 50 {
		calls++
		ctx, cancel := context.WithCancel(t.Context())
		w.asked.Store(0)
		w.onRequest.Store(func(n int64) {
			if n == 5 {
				cancel()
			}
		})
		b, err := w.ledger.Confirmed(ctx, maps.Clone(w.marks))
		cancel()
		maps.Copy(w.marks, b.Marks)
		for _, p := range b.Payments {
			w.first[p.ID] = true
		}
		if len(w.first) == 0 && (err == nil || len(b.Partial) == 0) {
			t.Errorf("got %v, partial is %v", err, b.Partial)
		}
	}
	if len(w.first) != 1000 || calls < 3 {
		t.Errorf("got %d payments with %d calls", len(w.first), calls)
	}
}

// TestLiar: what one node makes up is not believed where two have to agree.
func TestLiar(t *testing.T) {
	w := newWorld(t, 1, 3)
	w.agree = 2
	w.restart()
	w.want()
	w.node.Forge(true)
	d := w.john(iota)
	w.step(time.Second)
	w.want(d)
	if w.found[0].Amount != iota {
		t.Errorf("amount is %d, want %d", w.found[0].Amount, iota)
	}
}

func TestNewRefuses(t *testing.T) {
	log := logrus.New()
	good := rebased.Config{Nodes: []string{"https://graphql.testnet.iota.cafe"}, Addresses: []string{"0x" + strings.Repeat("ab", 32)}, Log: log}
	if _, err := rebased.New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*rebased.Config){
		"nodes: required":             func(c *rebased.Config) { c.Nodes = nil },
		"want a URL":                  func(c *rebased.Config) { c.Nodes = []string{"graphql.testnet.iota.cafe"} },
		"duplicates nodes[0]":         func(c *rebased.Config) { c.Nodes = append(c.Nodes, c.Nodes[0]+"/") },
		"agree: 2, want 1":            func(c *rebased.Config) { c.Agree = 2 },
		"deposit addresses: required": func(c *rebased.Config) { c.Addresses = nil },
		"64 hexadecimal digits":       func(c *rebased.Config) { c.Addresses = []string{"0x2"} },
		"address 0x" + strings.Repeat("ab", 32) + " is given twice": func(c *rebased.Config) {
			c.Addresses = append(c.Addresses, "0x"+strings.Repeat("AB", 32))
		},
		"timeout": func(c *rebased.Config) { c.Timeout = -1 },
		"Log":     func(c *rebased.Config) { c.Log = nil },
	} {
		c := good
		c.Nodes, c.Addresses = slices.Clone(c.Nodes), slices.Clone(c.Addresses)
		change(&c)
		if _, err := rebased.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
