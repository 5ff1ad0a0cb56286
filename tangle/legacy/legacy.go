// Package legacy reads payments from the trinary tangle, through the HTTP API
// of IRI and Hornet nodes (https://github.com/iotaledger/iri, "IRI API
// reference"; Hornet 0.4 to 0.5) and iota.go v1.
//
// What such a node says is not taken on trust where we can tell for ourselves:
// transaction hashes are computed anew, bundles are walked along their trunks
// and validated, lengths and forms of answers are checked. That a milestone
// confirmed a transaction is the node's word alone; two nodes can be made to
// agree on it.
//
// A payment is one confirmed attachment of a bundle, identified by its tail: the
// same signed bundle, attached again, pays again if the input's address holds
// enough. A bundle that spends from one of our addresses, for instance with
// change back to it, is the seller's own and no payment.
//
// # Floods
//
// A node shows at most 1,000 transactions of an address, and does not say that
// there are more. Transactions without value do not count, where the node knows
// valueOnly. Those that claim value but are never confirmed do, and cost the
// flooder a little proof of work each; reading them costs us two requests of 80
// kB per look, and no memory. Once the limit is reached, what each new milestone
// changed is read by getLedgerDiffExt instead, which nothing can hide from.
//
// A flood that still wins: more than 1,000 transactions that claim value, on an
// address whose nodes do not permit getLedgerDiffExt to us, or while we are away
// for longer than 100 milestones. Then payments may be hidden, and the seller is
// told how much money came that no transaction explains: balances cannot be
// flooded (of what came while we were away, iotoll doctor tells). An address
// flooded like that before it is watched for the first time is not watched at
// all, since its history cannot be told from what is new.
// The way out is another deposit address, with the old one kept as a former one.
//
// # Messages
//
// Neither the hash nor the signatures of a bundle cover messages. Whoever sees a
// transfer can attach it again with a message of his own, and if that attachment
// is confirmed, it is his message that stands in the tangle. Therefore, if
// attachments of one bundle say different things, the payment's Message holds
// all of them, which makes it unreadable: it is held for the seller.
package legacy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/iotaledger/iota.go/trinary"
	"github.com/iotoll/iotoll/tangle"
	"github.com/sirupsen/logrus"
)

var _ tangle.Inspector = (*Ledger)(nil)

// Pace of reading.
const (
	sweepEvery   = 30 * time.Second // between looks that are made whatever the balances are
	spentEvery   = time.Hour        // between questions whether a deposit address was spent from
	frozenAfter  = 5 * time.Minute  // without a new milestone; Hornet's own measure of health
	maxBackOff   = 5 * time.Minute  // between attempts at a node that fails, since one that hangs holds up the others
	maxOutage    = 10 * time.Second // the same, if no node works
	patience     = 5 * time.Second  // that a difference between balance and payments may last
	remindEvery  = 10 * time.Minute // of what is still wrong
	nearCut      = 800              // transactions on an address, from which on to tell of the cut at maxHashes
	maxAttempts  = 30 * time.Second // between looks while a difference lasts
	maxBundleLen = 1000             // transactions of one bundle that are followed
	maxKnown     = 50000            // transactions that are remembered as dealt with
)

// Config says what to read, and from where.
type Config struct {
	Nodes     []string // URLs of the nodes' API; the first that works is asked
	Addresses []string // deposit addresses, 90 trytes each: with checksum
	// Agree is how many nodes must say that a payment is confirmed; 0 means 1.
	Agree int
	// Timeout bounds one request. 0 means 5 s.
	Timeout time.Duration
	Client  *http.Client // nil means one that has no more than a Timeout

	Log logrus.FieldLogger
	Now func() time.Time // when a payment was seen; time.Now if nil
}

// Ledger reads the payments to some addresses. Make one with New.
type Ledger struct {
	Notation

	cfg      Config
	nodes    []*node
	deposits []*deposit
	hashes   []trinary.Hash        // the deposits' addresses of 81 trytes, in order
	ours     map[trinary.Hash]bool // the same

	looked  bool      // once, with success
	sweepAt time.Time // of the next look without a cause
	spentAt time.Time // of the next question whether addresses were spent from
	lookAt  time.Time // not before, while a difference lasts
	looks   int       // in a row that left a difference

	coordinator  trinary.Hash // by which the network is recognised
	coordinators string       // name of the node that told

	mu sync.Mutex // guards the nodes' state
}

// deposit is what is known of one address.
type deposit struct {
	address string       // as configured
	hash    trinary.Hash // without its checksum

	done      map[trinary.Hash]bool      // transactions that were dealt with for good
	seen      map[trinary.Hash]time.Time // when unconfirmed ones were seen first
	whole     bool                       // everything was found, at some time
	cut       bool                       // the node has more transactions than it shows, and some may be missing
	gap       bool                       // some older than those read by milestone
	tracked   bool                       // everything was found that is not older than the gap
	covered   int64                      // milestone up to which everything was found
	doubted   bool                       // one node calls something included, too few agree
	balance   int64
	accounted int64     // Σ of the effects of the bundles found
	based     bool      // offset is known
	offset    int64     // balance that comes from transactions which are no longer there
	apart     time.Time // since when balance is not accounted + offset; zero if it is
	reminded  time.Time
	reopened  time.Time
	nearTold  bool
	spentTold bool
}

// CheckNodes returns what is wrong with the URLs of nodes, and with how many of
// them must agree.
func CheckNodes(nodes []string, agree int) error {
	var faults []error
	if len(nodes) == 0 {
		faults = append(faults, errors.New("nodes: required: at least one URL such as http://127.0.0.1:14265"))
	}
	if agree < 0 || agree > 1 && agree > len(nodes) {
		faults = append(faults, fmt.Errorf("agree: %d, want 1 to the number of nodes, which is %d", agree, len(nodes)))
	}
	urls := make(map[string]int)
	for i, address := range nodes {
		n, err := newNode(address, nil, 0)
		if err != nil {
			faults = append(faults, fmt.Errorf("nodes[%d]: %w", i, err))
			continue
		}
		same := strings.TrimRight(address, "/") // a node must not agree with itself
		if first, twice := urls[same]; twice {
			faults = append(faults, fmt.Errorf("nodes[%d]: %q duplicates nodes[%d]", i, n.name, first))
			continue
		}
		urls[same] = i
	}
	return errors.Join(faults...)
}

// New checks the configuration, all of it at once. It asks no node yet.
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
	if cfg.Client == nil {
		cfg.Client = &http.Client{}
	}
	l := &Ledger{cfg: cfg, ours: make(map[trinary.Hash]bool)}
	var faults []error
	faults = append(faults, CheckNodes(cfg.Nodes, cfg.Agree))
	if cfg.Timeout < 0 {
		faults = append(faults, fmt.Errorf("timeout is %s, want more than 0", cfg.Timeout))
	}
	for _, address := range cfg.Nodes {
		if n, err := newNode(address, cfg.Client, cfg.Timeout); err == nil {
			l.nodes = append(l.nodes, n)
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
		l.deposits = append(l.deposits, &deposit{
			address: address, hash: hash,
			done: make(map[trinary.Hash]bool), seen: make(map[trinary.Hash]time.Time),
		})
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("legacy tangle: %w", err)
	}
	return l, nil
}

// Confirmed implements tangle.Ledger. It asks the first node that works for the
// balances of all addresses, one request with a small answer. Only if they are
// not what the payments known add up to, and otherwise every 30 s, it looks for
// transactions. The first time it reads every node that answers, because some may
// have pruned what others still have.
//
// It is for one goroutine at a time.
func (l *Ledger) Confirmed(ctx context.Context, _ map[string]tangle.Mark) (batch tangle.Batch, err error) {
	now := time.Now()
	first := !l.looked
	sweep := first || !now.Before(l.sweepAt)
	if sweep {
		l.examine(ctx)
		l.sweepAt = time.Now().Add(sweepEvery)
	}
	var faults []error
	read := 0
	whole := make(map[*deposit]int) // of how many nodes everything was found
	nodes := l.order()
	for i, n := range nodes {
		if ctx.Err() != nil {
			break
		}
		pollCtx, cancel := share(ctx, len(nodes)-i)
		found, all, nodeErr := l.poll(pollCtx, n, sweep)
		cancel()
		batch.Payments = append(batch.Payments, found...)
		if nodeErr != nil {
			if ctx.Err() == nil {
				l.failed(n, nodeErr)
			}
			faults = append(faults, fmt.Errorf("node %s: %w", n.name, nodeErr))
			continue
		}
		l.worked(n)
		read++
		for _, d := range all {
			whole[d]++
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
		l.hurry()
		return batch, l.nobody(faults)
	}
	if first {
		// A node that cannot be read now may have history of its own, but could
		// be waited for in vain.
		l.looked = true
		if read > 1 { // what one has forgotten another had: begin the account anew
			for _, d := range l.deposits {
				d.based, d.offset = false, 0
			}
			l.lookAt = time.Time{}
		}
	}
	for _, d := range l.deposits {
		d.whole = d.whole || whole[d] == read
		if !d.whole {
			batch.Partial = append(batch.Partial, d.address)
		}
	}
	return batch, nil
}

// share is ctx with the part of its time that one of so many nodes may take. All
// requests to a node may be in time, and together leave none to the others.
func share(ctx context.Context, nodes int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || nodes == 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(nodes))
}

// nobody returns the error that no node could be read.
func (l *Ledger) nobody(faults []error) error {
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
