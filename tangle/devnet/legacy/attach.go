package legacy

import (
	"fmt"
	"time"

	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/curl"
	"github.com/iotaledger/iota.go/pow"
	"github.com/iotaledger/iota.go/trinary"
)

// attach gives transactions their trunk and branch and does their proof of work.
// They come in iota.go's order, the bundle's last first, and are returned with the
// tail first.
func (t *tangle) attach(trunk, branch trinary.Hash, trytes []trinary.Trytes, at time.Time) ([]*tx, error) {
	attached := make([]*tx, len(trytes))
	stamps := trinary.IntToTrytes(at.UnixMilli(), timeSize) +
		trinary.IntToTrytes(consts.LowerBoundAttachmentTimestamp, timeSize) +
		trinary.IntToTrytes(consts.UpperBoundAttachmentTimestamp, timeSize)
	for i, s := range trytes {
		if _, err := read(s); err != nil {
			return nil, err
		}
		s = s[:trunkAt] + trunk + branch + s[tagAt:attachedAt] + stamps
		nonce, err := pow.GoProofOfWork(s+consts.NullNonceTrytes, t.mwm)
		if err != nil {
			return nil, fmt.Errorf("proof of work: %w", err)
		}
		s += nonce
		hash, err := curl.HashTrytes(s)
		if err != nil {
			return nil, fmt.Errorf("hash transaction: %w", err)
		}
		if i == 0 {
			branch = trunk
		}
		trunk = hash
		x, err := read(s)
		if err != nil {
			return nil, err
		}
		x.hash = hash
		attached[len(trytes)-1-i] = x
	}
	return attached, nil
}

// remember keeps attached transactions, which will probably be submitted next, and
// returns their trytes.
func (t *tangle) remember(attached []*tx) []trinary.Trytes {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.attached)+len(attached) > remembered {
		clear(t.attached)
	}
	trytes := make([]trinary.Trytes, len(attached))
	for i, x := range attached {
		trytes[i] = x.trytes
		t.attached[x.trytes] = x
	}
	return trytes
}
