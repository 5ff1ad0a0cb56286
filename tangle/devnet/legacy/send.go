package legacy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/api"
	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/curl/bct"
	"github.com/iotaledger/iota.go/encoding/ascii"
	"github.com/iotaledger/iota.go/kerl"
	"github.com/iotaledger/iota.go/trinary"
)

// Spend is a transfer to be signed with the key of one address of a seed. It may
// be one that an honest wallet would not make: it can claim what the address
// does not hold, leave a part there, or be dated anyhow.
type Spend struct {
	Seed      trinary.Trytes
	Index     uint64               // of the address, counted from 0
	Security  consts.SecurityLevel // of the address; 2 if zero
	To        bundle.Transfers     // addresses of 90 trytes; messages are trytes
	Take      int64                // iotas to take from the address; the sum of To if zero
	Remainder trinary.Hash         // gets what To leaves of Take; 90 trytes; unused if nothing is left
	Time      time.Time            // the sender's claim; now if zero
}

// Sign makes the transactions of a transfer, not yet attached, in the order in
// which iota.go passes them: the last one first.
func (s Spend) Sign() ([]trinary.Trytes, error) {
	if s.Security == 0 {
		s.Security = consts.SecurityLevelMedium
	}
	from, err := address.GenerateAddress(s.Seed, s.Index, s.Security, true)
	if err != nil {
		return nil, fmt.Errorf("address to spend from: %w", err)
	}
	var paid int64
	for _, to := range s.To {
		paid += int64(to.Value)
	}
	if s.Take == 0 {
		s.Take = paid
	}
	if s.Take > paid && s.Remainder == "" {
		return nil, fmt.Errorf("take %d and pay %d: Remainder says who gets the rest", s.Take, paid)
	}
	if s.Time.IsZero() {
		s.Time = time.Now()
	}
	at := uint64(s.Time.Unix())
	options := api.PrepareTransfersOptions{Security: s.Security, Timestamp: &at}
	if s.Take > 0 {
		options.Inputs = []api.Input{{Address: from, Balance: uint64(s.Take), KeyIndex: s.Index, Security: s.Security}}
	}
	if s.Remainder != "" {
		options.RemainderAddress = &s.Remainder
	}
	// Inputs and remainder being given, this makes no requests.
	offline, err := api.ComposeAPI(api.HTTPClientSettings{})
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	// iota.go pads the messages in place.
	trytes, err := offline.PrepareTransfers(s.Seed, slices.Clone(s.To), options)
	if err != nil {
		return nil, fmt.Errorf("sign transfer: %w", err)
	}
	return trytes, nil
}

// Message returns the trytes of a text in ASCII, for a transfer.
func Message(text string) (trinary.Trytes, error) {
	trytes, err := ascii.EncodeToTrytes(text)
	if err != nil {
		return "", fmt.Errorf("message %q: %w", text, err)
	}
	return trytes, nil
}

// Attach gives the transactions of a transfer their place in the tangle and does
// their proof of work. It returns them with the tail first. It also checks the
// signatures, so that Submit is quick.
func (n *Node) Attach(signed []trinary.Trytes) ([]trinary.Trytes, error) {
	n.tangle.mu.Lock()
	trunk, branch := n.tangle.latest().hash, n.tangle.latest().hash
	n.tangle.attachments++
	// A later moment for each, so that no two attachments of a bundle are equal.
	at := n.tangle.now().Add(time.Duration(n.tangle.attachments) * time.Millisecond)
	n.tangle.mu.Unlock()
	attached, err := n.tangle.attach(trunk, branch, signed, at)
	if err != nil {
		return nil, fmt.Errorf("attach transfer: %w", err)
	}
	n.tangle.judge(attached)
	return n.tangle.remember(attached), nil
}

// Submit stores attached transactions, as broadcasting them does, and returns
// the hash of the first, the tail if they come from Attach.
func (n *Node) Submit(attached []trinary.Trytes) (trinary.Hash, error) {
	if len(attached) == 0 {
		return "", errors.New("submit transactions: there are none")
	}
	if err := n.tangle.store(n, attached); err != nil {
		return "", fmt.Errorf("submit transactions: %w", err)
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	return n.tangle.byTrytes[attached[0]].hash, nil
}

// Send attaches and submits the transactions of a transfer. It returns the hash
// of the tail.
func (n *Node) Send(signed []trinary.Trytes) (trinary.Hash, error) {
	attached, err := n.Attach(signed)
	if err != nil {
		return "", err
	}
	return n.Submit(attached)
}

// Replay attaches and submits the bundle of a tail once more, as anybody can.
// What becomes of it is decided anew: if its inputs still hold enough, it pays
// again.
func (n *Node) Replay(tail trinary.Hash) (trinary.Hash, error) {
	signed, err := n.bundle(tail)
	if err != nil {
		return "", fmt.Errorf("replay %s: %w", tail, err)
	}
	return n.Send(signed)
}

// Impersonate replays the bundle of a tail with another message in ASCII in its
// first transaction. Neither a bundle's hash nor its signatures cover messages,
// so that this is as valid as the original, under the same bundle hash, and
// conflicts with it if the input is spent whole: the first to arrive wins.
func (n *Node) Impersonate(tail trinary.Hash, message string) (trinary.Hash, error) {
	signed, err := n.bundle(tail)
	if err != nil {
		return "", fmt.Errorf("impersonate %s: %w", tail, err)
	}
	text, err := Message(message)
	if err != nil {
		return "", fmt.Errorf("impersonate %s: %w", tail, err)
	}
	if len(text) > addressAt {
		return "", fmt.Errorf("impersonate %s: message of %d characters: want at most %d", tail, len(message), addressAt/2)
	}
	last := len(signed) - 1
	signed[last] = text + strings.Repeat("9", addressAt-len(text)) + signed[last][addressAt:]
	return n.Send(signed)
}

// bundle returns the transactions of a tail's bundle as Spend.Sign does.
func (n *Node) bundle(tail trinary.Hash) ([]trinary.Trytes, error) {
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	x := n.tangle.byHash[tail]
	if x == nil || x.index != 0 {
		return nil, errors.New("it is not the tail of a bundle")
	}
	b := n.tangle.bundleOf(x)
	if b == nil {
		return nil, errors.New("its bundle is incomplete")
	}
	signed := make([]trinary.Trytes, len(b))
	for i, y := range b {
		signed[len(b)-1-i] = y.trytes
	}
	return signed, nil
}

// Junk is what an address can be flooded with.
type Junk string

// The kinds of junk. Each transaction is the tail of a bundle of its own.
const (
	// ZeroValue is confirmed like anything else, but moves nothing.
	ZeroValue Junk = "zero"
	// Unconfirmable claims to bring 1 iota, but the rest of its bundle does not
	// exist, so that no milestone can take it up.
	Unconfirmable Junk = "unconfirmable"
)

// Flood submits as many transactions to an address of 81 or 90 trytes. It is
// cheap: at a magnitude of 1, thousands take a fraction of a second.
func (n *Node) Flood(to trinary.Hash, count int, junk Junk) error {
	if address.ValidAddress(to) != nil {
		return fmt.Errorf("flood address %q: it is not valid", to)
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
			k := kerl.NewKerl()
			if err := k.AbsorbTrytes(zeroLastTrit(to) + essence); err != nil {
				return fmt.Errorf("flood %s: %w", to, err)
			}
			batch[i] = essence + k.MustSqueezeTrytes(consts.HashTrinarySize) + parent + parent
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
	if junk == ZeroValue { // made so; no need to check each
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

// work finds nonces for up to 64 transactions at once. start has absorbed what
// they all begin with; parts is what follows in each, and ending what follows in
// all but for the nonce. Together with the nonce it is one block of the hash.
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

// zeroLastTrit is an address as bundle hashes have it.
func zeroLastTrit(a trinary.Hash) trinary.Hash {
	trits := trinary.MustTrytesToTrits(a)
	trits[len(trits)-1] = 0
	return trinary.MustTritsToTrytes(trits)
}
