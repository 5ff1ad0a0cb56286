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
)

// examineTimeout bounds each thing that doctor tries.
const examineTimeout = 15 * time.Second

func newDoctor(c console, load loader) *cobra.Command {
	var brokerConf string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Try everything that the configuration names, and compare the book with the ledger",
		Long: `doctor tries the store, the nodes, the broker and the plugs, and compares what the
nodes say that the deposit addresses hold with the payments in the book. It
settles nothing, and may run beside "iotoll serve".

Each line begins with ok, warn or FAIL. The exit code is 1 if anything failed.`,
		Example: `  iotoll doctor --mosquitto-conf /etc/mosquitto/conf.d/iotoll.conf`,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load()
			if err != nil {
				return err
			}
			e := &examination{cfg: cfg, out: c.out}
			e.say(ok, "configuration %s", cfg.Path)
			e.secret("store.uri_file", cfg.Store.URIFile)
			e.secret("broker.password_file", cfg.Broker.PasswordFile)
			if brokerConf != "" {
				e.brokerConf(brokerConf)
			}
			e.store(cmd.Context())
			e.broker(cmd.Context())
			e.plugs(cmd.Context())
			if e.failed > 0 {
				return fmt.Errorf("%d checks failed", e.failed)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&brokerConf, "mosquitto-conf", "", "`file` whose plugin_opt_public lines to compare with the configuration")
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

// brokerConf compares the plugin's public filters with ours: a filter that only
// the plugin has gives away what is for sale. Those of its settings file count,
// too.
func (e *examination) brokerConf(path string) {
	public, err := lineValues(path, "plugin_opt_public")
	if err != nil {
		e.say(fail, "mosquitto.conf: %v", err)
		return
	}
	settings, err := lineValues(path, "plugin_opt_settings_file")
	if err != nil {
		e.say(fail, "mosquitto.conf: %v", err)
		return
	}
	for _, file := range settings {
		more, err := lineValues(file, "public")
		if err != nil {
			e.say(fail, "plugin_opt_settings_file: %v", err)
			return
		}
		public = append(public, more...)
	}
	slices.Sort(public)
	public = slices.Compact(public)
	ours := slices.Compact(slices.Sorted(slices.Values(e.cfg.Public)))
	if slices.Equal(ours, public) {
		e.say(ok, "%s has the same public filters as the configuration", path)
	} else {
		e.say(fail, "%s has the public filters %q, the configuration has %q: must be the same", path, public, ours)
	}
}

// lineValues returns the values of all lines "NAME VALUE" of a file.
func lineValues(path, name string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var values []string
	for line := range strings.Lines(string(text)) {
		if option, value, _ := strings.Cut(strings.TrimSpace(line), " "); option == name {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values, nil
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
		e.say(ok, "store at %s: %d users, %d payments", e.cfg.Store.Where(), len(users), len(book))
		e.publisher(users)
		held := 0
		for _, b := range book {
			if b.Outcome == tangle.Unmatched {
				held++
			}
		}
		if held > 0 {
			e.say(warn, "%d payments are held: see iotoll payment list --outcome unmatched", held)
		}
		return e.ledger(ctx, store)
	})
	if err != nil {
		e.say(fail, "store at %s: %v", e.cfg.Store.Where(), err)
	}
}

// publisher looks whether the broker will let serve publish: MQTT 3.1.1 has no
// way to say that it does not.
func (e *examination) publisher(users []acl.User) {
	name, topics := e.cfg.Broker.Username, e.cfg.Published()
	if name == "" || len(topics) == 0 {
		return
	}
	if !slices.ContainsFunc(users, func(u acl.User) bool { return u.Name == name }) {
		e.say(warn, "account %q does not exist: iotoll serve creates it", name)
		return
	}
	now := time.Now()
	snapshot := acl.NewSnapshot(nil, time.Hour).Load(now, users, nil)
	denied := slices.DeleteFunc(topics, func(topic string) bool {
		return snapshot.Decide(acl.Request{Subject: name, Topic: topic, Access: acl.Write}, now).Permit
	})
	if len(denied) > 0 {
		e.say(fail, "account %q may not publish to %q: remove it, and iotoll serve creates it anew with the rights that it needs", name, denied)
		return
	}
	e.say(ok, "account %q may publish what it has to", name)
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
	asking, cancel := context.WithTimeout(ctx, examineTimeout)
	balances, err := ledger.Balances(asking)
	cancel()
	for _, h := range ledger.Health() {
		switch {
		case h.Err != nil:
			e.say(fail, "node %s: %v", h.Node, h.Err)
		case h.Frozen || h.Behind > 3:
			e.say(warn, "node %s: %s stands at %d, %d behind", h.Node, h.App, h.Position, h.Behind)
		default:
			e.say(ok, "node %s: %s at %d", h.Node, h.App, h.Position)
		}
	}
	if err != nil {
		e.say(fail, "deposit addresses cannot be compared with the book: no node says what they hold")
		return nil
	}
	booked, err := received(ctx, store)
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
		if booked, err = received(ctx, store); err != nil {
			return err
		}
	}
	money := ledger.Currency()
	for _, b := range balances {
		difference := b.Amount - booked[b.Address]
		switch {
		case b.Spent:
			e.say(warn, "address %s was spent from, whoever pays to it now risks the money: configure a new one, and this one as former", b.Address)
			if difference != 0 {
				e.say(warn, "address %s holds %s, the book has %s received", b.Address, money.Format(b.Amount), money.Format(booked[b.Address]))
			}
		case difference > 0:
			e.say(fail, "address %s holds %s, %s more than the book has: payments were not seen", b.Address, money.Format(b.Amount), money.Format(difference))
		case difference < 0:
			// Anything else than spending cannot lower it.
			e.say(fail, "address %s holds %s, %s less than the book has: is node %s on another network, or was it reset?", b.Address, money.Format(b.Amount), money.Format(-difference), b.Node)
		default:
			e.say(ok, "address %s holds the %s that the book has", b.Address, money.Format(b.Amount))
		}
	}
	return nil
}

// received returns what was paid to each address, by the book.
func received(ctx context.Context, store *mongostore.Store) (map[string]int64, error) {
	book, err := store.PaymentRecords(ctx)
	if err != nil {
		return nil, err
	}
	sums := make(map[string]int64)
	for _, b := range book {
		sums[b.Address] += b.Amount
	}
	return sums, nil
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
	}
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
