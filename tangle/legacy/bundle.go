package legacy

import (
	"errors"
	"fmt"
	"time"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/trinary"

	"github.com/iotoll/iotoll/tangle/legacy/node"
)

// errIncomplete means that transactions of a bundle are missing: they may come.
var errIncomplete = errors.New("bundle is incomplete")

// assemble follows the trunks from a tail to the end of its bundle, which it does
// not validate. The error wraps errIncomplete if a transaction is missing.
func assemble(tail *node.Transaction, known map[trinary.Hash]*node.Transaction) (b bundle.Bundle, err error) {
	if tail.CurrentIndex != 0 {
		return nil, fmt.Errorf("transaction %s is not a tail: its index is %d", tail.Hash, tail.CurrentIndex)
	}
	b = bundle.Bundle{*tail}
	for t := tail; t.CurrentIndex < tail.LastIndex; {
		next, ok := known[t.TrunkTransaction]
		if !ok {
			return nil, fmt.Errorf("%w: %d of %d transactions", errIncomplete, len(b), tail.LastIndex+1)
		}
		if !follows(next, t) {
			return nil, fmt.Errorf("transaction %s does not follow %s", next.Hash, t.Hash)
		}
		b = append(b, *next)
		t = next
	}
	return b, nil
}

// follows tells whether a transaction can come after another in a bundle.
func follows(t, before *node.Transaction) bool {
	return t.Bundle == before.Bundle && t.CurrentIndex == before.CurrentIndex+1 && t.LastIndex == before.LastIndex
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
	message message
}

// effects returns what a bundle does to the given addresses of 81 trytes. own
// tells whether it spends from one of them.
func effects(b bundle.Bundle, ours map[trinary.Hash]bool) (found map[trinary.Hash]*effect, own bool) {
	found = make(map[trinary.Hash]*effect)
	texts := make(map[trinary.Hash][]*trytesText) // of each output by itself
	for i := range b {
		t := &b[i]
		if !ours[t.Address] {
			continue
		}
		e := found[t.Address]
		if e == nil {
			e = new(effect)
			found[t.Address] = e
		}
		e.net += t.Value
		if t.Value < 0 { // its fragment is a signature
			own = true
			continue
		}
		if t.Value > 0 {
			if e.outputs == 0 {
				e.first = t.CurrentIndex
			}
			e.outputs += t.Value
		}
		if t.Value > 0 || len(texts[t.Address]) == 0 {
			texts[t.Address] = append(texts[t.Address], new(trytesText))
		}
		text := texts[t.Address]
		text[len(text)-1].add(t.SignatureMessageFragment)
	}
	for address, e := range found {
		var messages []message
		for _, text := range texts[address] {
			messages = append(messages, text.decode())
		}
		e.message = join(messages)
	}
	return found, own
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
func claimed(t *node.Transaction) time.Time {
	if s := int64(t.Timestamp); s >= 0 && s < 253402300800 { // the year 10000
		return time.Unix(s, 0).UTC()
	}
	return time.Time{}
}

// contain turns a panic of iota.go into an error.
func contain(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("iota.go panics: %v", p)
	}
}
