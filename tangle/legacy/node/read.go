package node

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/curl"
	"github.com/iotaledger/iota.go/guards"
	"github.com/iotaledger/iota.go/transaction"
	"github.com/iotaledger/iota.go/trinary"
)

// Info is a node's getNodeInfo reply. IRI leaves out some of it.
type Info struct {
	App         string       // name and version, printable and short
	Newest      int64        // index of the newest milestone that the node heard of
	Solid       int64        // index of the milestone that its ledger is at
	Milestone   trinary.Hash // that milestone's transaction; empty if it has none
	Start       int64        // index of the first milestone that it still has; 0 if unknown
	Coordinator string       // identifies the network; empty if unknown
	Time        time.Time    // the node's clock; zero if it did not tell
	Synced      bool
}

// Info asks how the node is.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var a struct {
		AppName, AppVersion string
		Newest              *int64       `json:"latestMilestoneIndex"`
		Solid               *int64       `json:"latestSolidSubtangleMilestoneIndex"`
		Milestone           trinary.Hash `json:"latestSolidSubtangleMilestone"`
		IsSynced            *bool
		MilestoneStartIndex int64
		CoordinatorAddress  string
		Time                int64 // milliseconds
	}
	if err := c.ask(ctx, "getNodeInfo", nil, &a); err != nil {
		return Info{}, err
	}
	if a.Newest == nil || a.Solid == nil {
		return Info{}, fmt.Errorf("getNodeInfo: %w: no milestone index", ErrAnswer)
	}
	i := Info{
		App: printable(a.AppName + " " + a.AppVersion), Newest: *a.Newest, Solid: *a.Solid,
		Start: a.MilestoneStartIndex, Coordinator: printable(a.CoordinatorAddress),
		// IRI tells no more than its two indices. Hornet allows for a difference of 1 as well.
		Synced: (a.IsSynced == nil || *a.IsSynced) && *a.Newest > 0 && *a.Newest-*a.Solid <= 1,
	}
	if guards.IsTransactionHash(a.Milestone) {
		i.Milestone = a.Milestone
	}
	if a.Time > 0 {
		i.Time = time.UnixMilli(a.Time)
	}
	return i, nil
}

// printable keeps at most 100 printable ASCII characters.
func printable(s string) string {
	clean := make([]rune, 0, 100)
	for _, r := range s {
		if len(clean) == cap(clean) {
			break
		}
		if r >= ' ' && r < 0x7f {
			clean = append(clean, r)
		}
	}
	return string(clean)
}

// Balances are those of some addresses, in order.
type Balances struct {
	Amounts   []int64      // confirmed iotas
	Index     int64        // of the milestone as of which they hold
	Milestone trinary.Hash // its transaction; empty if the node did not tell
}

// Balances returns the confirmed balances of addresses of 81 trytes.
func (c *Client) Balances(ctx context.Context, addresses []trinary.Hash) (Balances, error) {
	var a struct {
		Balances       []string
		References     []trinary.Hash
		MilestoneIndex int64
	}
	// IRI before 1.8.6 refuses a request without a threshold; others ignore it.
	if err := c.ask(ctx, "getBalances", fields{"addresses": addresses, "threshold": 100}, &a); err != nil {
		return Balances{}, err
	}
	if len(a.Balances) != len(addresses) || a.MilestoneIndex <= 0 {
		return Balances{}, fmt.Errorf("getBalances: %w: %d balances at milestone %d for %d addresses", ErrAnswer, len(a.Balances), a.MilestoneIndex, len(addresses))
	}
	b := Balances{Index: a.MilestoneIndex}
	for _, text := range a.Balances {
		amount, err := strconv.ParseInt(text, 10, 64)
		if err != nil || amount < 0 || amount > int64(consts.TotalSupply) {
			return Balances{}, fmt.Errorf("getBalances: %w: a balance of %.40q", ErrAnswer, text)
		}
		b.Amounts = append(b.Amounts, amount)
	}
	if len(a.References) > 0 && guards.IsTransactionHash(a.References[0]) {
		b.Milestone = a.References[0]
	}
	return b, nil
}

// Query selects transactions by one kind of hash. Nodes differ in what several
// kinds together mean.
type Query struct {
	Addresses []trinary.Hash // 81 trytes each
	Bundles   []trinary.Hash
	Approvees []trinary.Hash // transactions whose trunk or branch is one of them
	// ValueOnly leaves out transactions without value, if the node is a Hornet.
	ValueOnly bool
}

// Find returns the hashes of the transactions that match, sorted. If there are
// MaxHashes of them, there may be more.
func (c *Client) Find(ctx context.Context, q Query) ([]trinary.Hash, error) {
	parameters := fields{}
	for name, hashes := range map[string][]trinary.Hash{"addresses": q.Addresses, "bundles": q.Bundles, "approvees": q.Approvees} {
		if len(hashes) > 0 {
			parameters[name] = hashes
		}
	}
	if q.ValueOnly {
		parameters["valueOnly"] = true
	}
	var a struct{ Hashes *[]trinary.Hash }
	if err := c.ask(ctx, "findTransactions", parameters, &a); err != nil {
		return nil, err
	}
	if a.Hashes == nil {
		return nil, fmt.Errorf("findTransactions: %w: no hashes", ErrAnswer)
	}
	for _, h := range *a.Hashes {
		if !guards.IsTransactionHash(h) {
			return nil, fmt.Errorf("findTransactions: %w: a hash is %.90q", ErrAnswer, h)
		}
	}
	slices.Sort(*a.Hashes)
	return slices.Compact(*a.Hashes), nil
}

// Transaction is a parsed transaction, with the hash that was computed from its
// trytes.
type Transaction = transaction.Transaction

// Transactions returns the transactions with some hashes. It leaves out those
// that the node does not have, and those that no bundle can have: IRI takes them
// from anybody.
func (c *Client) Transactions(ctx context.Context, hashes []trinary.Hash) (map[trinary.Hash]*Transaction, error) {
	found := make(map[trinary.Hash]*Transaction, len(hashes))
	for asked := range slices.Chunk(hashes, MaxHashes) {
		var a struct{ Trytes []trinary.Trytes }
		if err := c.ask(ctx, "getTrytes", fields{"hashes": asked}, &a); err != nil {
			return nil, err
		}
		if len(a.Trytes) != len(asked) {
			return nil, fmt.Errorf("getTrytes: %w: %d transactions for %d hashes", ErrAnswer, len(a.Trytes), len(asked))
		}
		for i, h := range asked {
			if err := ctx.Err(); err != nil { // hashing takes a while
				return nil, err
			}
			if guards.IsEmptyTrytes(a.Trytes[i]) { // pruned, or never there
				continue
			}
			hash, err := hashOf(a.Trytes[i])
			if err != nil {
				return nil, fmt.Errorf("getTrytes: %w: transaction %s: %w", ErrAnswer, h, err)
			}
			if hash != h {
				return nil, fmt.Errorf("getTrytes: %w: transaction %s has the hash %s", ErrAnswer, h, hash)
			}
			if t, err := parse(a.Trytes[i], hash); err == nil {
				found[h] = t
			}
		}
	}
	return found, nil
}

// hashOf computes a transaction's hash from the very trytes:
// transaction.TransactionHash would hash what it writes itself.
func hashOf(trytes trinary.Trytes) (hash trinary.Hash, err error) {
	defer contain(&err)
	if !guards.IsTrytesOfExactLength(trytes, consts.TransactionTrytesSize) {
		return "", fmt.Errorf("want %d trytes (A to Z and 9)", consts.TransactionTrytesSize)
	}
	return curl.HashTrytes(trytes)
}

func parse(trytes trinary.Trytes, hash trinary.Hash) (t *Transaction, err error) {
	defer contain(&err)
	return transaction.AsTransactionObject(trytes, hash)
}

// contain turns a panic of iota.go into an error.
func contain(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: iota.go panics: %v", ErrAnswer, p)
	}
}

// Included tells for each transaction whether a milestone up to the given one
// confirmed it, and its bundle had its effect on the balances. milestone is the
// transaction of the node's solid milestone, from Info or Balances: IRI before
// 1.8.6 confirms nothing without it, others ignore it.
func (c *Client) Included(ctx context.Context, milestone trinary.Hash, hashes []trinary.Hash) (map[trinary.Hash]bool, error) {
	tips := []trinary.Hash{}
	if milestone != "" {
		tips = append(tips, milestone)
	}
	found := make(map[trinary.Hash]bool, len(hashes))
	for asked := range slices.Chunk(hashes, MaxHashes) {
		var a struct{ States []bool }
		if err := c.ask(ctx, "getInclusionStates", fields{"transactions": asked, "tips": tips}, &a); err != nil {
			return nil, err
		}
		if len(a.States) != len(asked) {
			return nil, fmt.Errorf("getInclusionStates: %w: %d states for %d transactions", ErrAnswer, len(a.States), len(asked))
		}
		for i, h := range asked {
			found[h] = a.States[i]
		}
	}
	return found, nil
}

// SpentFrom tells for each address of 81 trytes whether something was signed
// with its key.
func (c *Client) SpentFrom(ctx context.Context, addresses []trinary.Hash) ([]bool, error) {
	var a struct{ States []bool }
	if err := c.ask(ctx, "wereAddressesSpentFrom", fields{"addresses": addresses}, &a); err != nil {
		return nil, err
	}
	if len(a.States) != len(addresses) {
		return nil, fmt.Errorf("wereAddressesSpentFrom: %w: %d states for %d addresses", ErrAnswer, len(a.States), len(addresses))
	}
	return a.States, nil
}

// Changed returns the transactions by which a milestone changed the balance of an
// address of 81 trytes. Hornet answers this to clients that it permits to ask;
// IRI does not know it. The field names begin with capitals in Hornet 0.5.6 and
// with small letters in 0.5.10; encoding/json takes both.
func (c *Client) Changed(ctx context.Context, index int64, address trinary.Hash) ([]trinary.Hash, error) {
	var a struct {
		ConfirmedTxWithValue *[]struct{ TxHash, Address trinary.Hash }
	}
	if err := c.ask(ctx, "getLedgerDiffExt", fields{"milestoneIndex": index}, &a); err != nil {
		return nil, err
	}
	if a.ConfirmedTxWithValue == nil {
		return nil, fmt.Errorf("getLedgerDiffExt: %w: no transactions", ErrAnswer)
	}
	var hashes []trinary.Hash
	for _, t := range *a.ConfirmedTxWithValue {
		if t.Address != address {
			continue
		}
		if !guards.IsTransactionHash(t.TxHash) {
			return nil, fmt.Errorf("getLedgerDiffExt: %w: a hash is %.90q", ErrAnswer, t.TxHash)
		}
		hashes = append(hashes, t.TxHash)
	}
	return hashes, nil
}
