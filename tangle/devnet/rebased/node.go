package rebased

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sort"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// Conflicts says what happens to two transactions that use one object version.
type Conflicts string

// The ways to resolve conflicts.
const (
	// Certificates is mainnet's way today: validators sign one of the two, and
	// what they signed keeps the object until the epoch ends.
	Certificates Conflicts = "certificates"
	// PCool is devnet's way: consensus orders the two. An object that waits for
	// a transaction which never was sequenced is free again after 12 seconds.
	PCool Conflicts = "pcool"
)

// softLock is how long an object waits for a transaction under PCool.
const softLock = 12 * time.Second

// Config says how a simulated network starts.
type Config struct {
	// Checkpoint is the time between two checkpoints of [Node.Run]. It must be at
	// least 200 ms for Run, as on mainnet.
	Checkpoint time.Duration

	// Epoch is how long an epoch lasts; 0 means that only [Node.EndEpoch] ends it.
	Epoch time.Duration

	// Execution is how long executing takes until it is answered. Real networks
	// take 300 to 600 ms.
	Execution time.Duration

	// Lag is how long after a checkpoint the lists show it. Real services take
	// about 300 ms.
	Lag time.Duration

	// Conflicts is Certificates if empty.
	Conflicts Conflicts

	// Now tells the time; time.Now if nil.
	Now func() time.Time

	// Log is told of checkpoints with transactions in them; may be nil.
	Log logrus.FieldLogger
}

// minCheckpoint is the shortest time between two checkpoints on mainnet
// (min_checkpoint_interval_ms).
const minCheckpoint = 200 * time.Millisecond

// Node is one operator's view of a simulated network: a full node with its
// indexer. It is an http.Handler and safe for concurrent use. Make one with New.
type Node struct {
	chain     *chain
	interval  time.Duration
	execution time.Duration
	sleep     func(time.Duration) // time.Sleep, but in tests
	log       logrus.FieldLogger

	view // guarded by chain.mu
	tricks

	requests atomic.Int64 // in this one's lists, for two servers in turn
}

// New makes a network with checkpoint 0 and a node that sees all of it.
func New(cfg Config) (*Node, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Conflicts == "" {
		cfg.Conflicts = Certificates
	}
	if cfg.Conflicts != Certificates && cfg.Conflicts != PCool {
		return nil, fmt.Errorf("conflicts %q: want %q or %q", cfg.Conflicts, Certificates, PCool)
	}
	for name, d := range map[string]time.Duration{"checkpoint": cfg.Checkpoint, "epoch": cfg.Epoch, "execution": cfg.Execution, "lag": cfg.Lag} {
		if d < 0 {
			return nil, fmt.Errorf("%s %s: want no negative duration", name, d)
		}
	}
	if cfg.Log == nil {
		quiet := logrus.New()
		quiet.SetOutput(io.Discard)
		cfg.Log = quiet
	}
	n := &Node{
		chain:    newChain(cfg.Now, cfg.Epoch, cfg.Conflicts),
		interval: cfg.Checkpoint, execution: cfg.Execution, sleep: time.Sleep, log: cfg.Log,
	}
	n.lag = cfg.Lag
	n.chain.nodes = []*Node{n}
	return n, nil
}

// Peer returns another operator's node of the same network, which sees all of it
// and misbehaves independently.
func (n *Node) Peer() *Node {
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	peer := &Node{chain: n.chain, interval: n.interval, execution: n.execution, sleep: n.sleep, log: n.log, view: view{lag: n.lag}}
	n.chain.nodes = append(n.chain.nodes, peer)
	return peer
}

// Run issues checkpoints until ctx ends, and then returns nil.
func (n *Node) Run(ctx context.Context) error {
	if n.interval < minCheckpoint {
		return fmt.Errorf("checkpoint interval %s: want at least %s", n.interval, minCheckpoint)
	}
	tick := time.NewTicker(n.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			n.Step()
		}
	}
}

// Step issues a checkpoint with what was executed since the last one, and returns
// its number.
func (n *Node) Step() int64 {
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	cp := n.chain.step()
	if count := cp.total - cp.first; count > 0 {
		n.log.WithFields(logrus.Fields{"checkpoint": cp.number, "transactions": count}).Debug("issued checkpoint")
	}
	return cp.number
}

// EndEpoch ends the epoch, and with it all locks, and returns the next one's
// number.
func (n *Node) EndEpoch() uint64 {
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	n.chain.endEpoch()
	return n.chain.epoch()
}

// Reset begins a new network, as testnets now and then do: another chain
// identifier, no transactions, no coins.
func (n *Node) Reset() {
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	n.chain.reset()
	for _, peer := range n.chain.nodes {
		peer.floor, peer.stopped, peer.pruned, peer.unreadable = 0, nil, 0, nil
	}
}

// ChainID returns the chain identifier: 8 hexadecimal digits.
func (n *Node) ChainID() string {
	n.chain.mu.RLock()
	defer n.chain.mu.RUnlock()
	return n.chain.id
}

// Tip returns the number of the newest checkpoint, indexed or not.
func (n *Node) Tip() int64 {
	n.chain.mu.RLock()
	defer n.chain.mu.RUnlock()
	return n.chain.tip().number
}

// Balance returns what an address holds of the network's own coin, in nanos, as
// of what was executed.
func (n *Node) Balance(owner txn.Address) uint64 {
	n.chain.mu.RLock()
	defer n.chain.mu.RUnlock()
	var sum uint64
	for _, o := range n.chain.objects {
		if o.owner == owner && o.isIOTA() {
			sum += o.balance
		}
	}
	return sum
}

// Fund gives coins to an address, in nanos, as if it had them since the network
// began. They have no storage rebate.
func (n *Node) Fund(owner txn.Address, coins ...uint64) {
	n.chain.mu.Lock()
	defer n.chain.mu.Unlock()
	for _, nanos := range coins {
		n.chain.fund(owner, txn.IOTA, nanos)
	}
}

// view is what a node makes of the network.
type view struct {
	lag        time.Duration
	floor      int64  // was shown already
	stopped    *int64 // the indexer shows nothing newer
	behind     int64  // how far the second server is behind the first
	pruned     int64  // the first checkpoint that is not pruned
	fallback   bool
	old        bool // the software knows no affectedAddress
	repeat     bool // pages begin with the last element of the page before
	disabled   map[string]bool
	unreadable map[txn.Digest]bool
	spelling   Spelling
	forging    bool // it makes payments larger than they are
}

// indexed returns the newest checkpoint that a node's lists show.
func (n *Node) indexed() int64 {
	if n.stopped != nil {
		return *n.stopped
	}
	until := n.chain.now().Add(-n.lag)
	all := n.chain.checkpoints
	i := sort.Search(len(all), func(i int) bool { return all[i].made.After(until) })
	return min(max(int64(i-1), n.floor), int64(len(all)-1))
}

// seen returns the tip for one request: of two servers behind a load balancer
// one may be behind the other.
func (n *Node) seen() int64 {
	tip := n.indexed()
	if n.behind > 0 && n.requests.Add(1)%2 == 0 {
		tip = max(0, tip-n.behind)
	}
	return tip
}

// oldest returns the sequence number of the first transaction that is not pruned.
func (n *Node) oldest() int {
	if n.pruned >= int64(len(n.chain.checkpoints)) {
		return len(n.chain.ordered)
	}
	return n.chain.checkpoints[n.pruned].first
}

// readable returns the transaction with a digest as reads by digest see it, or
// nil: at once, also before it is in a checkpoint, but not after it was pruned.
func (n *Node) readable(d txn.Digest) *transaction {
	x := n.chain.byDigest[d]
	if x != nil && x.checkpoint >= 0 && x.checkpoint < n.pruned && !n.fallback {
		return nil
	}
	return x
}

// at returns a checkpoint, or nil if it does not exist, is above the view's tip,
// or is pruned.
func (n *Node) at(number, tip int64) *checkpoint {
	if number < n.pruned || number > tip {
		return nil
	}
	return n.chain.checkpoints[number]
}

// ServeHTTP answers GraphQL and JSON-RPC requests at any path, told apart by
// their bodies, and the faucet's at /gas.
func (n *Node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/gas" {
		n.Faucet().ServeHTTP(w, r)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		http.Error(w, "POST a GraphQL or JSON-RPC request", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	if isRPC(body) {
		n.serveRPC(w, r, body)
	} else {
		n.serveGraphQL(w, r, body)
	}
}

// maxBody is more than the longest valid request: transactions in base64 may
// have 174,763 characters.
const maxBody = 1 << 20
