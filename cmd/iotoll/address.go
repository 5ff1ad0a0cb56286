package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/guards"
	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/cmd/internal/secret"
	"github.com/spf13/cobra"
)

func newAddress(c console) *cobra.Command {
	var file string
	var index uint64
	var fresh bool
	cmd := &cobra.Command{
		Use:   "address --seed-file FILE",
		Short: "Print an address of a seed, with its checksum, to be paid at",
		Long: `address prints an address of the legacy tangle: 90 trytes, the last 9 of them
the checksum. Only the address goes into the configuration; keep the seed
elsewhere, since who has it has the money.

Spend from an address at most once, and take the next --index afterwards: each
signature gives half of the key away.`,
		Example: `  iotoll address --seed-file seller.seed --new`,
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			if fresh {
				if err := writeSeed(file); errors.Is(err, fs.ErrExist) {
					return hint.Add(err, "without --new the address is that of the seed in this file")
				} else if err != nil {
					return err
				}
			}
			seed, err := readSeed(file)
			if err != nil {
				return err
			}
			a, err := address.GenerateAddress(seed.Reveal(), index, consts.SecurityLevelMedium, true)
			if err != nil {
				return fmt.Errorf("derive address %d from %s: %w", index, file, err)
			}
			_, err = fmt.Fprintln(c.out, a)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "seed-file", "", "`file` that holds the seed, 81 trytes")
	f.Uint64Var(&index, "index", 0, "which address of the seed")
	f.BoolVar(&fresh, "new", false, "write a new random seed into the file, which must not exist")
	cmd.MarkFlagRequired("seed-file")
	return cmd
}

// readSeed reads a seed of the legacy tangle.
func readSeed(path string) (secret.Text, error) {
	s, err := secret.ReadFile(path)
	if err != nil {
		return secret.Text{}, fmt.Errorf("read seed: %w", err)
	}
	if !guards.IsTrytesOfExactLength(s.Reveal(), 81) {
		return secret.Text{}, fmt.Errorf("read seed: %s: must hold 81 trytes (A-Z and 9)", path)
	}
	return s, nil
}

// writeSeed writes a random seed into a new file that only its owner may read.
func writeSeed(path string) error {
	const trytes = "9ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	seed := make([]byte, 0, 82)
	for one := make([]byte, 1); len(seed) < 81; {
		rand.Read(one) // never fails, see its documentation
		// 243 = 9 × 27: what is above would make some trytes likelier than others.
		if one[0] >= 243 {
			continue
		}
		t := one[0] % 27
		// The hash function Kerl uses 242 trits: the last one has to be 0.
		if len(seed) == 80 && t > 4 && t < 23 {
			continue
		}
		seed = append(seed, trytes[t])
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write seed: %w", err)
	}
	_, err = f.Write(append(seed, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write seed: %w", err)
	}
	return nil
}
