// Package daemon is what "iotoll serve" runs: the watcher of the ledger, the
// pollers of the plugs, what publishes, the metrics, and the publisher's account.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/cmd/internal/secret"
)

const (
	// lookTimeout bounds one look at the ledger and the settling of a payment.
	lookTimeout = 30 * time.Second
	// followInterval is how often the store is asked whether users changed.
	followInterval = 250 * time.Millisecond
	// retryInterval is how long a component that failed waits.
	retryInterval = time.Second
	// keepChanges is how long the log of changes is kept, and for how long grants
	// that are over count as current. A follower that was away for longer reads
	// everything again.
	keepChanges  = 24 * time.Hour
	trimInterval = time.Hour
)

// Options are what Run needs. All are required but Reload.
type Options struct {
	Load   func() (*config.Config, error) // reads the configuration
	Reload <-chan os.Signal               // asks to read it again
	Out    io.Writer                      // gets a line once payments are watched for
	Log    *logrus.Logger
}

// daemon is a running "iotoll serve".
type daemon struct {
	Options
	log      logrus.FieldLogger
	store    *mongostore.Store
	metrics  *metrics
	prepared chan struct{} // closed once the store can be used
	recheck  chan string   // names of users who changed, for the watcher

	mu  sync.Mutex
	cfg *config.Config // in force
}

func (d *daemon) config() *config.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg
}

// Run runs everything that the configuration names until ctx ends. Components
// that are unreachable are tried again; the error says what waiting does not mend.
func Run(ctx context.Context, o Options) (err error) {
	cfg, err := o.Load()
	if err != nil {
		return err
	}
	d := &daemon{Options: o, log: o.Log, metrics: newMetrics(), prepared: make(chan struct{}), recheck: make(chan string), cfg: cfg}
	parts, err := d.parts(cfg)
	if err != nil {
		return err
	}
	var listener net.Listener
	if cfg.Metrics.Listen != "" {
		if listener, err = net.Listen("tcp", cfg.Metrics.Listen); err != nil {
			return fmt.Errorf("serve metrics: %w", err)
		}
		defer listener.Close()
		d.log.WithField("url", "http://"+listener.Addr().String()+"/metrics").Info("metrics are served")
	}

	// The store outlives its users.
	storing := new(errgroup.Group)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		stop()
		err = errors.Join(err, storing.Wait())
	}()
	defer context.AfterFunc(ctx, func() { d.log.Info("stopping") })()
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
	d.store.Log = d.log
	defer func() { err = errors.Join(err, d.store.Close(context.WithoutCancel(ctx))) }()

	g, ctx := errgroup.WithContext(ctx)
	if listener != nil {
		g.Go(func() error { return ServeHTTP(ctx, listener, d.metrics.handler()) })
	}
	g.Go(func() error { return d.keep(ctx) })
	g.Go(func() error { return d.supervise(ctx, parts) })
	return g.Wait()
}

// keep prepares the store and then does all that needs it but settling, until ctx
// ends.
func (d *daemon) keep(ctx context.Context) error {
	err := d.insist(ctx, "store cannot be prepared", "store is prepared", func() error {
		if err := prepare(ctx, d.config(), d.store, d.log); errors.Is(err, mongostore.ErrVersion) || errors.Is(err, mongostore.ErrOtherStore) {
			return fatal{err} // waiting does not help
		} else if err != nil {
			return err
		}
		if err := d.announceOffers(ctx); err != nil {
			return err
		}
		return d.ensureAccount(ctx)
	})
	if err != nil || ctx.Err() != nil {
		return err
	}
	close(d.prepared)
	cfg := d.config()
	fmt.Fprintf(d.Out, "iotoll is ready: %s, %s, store at %s\n", count(len(cfg.Offers), "offer", "offers"), count(len(cfg.Plugs), "plug", "plugs"), cfg.Store.Where())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.follow(ctx) })
	g.Go(func() error { return d.trim(ctx) })
	return g.Wait()
}

// count returns a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// supervise runs the parts until ctx ends, and replaces them when the
// configuration is to be read again. Parts whose settings stay the same go on.
func (d *daemon) supervise(ctx context.Context, parts []*part) error {
	g, ctx := errgroup.WithContext(ctx)
	start := func(p *part) {
		running, stop := context.WithCancel(ctx)
		p.stop, p.done = stop, make(chan struct{})
		g.Go(func() error {
			defer close(p.done)
			return p.run(running)
		})
	}
	d.metrics.show(d.config(), parts)
	for _, p := range parts {
		start(p)
	}
	for {
		select {
		case <-ctx.Done():
			return g.Wait()
		case <-d.Reload:
		}
		cfg, next, err := d.reload()
		if err != nil {
			d.log.WithError(err).Error("configuration not reloaded, the old one stays in force")
			continue
		}
		for i, p := range next {
			if old := p.same(parts); old != nil {
				next[i] = old
			}
		}
		for _, old := range parts {
			if old.same(next) != old {
				old.stop()
				<-old.done
			}
		}
		d.mu.Lock()
		d.cfg = cfg
		d.mu.Unlock()
		d.metrics.show(cfg, next)
		for _, p := range next {
			if p.done == nil {
				start(p)
			}
		}
		parts = next
		select {
		case <-d.prepared:
			err := d.insist(ctx, "reloaded configuration cannot be written to the store", "reloaded configuration is in the store", func() error {
				if err := d.announceOffers(ctx); err != nil {
					return err
				}
				return d.ensureAccount(ctx)
			})
			if err != nil {
				return errors.Join(err, g.Wait())
			}
		default: // keep does it
		}
		d.log.WithFields(logrus.Fields{"offers": len(cfg.Offers), "plugs": len(cfg.Plugs), "public": len(cfg.Public)}).Info("configuration reloaded")
	}
}

// reload reads the configuration. Settings that need a restart stay as they are,
// and the log says so.
func (d *daemon) reload() (*config.Config, []*part, error) {
	cfg, err := d.Load()
	if err != nil {
		return nil, nil, err
	}
	old := d.config()
	for _, s := range []struct {
		key      string
		old, new any
	}{{"store", old.Store, cfg.Store}, {"metrics", old.Metrics, cfg.Metrics}} {
		if !reflect.DeepEqual(s.old, s.new) {
			d.log.WithField("setting", s.key).Warn("a changed setting needs a restart")
		}
	}
	cfg.Store, cfg.Metrics = old.Store, old.Metrics
	parts, err := d.parts(cfg)
	return cfg, parts, err
}

// openStore returns the URI of the store. It calls run with the embedded store
// if that is the one, which then has to be run at once.
func (d *daemon) openStore(ctx context.Context, run func(*embedded.Server)) (uri string, err error) {
	if d.config().Store.URIFile != "" {
		s, err := secret.ReadFile(d.config().Store.URIFile)
		if err != nil {
			return "", fmt.Errorf("read URI of the store: %w", err)
		}
		return s.Reveal(), nil
	}
	e := d.config().Store.Embedded
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
			d.metrics.store.note(err)
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

// follow tells the watcher which users changed, since held payments may wait for
// one, and repairs the publisher's account when that changed.
func (d *daemon) follow(ctx context.Context) error {
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
		var changed []string
		account := false
		err := d.insist(ctx, failed, recovered, func() error {
			changes, to, err := d.store.Changes(ctx, at)
			if errors.Is(err, mongostore.ErrReload) {
				return start() // the watcher asks for every name now and then
			} else if err != nil {
				return err
			}
			at = to
			for _, c := range changes {
				name := c.RemovedUser
				if c.User != nil {
					name = c.User.Name
					changed = append(changed, name)
				}
				account = account || name == d.config().Broker.Username
			}
			return nil
		})
		if err != nil {
			return err
		}
		if account {
			if err := d.insist(ctx, failed, recovered, func() error { return d.ensureAccount(ctx) }); err != nil {
				return err
			}
		}
		for _, name := range changed {
			select {
			case d.recheck <- name:
			case <-ctx.Done():
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
