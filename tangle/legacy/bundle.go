package legacy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/curl"
	"github.com/iotaledger/iota.go/encoding/ascii"
	"github.com/iotaledger/iota.go/guards"
	"github.com/iotaledger/iota.go/transaction"
	"github.com/iotaledger/iota.go/trinary"
)

// maxMessage is how much of a message is kept, in bytes: more than one that can
// be read has.
const maxMessage = 8192

// tx is a transaction whose hash we computed ourselves.
type tx = transaction.Transaction

// hashOf computes a transaction's hash from the very trytes:
// transaction.TransactionHash would hash what it writes itself.
func hashOf(trytes trinary.Trytes) (hash trinary.Hash, err error) {
	defer contain(&err)
	if !guards.IsTrytesOfExactLength(trytes, consts.TransactionTrytesSize) {
		return "", fmt.Errorf("want %d trytes (A to Z and 9)", consts.TransactionTrytesSize)
	}
	return curl.HashTrytes(trytes)
}

// parse reads a transaction with the hash that was computed.
func parse(trytes trinary.Trytes, hash trinary.Hash) (t *tx, err error) {
	defer contain(&err)
	return transaction.AsTransactionObject(trytes, hash)
}

// errIncomplete means that transactions of a bundle are missing: they may come.
var errIncomplete = errors.New("bundle is incomplete")

// assemble walks from a tail along the trunks to the end of its bundle. It does
// not validate it. The error wraps errIncomplete if a transaction is missing.
func assemble(tail *tx, known map[trinary.Hash]*tx) (b bundle.Bundle, err error) {
	if tail.CurrentIndex != 0 {
		return nil, fmt.Errorf("transaction %s is not a tail: its index is %d", tail.Hash, tail.CurrentIndex)
	}
	b = bundle.Bundle{*tail}
	for t := tail; t.CurrentIndex < tail.LastIndex; {
		next, ok := known[t.TrunkTransaction]
		if !ok {
			return nil, fmt.Errorf("%w: %d of %d transactions", errIncomplete, len(b), tail.LastIndex+1)
		}
		if next.Bundle != tail.Bundle || next.CurrentIndex != t.CurrentIndex+1 || next.LastIndex != tail.LastIndex {
			return nil, fmt.Errorf("transaction %s does not follow %s", next.Hash, t.Hash)
		}
		b = append(b, *next)
		t = next
	}
	return b, nil
}

// valid checks a bundle: indices, sum, hash and signatures. It does not tell
// whether it was confirmed.
func valid(b bundle.Bundle) (err error) {
	defer contain(&err)
	return bundle.ValidBundle(b)
}

// effect is what a bundle does to one address.
type effect struct {
	net     int64  // Σ of all values on the address
	outputs int64  // Σ of those above zero
	first   uint64 // index of the first of them
	message []byte // what its outputs say
}

// effects returns what a bundle does to the given addresses of 81 trytes; own
// tells whether it spends from one of them.
func effects(b bundle.Bundle, ours map[trinary.Hash]bool) (found map[trinary.Hash]*effect, own bool) {
	found = make(map[trinary.Hash]*effect)
	says := make(map[trinary.Hash][][]byte) // trytes, of each output by itself
	for i := range b {
		t := &b[i]
		if !ours[t.Address] {
			continue
		}
		if t.Value < 0 {
			own = true
		}
		e := found[t.Address]
		if e == nil {
			e = new(effect)
			found[t.Address] = e
		}
		e.net += t.Value
		if t.Value > 0 {
			if e.outputs == 0 {
				e.first = t.CurrentIndex
			}
			e.outputs += t.Value
		}
		if t.Value < 0 { // its fragment is a signature
			continue
		}
		// A message begins with an output and runs on through transactions
		// without value. A fragment has an odd number of trytes and a character
		// two: they are decoded when they are all together. One fragment more
		// than is kept is enough.
		parts := says[t.Address]
		if t.Value > 0 || len(parts) == 0 {
			parts = append(parts, nil)
		}
		if last := len(parts) - 1; len(parts[last]) <= 2*maxMessage {
			parts[last] = append(parts[last], t.SignatureMessageFragment...)
		}
		says[t.Address] = parts
	}
	for address, e := range found {
		var messages [][]byte
		for _, trytes := range says[address] {
			if m := decode(trytes); len(m) > 0 {
				messages = append(messages, m)
			}
		}
		e.message = join(messages)
	}
	return found, own
}

// decode turns trytes into the bytes that iota.go's ascii encoding made them
// of, without the padding. It never fails: any trytes are some bytes.
func decode(trytes []byte) []byte {
	trytes = bytes.TrimRight(trytes, "9")
	if len(trytes)%2 != 0 {
		trytes = append(trytes, '9')
	}
	text, err := ascii.DecodeTrytes(string(trytes))
	if err != nil {
		return nil // not reached: the length is even
	}
	return []byte(text[:min(len(text), maxMessage)])
}

// doubt is put between messages of which nobody can tell which one counts.
const doubt = "\n-- the same transfer also says: --\n"

// join returns what several outputs of a bundle, or several attachments of it,
// say. The bundle hash and the signatures do not cover messages: whoever sees a
// transfer can attach it again with another one. If two differ, nobody can tell
// which is the payer's; joined like this they are no JSON, and the payment is
// held for the seller to decide.
func join(messages [][]byte) []byte {
	messages = slices.Clone(messages)
	slices.SortFunc(messages, bytes.Compare)
	messages = slices.CompactFunc(messages, bytes.Equal)
	all := bytes.Join(messages[:min(len(messages), 10)], []byte(doubt))
	return all[:min(len(all), 2*maxMessage)]
}

// firstOutput returns the index of the first output of a bundle.
func firstOutput(b bundle.Bundle) uint64 {
	for i := range b {
		if b[i].Value > 0 {
			return b[i].CurrentIndex
		}
	}
	return 0
}

// paymentID identifies what one attachment of a bundle pays to one address: by
// the hash of its tail. An attachment may pay several of our addresses; then
// those after the bundle's first output are told apart by the index of theirs.
// It must not depend on which addresses are configured, since they may change.
func paymentID(b bundle.Bundle, e *effect) string {
	if e.first == firstOutput(b) {
		return b[0].Hash
	}
	return fmt.Sprintf("%s/%d", b[0].Hash, e.first)
}

// claimed is the sender's timestamp: seconds, a number of 27 trits with a sign
// that iota.go drops. It is zero if no calendar has it.
func claimed(t *tx) time.Time {
	if s := int64(t.Timestamp); s >= 0 && s < 253402300800 { // the year 10000
		return time.Unix(s, 0).UTC()
	}
	return time.Time{}
}
