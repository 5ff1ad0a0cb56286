package ledgers

import (
	"context"
	"errors"
	"strings"

	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/tangle/wallet"
)

// Receipt identifies a payment.
type Receipt struct {
	Payment   string // its ID in the seller's book
	Reference string // what else the ledger knows it by
}

// Wallet pays from one key.
type Wallet interface {
	// Pay sends an amount, in base units, with a message. With an error, the
	// receipt is empty unless the ledger may know of the payment.
	Pay(ctx context.Context, to string, amount int64, message string) (Receipt, error)
	// Wait returns once the payment is final. It tries again what fails until ctx
	// ends.
	Wait(ctx context.Context, r Receipt) error
	// Done says that the receipt is safe with the caller. Until then, Pay returns the
	// same payment again in place of a second one.
	Done(ctx context.Context, r Receipt) error
	// Balance returns what the key can spend.
	Balance(ctx context.Context) (Holding, error)
}

// Holding is what a key can spend.
type Holding struct {
	Address string // where the key takes money
	Amount  int64  // in base units
}

// WalletConfig says how to pay.
type WalletConfig struct {
	Kind    string
	Node    string // URL
	KeyFile string
	MWM     int // proof of work of the legacy tangle; 0 is what the node wants
}

// Open returns the wallet.
func (c WalletConfig) Open() (Wallet, error) {
	if c.Kind == IOTA {
		return iotaWallet{wallet.Rebased{Node: c.Node, KeyFile: c.KeyFile}}, nil
	}
	key, err := ReadSeed(c.KeyFile)
	if err != nil {
		return nil, err
	}
	return &legacyWallet{w: wallet.Wallet{Node: c.Node, Seed: key.Reveal(), MWM: c.MWM, Force: true}}, nil
}

type legacyWallet struct {
	w    wallet.Wallet
	sent wallet.Receipt // of the last payment
}

func (l *legacyWallet) Pay(ctx context.Context, to string, amount int64, message string) (Receipt, error) {
	r, err := l.w.Pay(ctx, to, amount, message)
	l.sent = r
	switch {
	case errors.Is(err, wallet.ErrInsufficient):
		err = hint.Add(err, "money that was sent to this key counts once it is confirmed")
	case err != nil && r.Tail != "" && strings.Contains(err.Error(), "Invalid trytes"): // IRI's answer to too little work
		err = hint.Add(err, "the network may want more work: try a higher --mwm, such as 14, once you have made sure that nobody knows that payment")
	case err != nil && r.Tail != "":
		err = hint.Add(err, "wait a few minutes and ask the seller, or the node, for that payment before you pay again")
	case err != nil && strings.Contains(err.Error(), "MinWeightMagnitude"):
		err = hint.Add(err, "leave out --mwm: the node knows what its network wants")
	}
	return Receipt{Payment: r.Tail, Reference: r.Bundle}, err
}

func (l *legacyWallet) Wait(ctx context.Context, r Receipt) error {
	sent := wallet.Receipt{Tail: r.Payment, Bundle: r.Reference}
	if l.sent.Tail == sent.Tail {
		sent = l.sent // it knows by which addresses to find a conflicting payment
	}
	err := l.w.Wait(ctx, sent)
	if errors.Is(err, wallet.ErrConflict) {
		err = hint.Add(err, "another payment spent the same money: pay again")
	}
	return err
}

func (*legacyWallet) Done(context.Context, Receipt) error { return nil }

func (l *legacyWallet) Balance(ctx context.Context) (Holding, error) {
	amount, fresh, err := l.w.Balance(ctx)
	return Holding{Address: fresh, Amount: amount}, err
}

type iotaWallet struct{ w wallet.Rebased }

func (i iotaWallet) Pay(ctx context.Context, to string, amount int64, message string) (Receipt, error) {
	t, err := i.w.Pay(ctx, to, amount, message)
	switch {
	case errors.Is(err, wallet.ErrUndecided):
		err = hint.Add(err, "pay the same again later: it finds out what became of this payment, and does not pay twice")
	case err != nil:
		return Receipt{}, err
	}
	return Receipt{Payment: t.Digest + "/" + to, Reference: t.Digest}, err
}

func (i iotaWallet) Wait(ctx context.Context, r Receipt) error {
	return i.w.Wait(ctx, wallet.Transfer{Digest: r.Reference})
}

func (i iotaWallet) Done(ctx context.Context, r Receipt) error {
	return i.w.Done(ctx, wallet.Transfer{Digest: r.Reference})
}

func (i iotaWallet) Balance(ctx context.Context) (Holding, error) {
	key, err := wallet.ReadKey(i.w.KeyFile)
	if err != nil {
		return Holding{}, err
	}
	amount, err := i.w.Balance(ctx)
	return Holding{Address: key.Address().String(), Amount: amount}, err
}
