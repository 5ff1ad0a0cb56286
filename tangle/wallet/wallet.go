// Package wallet is a buyer's small wallet: it pays an amount to an address, with
// a message, through one node. [Rebased] pays on today's IOTA network, [Wallet] on
// the legacy (trinary) tangle, through the API of IRI
// (https://github.com/iotaledger/iri).
//
// Signatures of the legacy tangle are one-time: each reveals half of the private
// key of an address. Wallet therefore never signs for an address that a
// signature was seen of, always empties the addresses that it spends from, and
// sends what is left over to a fresh address of the same seed. What was paid
// later to an address that is spent, it leaves alone.
package wallet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/api"
	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/encoding/ascii"
	"github.com/iotaledger/iota.go/transaction"
	"github.com/iotaledger/iota.go/trinary"
)

const (
	// gap is how many unused addresses in a row end the search for funds.
	gap = 5

	// attempts is how often a step is tried once the transfer is signed: the
	// signature should not be made in vain.
	attempts = 3

	defaultTimeout = 30 * time.Second
	defaultDepth   = 3
	defaultMWM     = 9
	poll           = 250 * time.Millisecond

	// maxAnswer bounds what is read of an answer; 1,000 transactions are 2.7 MB.
	maxAnswer = 16 << 20

	supply = int64(consts.TotalSupply)
)

// ErrInsufficient is returned by [Wallet.Pay] when the confirmed and spendable
// balance is less than the amount.
var ErrInsufficient = errors.New("not enough iotas")

// Wallet pays from one seed through one node. Fill in the fields and call Pay;
// do not pay twice at the same time from one seed.
type Wallet struct {
	// Node is the URL of the node's API.
	Node string

	// Seed is 81 trytes (A to Z and 9). Who knows it owns what it holds. It
	// stays out of errors, and never leaves the process.
	Seed trinary.Trytes

	// MWM is the network's minimum weight magnitude, from 1 to 14: 14 on the
	// former main network, less on private ones. The node does that work. 0 is
	// what the node asks for when it is offered 9, as Hornet does; IRI does not
	// say, and drops what has too little.
	MWM int

	// Depth is how many milestones back tip selection starts; 3 if zero.
	Depth int

	// Timeout bounds each request to the node; 30 s if zero.
	Timeout time.Duration

	// Client makes the requests; one without proxies or a cache of its own if
	// nil.
	Client *http.Client
}

// Receipt identifies a payment that was sent.
type Receipt struct {
	Tail   trinary.Hash // the transaction that a seller's book knows it by
	Bundle trinary.Hash // the hash of the whole transfer
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
	text, err := encode(message)
	if err != nil {
		return Receipt{}, err
	}
	node, err := w.connect(ctx)
	if err != nil {
		return Receipt{}, err
	}
	funds, err := w.search(ctx, node, amount)
	if err != nil {
		return Receipt{}, fmt.Errorf("look for funds at %s: %w", w.name(), err)
	}
	for _, in := range funds.inputs {
		if in.Address == to {
			return Receipt{}, fmt.Errorf("address %s: it is the payer's own, and would be paid from", to)
		}
	}
	// Given inputs and remainder, this asks the node nothing.
	signed, err := contain(func() ([]trinary.Trytes, error) {
		return node.PrepareTransfers(w.Seed, bundle.Transfers{{Address: to, Value: uint64(amount), Message: text}},
			api.PrepareTransfersOptions{Inputs: funds.inputs, RemainderAddress: &funds.fresh, Security: consts.SecurityLevelMedium})
	})
	if err != nil {
		return Receipt{}, fmt.Errorf("sign transfer: %w", err)
	}
	var tail *transaction.Transaction
	attached, err := again(ctx, func() (attached []trinary.Trytes, err error) {
		attached, tail, err = w.attach(node, signed)
		return attached, err
	})
	if err != nil {
		return Receipt{}, fmt.Errorf("attach transfer at %s: %w", w.name(), err)
	}
	r := Receipt{Tail: tail.Hash, Bundle: tail.Bundle}
	if _, err := again(ctx, func() ([]trinary.Trytes, error) { return node.StoreAndBroadcast(attached) }); err != nil {
		return r, fmt.Errorf("broadcast transfer at %s: %w; transaction %s may have been sent all the same", w.name(), err, r.Tail)
	}
	return r, nil
}

// Wait returns once the node says that the ledger has confirmed the payment. A
// node that fails meanwhile is asked again, until ctx ends.
func (w *Wallet) Wait(ctx context.Context, r Receipt) error {
	node, err := w.connect(ctx)
	if err != nil {
		return err
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		states, err := contain(func() ([]bool, error) { return node.GetInclusionStates(trinary.Hashes{r.Tail}) })
		if err == nil && len(states) != 1 {
			err = fmt.Errorf("answer of %d states instead of 1", len(states))
		}
		if err == nil && states[0] {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return fmt.Errorf("wait for the confirmation of %s: %w", r.Tail, ctx.Err())
			}
			return fmt.Errorf("wait for the confirmation of %s: %w (%s: %s)", r.Tail, ctx.Err(), w.name(), err)
		case <-tick.C:
		}
	}
}

// Balance returns the iotas that the wallet can spend: confirmed, and on
// addresses that nothing was spent from.
func (w *Wallet) Balance(ctx context.Context) (int64, error) {
	if err := w.check(); err != nil {
		return 0, err
	}
	node, err := w.connect(ctx)
	if err != nil {
		return 0, err
	}
	funds, err := w.search(ctx, node, 0)
	if err != nil {
		return 0, fmt.Errorf("look for funds at %s: %w", w.name(), err)
	}
	return funds.total, nil
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
	if len(to) != consts.AddressWithChecksumTrytesSize {
		return fmt.Errorf("address %q of %d characters: want 90 trytes, the last 9 being the checksum", to, len(to))
	}
	if err := trinary.ValidTrytes(to); err != nil {
		return fmt.Errorf("address %q: want only A to Z and 9", to)
	}
	if err := address.ValidAddress(to); err != nil {
		return fmt.Errorf("address %s: %w: it was mistyped, or cut", to, err)
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
	text, err := ascii.EncodeToTrytes(message)
	if err != nil {
		return "", fmt.Errorf("message %q: %w", message, err)
	}
	return text, nil
}

// connect makes iota.go's client, whose requests end with ctx.
func (w *Wallet) connect(ctx context.Context) (*api.API, error) {
	u, err := url.Parse(w.Node)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("node %q: want a URL such as http://127.0.0.1:14265", w.name())
	}
	b := &bounded{ctx: ctx, timeout: w.Timeout, client: w.Client}
	if b.timeout == 0 {
		b.timeout = defaultTimeout
	}
	if b.client == nil {
		b.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	}
	node, err := api.ComposeAPI(api.HTTPClientSettings{URI: w.Node, Client: b})
	if err != nil {
		return nil, fmt.Errorf("node %q: %w", w.name(), err)
	}
	return node, nil
}

// name is the node's URL for errors: without a password.
func (w *Wallet) name() string {
	u, err := url.Parse(w.Node)
	if err != nil {
		return "(unreadable)"
	}
	return u.Redacted()
}

// bounded gives iota.go's requests what they lack: a context, a deadline and a
// limit to what is read.
type bounded struct {
	ctx     context.Context
	timeout time.Duration
	client  *http.Client
}

// Do implements api.HTTPClient.
func (b *bounded) Do(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(b.ctx, b.timeout)
	response, err := b.client.Do(r.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	response.Body = &body{Reader: io.LimitReader(response.Body, maxAnswer), close: response.Body.Close, cancel: cancel}
	return response, nil
}

type body struct {
	io.Reader
	close  func() error
	cancel func()
}

func (b *body) Close() error {
	defer b.cancel()
	return b.close()
}

// contain turns iota.go's panics (it indexes short lists) into errors.
func contain[T any](call func() (T, error)) (out T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the node's answer broke the client: %v", p)
		}
	}()
	return call()
}

// again tries a step a few times, with a growing pause in between.
func again[T any](ctx context.Context, step func() (T, error)) (out T, err error) {
	for i := range attempts {
		if out, err = contain(step); err == nil || i == attempts-1 {
			break
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(poll << i):
		}
	}
	return out, err
}

// attach has the node choose tips and do the proof of work, and verifies that
// what comes back is what was signed, with enough work in it.
func (w *Wallet) attach(node *api.API, signed []trinary.Trytes) ([]trinary.Trytes, *transaction.Transaction, error) {
	depth := w.Depth
	if depth == 0 {
		depth = defaultDepth
	}
	tips, err := node.GetTransactionsToApprove(uint64(depth))
	if err != nil {
		return nil, nil, err
	}
	mwm := w.MWM
	if mwm == 0 {
		mwm = defaultMWM
	}
	attached, err := node.AttachToTangle(tips.TrunkTransaction, tips.BranchTransaction, uint64(mwm), signed)
	if wanted := wantedMWM(err); wanted != 0 && w.MWM == 0 {
		mwm = wanted
		attached, err = node.AttachToTangle(tips.TrunkTransaction, tips.BranchTransaction, uint64(mwm), signed)
	}
	if err != nil {
		return nil, nil, err
	}
	if len(attached) != len(signed) {
		return nil, nil, fmt.Errorf("the node returned %d transactions instead of %d", len(attached), len(signed))
	}
	var tail *transaction.Transaction
	for _, trytes := range attached {
		tx, err := transaction.AsTransactionObject(trytes)
		if err != nil {
			return nil, nil, fmt.Errorf("the node returned a malformed transaction: %w", err)
		}
		if tx.CurrentIndex >= uint64(len(signed)) || !strings.HasPrefix(trytes, signed[len(signed)-1-int(tx.CurrentIndex)][:essence]) {
			return nil, nil, errors.New("the node returned other transactions than were signed")
		}
		if !transaction.HasValidNonce(tx, uint64(mwm)) {
			return nil, nil, fmt.Errorf("the node did too little proof of work for magnitude %d", mwm)
		}
		if tx.CurrentIndex == 0 {
			tail = tx
		}
	}
	if tail == nil {
		return nil, nil, errors.New("the node returned no first transaction")
	}
	return attached, tail, nil
}

// wrongMWM is what Hornet 0.5 answers with status 400: "Wrong
// MinWeightMagnitude. requested: 9, expected: 14".
var wrongMWM = regexp.MustCompile(`Wrong MinWeightMagnitude\. requested: \d+, expected: (\d{1,2})\b`)

// wantedMWM is the minimum weight magnitude that the node asked for in an error,
// or 0.
func wantedMWM(err error) int {
	if err == nil {
		return 0
	}
	m := wrongMWM.FindStringSubmatch(err.Error())
	if m == nil {
		return 0
	}
	wanted, _ := strconv.Atoi(m[1])
	if wanted < 1 || wanted > 14 {
		return 0
	}
	return wanted
}

// essence is how many trytes of a transaction attaching does not change: all
// before the trunk.
const essence = consts.TrunkTransactionTrinaryOffset / consts.TritsPerTryte
