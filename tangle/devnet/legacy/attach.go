package legacy

import (
	"fmt"
	"time"

	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/curl"
	"github.com/iotaledger/iota.go/pow"
	"github.com/iotaledger/iota.go/trinary"
)

// attach gives transactions their place in the tangle and does their proof of
// work. They come as iota.go sends them, the bundle's last first, and are
// returned in the reverse order.
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

// remember keeps attached transactions, which are likely to be submitted next,
// and returns their trytes.
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
