package legacy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/trinary"
)

// Whatever happens, no iota is made or lost, no balance is negative, and the
// included transfers are exactly what moved the balances.
func TestRandomHistories(t *testing.T) {
	// Back and forth between three addresses, of which the first owns all.
	holders, err := address.GenerateAddresses(DemoSeed, 0, 3, consts.SecurityLevelLow, true)
	if err != nil {
		t.Fatal(err)
	}
	var signed [][]trinary.Trytes
	for i, value := range []uint64{1000000, 600000, 300000, 1000, 600000, 1000, 1000000} {
		signed = append(signed, sign(t, Spend{Seed: DemoSeed, Index: uint64(i % 3), Security: consts.SecurityLevelLow, To: bundle.Transfers{{Address: holders[(i+1)%3], Value: value}}}))
	}
	for seed := range uint64(3) {
		random := rand.New(rand.NewPCG(seed, 0))
		n, err := New(Config{Genesis: map[trinary.Hash]uint64{holders[0]: 1000000}})
		if err != nil {
			t.Fatal(err)
		}
		var tails []trinary.Hash
		for step := range 50 {
			switch random.IntN(8) {
			case 0, 1:
				tails = append(tails, send(t, n, signed[random.IntN(len(signed))]))
			case 2, 3:
				if len(tails) > 0 {
					if again, err := n.Replay(tails[random.IntN(len(tails))]); err == nil { // it may be lost
						tails = append(tails, again)
					}
				}
			case 4, 5, 6:
				milestones(t, n, 1)
			case 7:
				if err := n.Crash(random.IntN(min(3, n.Index()))); err != nil {
					t.Fatal(err)
				}
			}
			model := map[trinary.Hash]int64{holders[0][:81]: 1000000}
			n.tangle.mu.Lock()
			for _, x := range n.tangle.byHash {
				if x.included > 0 {
					model[x.address] += x.value
				}
			}
			var sum int64
			for a, b := range n.tangle.balances {
				sum += b
				if b < 0 || b != model[a] {
					t.Fatalf("history %d, step %d: %s holds %d, the included transfers say %d", seed, step, a, b, model[a])
				}
			}
			n.tangle.mu.Unlock()
			if sum != 1000000 {
				t.Fatalf("history %d, step %d: there are %d iotas", seed, step, sum)
			}
		}
	}
}

// Clients pay, ask and break things at the same time as milestones pass.
func TestConcurrent(t *testing.T) {
	const clients = 6
	genesis := make(map[trinary.Hash]uint64)
	for i := range uint64(clients) {
		genesis[addressOf(t, DemoSeed, i)] = 1000
	}
	n, a := start(t, Config{Milestone: 2 * time.Millisecond, Genesis: genesis})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()
	to := addressOf(t, sellerSeed, 0)
	var wg sync.WaitGroup
	for i := range uint64(clients) {
		wg.Go(func() {
			signed, err := Spend{Seed: DemoSeed, Index: i, To: bundle.Transfers{{Address: to, Value: 1000}}}.Sign()
			if err != nil {
				t.Error(err)
				return
			}
			b, err := a.SendTrytes(signed, 3, 1)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := n.Replay(b[0].Hash); err != nil {
				t.Error(err)
			}
			if _, err := a.GetBundle(b[0].Hash); err != nil {
				t.Error(err)
			}
			if err := n.Flood(to, 20, ZeroValue); err != nil {
				t.Error(err)
			}
			other := n.Peer()
			other.Isolate(true)
			other.Prune(2)
			ask(t, other, map[string]any{"command": "findTransactions", "addresses": []string{to}})
		})
	}
	wg.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	milestones(t, n, 1)
	seller(t, n, 1000*clients)
}

// Junk in requests gets an answer, and never a panic.
func FuzzAPI(f *testing.F) {
	for name := range commands {
		f.Add(fmt.Sprintf(`{"command":%q}`, name))
		f.Add(fmt.Sprintf(`{"command":%q,"addresses":[""],"hashes":["9"],"transactions":[null],"trytes":["%s"],"minWeightMagnitude":1}`, name, unknownTrytes))
	}
	f.Add(`{"command":"broadcastTransactions","trytes":["` + strings.Repeat("N", consts.TransactionTrytesSize) + `"]}`)
	f.Add(`[]`)
	f.Add(`null`)
	n, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		w := httptest.NewRecorder()
		n.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(body)))
		if !slices.Contains([]int{200, 400, 413, 500, 503}, w.Code) {
			t.Errorf("got status %d", w.Code)
		}
	})
}

// How fast payments go through, from the attached bundle to the confirmed one
// that a client has found. Signing and proof of work are not counted.
func BenchmarkPayments(b *testing.B) {
	genesis, err := SeedGenesis(DemoSeed, consts.TotalSupply)
	if err != nil {
		b.Fatal(err)
	}
	n, err := New(Config{Genesis: genesis})
	if err != nil {
		b.Fatal(err)
	}
	to := addressOf(b, sellerSeed, 0)
	var attached [][]trinary.Trytes
	for i := range b.N {
		signed, err := Spend{Seed: DemoSeed, Time: time.Unix(int64(1e9+i), 0), To: bundle.Transfers{{Address: to, Value: 500}}}.Sign()
		if err != nil {
			b.Fatal(err)
		}
		s, err := n.Attach(signed)
		if err != nil {
			b.Fatal(err)
		}
		attached = append(attached, s)
	}
	b.ResetTimer()
	for _, s := range attached {
		if _, err := n.Submit(s); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := n.Milestone(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	if got := n.Balance(to); got != int64(b.N)*500 {
		b.Fatalf("the seller's balance: got %d, want %d", got, b.N*500)
	}
}
