package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/cmd/internal/config"
)

// recently is how long ago a grant may have ended for check to tell of it.
const recently = time.Hour

var accessNames = map[string]acl.Access{
	"read": acl.Read, "write": acl.Write, "subscribe": acl.Subscribe, "unsubscribe": acl.Unsubscribe,
}

func newCheck(c console, load loader) *cobra.Command {
	var client string
	cmd := &cobra.Command{
		Use:   "check USER ACCESS TOPIC",
		Short: "Say what the broker's plugin answers to a request, and why",
		Long: `check decides as the broker's plugin does, from the same store: may USER do ACCESS
(read, write, subscribe or unsubscribe) on TOPIC now? USER is - for a client
without a username. TOPIC is a topic filter for subscribe and unsubscribe.

It prints permit or deny with the reason, and the public filters that it went by:
those of the configuration, which should be the plugin_opt_public lines of
mosquitto.conf. The exit code is 0 for permit and 1 for deny.`,
		Example: `  iotoll check john read sensor/live
  iotoll check - subscribe 'sensor/#'`,
		Args: exactly("USER", "ACCESS", "TOPIC"),
		RunE: func(cmd *cobra.Command, args []string) error {
			access, ok := accessNames[args[1]]
			if !ok {
				return &usageError{err: fmt.Errorf("access %q: must be read, write, subscribe or unsubscribe", args[1])}
			}
			r := acl.Request{Subject: args[0], ClientID: client, Topic: args[2], Access: access}
			if r.Subject == "-" {
				r.Subject = ""
			}
			return stored(c, load, func(ctx context.Context, cfg *config.Config, store *mongostore.Store, _ []string) error {
				return check(ctx, c, cfg, store, r)
			})(cmd, args)
		},
	}
	cmd.Flags().StringVar(&client, "client-id", "", "the client `ID`, for rights with %c")
	return cmd
}

func check(ctx context.Context, c console, cfg *config.Config, store *mongostore.Store, r acl.Request) error {
	now := time.Now()
	users, grants, err := store.LoadUser(ctx, r.Subject)
	if err != nil {
		return err
	}
	offers, err := store.ForSale(ctx)
	if err != nil {
		return err
	}
	// As of a while ago, so that a grant that ended lately is known as the reason.
	// The plugin's snapshot expires, this one does not.
	const never = time.Duration(math.MaxInt64)
	asOf := now.Add(-recently)
	snapshot := acl.NewSnapshot(cfg.PublicFilters(), never).RefuseUnpaid(cfg.RefuseUnpaid).
		Load(asOf, users, grants).With(asOf, acl.Change{Offers: &offers})
	d := snapshot.Decide(r, time.Now())
	answer := "deny: "
	if d.Permit {
		answer = "permit: "
	}
	answer += d.Reason.String()
	if d.Grant != "" {
		answer += " " + printable(d.Grant)
	}
	if !d.Until.IsZero() && d.Until.Before(asOf.Add(never)) {
		answer += ", until " + d.Until.UTC().Format(time.RFC3339)
	}
	free := strings.Join(cfg.Public, " ")
	if free == "" {
		free = "none"
	}
	if _, err := fmt.Fprintf(c.out, "%s\npublic filters, from %s: %s\n", answer, cfg.Path, free); err != nil {
		return err
	}
	if !d.Permit {
		return errDenied
	}
	return nil
}
