// Package legacy reads payments from the trinary tangle, through the HTTP API
// of IRI and Hornet nodes (https://github.com/iotaledger/iri, "IRI API
// reference"; Hornet 0.4 to 0.5) and iota.go v1.
//
// What can be checked is not taken on trust: transactions are hashed here, bundles
// are followed along their trunks and validated, answers must have the promised
// form. That a milestone confirmed a transaction is the node's word alone;
// Config.Agree asks for the word of several.
//
// A payment is one confirmed attachment of a bundle, identified by its tail: the
// same signed bundle, attached again, pays again if the input's address holds
// enough. A bundle that spends from a deposit address, for instance with change
// back to it, is the seller's own and no payment.
//
// # Floods
//
// A node returns at most 1,000 transactions of an address, and does not say that
// there are more. Transactions without value do not count where the node knows
// valueOnly. Those that claim value but are never confirmed count, and cost the
// flooder a little proof of work each; a scan reads them with two requests of 80
// kB and keeps none. At the limit, the ledger reads by getLedgerDiffExt what each
// new milestone changed, which no flood can hide.
//
// A bundle hash can be flooded as well, by transactions that claim to belong to
// the bundle. Its confirmed outputs are then followed back to their tails.
//
// A flood still wins with more than 1,000 transactions that claim value, if no
// node permits getLedgerDiffExt or if nobody reads for longer than 100 milestones.
// Payments may then be hidden, but balances cannot be flooded: the seller is told
// how much money came that no transaction explains. An address that was flooded
// like that before it is watched for the first time is not watched at all, since
// old and new payments cannot be told apart. The way out is another deposit
// address, with the old one kept as a former one.
//
// # Messages
//
// Neither the hash nor the signatures of a bundle cover messages. Anybody who sees
// a transfer can attach it again with another message, and if that attachment is
// confirmed, its message stands in the tangle. If attachments of one bundle say
// different things, the payment is therefore unreadable: its Message holds all of
// them, and it is held for the seller.
package legacy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/iotaledger/iota.go/trinary"
	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/legacy/node"
)

var _ tangle.Inspector = (*Ledger)(nil)

// How a Ledger paces itself.
const (
	sweepEvery = 30 * time.Second // between scans that are made whatever the balances are
	spentEvery = time.Hour        // between questions whether a deposit address was spent from
	retryFirst = 250 * time.Millisecond
	retryMost  = 30 * time.Second // between scans while balance and payments differ
)

// Config says what to read, and from where.
type Config struct {
	Nodes     []string // URLs of the nodes' API; the first that works is read
	Addresses []string // deposit addresses, 90 trytes each: with checksum
	// Agree is how many nodes must say that a payment is confirmed; 0 means 1.
	Agree int
	// Timeout bounds one request. 0 means 5 s.
	Timeout time.Duration
	Client  *http.Client // nil means http.DefaultClient

	Log logrus.FieldLogger
	Now func() time.Time // when a payment was seen; time.Now if nil
}

// Ledger reads the payments to some addresses. Make one with New.
type Ledger struct {
	Notation

	cfg      Config
	nodes    []*peer
	deposits []*deposit
	hashes   []trinary.Hash        // the deposits' addresses of 81 trytes, in order
	ours     map[trinary.Hash]bool // the same

	scanned bool      // a scan has succeeded
	sweepAt time.Time // of the next scan without a cause
	spentAt time.Time // of the next question whether addresses were spent from
	retryAt time.Time // no scan before, while a difference lasts
	retries int       // scans in a row that left a difference

	coordinator     trinary.Hash // identifies the network
	coordinatorFrom string       // name of the node that told

	mu sync.Mutex // guards the nodes' state
}

// CheckNodes returns what is wrong with the URLs of nodes, and with how many of
// them must agree.
func CheckNodes(nodes []string, agree int) error {
	return tangle.CheckNodes(nodes, agree, "http://127.0.0.1:14265", func(url string) (string, error) {
		client, err := node.New(url, nil, 0)
		if err != nil {
			return "", err
		}
		return client.Name(), nil
	})
}

// New checks the configuration and returns all that is wrong with it. It asks no
// node yet.
func New(cfg Config) (*Ledger, error) {
	if cfg.Log == nil {
		return nil, errors.New("legacy tangle: Log must be set")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Agree == 0 {
		cfg.Agree = 1
	}
	l := &Ledger{cfg: cfg, ours: make(map[trinary.Hash]bool)}
	var faults []error
	faults = append(faults, CheckNodes(cfg.Nodes, cfg.Agree))
	if cfg.Timeout < 0 {
		faults = append(faults, fmt.Errorf("timeout is %s, want more than 0", cfg.Timeout))
	}
	for _, address := range cfg.Nodes {
		if client, err := node.New(address, cfg.Client, cfg.Timeout); err == nil {
			l.nodes = append(l.nodes, &peer{Client: client})
		}
	}
	if len(cfg.Addresses) == 0 {
		faults = append(faults, errors.New("deposit addresses are missing"))
	}
	for _, address := range cfg.Addresses {
		hash, err := addressHash(address)
		if err == nil && l.ours[hash] {
			err = fmt.Errorf("deposit address %s is given twice", address)
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		l.ours[hash] = true
		l.hashes = append(l.hashes, hash)
		l.deposits = append(l.deposits, newDeposit(address, hash))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("legacy tangle: %w", err)
	}
	return l, nil
}

// Confirmed implements tangle.Ledger. It asks the first node that works for the
// balances of all addresses, in one request with a small answer. Only if they are
// not what the known payments add up to, and otherwise every 30 s, does it scan
// for transactions. The first call reads every node that answers, because some
// may have pruned what others still have.
//
// What the balance of an address holds beyond the transactions that the nodes
// still have is returned as one payment without a sender or a message, if the
// address was never read before: the address's opening balance.
//
// It is for one goroutine at a time.
func (l *Ledger) Confirmed(ctx context.Context, from map[string]tangle.Mark) (batch tangle.Batch, err error) {
	first := !l.scanned
	sweep := first || !time.Now().Before(l.sweepAt)
	l.examine(ctx, sweep)
	if sweep {
		l.sweepAt = time.Now().Add(sweepEvery)
	}
	var faults []error
	read := 0
	complete := make(map[*deposit]int) // on how many nodes everything was found
	nodes := l.order()
	for i, n := range nodes {
		if ctx.Err() != nil {
			break
		}
		scanCtx, cancel := share(ctx, len(nodes)-i)
		s := scan{Ledger: l, node: n}
		nodeErr := s.run(scanCtx, sweep)
		cancel()
		batch.Payments = append(batch.Payments, s.payments...)
		if nodeErr != nil {
			if ctx.Err() == nil {
				l.failed(n, nodeErr)
			}
			faults = append(faults, fmt.Errorf("node %s: %w", n.Name(), nodeErr))
			continue
		}
		l.worked(n)
		read++
		batch.NodeTime = l.timeOf(n)
		for _, d := range s.complete {
			complete[d]++
		}
		if !first {
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return batch, fmt.Errorf("read the tangle: %w", err)
	}
	if read == 0 {
		l.sweepAt = time.Time{} // examine the nodes again at the next call
		return batch, l.noNode(faults)
	}
	if first {
		// A node that cannot be read now may have history that no other has, but
		// nobody knows whether it ever comes back.
		l.scanned = true
		if read > 1 { // one has what another has pruned: reckon again, with all of it
			for _, d := range l.deposits {
				d.reckoned, d.opening = false, 0
			}
			l.retryAt = time.Time{}
		}
	}
	for _, d := range l.deposits {
		if d.reckoned && (d.complete || complete[d] == read) {
			if _, known := from[d.address]; !known && !d.complete && d.opening > 0 {
				batch.Payments = append(batch.Payments, l.openingBalance(d))
			}
			d.complete = true
		}
		if !d.complete {
			batch.Partial = append(batch.Partial, d.address)
		}
	}
	return batch, nil
}

// share returns ctx with the part of its time that one of several nodes may
// take: each request to a node may be in time, and all of them together leave
// none to the others.
func share(ctx context.Context, nodes int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || nodes == 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(nodes))
}

// noNode returns the error that no node could be read.
func (l *Ledger) noNode(faults []error) error {
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	for _, h := range l.Health() {
		if h.Err != nil {
			faults = append(faults, fmt.Errorf("node %s: %w", h.Node, h.Err))
		}
	}
	return errors.Join(faults...)
}

// Balances asks the first node that works for the balance of each deposit
// address, in the order of the configuration, for comparison with a book. Like
// Confirmed, it is for one goroutine at a time.
func (l *Ledger) Balances(ctx context.Context) ([]tangle.Balance, error) {
	if len(l.order()) == 0 {
		l.examine(ctx, true)
	}
	var faults []error
	for _, n := range l.order() {
		told, err := n.Balances(ctx, l.hashes)
		var spent []bool
		if err == nil {
			spent, err = n.SpentFrom(ctx, l.hashes)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("node %s: %w", n.Name(), err))
			continue
		}
		balances := make([]tangle.Balance, len(l.deposits))
		for i, d := range l.deposits {
			balances[i] = tangle.Balance{Address: d.address, Amount: told.Amounts[i], Spent: spent[i], Node: n.Name(), Position: told.Index}
		}
		return balances, nil
	}
	return nil, fmt.Errorf("read balances: %w", l.noNode(faults))
}
