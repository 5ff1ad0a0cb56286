package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/tangle"
)

// keyFlags adds --ledger and --key-file. --seed-file is what --key-file is called on
// the legacy tangle.
func keyFlags(cmd *cobra.Command, kind, file *string) {
	f := cmd.Flags()
	f.StringVar(kind, "ledger", "", "`kind` of ledger: iota or legacy; the one that the key is for if left out")
	f.StringVar(file, "key-file", "", "`file` that contains the key; on the legacy tangle it is a seed")
	f.StringVar(file, "seed-file", "", "`file` that contains a seed of the legacy tangle")
	f.MarkHidden("seed-file")
	cmd.MarkFlagsOneRequired("key-file", "seed-file")
	cmd.MarkFlagsMutuallyExclusive("key-file", "seed-file")
}

// keyLedger finds out the kind of ledger if no flag says it, and returns its
// notation. A new key is one of today's network.
func keyLedger(cmd *cobra.Command, kind *string, file string, fresh bool) (tangle.Notation, error) {
	var err error
	switch {
	case *kind != "":
	case cmd.Flags().Changed("seed-file"):
		*kind = ledgers.Legacy
	case fresh:
		*kind = ledgers.IOTA
	default:
		if *kind, err = ledgers.KindOfKey(file); err != nil {
			return nil, err
		}
	}
	notation, err := ledgers.Notation(*kind)
	if err != nil {
		return nil, &usageError{err: fmt.Errorf("--ledger: %w", err)}
	}
	return notation, nil
}
