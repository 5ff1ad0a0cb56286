package legacy

import (
	"fmt"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/trinary"
)

// DemoSeed is the seed of the buyer in demonstrations. It is public, and owns iotas
// only on a simulated tangle with such a genesis.
const DemoSeed = "JOHN9BUYS9SENSOR9READINGS9ON9THE9SIMULATED9TANGLE9ONLY9NEVER9USE9THIS9SEED9BEYOND"

// SeedGenesis returns a genesis in which address 0 of a seed owns the iotas, at the
// usual security level of 2.
func SeedGenesis(seed trinary.Trytes, iotas uint64) (map[trinary.Hash]uint64, error) {
	a, err := address.GenerateAddress(seed, 0, consts.SecurityLevelMedium, true)
	if err != nil {
		return nil, fmt.Errorf("address 0 of the genesis seed: %w", err)
	}
	return map[trinary.Hash]uint64{a: iotas}, nil
}
