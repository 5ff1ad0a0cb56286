package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/tangle"
)

// progressInterval is how often pay says that it is still working.
const progressInterval = 5 * time.Second

func newPay(c console) *cobra.Command {
	var cfg ledgers.WalletConfig
	var amount, to, message, username, offer string
	var wait time.Duration
	var force bool
	cmd := &cobra.Command{
		Use:   "pay --node URL --key-file FILE --amount AMOUNT --address ADDRESS --username NAME",
		Short: "Pay for an offer",
		Long: `pay sends an amount to an offer's address. The payment's message says whose it is:
--username and --offer write it, or --message is the whole of it:

  {"username": "john"}    {"username": "john", "offer": "live"}

A message that the seller could not match to a user is refused, unless --force.

pay prints the payment's ID and reference, by which seller and buyer can find it.
Do not pay twice at the same time from one key.`,
		Example: `  iotoll pay --node http://127.0.0.1:9125 --key-file john.key --amount 0.5 \
      --address 0x0123... --username john --wait`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			notation, err := keyLedger(cmd, &cfg.Kind, cfg.KeyFile, false)
			if err != nil {
				return err
			}
			units, err := notation.Currency().Parse(amount)
			if err != nil {
				return &usageError{err: fmt.Errorf("--amount: %w", err)}
			}
			if to, err = notation.ParseAddress(to); err != nil {
				return &usageError{err: fmt.Errorf("--address: %w", err)}
			}
			switch {
			case username != "":
				message = newMessage(username, offer)
			case !cmd.Flags().Changed("message"):
				return &usageError{err: errors.New("--username or --message: required: whose the payment is")}
			case offer != "":
				return &usageError{err: errors.New("--offer: want --username too")}
			}
			if _, err := tangle.ParseMessage([]byte(message)); err != nil && !force {
				return hint.Add(fmt.Errorf("message would not be matched to a user: %w", err),
					"--username NAME writes a message that is; --force sends this one, which the seller must assign by hand")
			}
			wallet, err := cfg.Open()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			var receipt ledgers.Receipt
			err = working(c, "making the payment", func() (err error) {
				receipt, err = wallet.Pay(ctx, to, units, message)
				return err
			})
			if receipt.Payment != "" {
				verb := "sent"
				if err != nil {
					verb = "may have sent"
				}
				fmt.Fprintf(c.out, "%s %s\npayment %s\n", verb, notation.Currency().Format(units), receipt.Payment)
				if receipt.Reference != "" {
					fmt.Fprintf(c.out, "reference %s\n", receipt.Reference)
				}
			}
			if err == nil {
				err = wallet.Done(ctx, receipt)
			}
			if err != nil || wait == 0 {
				return err
			}
			start := time.Now()
			limited, cancel := context.WithTimeout(ctx, wait)
			defer cancel()
			err = working(c, "waiting for the ledger", func() error { return wallet.Wait(limited, receipt) })
			if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				return hint.Add(fmt.Errorf("payment %s is not final after %s", receipt.Payment, wait),
					"it may still become final: ask the seller, or the node, for it before you pay again")
			} else if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "final after %s\n", time.Since(start).Round(100*time.Millisecond))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Node, "node", "", "`URL` of a node of the ledger")
	keyFlags(cmd, &cfg.Kind, &cfg.KeyFile)
	f.StringVar(&amount, "amount", "", "how much, as the ledger writes `amounts`, such as 0.5, or 500 on the legacy tangle")
	f.StringVar(&to, "address", "", "the offer's `address`")
	f.StringVar(&username, "username", "", "whose the payment is: an MQTT `username`")
	f.StringVar(&offer, "offer", "", "`OFFER` that is paid for, if several share the address")
	f.StringVar(&message, "message", "", "the whole message, `JSON`, in place of --username and --offer")
	f.BoolVar(&force, "force", false, "send a message that would not be matched to a user")
	f.IntVar(&cfg.MWM, "mwm", 0, "minimum weight magnitude of a legacy network, 1 to 14: how much proof of work it wants; 0 is what the node says, or 9 if it does not")
	f.DurationVar(&wait, "wait", 0, "wait until the payment is final, at most this `time`; 10m if no time is given")
	f.Lookup("wait").NoOptDefVal = "10m"
	for _, name := range []string{"node", "amount", "address"} {
		cmd.MarkFlagRequired(name)
	}
	cmd.MarkFlagsMutuallyExclusive("username", "message")
	return cmd
}

// newMessage returns the message of a payment.
func newMessage(username, offer string) string {
	text, err := json.Marshal(struct {
		Username string `json:"username"`
		Offer    string `json:"offer,omitempty"`
	}{username, offer})
	if err != nil {
		panic(err) // strings can be marshaled
	}
	return string(text)
}

// working calls do and says every few seconds that it still runs.
func working(c console, what string, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for start := time.Now(); ; {
		select {
		case err := <-done:
			return err
		case now := <-tick.C:
			fmt.Fprintf(c.err, "%s … %s\n", what, now.Sub(start).Round(time.Second))
		}
	}
}
