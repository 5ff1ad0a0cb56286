package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
)

func newAddress(c console) *cobra.Command {
	var kind, file string
	var index uint64
	var fresh bool
	cmd := &cobra.Command{
		Use:   "address --key-file FILE",
		Short: "Print an address of a key, for buyers to pay to",
		Long: `address prints an address of the key in a file. Only the address goes into the
configuration. Keep the key elsewhere: it spends the money.

A key of today's network has one address, which may be spent from any number of
times. On the legacy tangle the key is a seed. Spend from each of its addresses at most
once, and take the next --index afterwards: every signature reveals half of the
address's private key.`,
		Example: `  iotoll address --key-file seller.key --new`,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := keyLedger(cmd, &kind, file, fresh); err != nil {
				return err
			}
			if fresh {
				if err := ledgers.NewKey(kind, file); errors.Is(err, fs.ErrExist) {
					return hint.Add(err, "without --new the address is that of the key in this file")
				} else if err != nil {
					return err
				}
			}
			a, err := ledgers.Address(kind, file, index)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.out, a)
			return err
		},
	}
	f := cmd.Flags()
	keyFlags(cmd, &kind, &file)
	f.Uint64Var(&index, "index", 0, "which address of the key")
	f.BoolVar(&fresh, "new", false, "write a new random key into the file, which must not exist")
	return cmd
}
