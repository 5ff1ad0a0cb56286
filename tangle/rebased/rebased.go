// Package rebased reads payments from today's IOTA network ("Rebased") through
// its GraphQL service (crates/iota-graphql-rpc of iotaledger/iota, 1.31 or newer).
//
// A payment is a positive net change of an address's balance of exactly
// 0x2::iota::IOTA by a successful transaction that a checkpoint includes.
// Checkpoints are final and totally ordered. Transactions that a deposit address
// sent are the seller's own transfers, not payments.
//
// # Reading
//
// A poll is one request for up to eight addresses. It asks for the chain
// identifier, the tip, and the newest transactions that affected each address.
// If all of these are new, the poll reads further pages back to the mark, in the
// consistent view that the first page's cursor pins. Only checkpoints are stored,
// never cursors: a cursor shows nothing newer than its view.
//
// A transaction whose details cannot be read does not delay the others. The
// ledger retries it by its digest. Until that succeeds, the address is partial and
// its mark stays before the transaction.
//
// # Trust
//
// The nodes' answers carry no proof that could be verified. Config.Agree requires
// several nodes to confirm each payment. It does not detect a payment that the
// node which is read leaves out.
package rebased

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/rebased/graphql"
	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

var _ tangle.Ordered = (*Ledger)(nil)

// name is the ledger's, in the store and in payments.
const name = "iota"

// dust is the limit below which payments are not worth a receipt each, in nanos.
// A payment costs its sender twice that in gas.
const dust = 1_000_000

// leastPrice is the price of an offer, in nanos, of which the gas of a payment is
// 2 %.
const leastPrice = 100_000_000

// Pace and limits of reading.
const (
	// overlap is the number of checkpoints, about a minute's, by which an issued
	// mark lags behind what was read. A restart reads them again.
	overlap = 240
	// examineEvery is the time between looks at the nodes that are not read.
	examineEvery = 30 * time.Second
	// staleAfter is how long the tip may stand still before the other nodes are
	// examined; there are about four checkpoints a second.
	staleAfter = 5 * time.Second
	// frozenAfter is how long the tip may stand still before the node counts as
	// frozen.
	frozenAfter = 30 * time.Second
	// maxBehind is how many checkpoints a node may lag behind another before it
	// is read last: ten seconds.
	maxBehind   = 40
	maxBackOff  = 5 * time.Minute  // between attempts at a node that fails, since one that hangs holds up the others
	maxOutage   = 10 * time.Second // the same, if no node works and none asked for more
	remindEvery = 10 * time.Minute // of what is still wrong
	// maxAnswer bounds an answer: eight lists of 20 transactions of the greatest
	// size, in base64, are 28 MB.
	maxAnswer = 32 << 20
	// maxPages bounds the pages that one call reads of one address; the next call
	// continues.
	maxPages = 200
	// maxFound bounds the payments of one address that a walk keeps. A longer walk
	// drops the newest and reads them again once the others were returned. The
	// bound exceeds the 10,000 transactions of a full checkpoint, because reading
	// resumes at checkpoints.
	maxFound  = 15000
	trimBlock = 5000 // payments more than maxFound that are kept before the newest are dropped
	// maxUnread bounds the unread transactions of one address. At the limit,
	// reading of the address stops until some of them can be read.
	maxUnread = 1000
	// maxChanges bounds the pages of balance changes of one transaction.
	maxChanges = 60
	maxAsk     = 5 * time.Second  // between attempts to have other nodes confirm a payment
	maxRetry   = time.Minute      // between attempts at a transaction that cannot be read
	patience   = 10 * time.Second // before they are complained about
	maxIdle    = 3                // pages in a row that may bring nothing new
)

// Notation is how today's network writes amounts and addresses.
type Notation struct{}

var _ tangle.Notation = Notation{}

// Ledger returns "iota".
func (Notation) Ledger() string { return name }

// Currency returns IOTA, with 9 decimals; the base unit is called nano.
func (Notation) Currency() tangle.Currency {
	return tangle.Currency{Unit: "IOTA", Decimals: 9, Max: math.MaxInt64, Dust: dust, Least: leastPrice}
}

// ParseAddress returns an address of 0x and 64 hexadecimal digits in lower case.
// It refuses short forms and the zero address.
func (Notation) ParseAddress(text string) (string, error) {
	a, err := txn.ParseAddress(text)
	if err != nil {
		return "", err
	}
	return a.String(), nil
}

// Network is where the public services of a network are.
type Network struct {
	Node   string // the GraphQL service
	Faucet string // gives away coins that are worth nothing; empty on mainnet
}

// networks are IOTA's own services (docs.iota.org/developer/network-overview).
var networks = map[string]Network{
	"mainnet": {Node: "https://graphql.mainnet.iota.cafe"},
	"testnet": {Node: "https://graphql.testnet.iota.cafe", Faucet: "https://faucet.testnet.iota.cafe/gas"},
	"devnet":  {Node: "https://graphql.devnet.iota.cafe", Faucet: "https://faucet.devnet.iota.cafe/gas"},
	"local":   {Node: "http://127.0.0.1:9125", Faucet: "http://127.0.0.1:9123/gas"},
}

// NetworkByName returns a network by its name: mainnet, testnet, devnet or local.
func NetworkByName(network string) (Network, error) {
	n, ok := networks[network]
	if !ok {
		return Network{}, fmt.Errorf("network %.40q is unknown, want one of %s", network, strings.Join(slices.Sorted(maps.Keys(networks)), ", "))
	}
	return n, nil
}

// Config says what to read, and from where.
type Config struct {
	Nodes     []string // URLs of GraphQL services; the first that works is read
	Addresses []string // deposit addresses
	// Agree is how many nodes must say the same of a payment; 0 means 1.
	Agree int
	// Timeout bounds one request. 0 means 10 s.
	Timeout time.Duration
	Client  *http.Client // nil means one that has no more than a Timeout

	Log logrus.FieldLogger
	Now func() time.Time // the time that nodes are waited for and payments are seen; time.Now if nil
}

// Ledger reads the payments to some addresses. Make one with New.
type Ledger struct {
	Notation

	cfg      Config
	nodes    []*node
	deposits []*deposit
	ours     map[string]bool // the deposits' addresses

	pages, keep int // maxPages and maxFound, less in tests

	chain     string    // that is read; empty until a mark or a node told
	examineAt time.Time // of the nodes that are not read

	mu  sync.Mutex // guards tip, the nodes' state and the deposits' unread transactions
	tip tangle.Tip
}

// deposit is what is known of one address.
type deposit struct {
	text    string // canonical
	address txn.Address

	started bool             // issued and walked are known
	issued  tangle.Mark      // returned last
	base    int64            // nothing up to here is returned
	walked  int64            // up to where everything was read, apart from what is unread
	recent  map[string]int64 // digests listed within the overlap, and where at the earliest
	learned map[string]int64 // positions that lists do not tell, by digest
	walk    *walk

	unread   map[string]*unread // by digest
	gap      bool               // the nodes have pruned something that was not read
	reminded time.Time
}

// CheckNodes returns what is wrong with the URLs of GraphQL services, and with how
// many of them must agree.
func CheckNodes(nodes []string, agree int) error {
	return tangle.CheckNodes(nodes, agree, networks["testnet"].Node, func(url string) (string, error) {
		client, err := graphql.New(url, nil, 0, maxAnswer)
		if err != nil {
			return "", err
		}
		return client.Name(), nil
	})
}

// New checks the configuration, all of it at once. It asks no node yet.
func New(cfg Config) (*Ledger, error) {
	if cfg.Log == nil {
		return nil, errors.New("iota ledger: Log must be set")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Agree == 0 {
		cfg.Agree = 1
	}
	l := &Ledger{cfg: cfg, ours: make(map[string]bool), pages: maxPages, keep: maxFound}
	var faults []error
	if err := CheckNodes(cfg.Nodes, cfg.Agree); err != nil {
		faults = append(faults, err)
	}
	if cfg.Timeout < 0 {
		faults = append(faults, fmt.Errorf("timeout is %s, want more than 0", cfg.Timeout))
	}
	for _, address := range cfg.Nodes {
		client, err := graphql.New(address, cfg.Client, cfg.Timeout, maxAnswer)
		if err != nil {
			continue // CheckNodes told
		}
		l.nodes = append(l.nodes, &node{client: client, by: affected, usable: true})
	}
	if len(cfg.Addresses) == 0 {
		faults = append(faults, errors.New("deposit addresses: required"))
	}
	for _, text := range cfg.Addresses {
		a, err := txn.ParseAddress(text)
		if err == nil && l.ours[a.String()] {
			err = fmt.Errorf("deposit address %s is given twice", a)
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		l.ours[a.String()] = true
		l.deposits = append(l.deposits, &deposit{
			text: a.String(), address: a,
		})
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("iota ledger: %w", err)
	}
	return l, nil
}
