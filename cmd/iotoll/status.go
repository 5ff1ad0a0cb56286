package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/cmd/internal/secret"
	"github.com/iotoll/iotoll/tangle/buyer"
	"github.com/iotoll/iotoll/wemo/mqtt"
)

func newStatus(c console) *cobra.Command {
	var ca, username, passwordFile string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status URL -u NAME [--password-file FILE]",
		Short: "Show what you bought from a seller, and how long it lasts",
		Long: `status reads from a seller's broker what an account has bought, which payments are
held and why, and how to renew. On a terminal it stays, counts down and shows what
changes until Ctrl-C; otherwise it prints once.

The password is read from --password-file, else from the terminal, else from
standard input.

` + urlHelp,
		Example: `  iotoll status mqtts://jane.example -u john --password-file john.password
  iotoll status mqtts://jane.example -u john --json <john.password`,
		Args: exactly("URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			broker, err := brokerAt(args[0], ca)
			if err != nil {
				return err
			}
			topic, ok := buyer.AccountTopic(username)
			if !ok {
				return &usageError{err: fmt.Errorf("--username %q: want a name without / + and #", username)}
			}
			var pw secret.Text
			if passwordFile != "" {
				pw, err = secret.ReadFile(passwordFile)
			} else {
				pw, err = c.askSecret(ctx, "password")
			}
			if err != nil {
				return err
			}
			broker.Username, broker.Password = username, []byte(pw.Reveal())
			text, err := broker.Retained(ctx, topic)
			if errors.Is(err, mqtt.ErrNoMessage) || errors.Is(err, mqtt.ErrRefused) {
				return hint.Add(err, `the seller's "iotoll serve" publishes it; perhaps it does not run`)
			} else if err != nil {
				return err
			}
			if asJSON {
				return printRaw(c.out, text)
			}
			account, err := buyer.ParseAccount(text)
			if err != nil {
				return err
			}
			if f, ok := c.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				return countDown(ctx, f, account, func(ctx context.Context, receive func([]byte) bool) error {
					return broker.Follow(ctx, topic, receive)
				})
			}
			_, err = io.WriteString(c.out, formatAccount(account, time.Now()))
			return err
		},
	}
	caFlag(cmd, &ca)
	cmd.Flags().StringVarP(&username, "username", "u", "", "the MQTT `username`")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "`file` that holds the password on one line")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the document as it is published; docs/account.schema.json describes it")
	cmd.MarkFlagRequired("username")
	return cmd
}

// formatAccount writes an account for people.
func formatAccount(a buyer.Account, now time.Time) string {
	var b strings.Builder
	for _, h := range a.Offers {
		state := "not bought"
		if h.Until != nil && h.Until.After(now) {
			state = fmt.Sprintf("open until %s, %s left", clock(*h.Until), left(h.Until.Sub(now)))
		} else if h.Until != nil {
			state = "ended at " + clock(*h.Until)
		}
		fmt.Fprintf(&b, "%s: %s\n", printable(h.ID), state)
		fmt.Fprintf(&b, "  topics   %s\n", printable(strings.Join(h.Topics, " ")))
		fmt.Fprintf(&b, "  renewal  %s %s for %s\n", printable(h.Renewal), printable(h.Unit), buyer.Duration(h.Period()))
		if h.Credit != "0" {
			fmt.Fprintf(&b, "  credit   %s %s\n", printable(h.Credit), printable(h.Unit))
		}
	}
	if r := a.Receipt; r != nil {
		fmt.Fprintf(&b, "last payment: %s %s for %s at %s\n", printable(r.Amount), printable(r.Unit), printable(r.Offer), clock(r.At))
	}
	for _, n := range a.Notices {
		fmt.Fprintf(&b, "note: %s\n", printable(n.Text))
	}
	return b.String()
}

// left writes a remaining time, rounded down to seconds.
func left(d time.Duration) string {
	s := int64(d / time.Second)
	if days := s / 86400; days > 0 {
		return fmt.Sprintf("%dd %02d:%02d:%02d", days, s/3600%24, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// countDown shows an account on a terminal, each second, with what follow brings,
// until ctx ends; then it returns nil. It returns the error of follow.
func countDown(ctx context.Context, w io.Writer, account buyer.Account, follow func(context.Context, func([]byte) bool) error) error {
	ctx, cancel := context.WithCancel(ctx)
	changes := make(chan []byte)
	done := make(chan error, 1)
	go func() {
		done <- follow(ctx, func(text []byte) bool {
			select {
			case changes <- text:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	defer func() {
		cancel()
		<-done
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	const clear = "\x1b[H\x1b[J" // to the top, and clear what is below
	for {
		if _, err := io.WriteString(w, clear+formatAccount(account, time.Now())); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-done:
			done <- err // for the deferred function
			return err
		case <-tick.C:
		case text := <-changes:
			if len(text) == 0 {
				return errors.New("the account was removed")
			}
			next, err := buyer.ParseAccount(text)
			if err != nil {
				return err
			}
			account = next
		}
	}
}
