package legacy

import (
	"fmt"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/trinary"

	"github.com/iotoll/iotoll/tangle"
)

// Notation is how the legacy tangle writes amounts and addresses.
type Notation struct{}

var _ tangle.Notation = Notation{}

// maxIotas is the supply: (3^33 - 1) / 2.
const maxIotas = 2_779_530_283_277_761

// Ledger returns "legacy".
func (Notation) Ledger() string { return "legacy" }

// Currency returns iotas, "i", which have no decimals.
func (Notation) Currency() tangle.Currency { return tangle.Currency{Unit: "i", Max: maxIotas} }

// ParseAddress returns text if it is an address of 90 trytes whose checksum
// matches. The checksum is required: iota.go cuts it off unread, so that a
// mistyped address would make money disappear.
func (Notation) ParseAddress(text string) (string, error) {
	const want = "want the 90 trytes (A to Z and 9) that a wallet shows, the last 9 of them the checksum"
	switch {
	case len(text) == consts.HashTrytesSize:
		return "", fmt.Errorf("address %q has no checksum: %s", text, want)
	case len(text) != consts.AddressWithChecksumTrytesSize:
		return "", fmt.Errorf("address %.100q has %d characters: %s", text, len(text), want)
	case trinary.ValidTrytes(text) != nil:
		return "", fmt.Errorf("address %q has other characters: %s", text, want)
	}
	return text, checkChecksum(text)
}

func checkChecksum(text string) (err error) {
	defer contain(&err)
	if address.ValidAddress(text) != nil {
		return fmt.Errorf("address %q: checksum mismatch: mistyped?", text)
	}
	return nil
}

// addressHash returns a deposit address without its checksum.
func addressHash(text string) (trinary.Hash, error) {
	valid, err := Notation{}.ParseAddress(text)
	if err != nil {
		return "", fmt.Errorf("deposit %w", err)
	}
	return valid[:consts.HashTrytesSize], nil
}
