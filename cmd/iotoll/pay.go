package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/wallet"
)

func newPay(c console) *cobra.Command {
	var w wallet.Wallet
	var seedFile, to, message string
	var amount int64
	var wait bool
	cmd := &cobra.Command{
		Use:   "pay --node URL --seed-file FILE --amount IOTAS --address ADDRESS --message JSON",
		Short: "Pay for an offer on the legacy tangle",
		Long: `pay sends iotas to an offer's address. The message says whose MQTT username the
payment is for, and which offer if several share the address:

  {"username": "john"}    {"username": "john", "offer": "live"}

It prints the transaction and the bundle, by which seller and buyer can find the
payment. Do not pay twice at the same time from one seed.`,
		Example: `  iotoll pay --node http://127.0.0.1:14265 --seed-file john.seed --amount 500 \
      --address GAPYKDJQ... --message '{"username": "john"}' --wait`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			seed, err := readSeed(seedFile)
			if err != nil {
				return err
			}
			w.Seed = seed.Reveal()
			if _, err := tangle.ParseMessage([]byte(message)); err != nil {
				fmt.Fprintf(c.err, "warning: the seller will have to assign this payment by hand: %v\n", err)
			}
			ctx := cmd.Context()
			receipt, err := w.Pay(ctx, to, amount, message)
			switch {
			case errors.Is(err, wallet.ErrInsufficient):
				return hint.Add(err, "what is on its way to the seed counts once it is confirmed")
			case err != nil && receipt.Tail != "":
				fmt.Fprintf(c.out, "may have sent %d iotas\ntransaction %s\nbundle %s\n", amount, receipt.Tail, receipt.Bundle)
				if strings.Contains(err.Error(), "Invalid trytes") { // what IRI says of too little work
					return hint.Add(err, "the network may want more work: try a higher --mwm, such as 14, once you have made sure that nobody knows that transaction")
				}
				return hint.Add(err, "wait a few minutes and look whether the seller or the node knows that transaction before you pay again")
			case err != nil && strings.Contains(err.Error(), "MinWeightMagnitude"):
				return hint.Add(err, "leave out --mwm: the node knows what its network wants")
			case err != nil:
				return err
			}
			fmt.Fprintf(c.out, "sent %d iotas\ntransaction %s\nbundle %s\n", amount, receipt.Tail, receipt.Bundle)
			if !wait {
				return nil
			}
			start := time.Now()
			if err := w.Wait(ctx, receipt); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "confirmed after %s\n", time.Since(start).Round(100*time.Millisecond))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&w.Node, "node", "", "`URL` of a node of the ledger")
	f.StringVar(&seedFile, "seed-file", "", "`file` that holds the seed to pay from, 81 trytes")
	f.Int64Var(&amount, "amount", 0, "how many `iotas`")
	f.StringVar(&to, "address", "", "the offer's address, 90 trytes")
	f.StringVar(&message, "message", "", "`JSON` that names the username")
	f.IntVar(&w.MWM, "mwm", 0, "minimum weight magnitude of the network, 1 to 14: how much proof of work it wants; 0 is what the node says, or 9 if it does not")
	f.BoolVar(&wait, "wait", false, "wait until the ledger has confirmed the payment")
	for _, name := range []string{"node", "seed-file", "amount", "address", "message"} {
		cmd.MarkFlagRequired(name)
	}
	return cmd
}
