package legacy

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/api"
	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/encoding/ascii"
	"github.com/iotaledger/iota.go/transaction"
	"github.com/iotaledger/iota.go/trinary"
)

var sellerSeed = strings.Repeat("SELLER999", 9)

// start serves a devnet on which the demo seed owns 1 Mi, and returns iota.go's
// own client for it.
func start(t *testing.T, cfg Config) (*Node, *api.API) {
	t.Helper()
	if cfg.Genesis == nil {
		genesis, err := SeedGenesis(DemoSeed, 1000000)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Genesis = genesis
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n, client(t, n)
}

func client(t *testing.T, h http.Handler) *api.API {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	a, err := api.ComposeAPI(api.HTTPClientSettings{URI: server.URL, Client: &http.Client{Timeout: 10 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func addressOf(t testing.TB, seed trinary.Trytes, index uint64) trinary.Hash {
	t.Helper()
	a, err := address.GenerateAddress(seed, index, consts.SecurityLevelMedium, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func trytesOf(t *testing.T, text string) trinary.Trytes {
	t.Helper()
	s, err := ascii.EncodeToTrytes(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Iota.go's client pays from the demo seed, sees the payment confirmed by a
// milestone and not before, and pays again from the remainder.
func TestPay(t *testing.T) {
	n, a := start(t, Config{MWM: 3})
	deposit := addressOf(t, sellerSeed, 0)
	var paid uint64
	for _, amount := range []uint64{500, 1250} {
		b, err := a.SendTransfer(DemoSeed, 3, 3, bundle.Transfers{{
			Address: deposit, Value: amount, Message: trytesOf(t, `{"username": "john"}`), Tag: "ORDER",
		}}, nil)
		if err != nil {
			t.Fatalf("pay %d: %v", amount, err)
		}
		tail := b[0].Hash
		found, err := a.FindTransactions(api.FindTransactionsQuery{Bundles: trinary.Hashes{b[0].Bundle}})
		if err != nil || len(found) != len(b) {
			t.Fatalf("transactions of the bundle right after the broadcast: got %d, %v; want %d", len(found), err, len(b))
		}
		want(t, a, tail, false)
		if _, err := n.Milestone(); err != nil {
			t.Fatal(err)
		}
		want(t, a, tail, true)
		got, err := a.GetBundle(tail)
		if err != nil {
			t.Fatalf("get bundle: %v", err)
		}
		if text, err := transaction.ExtractJSON(got); err != nil || text != `{"username": "john"}` {
			t.Errorf("message: got %q, %v", text, err)
		}
		paid += amount
		balances, err := a.GetBalances(trinary.Hashes{deposit})
		if err != nil || balances.Balances[0] != paid {
			t.Errorf("balance of the deposit address: got %v, %v; want %d", balances, err, paid)
		}
	}
	spent, err := a.WereAddressesSpentFrom(addressOf(t, DemoSeed, 0), addressOf(t, DemoSeed, 1), deposit)
	if err != nil || len(spent) != 3 || !spent[0] || !spent[1] || spent[2] {
		t.Errorf("spent addresses: got %v, %v; want true, true, false", spent, err)
	}
	data, err := a.GetAccountData(DemoSeed, api.GetAccountDataOptions{})
	if err != nil || data.Balance != 1000000-1750 {
		t.Errorf("balance of the buyer: got %v, %v; want %d", data, err, 1000000-1750)
	}
}

func want(t *testing.T, a *api.API, tail trinary.Hash, included bool) {
	t.Helper()
	states, err := a.GetInclusionStates(trinary.Hashes{tail})
	if err != nil || len(states) != 1 || states[0] != included {
		t.Fatalf("inclusion of %s: got %v, %v; want %v", tail, states, err, included)
	}
}

// Run confirms within its interval, and ends with its context.
func TestRun(t *testing.T) {
	n, a := start(t, Config{Milestone: 20 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()
	b, err := a.SendTransfer(DemoSeed, 3, 1, bundle.Transfers{{Address: addressOf(t, sellerSeed, 0), Value: 500}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); !n.Included(b[0].Hash); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not confirmed within 5 s")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	good := addressOf(t, sellerSeed, 0)
	for name, cfg := range map[string]Config{
		"mwm":         {MWM: 15},
		"negative":    {MWM: -1},
		"interval":    {Milestone: -time.Second},
		"address":     {Genesis: map[trinary.Hash]uint64{"ABC": 1}},
		"checksum":    {Genesis: map[trinary.Hash]uint64{good[:89] + "9": 1}},
		"supply":      {Genesis: map[trinary.Hash]uint64{good: consts.TotalSupply + 1}},
		"coordinator": {Coordinator: "abc"},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("New with a bad %s: got no error", name)
		}
	}
}
