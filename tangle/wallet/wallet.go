// Package wallet is a buyer's small wallet: it pays an amount to an address, with
// a message, through one node. [Rebased] pays on today's IOTA network, [Wallet] on
// the legacy (trinary) tangle, through the API of IRI
// (https://github.com/iotaledger/iri).
//
// Signatures of the legacy tangle are one-time: each reveals half of the private
// key of an address. Wallet therefore never signs for an address that it has seen
// a signature of, always empties the addresses that it spends from, and sends
// what is left over to a fresh address of the same seed. It leaves alone what was
// paid later to a spent address.
package wallet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/api"
	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/encoding/ascii"
	"github.com/iotaledger/iota.go/trinary"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/legacy/node"
)

const (
	attempts       = 3 // at a step once the transfer is signed: the signature should not be wasted
	defaultTimeout = 30 * time.Second
	defaultDepth   = 3
	defaultMWM     = 9
	poll           = 250 * time.Millisecond
	supply         = int64(consts.TotalSupply)
)

var (
	// ErrInsufficient is returned by [Wallet.Pay] when the confirmed and spendable
	// balance is less than the amount.
	ErrInsufficient = errors.New("not enough iotas")
	// ErrMessage is returned by [Wallet.Pay] when the seller could not read the
	// message, and would have to assign the payment by hand.
	ErrMessage = errors.New("the seller could not read the message")
	// ErrConflict is returned by [Wallet.Wait] when the ledger confirmed another
	// payment from the same addresses, so that it will never confirm this one.
	ErrConflict = errors.New("a conflicting payment was confirmed")
)

// Step is what Pay is doing.
type Step string

// The steps of a payment, in order.
const (
	StepFunds Step = "looking for funds"
	StepWork  Step = "waiting for the node's proof of work"
	StepSend  Step = "sending"
)

// Wallet pays from one seed through one node. Fill in the fields and call Pay;
// do not pay twice at the same time from one seed.
type Wallet struct {
	// Node is the URL of the node's API.
	Node string

	// Seed is 81 trytes (A to Z and 9), and owns the funds. It stays out of errors
	// and never leaves the process.
	Seed trinary.Trytes

	// MWM is the network's minimum weight magnitude, from 1 to 14: 14 on the
	// former main network, less on private ones. The node does that work. 0 is
	// what the node asks for when it is offered 9, as Hornet does; IRI does not
	// say, and drops what has too little.
	MWM int

	// Depth is how many milestones back tip selection starts; 3 if zero.
	Depth int

	// Timeout bounds each request to the node; 30 s if zero. Proof of work may take
	// ten times as long.
	Timeout time.Duration

	// Force sends a message also if the seller could not read it.
	Force bool

	// Progress, if set, is told of each step of Pay when it begins, and once a
	// second while it lasts.
	Progress func(step Step, elapsed time.Duration)

	// Client makes the requests; http.DefaultClient if nil.
	Client *http.Client

	beat time.Duration // between calls of Progress; 1 s if zero
}

// Receipt identifies a payment that was sent.
type Receipt struct {
	Tail   trinary.Hash   // the transaction that the seller's book knows it by
	Bundle trinary.Hash   // the hash of the whole transfer
	Inputs []trinary.Hash // the addresses that it was paid from, 81 trytes each
}

// Pay sends an amount of iotas to an address of 90 trytes, whose checksum it
// verifies, with a message in ASCII. When it returns, the node has taken the
// payment, but the ledger has not confirmed it: see Wait.
//
// If it returns a receipt with an error, it is unknown whether the node took the
// payment: look for that transaction, or wait for it, before paying again.
func (w *Wallet) Pay(ctx context.Context, to trinary.Hash, amount int64, message string) (Receipt, error) {
	if err := w.check(); err != nil {
		return Receipt{}, err
	}
	if err := checkAddress(to); err != nil {
		return Receipt{}, err
	}
	if amount <= 0 || amount > supply {
		return Receipt{}, fmt.Errorf("amount %d: want 1 to %d iotas", amount, supply)
	}
	trytes, err := encode(message)
	if err != nil {
		return Receipt{}, err
	}
	if _, err := tangle.ParseMessage([]byte(message)); err != nil && !w.Force {
		return Receipt{}, fmt.Errorf("%w: %w", ErrMessage, err)
	}
	n, err := w.connect()
	if err != nil {
		return Receipt{}, err
	}
	var f funds
	err = w.step(StepFunds, func() error { f, err = w.search(ctx, n, amount); return err })
	if err != nil {
		return Receipt{}, fmt.Errorf("look for funds at %s: %w", n.Name(), err)
	}
	r := Receipt{}
	for _, in := range f.inputs {
		if in.Address == to {
			return Receipt{}, fmt.Errorf("address %s: it is the payer's own, and would be paid from", to)
		}
		r.Inputs = append(r.Inputs, in.Address[:consts.HashTrytesSize])
	}
	signed, err := w.sign(f, bundle.Transfers{{Address: to, Value: uint64(amount), Message: trytes}})
	if err != nil {
		return Receipt{}, fmt.Errorf("sign transfer: %w", err)
	}
	var a attached
	err = w.step(StepWork, func() error {
		return again(ctx, func() error { a, err = w.attach(ctx, n, signed); return err })
	})
	if err != nil {
		return Receipt{}, fmt.Errorf("attach transfer at %s: %w", n.Name(), err)
	}
	r.Tail, r.Bundle = a.tail.Hash, a.tail.Bundle
	err = w.step(StepSend, func() error {
		return again(ctx, func() error { return n.Send(ctx, a.trytes) })
	})
	if err != nil {
		return r, fmt.Errorf("broadcast transfer at %s: %w; transaction %s may have been sent all the same", n.Name(), err, r.Tail)
	}
	return r, nil
}

// check refuses settings that cannot work.
func (w *Wallet) check() error {
	switch {
	case len(w.Seed) != consts.HashTrytesSize:
		return fmt.Errorf("seed of %d characters: want 81, of A to Z and 9", len(w.Seed))
	case trinary.ValidTrytes(w.Seed) != nil:
		return errors.New("seed: want only A to Z and 9")
	case w.MWM < 0 || w.MWM > 14:
		return fmt.Errorf("minimum weight magnitude %d: want 1 to 14, as the network has it", w.MWM)
	case w.Depth < 0 || w.Depth > 15:
		return fmt.Errorf("depth %d: want 1 to 15", w.Depth)
	}
	return nil
}

// checkAddress verifies an address and its checksum.
func checkAddress(to trinary.Hash) error {
	switch {
	case len(to) != consts.AddressWithChecksumTrytesSize:
		return fmt.Errorf("address %q of %d characters: want 90 trytes, the last 9 being the checksum", to, len(to))
	case trinary.ValidTrytes(to) != nil:
		return fmt.Errorf("address %q: want only A to Z and 9", to)
	}
	if err := address.ValidAddress(to); err != nil {
		return fmt.Errorf("address %s: %w: mistyped?", to, err)
	}
	return nil
}

// encode turns a message into trytes, two for a character.
func encode(message string) (trinary.Trytes, error) {
	for i, c := range []byte(message) {
		if c > 127 {
			return "", fmt.Errorf("message %q: byte %d is not ASCII; in JSON write it as \\u and four hexadecimal digits", message, i)
		}
	}
	trytes, err := ascii.EncodeToTrytes(message)
	if err != nil {
		return "", fmt.Errorf("message %q: %w", message, err)
	}
	return trytes, nil
}

func (w *Wallet) connect() (*node.Client, error) {
	return node.New(w.Node, w.Client, cmp.Or(w.Timeout, defaultTimeout))
}

// step does a step and tells of it meanwhile.
func (w *Wallet) step(s Step, do func() error) error {
	if w.Progress == nil {
		return do()
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	start, tick := time.Now(), time.NewTicker(cmp.Or(w.beat, time.Second))
	defer tick.Stop()
	w.Progress(s, 0)
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			w.Progress(s, time.Since(start))
		}
	}
}

// again tries a step a few times, with a growing pause in between.
func again(ctx context.Context, step func() error) (err error) {
	for i := range attempts {
		if err = step(); err == nil || i == attempts-1 {
			break
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(tangle.BackOff(poll, time.Second, i)):
		}
	}
	return err
}

// sign makes the transactions of a transfer, not yet attached, the last one
// first.
func (w *Wallet) sign(f funds, to bundle.Transfers) (signed []trinary.Trytes, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("iota.go panics: %v", p)
		}
	}()
	// Given inputs and remainder, this asks no node.
	offline, err := api.ComposeAPI(api.HTTPClientSettings{Client: offline{}})
	if err != nil {
		return nil, err
	}
	return offline.PrepareTransfers(w.Seed, to, api.PrepareTransfersOptions{
		Inputs: f.inputs, RemainderAddress: &f.fresh, Security: consts.SecurityLevelMedium,
	})
}

// offline is an api.HTTPClient that reaches nobody.
type offline struct{}

func (offline) Do(*http.Request) (*http.Response, error) {
	return nil, errors.New("signing needs no node")
}
