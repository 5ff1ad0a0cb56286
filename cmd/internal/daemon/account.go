package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/secret"
	"github.com/iotoll/iotoll/tangle/buyer"
)

// MissingRights returns the rights that the publisher's account lacks: to write
// what serve publishes and to read what it takes readings from.
func MissingRights(cfg *config.Config, u acl.User) []acl.Right {
	now := time.Now()
	u.Disabled = false
	snapshot := acl.NewSnapshot(nil, time.Hour).Load(now, []acl.User{u}, nil)
	var missing []acl.Right
	needFor := func(pattern, topic string, access acl.Access) {
		if !snapshot.Decide(acl.Request{Subject: u.Name, Topic: topic, Access: access}, now).Permit {
			missing = append(missing, acl.Right{Pattern: pattern, Access: access})
		}
	}
	need := func(topic string, access acl.Access) { needFor(topic, topic, access) }
	for _, topic := range cfg.Published() {
		need(topic, acl.Write)
	}
	if cfg.Sells() {
		some, _ := buyer.AccountTopic("\u00a0") // nobody's: a right to one account is not enough
		needFor(buyer.AccountTopics, some, acl.Write)
	}
	for _, p := range cfg.Plugs {
		if p.Topic != "" {
			need(p.Topic, acl.Read)
		}
	}
	return missing
}

// ensureAccount makes sure that the account that readings are published with
// exists and has the rights that it needs.
func (d *daemon) ensureAccount(ctx context.Context) error {
	cfg := d.config()
	name := cfg.Broker.Username
	if name == "" || len(cfg.Published()) == 0 {
		return nil
	}
	log := d.log.WithField("username", name)
	u, err := d.store.User(ctx, name)
	if errors.Is(err, mongostore.ErrNotFound) {
		pw, err := secret.ReadFile(cfg.Broker.PasswordFile)
		if err != nil {
			return fatal{fmt.Errorf("read password of broker account %q: %w", name, err)}
		}
		u := acl.User{Name: name}
		u.Rights = MissingRights(cfg, u)
		if u.Password, err = password.Hash(pw.Reveal()); err != nil {
			return fatal{err}
		}
		if err := d.store.AddUser(ctx, u); err != nil && !errors.Is(err, mongostore.ErrExists) {
			return fmt.Errorf("add broker account %q: %w", name, err)
		}
		log.Info("publisher's account was created")
		return nil
	} else if err != nil {
		return err
	}
	if u.Disabled {
		log.Error("publisher's account is disabled, nothing is published")
	}
	missing := MissingRights(cfg, u.User)
	if len(missing) == 0 {
		return nil
	}
	rights := append(slices.Clone(u.Rights), missing...)
	if err := d.store.SetUser(ctx, name, mongostore.UserChange{Rights: &rights}); err != nil {
		return fmt.Errorf("give broker account %q its rights: %w", name, err)
	}
	log.WithField("added", len(missing)).Info("publisher's account was given the rights that it lacked")
	return nil
}
