package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/tangle/buyer"
	"github.com/iotoll/iotoll/wemo/mqtt"
)

const urlHelp = `URL is the seller's broker: mqtt://HOST, mqtts://HOST (TLS), ws://HOST/PATH or
wss://HOST/PATH, each with or without :PORT. --ca names the certificates of the
authorities to trust in place of the system's.`

func newOffers(c console) *cobra.Command {
	var ca string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "offers URL",
		Short: "Show what a seller offers",
		Long: `offers reads what is for sale from a seller's broker, without an account.

` + urlHelp,
		Example: `  iotoll offers mqtts://jane.example
  iotoll offers --json ws://192.168.1.5:9001/mqtt`,
		Args: exactly("URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			broker, err := brokerAt(args[0], ca)
			if err != nil {
				return err
			}
			text, offers, err := readOffers(cmd.Context(), broker)
			if err != nil {
				return err
			}
			if asJSON {
				return printRaw(c.out, text)
			}
			return printOffers(c.out, offers)
		},
	}
	caFlag(cmd, &ca)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the document as it is published; docs/offers.schema.json describes it")
	return cmd
}

// caFlag adds --ca.
func caFlag(cmd *cobra.Command, ca *string) {
	cmd.Flags().StringVar(ca, "ca", "", "`file` that holds the certificates, in PEM, of the authorities to trust")
}

// brokerAt returns the broker at a URL that a buyer typed.
func brokerAt(url, ca string) (mqtt.Broker, error) {
	b := mqtt.Broker{URL: url}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return mqtt.Broker{}, fmt.Errorf("read --ca: %w", err)
		}
		b.CA = text
	}
	if err := b.Validate(); err != nil {
		return mqtt.Broker{}, &usageError{err: err}
	}
	return b, nil
}

// readOffers reads the offers of a seller, as they are published and parsed.
func readOffers(ctx context.Context, broker mqtt.Broker) ([]byte, buyer.Offers, error) {
	text, err := broker.Retained(ctx, buyer.OffersTopic)
	if errors.Is(err, mqtt.ErrNoMessage) || errors.Is(err, mqtt.ErrRefused) {
		return nil, buyer.Offers{}, hint.Add(err, "is this the broker of a seller who runs \"iotoll serve\"?")
	} else if err != nil {
		return nil, buyer.Offers{}, err
	}
	offers, err := buyer.ParseOffers(text)
	return text, offers, err
}

// printRaw prints a document as it was received, in one line. JSON needs no
// control characters: others' could be commands to a terminal.
func printRaw(w io.Writer, text []byte) error {
	line := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, string(text))
	_, err := fmt.Fprintln(w, line)
	return err
}

func printOffers(w io.Writer, o buyer.Offers) error {
	var b strings.Builder
	if len(o.Offers) == 0 {
		fmt.Fprintln(&b, "nothing is for sale")
	}
	for _, one := range o.Offers {
		state := "available"
		if one.Available != nil && !*one.Available {
			state = "not available: " + printable(one.Reason)
		}
		fmt.Fprintf(&b, "%s: %s %s for %s, %s\n", printable(one.ID), printable(one.Price), printable(one.Unit), buyer.Duration(one.Period()), state)
		fmt.Fprintf(&b, "  topics   %s\n", printable(strings.Join(one.Topics, " ")))
		if one.Seats > 0 {
			fmt.Fprintf(&b, "  seats    %d\n", one.Seats)
		}
		fmt.Fprintf(&b, "  pay to   %s\n  message  %s\n", printable(one.Address), printable(one.How))
	}
	if len(o.Free) > 0 {
		fmt.Fprintf(&b, "free: %s\n", printable(strings.Join(o.Free, " ")))
	}
	if len(o.Offers) > 0 {
		fmt.Fprintf(&b, "ledger: %s, %s\n", printable(o.Ledger), printable(o.Network))
		account := "ask the seller for one"
		if o.Signup {
			account = "a payment can open one"
		}
		fmt.Fprintf(&b, "account: %s\n", account)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
