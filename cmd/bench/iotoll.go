package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/tangle"
)

// prepareIotoll starts a store, in which every subscriber has paid, and copies
// the plugin to where the broker sees it.
func (b *bench) prepareIotoll(ctx context.Context) (string, error) {
	library, err := os.ReadFile(b.plugin)
	if err != nil {
		return "", fmt.Errorf("read the plugin, which make build makes: %w", err)
	}
	plugin := filepath.Join(b.dir, "iotoll.so")
	if err := os.WriteFile(plugin, library, 0o600); err != nil {
		return "", err
	}
	if b.store, err = startStore(filepath.Join(b.dir, "store")); err != nil {
		return "", err
	}
	if err := b.store.fill(ctx, b.fixture); err != nil {
		return "", fmt.Errorf("fill the store: %w", err)
	}
	return fmt.Sprintf("plugin %s\nplugin_opt_store_uri %s\n", b.program.inside(plugin), b.store.uri), nil
}

// store is an embedded store that runs in this process.
type store struct {
	uri  string
	stop func() error
}

func startStore(dir string) (*store, error) {
	silent := logrus.New()
	silent.SetOutput(io.Discard)
	server, err := embedded.Open(embedded.Config{Directory: dir}, silent)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	return &store{uri: server.URI(), stop: func() error {
		cancel()
		return <-ended
	}}, nil
}

// fill adds the users, and settles a payment of each subscriber.
func (s *store) fill(ctx context.Context, f *fixture) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	db, err := mongostore.Open(s.uri, "mosquitto")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close(context.WithoutCancel(ctx))) }()
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	for _, a := range f.callers {
		// The hash that iotoll writes: the log-ins that are timed are honest.
		hash, err := password.Hash(a.password)
		if err != nil {
			return err
		}
		if err := db.AddUser(ctx, acl.User{Name: a.name, Password: hash}); err != nil {
			return err
		}
	}
	if err := addUser(ctx, db, f.publisher, acl.Write, acl.Right{Pattern: topic, Access: acl.Write}); err != nil {
		return err
	}
	filter, err := acl.ParseFilter(topic)
	if err != nil {
		return err
	}
	offer := tangle.Offer{ID: "live", Filters: []acl.Filter{filter}, Price: 500, Period: time.Hour, Address: "DEPOSIT"}
	offers, err := tangle.NewOffers(offer)
	if err != nil {
		return err
	}
	settler := tangle.Settler{Store: db, Offers: offers}
	for _, a := range f.subscribers {
		if err := addUser(ctx, db, a, acl.Read); err != nil {
			return err
		}
		now := time.Now()
		p := tangle.Payment{
			ID: "payment of " + a.name, Ledger: "bench", Address: offer.Address, Amount: 24 * offer.Price,
			Message: fmt.Appendf(nil, `{"username": %q}`, a.name), Claimed: now, Seen: now, Confirmed: now,
		}
		if _, err := db.Record(ctx, p, tangle.Unmatched); err != nil {
			return err
		}
		result, err := settler.Settle(ctx, p)
		if err != nil {
			return err
		}
		if result.Outcome != tangle.Credited {
			return fmt.Errorf("settle the payment of %s: %s: %s", a.name, result.Outcome, result.Reason)
		}
	}
	return nil
}

// addUser adds a user with the rights that do not match the topic, and more.
// The hash is as cheap as the built-in ones, so that the subscribers are soon
// there.
func addUser(ctx context.Context, db *mongostore.Store, a account, access acl.Access, more ...acl.Right) error {
	h, err := hashPassword(a.password, saltText)
	if err != nil {
		return err
	}
	u := acl.User{Name: a.name, Password: fmt.Sprintf("PBKDF2$sha512$%d$%s$%s", hashIterations, h.salt, h.key)}
	for i := range otherRules {
		u.Rights = append(u.Rights, acl.Right{Pattern: otherFilter(i), Access: access})
	}
	u.Rights = append(u.Rights, more...)
	return db.AddUser(ctx, u)
}
