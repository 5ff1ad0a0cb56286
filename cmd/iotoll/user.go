package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/daemon"
	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/cmd/internal/secret"
	"github.com/iotoll/iotoll/tangle"
)

func newUser(c console, load loader) *cobra.Command {
	return group("user", "Manage the accounts of MQTT clients",
		newUserAdd(c, load),
		newUserList(c, load),
		newUserPasswd(c, load),
		newUserDisabled(c, load, "disable", "Bar a user, who keeps what was bought", true),
		newUserDisabled(c, load, "enable", "Let a user in again who was barred", false),
		newUserSet(c, load),
		newUserRemove(c, load),
	)
}

// stored is the body of a command that needs the store: it reads the
// configuration, opens the store and logs to stderr.
func stored(c console, load loader, do func(context.Context, *config.Config, *mongostore.Store, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		return daemon.WithStore(cmd.Context(), cfg, newLog(c.err), func(ctx context.Context, store *mongostore.Store) error {
			return do(ctx, cfg, store, args)
		})
	}
}

const passwordHelp = `The password is read from --password-file, else from the terminal, else from
standard input. It is never an argument: those can be seen by every user of this
machine. With --generate it is a random one, which is printed once and cheaper for
the broker to check: best for machines.`

// newPassword is a password that a command sets.
type newPassword struct {
	hash  string
	shown string // the line that tells a generated one; empty if a human chose it
}

// passwordFlags adds --password-file and --generate, and returns what gets the
// password.
func passwordFlags(c console, cmd *cobra.Command) func(context.Context) (newPassword, error) {
	file := cmd.Flags().String("password-file", "", "`file` that holds the password on one line")
	generate := cmd.Flags().Bool("generate", false, "make a random password and print it")
	cmd.MarkFlagsMutuallyExclusive("password-file", "generate")
	return func(ctx context.Context) (p newPassword, err error) {
		var pw secret.Text
		switch {
		case *generate:
			pw = secret.New(password.Generate())
			p.shown = "password: " + pw.Reveal() + "\n"
		case *file != "":
			pw, err = secret.ReadFile(*file)
		default:
			pw, err = c.askNewSecret(ctx, "password")
		}
		if err != nil {
			return newPassword{}, err
		}
		p.hash, err = password.Hash(pw.Reveal())
		return p, err
	}
}

func newUserAdd(c console, load loader) *cobra.Command {
	var rights []string
	var superuser bool
	var get func(context.Context) (newPassword, error)
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a user",
		Long: `add adds a user, who may log in to the broker. A buyer needs no rights: payments
give them.

` + passwordHelp,
		Example: `  iotoll user add john
  iotoll user add bridge --generate
  iotoll user add sensor --password-file sensor.password --right 'sensor/#=w'`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			u := acl.User{Name: args[0], Superuser: superuser}
			if err := acl.CheckName(u.Name); err != nil {
				return &usageError{err: err}
			}
			var err error
			if u.Rights, err = parseRights(rights); err != nil {
				return &usageError{err: err}
			}
			pw, err := get(cmd.Context())
			if err != nil {
				return err
			}
			u.Password = pw.hash
			return stored(c, load, func(ctx context.Context, _ *config.Config, store *mongostore.Store, _ []string) error {
				if err := store.AddUser(ctx, u); errors.Is(err, mongostore.ErrExists) {
					return hint.Add(err, `"iotoll user passwd %s" changes the password`, u.Name)
				} else if err != nil {
					return err
				}
				return done(ctx, c, store, mongostore.Act{Act: "user add", Object: u.Name}, "added user %s\n%s", u.Name, pw.shown)
			})(cmd, args)
		},
	}
	cmd.Flags().StringArrayVar(&rights, "right", nil, "what the user may always do: `FILTER=r`, =w or =rw; may be repeated; %u stands for the username")
	cmd.Flags().BoolVar(&superuser, "superuser", false, "the user may do everything")
	get = passwordFlags(c, cmd)
	return cmd
}

// parseRights reads rights such as sensor/#=rw.
func parseRights(texts []string) ([]acl.Right, error) {
	var rights []acl.Right
	for _, text := range texts {
		at := strings.LastIndexByte(text, '=')
		access, ok := acl.Access(0), false
		if at >= 0 {
			access, ok = map[string]acl.Access{"r": acl.Read, "w": acl.Write, "rw": acl.Read | acl.Write}[text[at+1:]]
		}
		if !ok {
			return nil, fmt.Errorf("--right %q: must be a topic filter and =r, =w or =rw, such as sensor/#=rw", text)
		}
		if err := acl.CheckPattern(text[:at]); err != nil {
			return nil, fmt.Errorf("--right %q: %w", text, err)
		}
		rights = append(rights, acl.Right{Pattern: text[:at], Access: access})
	}
	return rights, nil
}

// formatRight is the reverse of parseRights.
func formatRight(r acl.Right) string {
	text := r.Pattern + "="
	if r.Access&acl.Read != 0 {
		text += "r"
	}
	if r.Access&acl.Write != 0 {
		text += "w"
	}
	return text
}

func newUserList(c console, load loader) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the users",
		Args:  exactly(),
		RunE: stored(c, load, func(ctx context.Context, _ *config.Config, store *mongostore.Store, _ []string) error {
			users, err := store.Users(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				return printUsersJSON(c, users)
			}
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "USER\tSTATE\tRIGHTS")
			for _, u := range users {
				fmt.Fprintf(w, "%s\t%s\t%s\n", printable(u.Name), userState(u), printable(strings.Join(formatRights(u.User), " ")))
			}
			return w.Flush()
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object a line")
	return cmd
}

func printUsersJSON(c console, users []mongostore.UserRecord) error {
	e := json.NewEncoder(c.out)
	for _, u := range users {
		err := e.Encode(struct {
			User      string   `json:"user"`
			State     string   `json:"state"`
			Superuser bool     `json:"superuser"`
			Disabled  bool     `json:"disabled"`
			Rights    []string `json:"rights"`
		}{u.Name, string(u.State), u.Superuser, u.Disabled, formatRights(u.User)})
		if err != nil {
			return err
		}
	}
	return nil
}

func formatRights(u acl.User) []string {
	rights := make([]string, len(u.Rights))
	for i, r := range u.Rights {
		rights[i] = formatRight(r)
	}
	return rights
}

func userState(u mongostore.UserRecord) string {
	switch {
	case u.State == tangle.UserUnusable:
		return "cannot log in"
	case u.Disabled:
		return "disabled"
	case u.Superuser:
		return "superuser"
	case u.Password == "":
		return "no password"
	}
	return "-"
}

func newUserPasswd(c console, load loader) *cobra.Command {
	var get func(context.Context) (newPassword, error)
	cmd := &cobra.Command{
		Use:   "passwd NAME",
		Short: "Change the password of a user",
		Long:  "passwd changes the password of a user.\n\n" + passwordHelp,
		Args:  exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			pw, err := get(cmd.Context())
			if err != nil {
				return err
			}
			return stored(c, load, func(ctx context.Context, _ *config.Config, store *mongostore.Store, _ []string) error {
				if err := store.SetPassword(ctx, args[0], pw.hash); err != nil {
					return err
				}
				return done(ctx, c, store, mongostore.Act{Act: "user passwd", Object: args[0]}, "changed the password of %s\n%s", args[0], pw.shown)
			})(cmd, args)
		},
	}
	get = passwordFlags(c, cmd)
	return cmd
}

func newUserDisabled(c console, load loader, use, short string, disabled bool) *cobra.Command {
	return &cobra.Command{
		Use:   use + " NAME",
		Short: short,
		Args:  exactly("NAME"),
		RunE: stored(c, load, func(ctx context.Context, _ *config.Config, store *mongostore.Store, args []string) error {
			if err := store.SetDisabled(ctx, args[0], disabled); err != nil {
				return err
			}
			return done(ctx, c, store, mongostore.Act{Act: "user " + use, Object: args[0]}, "%sd user %s\n", use, args[0])
		}),
	}
}

func newUserSet(c console, load loader) *cobra.Command {
	var rights []string
	var superuser, disabled bool
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change the rights of a user, or whether it may do everything or log in",
		Long: `set changes what its flags say and nothing else. --right replaces all rights; an
empty one, --right '', takes them away.`,
		Example: `  iotoll user set sensor --right 'sensor/#=w' --right 'log/%u=w'
  iotoll user set root --superuser=false`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var change mongostore.UserChange
			flags := cmd.Flags()
			if flags.Changed("right") {
				parsed, err := parseRights(slices.DeleteFunc(rights, func(r string) bool { return r == "" }))
				if err != nil {
					return &usageError{err: err}
				}
				change.Rights = &parsed
			}
			if flags.Changed("superuser") {
				change.Superuser = &superuser
			}
			if flags.Changed("disabled") {
				change.Disabled = &disabled
			}
			if flags.NFlag() == 0 || change == (mongostore.UserChange{}) {
				return &usageError{err: errors.New("nothing to set, want --right, --superuser or --disabled")}
			}
			return stored(c, load, func(ctx context.Context, _ *config.Config, store *mongostore.Store, args []string) error {
				if err := store.SetUser(ctx, args[0], change); err != nil {
					return err
				}
				return done(ctx, c, store, mongostore.Act{Act: "user set", Object: args[0]}, "changed user %s\n", args[0])
			})(cmd, args)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&rights, "right", nil, "what the user may always do: `FILTER=r`, =w or =rw; may be repeated")
	f.BoolVar(&superuser, "superuser", false, "the user may do everything")
	f.BoolVar(&disabled, "disabled", false, "the user may not log in")
	return cmd
}

func newUserRemove(c console, load loader) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a user, and end what it bought",
		Long: `remove removes a user. Its remaining time and credit end, on the record: a new user
of that name starts with nothing.

The account that serve publishes with is removed only with --force, since nothing
is published without it. A running serve creates it again.`,
		Args: exactly("NAME"),
		RunE: stored(c, load, func(ctx context.Context, cfg *config.Config, store *mongostore.Store, args []string) error {
			name := args[0]
			if name == cfg.Broker.Username && !force {
				return hint.Add(fmt.Errorf("remove user %s: serve publishes with this account", name), "--force removes it all the same")
			}
			// In this order, so that nothing is credited to the name in between.
			if err := store.SetDisabled(ctx, name, true); err != nil && !errors.Is(err, mongostore.ErrNotFound) {
				return err
			}
			if err := (&tangle.Settler{Store: store}).Close(ctx, name, "user removed"); err != nil {
				return err
			}
			if err := store.RemoveUser(ctx, name); err != nil {
				return err
			}
			return done(ctx, c, store, mongostore.Act{Act: "user remove", Object: name}, "removed user %s\n", printable(name))
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "remove the account that serve publishes with")
	return cmd
}

// printable returns text of others as it can be shown on a terminal: control
// characters are escaped.
func printable(s string) string {
	clean := true
	for _, r := range s {
		clean = clean && strconv.IsPrint(r)
	}
	if clean {
		return s
	}
	return strconv.Quote(s)
}
