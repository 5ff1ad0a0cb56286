package rebased_test

import (
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
	devnet "github.com/iotoll/iotoll/tangle/devnet/rebased"
	"github.com/iotoll/iotoll/tangle/rebased"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// network is a world for tangletest.TestLedger.
type network struct{ *world }

func (n network) Open(t *testing.T) tangle.Ledger {
	log := logrus.New()
	log.SetOutput(n.log)
	l, err := rebased.New(rebased.Config{Nodes: n.urls, Addresses: []string{n.Address()}, Log: log, Now: n.now})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (n network) Address() string { return n.to[0].String() }

func (n network) Pay(t *testing.T, amount int64, message string) {
	p := devnet.Payment{Transfers: []devnet.Transfer{{To: n.to[0], Amount: uint64(amount)}}}
	if message != "" {
		p.Memo = []string{message}
	}
	n.pay(p)
}

func (n network) Finish(*testing.T) { n.step(time.Second) }

func (n network) Down(t *testing.T, on bool) {
	fault := devnet.Fault("")
	if on {
		fault = devnet.HTML
	}
	if err := n.node.Break("", fault); err != nil {
		t.Fatal(err)
	}
	if !on {
		n.step(time.Minute) // nodes are left alone for a while
	}
}

func TestLedger(t *testing.T) {
	tangletest.TestLedger(t, func(t *testing.T) tangletest.Network { return network{newWorld(t, 1, 1)} })
}
