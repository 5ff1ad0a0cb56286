package legacy

import (
	"testing"

	"github.com/iotoll/iotoll/tangle"
	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// network is a world for tangletest.TestLedger.
type network struct{ *world }

func (n network) Open(*testing.T) tangle.Ledger {
	return n.read(Config{Nodes: []string{n.node.URL}, Addresses: []string{n.jane}})
}

func (n network) Address() string { return n.jane }

func (n network) Pay(_ *testing.T, amount int64, message string) { n.pay(uint64(amount), message) }

func (n network) Finish(*testing.T) { n.milestone() }

func (n network) Down(t *testing.T, on bool) {
	fault := devlegacy.Fault("")
	if on {
		fault = devlegacy.HTML
	}
	if err := n.net.Break("", fault); err != nil {
		t.Fatal(err)
	}
}

func TestLedger(t *testing.T) {
	tangletest.TestLedger(t, func(t *testing.T) tangletest.Network { return network{newWorld(t)} })
}
