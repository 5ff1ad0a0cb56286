package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/tangle"
)

func newGrant(c console, load loader) *cobra.Command {
	return group("grant", "Show what users may receive, give and take time",
		newGrantList(c, load),
		newGrantAdd(c, load),
		newGrantRevoke(c, load),
		newGrantRestore(c, load),
	)
}

func newGrantList(c console, load loader) *cobra.Command {
	var user, offer string
	var live, asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what was sold, given and taken back",
		Long: `list prints the entries of all accounts: each user has one for each offer. An
entry is what a payment or a manual act did; those that only brought credit open
nothing.`,
		Args: exactly(),
		RunE: stored(c, load, func(ctx context.Context, cfg *config.Config, store *mongostore.Store, _ []string) error {
			read := store.Entries
			if live {
				read = store.ActiveEntries
			}
			all, err := read(ctx, user, offer)
			if err != nil {
				return err
			}
			now := time.Now()
			entries := all[:0]
			for _, e := range all {
				if !live || grantState(e, now) == "live" {
					entries = append(entries, e)
				}
			}
			money := ledgers.Currency(cfg.Ledger.Kind)
			if asJSON {
				return printGrantsJSON(c, entries, money, now)
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "USER\tOFFER\tNO\tKIND\tSTATE\tFROM\tUNTIL\tAMOUNT\tCREDIT\tREASON")
			for _, e := range entries {
				from, until := "-", "-"
				if end := grantEnd(e); end.After(e.NotBefore) {
					from, until = clock(e.NotBefore), clock(end)
				}
				reason := e.Reason
				if reason == "" {
					reason = e.RevokedReason
				}
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(e.Subject), e.Offer, e.Seq, e.Kind,
					grantState(e, now), from, until, money.Format(e.Amount), money.Format(e.Credit), dash(printable(reason)))
			}
			return w.Flush()
		}),
	}
	f := cmd.Flags()
	f.StringVar(&user, "user", "", "only those of this `USER`")
	f.StringVar(&offer, "offer", "", "only those of this `OFFER`")
	f.BoolVar(&live, "live", false, "only those that open something now")
	f.BoolVar(&asJSON, "json", false, "print JSON, one object a line")
	return cmd
}

// clock writes a time for people and for programs alike.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// grantEnd is when an entry ends, or ended because it was revoked, perhaps
// before it began.
func grantEnd(e mongostore.EntryRecord) time.Time {
	if !e.RevokedAt.IsZero() && e.RevokedAt.Before(e.NotAfter) {
		return e.RevokedAt
	}
	return e.NotAfter
}

// grantState says what an entry does now.
func grantState(e mongostore.EntryRecord, now time.Time) string {
	switch {
	case e.Kind == tangle.Revoked:
		return "-"
	case !e.NotAfter.After(e.NotBefore):
		return "credit"
	case !e.RevokedAt.IsZero() && !now.Before(e.RevokedAt):
		return "revoked"
	case now.Before(e.NotBefore):
		return "to come"
	case now.Before(e.NotAfter):
		return "live"
	}
	return "over"
}

// grantJSON is an entry of an account as programs read it. Times are null
// where there are none.
type grantJSON struct {
	ID        string     `json:"id"`
	User      string     `json:"user"`
	Offer     string     `json:"offer"`
	Number    int64      `json:"number"`
	Kind      string     `json:"kind"`
	State     string     `json:"state"`
	Cause     string     `json:"cause"`
	Amount    string     `json:"amount"`
	Credit    string     `json:"credit"`
	Unit      string     `json:"unit"`
	Topics    []string   `json:"topics"`
	From      *time.Time `json:"from"`
	Until     *time.Time `json:"until"`
	At        time.Time  `json:"at"`
	Reason    string     `json:"reason,omitempty"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
	Revoked   string     `json:"revoked_reason,omitempty"`
}

func printGrantsJSON(c console, entries []mongostore.EntryRecord, money tangle.Currency, now time.Time) error {
	for _, e := range entries {
		j := grantJSON{
			ID: e.ID, User: e.Subject, Offer: e.Offer, Number: e.Seq, Kind: string(e.Kind),
			State: grantState(e, now), Cause: e.Cause, Amount: money.Number(e.Amount), Credit: money.Number(e.Credit), Unit: money.Unit,
			Topics: make([]string, len(e.Filters)), At: e.At.UTC(), Reason: e.Reason, Revoked: e.RevokedReason,
		}
		for i, f := range e.Filters {
			j.Topics[i] = f.String()
		}
		if end := grantEnd(e); end.After(e.NotBefore) {
			j.From, j.Until = instant(e.NotBefore), instant(end)
		}
		j.RevokedAt = instant(e.RevokedAt)
		if err := printJSON(c, j); err != nil {
			return err
		}
	}
	return nil
}

// instant returns a time for JSON, nil if it is zero.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// settler returns what makes entries in accounts by hand.
func settler(cfg *config.Config, store *mongostore.Store) (*tangle.Settler, error) {
	offers, err := cfg.ForSale()
	if err != nil {
		return nil, err
	}
	return &tangle.Settler{Store: store, Offers: offers}, nil
}

func newGrantAdd(c console, load loader) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:     "add USER OFFER TIME --reason TEXT",
		Aliases: []string{"extend"},
		Short:   "Give a user time, after what the user has already (or: extend)",
		Example: `  iotoll grant extend john live 30m --reason 'the plug was away'`,
		Args:    exactly("USER", "OFFER", "TIME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := time.ParseDuration(args[2])
			if err != nil || d <= 0 || d%time.Millisecond != 0 {
				return &usageError{err: fmt.Errorf("time %q: must be a duration above 0, such as 30m or 12h", args[2])}
			}
			if err := checkReason(reason); err != nil {
				return err
			}
			return stored(c, load, func(ctx context.Context, cfg *config.Config, store *mongostore.Store, args []string) error {
				s, err := settler(cfg, store)
				if err != nil {
					return err
				}
				g, err := s.Grant(ctx, args[0], args[1], d, reason, tangle.NewCause())
				switch {
				case errors.Is(err, tangle.ErrNoUser):
					return hint.Add(err, `"iotoll user add %s" makes one`, args[0])
				case errors.Is(err, tangle.ErrNoOffer):
					return hint.Add(err, `"iotoll offer list" shows the offers`)
				case errors.Is(err, tangle.ErrTooMuch):
					return err
				case err != nil: // again is another act, with a cause of its own
					return hint.Add(err, `the time may be given all the same: "iotoll grant list --user %s" tells, before you give it again`, args[0])
				}
				return done(ctx, c, store, mongostore.Act{Act: "grant add " + args[2], Object: g.Subject + " " + g.Offer, Reason: reason}, "%s has %s from %s until %s\n", g.Subject, g.Offer, clock(g.NotBefore), clock(g.NotAfter))
			})(cmd, args)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the book")
	cmd.MarkFlagRequired("reason")
	return cmd
}

// checkReason refuses a reason that tells nobody anything.
func checkReason(reason string) error {
	if strings.TrimSpace(reason) == "" {
		return &usageError{err: fmt.Errorf("--reason %q: must say why", reason)}
	}
	return nil
}

func newGrantRevoke(c console, load loader) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke USER OFFER --reason TEXT",
		Short: "End at once all time that a user has of an offer",
		Long: `revoke ends at once all time that a user has of an offer. Connected clients
receive nothing more. Credit stays, and so does all in the book.`,
		Args: exactly("USER", "OFFER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkReason(reason); err != nil {
				return err
			}
			return stored(c, load, func(ctx context.Context, _ *config.Config, store *mongostore.Store, args []string) error {
				// An offer that is sold no more can be revoked too.
				s := &tangle.Settler{Store: store}
				g, err := s.Revoke(ctx, args[0], args[1], reason, tangle.NewCause())
				if err != nil {
					return err
				}
				return done(ctx, c, store, mongostore.Act{Act: "grant revoke", Object: g.Subject + " " + g.Offer, Reason: reason}, "revoked %s's access to %s at %s\n", g.Subject, g.Offer, clock(g.At))
			})(cmd, args)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the book")
	cmd.MarkFlagRequired("reason")
	return cmd
}

func newGrantRestore(c console, load loader) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "restore USER OFFER --reason TEXT",
		Short: "Give back the time that the last revoke took",
		Args:  exactly("USER", "OFFER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkReason(reason); err != nil {
				return err
			}
			return stored(c, load, func(ctx context.Context, cfg *config.Config, store *mongostore.Store, args []string) error {
				s, err := settler(cfg, store)
				if err != nil {
					return err
				}
				g, err := s.Restore(ctx, args[0], args[1], reason)
				if err != nil {
					return err
				}
				return done(ctx, c, store, mongostore.Act{Act: "grant restore", Object: g.Subject + " " + g.Offer, Reason: reason}, "%s has %s from %s until %s\n", g.Subject, g.Offer, clock(g.NotBefore), clock(g.NotAfter))
			})(cmd, args)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the book")
	cmd.MarkFlagRequired("reason")
	return cmd
}
