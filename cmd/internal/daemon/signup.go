package daemon

import (
	"context"

	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/signup"
)

// signupPart returns what keeps the keys of sealed sign-ups announced, or what
// withdraws them if sign-up is off.
func (d *daemon) signupPart(cfg *config.Config) *part {
	on := cfg.Signup && len(cfg.Offers) > 0
	return &part{name: "sign-up", settings: []any{on}, run: func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-d.prepared:
		}
		if on {
			(&signup.Keyring{Store: d.store, Log: d.log}).Run(ctx)
			return nil
		}
		err := d.insist(ctx, "sign-up key cannot be withdrawn", "sign-up key can be withdrawn", func() error {
			return signup.Withdraw(ctx, d.store)
		})
		if err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}}
}

// signupRule returns the rule for payments that seal a sign-up.
func signupRule(cfg *config.Config, ledger tangle.Inspector, store *mongostore.Store) tangle.Rule {
	return &signup.Rule{
		Keys:     &signup.Keyring{Store: store},
		Accounts: store, CheckName: mongostore.CheckNewName,
		Reserved: []string{cfg.Broker.Username}, Currency: ledger.Currency(),
	}
}
