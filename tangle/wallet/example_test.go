package wallet_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/iotaledger/iota.go/address"

	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
	"github.com/iotoll/iotoll/tangle/wallet"
)

// A buyer pays on a simulated tangle, and waits until that is confirmed.
func Example() {
	genesis, err := devlegacy.SeedGenesis(devlegacy.DemoSeed, 1000000)
	if err != nil {
		log.Fatal(err)
	}
	node, err := devlegacy.New(devlegacy.Config{Genesis: genesis, Milestone: 50 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stopped := make(chan error)
	go func() { stopped <- node.Run(ctx) }()
	server := httptest.NewServer(node)
	defer server.Close()

	deposit, err := address.GenerateAddress(strings.Repeat("SELLER999", 9), 0, 2, true)
	if err != nil {
		log.Fatal(err)
	}
	w := wallet.Wallet{Node: server.URL, Seed: devlegacy.DemoSeed, MWM: 1}
	receipt, err := w.Pay(ctx, deposit, 500, `{"username": "john"}`)
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Wait(ctx, receipt); err != nil {
		log.Fatal(err)
	}
	fmt.Println("the seller has", node.Balance(deposit))
	cancel()
	if err := <-stopped; err != nil {
		log.Fatal(err)
	}
	// Output: the seller has 500
}
