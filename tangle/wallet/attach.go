package wallet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/transaction"
	"github.com/iotaledger/iota.go/trinary"

	"github.com/iotoll/iotoll/tangle/legacy/node"
)

// attached is a transfer that is ready to be sent.
type attached struct {
	trytes []trinary.Trytes
	tail   *transaction.Transaction
}

// attach has the node choose tips and do the proof of work, and verifies that
// what comes back is what was signed, with enough work in it.
func (w *Wallet) attach(ctx context.Context, n *node.Client, signed []trinary.Trytes) (attached, error) {
	trunk, branch, err := n.Tips(ctx, cmp.Or(w.Depth, defaultDepth))
	if err != nil {
		return attached{}, err
	}
	mwm := cmp.Or(w.MWM, defaultMWM)
	trytes, err := n.Attach(ctx, trunk, branch, mwm, signed)
	if wanted := wantedMWM(err); wanted != 0 && w.MWM == 0 {
		mwm = wanted
		trytes, err = n.Attach(ctx, trunk, branch, mwm, signed)
	}
	if err != nil {
		return attached{}, err
	}
	a := attached{trytes: trytes}
	for _, s := range trytes {
		tx, err := transaction.AsTransactionObject(s)
		if err != nil {
			return attached{}, fmt.Errorf("the node returned a malformed transaction: %w", err)
		}
		if tx.CurrentIndex >= uint64(len(signed)) || !strings.HasPrefix(s, signed[len(signed)-1-int(tx.CurrentIndex)][:essence]) {
			return attached{}, errors.New("the node returned other transactions than were signed")
		}
		if !transaction.HasValidNonce(tx, uint64(mwm)) {
			return attached{}, fmt.Errorf("the node did too little proof of work for magnitude %d", mwm)
		}
		if tx.CurrentIndex == 0 {
			a.tail = tx
		}
	}
	if a.tail == nil {
		return attached{}, errors.New("the node returned no first transaction")
	}
	return a, nil
}

// essence is how many trytes of a transaction attaching does not change: all
// before the trunk.
const essence = consts.TrunkTransactionTrinaryOffset / consts.TritsPerTryte

// wrongMWM is what Hornet 0.5 answers with status 400: "Wrong
// MinWeightMagnitude. requested: 9, expected: 14".
var wrongMWM = regexp.MustCompile(`Wrong MinWeightMagnitude\. requested: \d+, expected: (\d{1,2})\b`)

// wantedMWM is the minimum weight magnitude that the node asked for in an error,
// or 0.
func wantedMWM(err error) int {
	if err == nil {
		return 0
	}
	m := wrongMWM.FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	wanted, _ := strconv.Atoi(m[1])
	if wanted < 1 || wanted > 14 {
		return 0
	}
	return wanted
}
