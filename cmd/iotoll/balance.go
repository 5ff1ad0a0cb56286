package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/cmd/internal/ledgers"
)

// balanceTimeout bounds the search for what a key holds. A seed of the legacy tangle
// has many addresses.
const balanceTimeout = 2 * time.Minute

// balanceJSON is what "balance --json" prints.
type balanceJSON struct {
	Ledger  string `json:"ledger"`
	Address string `json:"address"`
	Amount  string `json:"amount"`
	Unit    string `json:"unit"`
}

func newBalance(c console) *cobra.Command {
	var cfg ledgers.WalletConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "balance --node URL --key-file FILE",
		Short: "Print what a key can spend",
		Long: `balance prints the address of the key in a file, and what the ledger says that it
can spend. On the legacy tangle, whose keys have many addresses, it is the first
address that was never used, and the sum of all.`,
		Example: `  iotoll balance --node http://127.0.0.1:9125 --key-file john.key`,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			notation, err := keyLedger(cmd, &cfg.Kind, cfg.KeyFile, false)
			if err != nil {
				return err
			}
			wallet, err := cfg.Open()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), balanceTimeout)
			defer cancel()
			var h ledgers.Holding
			err = working(c, "reading the balance", func() (err error) {
				h, err = wallet.Balance(ctx)
				return err
			})
			if err != nil {
				return err
			}
			money := notation.Currency()
			if asJSON {
				return json.NewEncoder(c.out).Encode(balanceJSON{notation.Ledger(), h.Address, money.Number(h.Amount), money.Unit})
			}
			_, err = fmt.Fprintf(c.out, "address %s\nbalance %s\n", h.Address, money.Format(h.Amount))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Node, "node", "", "`URL` of a node of the ledger")
	keyFlags(cmd, &cfg.Kind, &cfg.KeyFile)
	f.BoolVar(&asJSON, "json", false, "print a JSON object")
	cmd.MarkFlagRequired("node")
	return cmd
}
