package legacy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/curl/bct"
	"github.com/iotaledger/iota.go/guards"
	"github.com/iotaledger/iota.go/kerl"
	"github.com/iotaledger/iota.go/trinary"
)

// Junk is what an address can be flooded with.
type Junk string

// The kinds of junk. Each transaction is the tail of a bundle of its own.
const (
	// ZeroValue is confirmed like anything else, but moves nothing.
	ZeroValue Junk = "zero"
	// Unconfirmable claims to bring 1 iota, but the rest of its bundle does not
	// exist, so that no milestone can confirm it.
	Unconfirmable Junk = "unconfirmable"
)

// Flood submits a number of transactions to an address of 81 or 90 trytes. It is
// cheap: at a magnitude of 1, thousands take a fraction of a second.
func (n *Node) Flood(to trinary.Hash, count int, junk Junk) error {
	if address.ValidAddress(to) != nil {
		return fmt.Errorf("flood address %q: want 81 trytes, or 90 with a matching checksum", to)
	}
	to = to[:consts.HashTrytesSize]
	value, last := int64(0), int64(0)
	switch junk {
	case ZeroValue:
	case Unconfirmable:
		value, last = 1, 1
	default:
		return fmt.Errorf("flood with %q: want %q or %q", junk, ZeroValue, Unconfirmable)
	}
	return n.flood(to, count, value, last, func(essence trinary.Trytes) (trinary.Hash, error) {
		k := kerl.NewKerl()
		if err := k.AbsorbTrytes(zeroLastTrit(to) + essence); err != nil {
			return "", err
		}
		return k.MustSqueezeTrytes(consts.HashTrinarySize), nil
	})
}

// FloodBundle submits a number of transactions that claim to begin a bundle with
// the given hash. None of them is ever confirmed.
func (n *Node) FloodBundle(hash trinary.Hash, count int) error {
	if !guards.IsTransactionHash(hash) {
		return fmt.Errorf("flood bundle %q: want a hash of 81 trytes", hash)
	}
	return n.flood(consts.NullHashTrytes, count, 0, 1, func(trinary.Trytes) (trinary.Hash, error) { return hash, nil })
}

// flood submits transactions that are each the tail of a bundle up to index last.
// bundle returns the bundle's hash for what it covers of a transaction.
func (n *Node) flood(to trinary.Hash, count int, value, last int64, bundle func(essence trinary.Trytes) (trinary.Hash, error)) error {
	n.tangle.mu.Lock()
	parent := n.tangle.latest().hash
	first := n.tangle.floods
	n.tangle.floods += count
	now := n.tangle.now()
	n.tangle.mu.Unlock()

	// Everything before the value is the same in all of them, and hashed once.
	prefix := strings.Repeat("9", addressAt) + to
	start := bct.NewCurlP81()
	if err := start.Absorb(slices.Repeat([]trinary.Trits{trinary.MustTrytesToTrits(prefix)}, bct.MaxBatchSize), len(prefix)*consts.TritsPerTryte); err != nil {
		return fmt.Errorf("flood %s: %w", to, err)
	}
	ending := strings.Repeat("9", tagSize) + trinary.IntToTrytes(now.UnixMilli(), timeSize) +
		trinary.IntToTrytes(consts.LowerBoundAttachmentTimestamp, timeSize) + trinary.IntToTrytes(consts.UpperBoundAttachmentTimestamp, timeSize)
	var txs []*tx
	for done := 0; done < count; done += bct.MaxBatchSize {
		batch := make([]trinary.Trytes, min(bct.MaxBatchSize, count-done))
		for i := range batch {
			essence := trinary.IntToTrytes(value, consts.ValueSizeTrinary/consts.TritsPerTryte) +
				trinary.IntToTrytes(int64(first+done+i), tagSize) + trinary.IntToTrytes(now.Unix(), timeSize) +
				trinary.IntToTrytes(0, timeSize) + trinary.IntToTrytes(last, timeSize)
			hash, err := bundle(essence)
			if err != nil {
				return fmt.Errorf("flood %s: %w", to, err)
			}
			batch[i] = essence + hash + parent + parent
		}
		found, err := n.tangle.work(start, batch, ending)
		if err != nil {
			return fmt.Errorf("flood %s: %w", to, err)
		}
		for i, end := range found {
			x := slice(prefix+batch[i]+end.trytes, value, 0, uint64(last))
			x.hash = end.hash
			txs = append(txs, x)
		}
	}
	if last == 0 { // valid as made; no need to check each
		for _, x := range txs {
			x.verdict = valid
		}
	}
	n.tangle.add(n, txs)
	return nil
}

// worked is the end of a transaction, with its nonce, and the hash that it gives.
type worked struct {
	trytes trinary.Trytes
	hash   trinary.Hash
}

// work finds nonces for up to 64 transactions at once. start has absorbed their
// common beginning, parts follow in each, and ending follows in all. Together with
// the nonce, ending is one block of the hash.
func (t *tangle) work(start *bct.Curl, parts []trinary.Trytes, ending trinary.Trytes) ([]worked, error) {
	state := start.Clone()
	lanes := make([]trinary.Trits, len(parts))
	for i, s := range parts {
		lanes[i] = trinary.MustTrytesToTrits(s)
	}
	if err := state.Absorb(lanes, len(lanes[0])); err != nil {
		return nil, err
	}
	found := make([]worked, len(parts))
	hashes := make([]trinary.Trits, len(parts))
	for nonce, missing := int64(0), len(parts); missing > 0; nonce++ {
		end := ending + trinary.IntToTrytes(nonce, nonceSize)
		trits := trinary.MustTrytesToTrits(end)
		for i := range lanes {
			lanes[i] = trits
		}
		try := state.Clone()
		if err := try.Absorb(lanes, len(trits)); err != nil {
			return nil, err
		}
		if err := try.Squeeze(hashes, consts.HashTrinarySize); err != nil {
			return nil, err
		}
		for i, h := range hashes {
			if found[i].hash == "" && int(trinary.TrailingZeros(h)) >= t.mwm {
				found[i] = worked{end, trinary.MustTritsToTrytes(h)}
				missing--
			}
		}
	}
	return found, nil
}

// zeroLastTrit returns an address as the hash of a bundle covers it.
func zeroLastTrit(a trinary.Hash) trinary.Hash {
	trits := trinary.MustTrytesToTrits(a)
	trits[len(trits)-1] = 0
	return trinary.MustTritsToTrytes(trits)
}
