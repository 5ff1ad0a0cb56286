package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/cmd/internal/secret"
)

// storeTimeout is how long a command waits for a store that another process is
// about to open or to close.
const storeTimeout = 10 * time.Second

// WithStore calls do with the store of the configuration. The embedded store is
// that of the running "iotoll serve"; if none runs, it is opened in this
// process for the time that do takes.
func WithStore(ctx context.Context, cfg *config.Config, log logrus.FieldLogger, do func(context.Context, *mongostore.Store) error) (err error) {
	uri, server, err := locateStore(ctx, cfg, log)
	if err != nil {
		return err
	}
	g := new(errgroup.Group)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	if server != nil {
		g.Go(func() error { return server.Run(serving) })
	}
	defer func() {
		stop()
		err = errors.Join(err, g.Wait())
	}()
	store, err := mongostore.Open(uri, cfg.Store.Database)
	if err != nil {
		return err
	}
	store.Log = log
	defer func() { err = errors.Join(err, store.Close(context.WithoutCancel(ctx))) }()
	if err := prepare(ctx, cfg, store, log); err != nil {
		return hint.Add(err, "the store is at %s", cfg.Store.Where())
	}
	return do(ctx, store)
}

// prepare migrates the store and lets it index its users, unless it is another one than that whose ID was
// noted. The first time, it notes the ID.
func prepare(ctx context.Context, cfg *config.Config, store *mongostore.Store, log logrus.FieldLogger) error {
	file := cfg.StoreIDFile()
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read store ID: %w", err)
	}
	noted := strings.TrimSpace(string(text))
	if noted != "" {
		err := store.CheckID(ctx, noted)
		if errors.Is(err, mongostore.ErrOtherStore) {
			return hint.Add(err, "correct the store's place in %s, or restore a backup (\"iotoll store restore\"); to go on with this store, remove %s", cfg.Path, file)
		} else if err != nil {
			return err
		}
	}
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	if err := store.IndexUsers(ctx); err != nil || noted != "" {
		return err
	}
	id, err := store.ID(ctx)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(id+"\n"), 0o644); err != nil {
		log.WithError(err).Warn("store ID not noted, loss of the store would go unnoticed")
	}
	return nil
}

// locateStore returns the URI of the store, and the embedded store if this
// process had to open it, which must then be run.
func locateStore(ctx context.Context, cfg *config.Config, log logrus.FieldLogger) (uri string, server *embedded.Server, err error) {
	if cfg.Store.URIFile != "" {
		s, err := secret.ReadFile(cfg.Store.URIFile)
		if err != nil {
			return "", nil, fmt.Errorf("read URI of the store: %w", err)
		}
		return s.Reveal(), nil, nil
	}
	e := cfg.Store.Embedded
	// "serve" or another command may hold the directory without listening yet,
	// or not listen any more and still hold it.
	for deadline := time.Now().Add(storeTimeout); ; {
		if Answers(e.Socket) {
			return embedded.URI(e.Socket), nil, nil
		}
		// On a socket of its own, so that the broker's plugin does not connect
		// to a store that is gone in a moment.
		server, err := embedded.Open(embedded.Config{Directory: e.Directory}, log)
		if err == nil {
			return server.URI(), server, nil
		}
		if !errors.Is(err, embedded.ErrInUse) || time.Now().After(deadline) {
			return "", nil, err
		}
		select {
		case <-ctx.Done():
			return "", nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Answers reports whether a process listens on a socket.
func Answers(socket string) bool {
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
