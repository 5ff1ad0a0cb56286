package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/cmd/internal/config"
)

// operator is who runs this command, for the book.
func operator() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

// done reports a manual act: first on standard output, so that nobody repeats it
// because only the audit failed, and then in the audit trail, even if the output
// failed.
func done(ctx context.Context, c console, store *mongostore.Store, act mongostore.Act, format string, args ...any) error {
	_, err := fmt.Fprintf(c.out, format, args...)
	act.By = operator()
	return errors.Join(err, store.Audit(ctx, act))
}

func newAudit(c console, load loader) *cobra.Command {
	return &cobra.Command{
		Use:   "audit",
		Short: "List what was done by hand, by whom and why",
		Args:  exactly(),
		RunE: stored(c, load, func(ctx context.Context, _ *config.Config, store *mongostore.Store, _ []string) error {
			acts, err := store.Acts(ctx)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "AT\tBY\tWHAT\tTO\tREASON")
			for _, a := range acts {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", clock(a.At), printable(a.By), a.Act, printable(a.Object), dash(printable(a.Reason)))
			}
			return w.Flush()
		}),
	}
}
