// Package daemon is what "iotoll serve" runs: the watcher of the ledger, the
// pollers of the plugs, what publishes, the metrics, and the account of the publisher.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/cmd/internal/secret"
	"github.com/iotoll/iotoll/tangle"
)

const (
	// lookTimeout bounds one look at the ledger and the settling of a payment.
	lookTimeout = 30 * time.Second
	// followInterval is how often the store is asked whether users changed.
	followInterval = 250 * time.Millisecond
	// retryInterval is how long a component that failed waits.
	retryInterval = time.Second
	// keepChanges is how long the log of changes is kept, and for how long grants
	// that are over count as current. Who follows the log and was away for longer
	// reads everything anew.
	keepChanges  = 24 * time.Hour
	trimInterval = time.Hour
)

// daemon is a running "iotoll serve".
type daemon struct {
	cfg    *config.Config
	log    logrus.FieldLogger
	store  *mongostore.Store
	ready  func() // says that payments are watched for
	meters *meters
}

// Run runs everything that the configuration names until ctx ends. It writes a
// line to out once payments are watched for. What is away for a while is tried
// again; the error says what waiting does not mend.
func Run(ctx context.Context, cfg *config.Config, out io.Writer, log *logrus.Logger) (err error) {
	d := &daemon{cfg: cfg, log: log, meters: newMeters()}
	pollers, err := d.pollers()
	if err != nil {
		return err
	}
	publishOffers, err := d.offersPublisher()
	if err != nil {
		return err
	}
	watcher, err := d.watcher()
	if err != nil {
		return err
	}

	var listener net.Listener
	if cfg.Metrics.Listen != "" {
		if listener, err = net.Listen("tcp", cfg.Metrics.Listen); err != nil {
			return fmt.Errorf("serve metrics: %w", err)
		}
		defer listener.Close()
		log.WithField("url", "http://"+listener.Addr().String()+"/metrics").Info("metrics are served")
	}

	// The store outlives those who use it.
	storing := new(errgroup.Group)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		stop()
		err = errors.Join(err, storing.Wait())
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	uri, err := d.openStore(ctx, func(s *embedded.Server) {
		storing.Go(func() error {
			err := s.Run(serving)
			cancel(err)
			return err
		})
	})
	if err != nil {
		return err
	}
	if d.store, err = mongostore.Open(uri, cfg.Store.Database); err != nil {
		return err
	}
	d.store.Log = log
	defer func() { err = errors.Join(err, d.store.Close(context.WithoutCancel(ctx))) }()

	d.ready = func() {
		fmt.Fprintf(out, "iotoll is ready: %d offers, %d plugs, store at %s\n", len(cfg.Offers), len(cfg.Plugs), cfg.Store.Where())
	}
	g, ctx := errgroup.WithContext(ctx)
	if listener != nil {
		g.Go(func() error { return ServeHTTP(ctx, listener, d.meters.handler()) })
	}
	g.Go(func() error { return d.settle(ctx, watcher) })
	if publishOffers != nil {
		g.Go(func() error { return publishOffers(ctx) })
	}
	for _, p := range pollers {
		g.Go(func() error { return p.broker.Run(ctx, p.poller.Run) })
	}
	return g.Wait()
}

// openStore returns the URI of the store. It calls run with the embedded store
// if that is the one, which then has to be run at once.
func (d *daemon) openStore(ctx context.Context, run func(*embedded.Server)) (uri string, err error) {
	if d.cfg.Store.URIFile != "" {
		s, err := secret.ReadFile(d.cfg.Store.URIFile)
		if err != nil {
			return "", fmt.Errorf("read URI of the store: %w", err)
		}
		return s.Reveal(), nil
	}
	e := d.cfg.Store.Embedded
	// Another command may have it open for a moment.
	for deadline := time.Now().Add(storeTimeout); ; {
		server, err := embedded.Open(embedded.Config{Directory: e.Directory, Socket: e.Socket, Group: e.Group}, d.log)
		if err == nil {
			run(server)
			return server.URI(), nil
		}
		if !errors.Is(err, embedded.ErrInUse) || time.Now().After(deadline) {
			return "", err
		}
		if Answers(e.Socket) {
			return "", hint.Add(err, `"iotoll serve" seems to run already`)
		}
		if err := wait(ctx, 50*time.Millisecond); err != nil {
			return "", err
		}
	}
}

// watcher returns the watcher of the ledger, still without a store, or nil if
// nothing is for sale.
func (d *daemon) watcher() (*tangle.Watcher, error) {
	if len(d.cfg.Offers) == 0 {
		d.log.Warn("nothing is for sale: the configuration has no offers")
		return nil, nil
	}
	offers, err := d.cfg.ForSale()
	if err != nil {
		return nil, err
	}
	ledger, err := d.cfg.Ledger.Open(offers.Addresses(), d.log)
	if err != nil {
		return nil, err
	}
	d.meters.ledger, d.meters.reading = ledger, d.cfg.Ledger
	d.meters.watcher = &tangle.Watcher{
		Ledger: ledger, Offers: offers,
		Interval: d.cfg.Ledger.Poll, Timeout: lookTimeout, FromStart: d.cfg.Ledger.FromStart,
		Observe: d.meters.settled, Log: d.log,
	}
	return d.meters.watcher, nil
}

// settle prepares the store and then does all that needs it, until ctx ends.
func (d *daemon) settle(ctx context.Context, w *tangle.Watcher) error {
	err := d.insist(ctx, "store cannot be prepared", "store is prepared", func() error {
		if err := d.store.Migrate(ctx); errors.Is(err, mongostore.ErrVersion) {
			return fatal{err} // waiting does not help
		} else if err != nil {
			return err
		}
		return d.addPublisher(ctx)
	})
	if err != nil || ctx.Err() != nil {
		return err
	}
	d.ready()
	g, ctx := errgroup.WithContext(ctx)
	recheck := make(chan struct{}, 1)
	g.Go(func() error { return d.follow(ctx, recheck) })
	g.Go(func() error { return d.trim(ctx) })
	if w != nil {
		w.Store, w.Recheck = d.store, recheck
		g.Go(func() error { return w.Run(ctx) })
	}
	return g.Wait()
}

// fatal is an error that insist does not try again.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// insist calls do, which needs the store, until it succeeds or ctx ends, and
// returns nil then. It logs the beginning and the end of trouble. An error that
// is fatal ends it.
func (d *daemon) insist(ctx context.Context, failed, recovered string, do func() error) error {
	trouble := false
	for {
		err := do()
		if ctx.Err() == nil {
			d.meters.store.note(err)
		}
		var f fatal
		switch {
		case errors.As(err, &f):
			return f.error
		case ctx.Err() != nil:
			return nil
		case err == nil:
			if trouble {
				d.log.Info(recovered)
			}
			return nil
		case !trouble:
			d.log.WithError(err).WithField("retry_in", retryInterval).Warn(failed)
			trouble = true
		}
		if wait(ctx, retryInterval) != nil {
			return nil
		}
	}
}

// wait waits for d, or until ctx ends, whose error it returns then.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// addPublisher makes the account that readings are published with, if there is
// none of that name. It may write what serve publishes, read what it takes
// readings from, and nothing else.
func (d *daemon) addPublisher(ctx context.Context) error {
	name := d.cfg.Broker.Username
	if name == "" || len(d.cfg.Plugs) == 0 && d.cfg.Broker.OffersTopic == "" {
		return nil
	}
	if exists, err := d.store.UserExists(ctx, name); err != nil || exists {
		return err
	}
	pw, err := secret.ReadFile(d.cfg.Broker.PasswordFile)
	if err != nil {
		return fatal{fmt.Errorf("read password of broker account %q: %w", name, err)}
	}
	u := acl.User{Name: name}
	for _, topic := range d.cfg.Published() {
		u.Rights = append(u.Rights, acl.Right{Pattern: topic, Access: acl.Write})
	}
	if u.Password, err = password.Hash(pw.Reveal()); err != nil {
		return fatal{err}
	}
	for _, p := range d.cfg.Plugs {
		if p.Topic != "" {
			u.Rights = append(u.Rights, acl.Right{Pattern: p.Topic, Access: acl.Read})
		}
	}
	if err := d.store.AddUser(ctx, u); err != nil && !errors.Is(err, mongostore.ErrExists) {
		return fmt.Errorf("add broker account %q: %w", name, err)
	}
	d.log.WithField("username", name).Info("account that publishes was created")
	return nil
}

// follow asks the watcher to look at held payments again whenever users changed:
// one may be whom a payment names.
func (d *daemon) follow(ctx context.Context, recheck chan<- struct{}) error {
	var at mongostore.ResumeToken
	start := func() (err error) {
		at, err = d.store.End(ctx)
		return err
	}
	const failed, recovered = "store cannot be followed", "store is followed again"
	if err := d.insist(ctx, failed, recovered, start); err != nil {
		return err
	}
	for wait(ctx, followInterval) == nil {
		changed := false
		err := d.insist(ctx, failed, recovered, func() error {
			changes, to, err := d.store.Changes(ctx, at)
			if errors.Is(err, mongostore.ErrReload) {
				changed = true
				return start()
			} else if err != nil {
				return err
			}
			at = to
			for _, c := range changes {
				changed = changed || c.User != nil
			}
			return nil
		})
		if err != nil {
			return err
		}
		if changed {
			select {
			case recheck <- struct{}{}:
			default: // it is asked for anyway
			}
		}
	}
	return nil
}

// trim keeps it cheap to follow and to load the store, however much was sold.
func (d *daemon) trim(ctx context.Context) error {
	for {
		if err := d.store.Trim(ctx, time.Now().Add(-keepChanges)); err != nil && ctx.Err() == nil {
			d.log.WithError(err).WithField("retry_in", trimInterval).Warn("store cannot be trimmed")
		}
		if wait(ctx, trimInterval) != nil {
			return nil
		}
	}
}
