package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/daemon"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/wemo/mqtt"
)

// examineTimeout bounds each thing that doctor tries.
const examineTimeout = 15 * time.Second

func newDoctor(c console, load loader) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Try everything that the configuration names, and compare the book with the ledger",
		Long: `doctor tries the store, the nodes, the broker and the plugs, and compares what the
nodes say that the deposit addresses hold with the payments in the book. It
settles nothing, and may run beside "iotoll serve".

Each line begins with ok, warn or FAIL. The exit code is 1 if anything failed.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			e := &examination{cfg: cfg, out: c.out}
			e.say(ok, "configuration %s", cfg.Path)
			e.secret("store.uri_file", cfg.Store.URIFile)
			e.secret("broker.password_file", cfg.Broker.PasswordFile)
			e.store(cmd.Context())
			e.broker(cmd.Context())
			e.plugs(cmd.Context())
			if e.failed > 0 {
				return fmt.Errorf("%s failed", count(e.failed, "check", "checks"))
			}
			return nil
		},
	}
	return cmd
}

// examination tries one thing after another and tells of each.
type examination struct {
	cfg    *config.Config
	out    io.Writer
	failed int
}

// verdict is how something is.
type verdict string

const (
	ok   verdict = "ok  "
	warn verdict = "warn"
	fail verdict = "FAIL"
)

func (e *examination) say(v verdict, format string, args ...any) {
	if v == fail {
		e.failed++
	}
	fmt.Fprintf(e.out, "%s  %s\n", v, fmt.Sprintf(format, args...))
}

// silence is for parts that log what they return as an error, too.
func silence() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// secret warns of a file whose secret is none on this machine. What cannot be
// looked at is told of by those who read it.
func (e *examination) secret(field, path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o004 != 0 {
		e.say(warn, "%s: everybody on this machine may read %s, mode %04o: want 0600, or 0640 for a group", field, path, info.Mode().Perm())
	}
}

// store looks at the store, and then at the ledger, which is compared with it.
func (e *examination) store(ctx context.Context) {
	if s := e.cfg.Store; s.URIFile == "" {
		if !daemon.Answers(s.Embedded.Socket) {
			e.say(warn, "iotoll serve does not run: payments wait until it does")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 4*examineTimeout)
	defer cancel()
	err := daemon.WithStore(ctx, e.cfg, silence(), func(ctx context.Context, store *mongostore.Store) error {
		users, err := store.Users(ctx)
		if err != nil {
			return err
		}
		book, err := store.PaymentRecords(ctx)
		if err != nil {
			return err
		}
		e.say(ok, "store at %s: %s, %s", e.cfg.Store.Where(), count(len(users), "user", "users"), count(len(book), "payment", "payments"))
		for _, u := range users {
			for _, fault := range u.Faults {
				e.say(warn, "user %s in document %s: %v", printable(u.Name), printable(u.Document), fault)
			}
		}
		e.publisher(users)
		held := 0
		for _, b := range book {
			if b.Outcome == tangle.Unmatched {
				held++
			}
		}
		if held > 0 {
			e.say(warn, "%s held: see iotoll payment list --outcome unmatched", count(held, "payment is", "payments are"))
		}
		return e.ledger(ctx, store)
	})
	if err != nil {
		e.say(fail, "store at %s: %v", e.cfg.Store.Where(), err)
	}
}

// publisher checks that the account that publishes exists and has its rights.
func (e *examination) publisher(users []mongostore.UserRecord) {
	name := e.cfg.Broker.Username
	if name == "" || len(e.cfg.Published()) == 0 {
		return
	}
	i := slices.IndexFunc(users, func(u mongostore.UserRecord) bool { return u.Name == name })
	if i < 0 {
		e.say(warn, "account %q does not exist: iotoll serve creates it", name)
		return
	}
	if users[i].Disabled {
		e.say(fail, "account %q is disabled: nothing is published; iotoll user enable %s", name, name)
	}
	if missing := daemon.MissingRights(e.cfg, users[i].User); len(missing) > 0 {
		e.say(fail, "account %q lacks the rights %s: iotoll serve adds them at its start and on SIGHUP", name, strings.Join(formatRights(acl.User{Rights: missing}), " "))
		return
	}
	e.say(ok, "account %q may publish to all topics", name)
}

// ledger asks every node, and compares the balances with the book.
func (e *examination) ledger(ctx context.Context, store *mongostore.Store) error {
	if len(e.cfg.Offers) == 0 {
		e.say(warn, "nothing is for sale: the configuration has no offers")
		return nil
	}
	offers, err := e.cfg.ForSale()
	if err != nil {
		return err
	}
	ledger, err := e.cfg.Ledger.Open(offers.Addresses(), silence())
	if err != nil {
		return err
	}
	marks, err := store.Marks(ctx, ledger.Ledger())
	if err != nil {
		return err
	}
	for _, a := range offers.Unconfigured(marks) {
		e.say(fail, "address %s was watched before and is not configured now: payments to it are not seen; list it under former of its offer", a)
	}
	asking, cancel := context.WithTimeout(ctx, examineTimeout)
	balances, err := ledger.Balances(asking)
	cancel()
	for _, h := range ledger.Health() {
		switch {
		case h.Err != nil:
			e.say(fail, "node %s: %v", h.Node, h.Err)
		case h.Frozen || h.Behind > 3:
			e.say(warn, "node %s: %s stands at %d, %d behind", h.Node, h.App, h.Position, h.Behind)
		case h.Pruned > 0:
			e.say(ok, "node %s: %s at %d, keeps what is from %d on", h.Node, h.App, h.Position, h.Pruned)
		default:
			e.say(ok, "node %s: %s at %d", h.Node, h.App, h.Position)
		}
		for _, a := range offers.Addresses() {
			if m := marks[a]; m.Position > 0 && m.Position < h.Pruned {
				e.say(warn, "node %s has pruned what is before %d, and address %s was read up to %d: what was paid in between is not seen there", h.Node, h.Pruned, a, m.Position)
			}
		}
	}
	if ordered, yes := ledger.(tangle.Ordered); yes {
		e.tip(ledger.Ledger(), ordered.Tip(), time.Now())
	}
	if err != nil {
		e.say(fail, "deposit addresses cannot be compared with the book: no node says what they hold")
		return nil
	}
	booked, err := store.Received(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(balances, func(b tangle.Balance) bool { return b.Amount > booked[b.Address] }) {
		// What was confirmed a moment ago is on its way into the book.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(e.cfg.Ledger.Poll + 2*time.Second):
		}
		if booked, err = store.Received(ctx); err != nil {
			return err
		}
	}
	money := ledger.Currency()
	for _, b := range balances {
		difference := b.Amount - booked[b.Address]
		switch {
		case b.Spent:
			e.say(warn, "address %s was spent from: further payments to it are at risk; configure a new address, and list this one under former", b.Address)
			if difference != 0 {
				e.say(warn, "address %s holds %s, the book has %s received", b.Address, money.Format(b.Amount), money.Format(booked[b.Address]))
			}
		case difference > 0 && difference < money.Dust:
			e.say(warn, "address %s holds %s, %s more than the book has: less than a payment that counts, and booked within minutes", b.Address, money.Format(b.Amount), money.Format(difference))
		case difference > 0:
			e.say(fail, "address %s holds %s, %s more than the book has: payments were not seen", b.Address, money.Format(b.Amount), money.Format(difference))
		case difference < 0 && b.Spendable:
			e.say(ok, "address %s holds %s of the %s that the book has: %s spent or moved by the owner", b.Address, money.Format(b.Amount), money.Format(booked[b.Address]), money.Format(-difference))
		case difference < 0:
			// Anything else than spending cannot lower it.
			e.say(fail, "address %s holds %s, %s less than the book has: is node %s on another network, or was it reset?", b.Address, money.Format(b.Amount), money.Format(-difference), b.Node)
		default:
			e.say(ok, "address %s holds the %s that the book has", b.Address, money.Format(b.Amount))
		}
	}
	return nil
}

// staleTip is how old the newest position of a ledger may be, by our clock.
const staleTip = 30 * time.Second

// tip says where a ledger stands.
func (e *examination) tip(name string, t tangle.Tip, now time.Time) {
	if t.Read.IsZero() {
		return // a node told why
	}
	age := now.Sub(t.Time).Round(100 * time.Millisecond)
	if t.Time.IsZero() || age.Abs() > staleTip {
		e.say(warn, "ledger %s: chain %s at %d of %s, %s ago: it stands still, or a clock is wrong", name, t.Chain, t.Position, t.Time.UTC().Format(time.RFC3339), age)
		return
	}
	e.say(ok, "ledger %s: chain %s at %d, %s ago", name, t.Chain, t.Position, max(age, 0))
}

// broker logs in to the broker as serve does.
func (e *examination) broker(ctx context.Context) {
	b := &e.cfg.Broker
	if b.URL == "" {
		return
	}
	broker, err := b.Connection()
	if err != nil {
		e.say(fail, "broker: %v", err)
		return
	}
	if err := broker.Try(ctx); err != nil {
		e.say(fail, "broker as %q: %v", b.Username, err)
	} else {
		e.say(ok, "broker %s lets %q in", b.URL, b.Username)
		e.anonymous(ctx)
	}
}

// anonymous asks the running broker, as a client without an account, for what is
// free and for what is for sale.
func (e *examination) anonymous(ctx context.Context) {
	client := mqtt.Broker{URL: e.cfg.Broker.URL}
	public := e.cfg.PublicFilters()
	ask := func(filter acl.Filter, free bool) {
		topic := exampleOf(filter)
		if !free && slices.ContainsFunc(public, func(f acl.Filter) bool { return f.Matches(topic) }) {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, examineTimeout)
		defer cancel()
		err := client.TrySubscribe(ctx, topic)
		switch refused := errors.Is(err, mqtt.ErrRefused); {
		case err != nil && !refused:
			e.say(fail, "broker, asked anonymously for %s: %v", topic, err)
		case free && refused:
			e.say(fail, "broker refuses %s to anonymous clients although %s is public: send Mosquitto a SIGHUP, or compare plugin_opt_settings_file with broker.settings_file", topic, filter)
		case !free && !refused:
			e.say(fail, "broker lets anonymous clients read %s, which is for sale: is the plugin loaded, with the settings of broker.settings_file?", topic)
		case free:
			e.say(ok, "anyone may read %s", filter)
		default:
			e.say(ok, "%s is not readable without paying", filter)
		}
	}
	for _, f := range public {
		ask(f, true)
	}
	for _, o := range e.cfg.Offers {
		for _, text := range o.Topics {
			if f, err := acl.ParseFilter(text); err == nil {
				ask(f, false)
			}
		}
	}
}

// exampleOf returns a topic that a filter matches, and that a filter which shares
// only some of its topics is unlikely to match.
func exampleOf(f acl.Filter) string {
	return strings.NewReplacer("+", "iotoll-doctor", "#", "iotoll-doctor").Replace(f.String())
}

// plugs reads each plug once.
func (e *examination) plugs(ctx context.Context) {
	broker, err := e.cfg.Broker.Connection()
	if err != nil {
		return // the broker's check told
	}
	for _, p := range e.cfg.Plugs {
		readCtx, cancel := context.WithTimeout(ctx, examineTimeout)
		r, err := p.Source(broker, silence()).Read(readCtx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no reading in %s", examineTimeout)
		}
		if err != nil {
			e.say(fail, "plug of %s: %v", p.Live, err)
		} else {
			e.say(ok, "plug of %s: %d mW", p.Live, r.MilliWatts)
		}
	}
}
