// Package ledgers constructs ledgers and wallets from a configuration. It is the
// one place in cmd that knows which ledgers there are.
package ledgers

import (
	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/legacy"
)

// Open returns the ledger that some nodes tell of.
func Open(nodes, addresses []string, agree int, log logrus.FieldLogger) (tangle.Inspector, error) {
	return legacy.New(legacy.Config{Nodes: nodes, Addresses: addresses, Agree: agree, Log: log})
}
