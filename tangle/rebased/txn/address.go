// Package txn holds addresses, keys and transactions of today's IOTA network
// ("Rebased") as bytes: it parses and prints them, encodes and decodes
// transactions in BCS (Binary Canonical Serialization), computes digests, and
// makes and verifies signatures. It does no I/O.
//
// The formats are those of crates/iota-types in iotaledger/iota and of
// @iota/iota-sdk 1.15; testdata/vectors.json was made with the latter.
package txn

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/btcutil/base58"
	"golang.org/x/crypto/blake2b"
)

// Address names an account or an object: 32 bytes.
type Address [32]byte

// ParseAddress reads an address in its full form, 0x and 64 hexadecimal digits
// in either case. It refuses short forms and the zero address: an address has no
// checksum, so anything unusual is likely a mistake.
func ParseAddress(text string) (Address, error) {
	var a Address
	lower := strings.ToLower(text)
	digits, ok := strings.CutPrefix(lower, "0x")
	if !ok || len(digits) != 2*len(a) {
		return Address{}, fmt.Errorf("address %.80q: want 0x and 64 hexadecimal digits", text)
	}
	if _, err := hex.Decode(a[:], []byte(digits)); err != nil {
		return Address{}, fmt.Errorf("address %.80q: want 0x and 64 hexadecimal digits", text)
	}
	if a == (Address{}) {
		return Address{}, errors.New("address 0x0…0: nobody owns the zero address")
	}
	return a, nil
}

// Same reports whether text, as a node writes it, is the address: short forms
// and either case count.
func (a Address) Same(text string) bool {
	b, ok := parseHex(text)
	return ok && a == b
}

// parseHex reads an address that may be short, such as 0x2.
func parseHex(text string) (a Address, ok bool) {
	digits := strings.TrimPrefix(strings.ToLower(text), "0x")
	if digits == "" || len(digits) > 2*len(a) {
		return Address{}, false
	}
	digits = strings.Repeat("0", 2*len(a)-len(digits)) + digits
	if _, err := hex.Decode(a[:], []byte(digits)); err != nil {
		return Address{}, false
	}
	return a, true
}

// String returns the full form in lower case.
func (a Address) String() string { return "0x" + hex.EncodeToString(a[:]) }

// Digest identifies a transaction, or the content of an object: 32 bytes.
type Digest [32]byte

// maxDigestText is the length of the longest base58 text of 32 bytes.
const maxDigestText = 44

// ParseDigest reads a digest in base58.
func ParseDigest(text string) (Digest, error) {
	var d Digest
	if len(text) > maxDigestText {
		return Digest{}, fmt.Errorf("digest %.80q: longer than %d characters", text, maxDigestText)
	}
	b := base58.Decode(text)
	if len(b) != len(d) {
		return Digest{}, fmt.Errorf("digest %q: want 32 bytes in base58", text)
	}
	copy(d[:], b)
	return d, nil
}

// String returns the digest in base58.
func (d Digest) String() string { return base58.Encode(d[:]) }

// ObjectRef is an object at one version.
type ObjectRef struct {
	ID      Address
	Version uint64
	Digest  Digest
}

// hash returns the BLAKE2b-256 of the concatenation of parts.
func hash(parts ...[]byte) [32]byte {
	h, err := blake2b.New256(nil)
	if err != nil {
		panic(err) // only a key could be wrong, and there is none
	}
	for _, p := range parts {
		h.Write(p)
	}
	return [32]byte(h.Sum(nil))
}
