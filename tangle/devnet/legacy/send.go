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
	"github.com/iotaledger/iota.go/encoding/ascii"
	"github.com/iotaledger/iota.go/trinary"
)

// Spend is a transfer to be signed with the key of one address of a seed. It may do
// what an honest wallet would not: claim more than the address holds, leave a part
// there, or have any timestamp.
type Spend struct {
	Seed      trinary.Trytes
	Index     uint64               // of the address, counted from 0
	Security  consts.SecurityLevel // of the address; 2 if zero
	To        bundle.Transfers     // addresses of 90 trytes; messages are trytes
	Take      int64                // iotas to take from the address; the sum of To if zero
	Remainder trinary.Hash         // gets what To leaves of Take; 90 trytes; unused if nothing is left
	Time      time.Time            // the sender's claim; now if zero
}

// Sign makes the transactions of a transfer, not yet attached, in iota.go's order:
// the last one first.
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
	// With inputs and remainder given, this makes no requests.
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

// Attach gives the transactions of a transfer their trunk and branch and does their
// proof of work. It returns them with the tail first. It also checks the
// signatures, so that Submit is quick.
func (n *Node) Attach(signed []trinary.Trytes) ([]trinary.Trytes, error) {
	n.tangle.mu.Lock()
	trunk, branch := n.tangle.latest().hash, n.tangle.latest().hash
	n.tangle.attachments++
	// Each is later than the one before, so that no two attachments are equal.
	at := n.tangle.now().Add(time.Duration(n.tangle.attachments) * time.Millisecond)
	n.tangle.mu.Unlock()
	attached, err := n.tangle.attach(trunk, branch, signed, at)
	if err != nil {
		return nil, fmt.Errorf("attach transfer: %w", err)
	}
	n.tangle.judge(attached)
	return n.tangle.remember(attached), nil
}

// Submit stores attached transactions, as a broadcast does, and returns the hash of
// the first: the tail, if they come from Attach.
func (n *Node) Submit(attached []trinary.Trytes) (trinary.Hash, error) {
	if len(attached) == 0 {
		return "", errors.New("submit transactions: want at least one")
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

// Replay attaches and submits the bundle of a tail once more, as anybody can. If its
// inputs still hold enough, it pays again.
func (n *Node) Replay(tail trinary.Hash) (trinary.Hash, error) {
	signed, err := n.bundle(tail)
	if err != nil {
		return "", fmt.Errorf("replay %s: %w", tail, err)
	}
	return n.Send(signed)
}

// Impersonate replays the bundle of a tail with another message, in ASCII, in its
// first transaction. Neither a bundle's hash nor its signatures cover messages, so
// that the replay is as valid as the original and has the same bundle hash. If the
// bundle spends its input whole, the two conflict and the first to arrive wins.
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
		return nil, errors.New("not the tail of a bundle")
	}
	b := n.tangle.bundleOf(x)
	if b == nil {
		return nil, errors.New("bundle is incomplete")
	}
	signed := make([]trinary.Trytes, len(b))
	for i, y := range b {
		signed[len(b)-1-i] = y.trytes
	}
	return signed, nil
}
