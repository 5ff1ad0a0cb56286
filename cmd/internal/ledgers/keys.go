package ledgers

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/guards"

	"github.com/iotoll/iotoll/cmd/internal/secret"
	"github.com/iotoll/iotoll/tangle/wallet"
)

// NewKey writes a random key for a kind of ledger into a new file that only its
// owner may read. The error wraps fs.ErrExist if the file exists.
func NewKey(kind, path string) error {
	if _, err := Notation(kind); err != nil {
		return err
	}
	if kind == IOTA {
		_, err := wallet.WriteKey(path)
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	_, err = f.WriteString(newSeed() + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

// KindOfKey returns the kind of ledger that the key in a file is for: Legacy if it
// is a seed, otherwise IOTA, whose wallet says what is wrong with it.
func KindOfKey(path string) (string, error) {
	s, err := secret.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read key: %w", err)
	}
	if guards.IsTrytesOfExactLength(s.Reveal(), consts.HashTrytesSize) {
		return Legacy, nil
	}
	return IOTA, nil
}

// newSeed returns a seed of the legacy tangle.
func newSeed() string {
	const trytes = "9ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	seed := make([]byte, 0, 81)
	for one := make([]byte, 1); len(seed) < 81; {
		rand.Read(one) // never fails, see its documentation
		// 243 = 9 × 27: greater values would make some trytes likelier than others.
		if one[0] >= 243 {
			continue
		}
		t := one[0] % 27
		// The hash function Kerl uses 242 trits: the last one is 0.
		if len(seed) == 80 && t > 4 && t < 23 {
			continue
		}
		seed = append(seed, trytes[t])
	}
	return string(seed)
}

// ReadSeed reads a seed of the legacy tangle from a file. The error does not
// contain it.
func ReadSeed(path string) (secret.Text, error) {
	s, err := secret.ReadFile(path)
	if err != nil {
		return secret.Text{}, fmt.Errorf("read key: %w", err)
	}
	if !guards.IsTrytesOfExactLength(s.Reveal(), consts.HashTrytesSize) {
		return secret.Text{}, fmt.Errorf("read key: %s: want a seed of 81 trytes (A to Z and 9)", path)
	}
	return s, nil
}

// Address returns a deposit address of the key in a file.
func Address(kind, path string, index uint64) (string, error) {
	if _, err := Notation(kind); err != nil {
		return "", err
	}
	if kind == IOTA {
		if index != 0 {
			return "", fmt.Errorf("address %d: a key of this ledger has one address, want 0", index)
		}
		key, err := wallet.ReadKey(path)
		if err != nil {
			return "", err
		}
		return key.Address().String(), nil
	}
	key, err := ReadSeed(path)
	if err != nil {
		return "", err
	}
	a, err := address.GenerateAddress(key.Reveal(), index, consts.SecurityLevelMedium, true)
	if err != nil {
		return "", fmt.Errorf("derive address %d from %s: %w", index, path, err)
	}
	return a, nil
}
