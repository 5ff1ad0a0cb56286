package legacy_test

import (
	"fmt"
	"log"
	"time"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/bundle"

	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
)

// The same signed transfer, attached twice, pays twice: it takes 400 of 1,000
// iotas and leaves the rest where it is.
func ExampleNode_Replay() {
	genesis, err := devlegacy.SeedGenesis(devlegacy.DemoSeed, 1000)
	if err != nil {
		log.Fatal(err)
	}
	node, err := devlegacy.New(devlegacy.Config{Genesis: genesis, Milestone: time.Second})
	if err != nil {
		log.Fatal(err)
	}
	deposit, err := address.GenerateAddress(devlegacy.DemoSeed, 1000, 2, true)
	if err != nil {
		log.Fatal(err)
	}
	signed, err := devlegacy.Spend{Seed: devlegacy.DemoSeed, To: bundle.Transfers{{Address: deposit, Value: 400}}}.Sign()
	if err != nil {
		log.Fatal(err)
	}
	tail, err := node.Send(signed)
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		if _, err := node.Replay(tail); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := node.Milestone(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(node.Balance(deposit))
	// Output: 800
}
