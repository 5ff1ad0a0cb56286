package legacy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/iotaledger/iota.go/api"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/guards"
	"github.com/iotaledger/iota.go/trinary"
)

// What a node is asked for and allowed to answer.
const (
	maxBody   = 8 << 20 // bytes of an answer; 1,000 transactions are 2.7 MB
	maxHashes = 1000    // that one request may ask for, and an answer to findTransactions holds at most
)

// Faults of a node, for errors.Is.
var (
	// ErrAnswer means that an answer is not what the API promises.
	ErrAnswer = errors.New("answer makes no sense")
	// ErrUnsynced means that the node has not caught up with the network.
	ErrUnsynced = errors.New("node is not in sync")
	// ErrNetwork means that the node is on another network than the others.
	ErrNetwork = errors.New("node is on another network")
)

// node asks one node. Its methods check that an answer has the length and form
// it must have; what it says is not checked here.
type node struct {
	url     string
	name    string // the URL without a password
	client  *http.Client
	timeout time.Duration // of one request

	state // guarded by Ledger.mu
}

func newNode(address string, client *http.Client, timeout time.Duration) (*node, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("node %q: want a URL such as http://127.0.0.1:14265", redact(address))
	}
	return &node{url: address, name: u.Redacted(), client: client, timeout: timeout}, nil
}

// redact takes what may be a password out of something that is no URL.
func redact(address string) string {
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return "…" + address[i:]
	}
	return address
}

// send does one request through iota.go's client, which knows neither contexts
// nor limits.
func (n *node) send(ctx context.Context, command, answer any) (err error) {
	ctx, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	defer contain(&err)
	provider, err := api.NewHTTPClient(api.HTTPClientSettings{URI: n.url, Client: doer{ctx, n.client}})
	if err != nil {
		return err
	}
	err = provider.Send(command, answer)
	var status *api.ErrRequestError
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &status):
		if strings.Contains(status.ErrorMessage, "not synced") || strings.Contains(status.ErrorMessage, "not synchronized") {
			return fmt.Errorf("status %d: %w", status.Code, ErrUnsynced)
		}
		return &statusError{Code: status.Code, Text: status.ErrorMessage}
	case errors.As(err, &syntax), errors.As(err, &kind), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: not the JSON expected: %w", ErrAnswer, err)
	}
	var address *url.Error // its text repeats the URL, maybe with a password
	if errors.As(err, &address) {
		return address.Err
	}
	return err
}

// statusError is an HTTP status other than 200.
type statusError struct {
	Code int
	Text string // the node's; empty if it was not in the usual form
}

func (e *statusError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("status %d", e.Code)
	}
	return fmt.Sprintf("status %d: %.200q", e.Code, e.Text)
}

// contain turns a panic of iota.go into an error: it indexes what a node sent
// without looking at the length.
func contain(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: iota.go panics: %v", ErrAnswer, p)
	}
}

// doer gives requests of iota.go a context, and answers a largest size.
type doer struct {
	ctx    context.Context
	client *http.Client
}

func (d doer) Do(r *http.Request) (*http.Response, error) {
	answer, err := d.client.Do(r.WithContext(d.ctx))
	if err != nil {
		return nil, err
	}
	answer.Body = &limited{answer.Body, maxBody}
	return answer, nil
}

type limited struct {
	io.ReadCloser
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	// One byte more may be read, to tell an answer that fits from one that does not.
	n, err := l.ReadCloser.Read(p[:min(len(p), l.left+1)])
	if l.left -= n; l.left < 0 {
		return 0, fmt.Errorf("%w: it is longer than %d bytes", ErrAnswer, maxBody)
	}
	return n, err
}

// info is what getNodeInfo tells. IRI leaves out some of it.
type info struct {
	AppName             string
	AppVersion          string
	LatestIndex         *int64 `json:"latestMilestoneIndex"`
	SolidIndex          *int64 `json:"latestSolidSubtangleMilestoneIndex"`
	IsSynced            *bool
	MilestoneStartIndex int64
	CoordinatorAddress  string
}

func (n *node) getNodeInfo(ctx context.Context) (info, error) {
	var i info
	if err := n.send(ctx, api.Command{Command: api.GetNodeInfoCmd}, &i); err != nil {
		return info{}, fmt.Errorf("getNodeInfo: %w", err)
	}
	if i.LatestIndex == nil || i.SolidIndex == nil {
		return info{}, fmt.Errorf("getNodeInfo: %w: it has no milestone index", ErrAnswer)
	}
	return i, nil
}

// synced tells whether the node has caught up. IRI says no more than its two
// indices; Hornet allows for a difference of 1 as well.
func (i info) synced() bool {
	if i.IsSynced != nil && !*i.IsSynced {
		return false
	}
	return *i.LatestIndex > 0 && *i.LatestIndex-*i.SolidIndex <= 1
}

// getBalances returns the confirmed balances of addresses of 81 trytes, and the
// milestone at which they are that.
func (n *node) getBalances(ctx context.Context, addresses []trinary.Hash) (balances []int64, index int64, err error) {
	var a struct {
		Balances       []string
		MilestoneIndex int64
	}
	err = n.send(ctx, api.GetBalancesCommand{Command: api.Command{Command: api.GetBalancesCmd}, Addresses: addresses}, &a)
	if err != nil {
		return nil, 0, fmt.Errorf("getBalances: %w", err)
	}
	if len(a.Balances) != len(addresses) || a.MilestoneIndex <= 0 {
		return nil, 0, fmt.Errorf("getBalances: %w: %d balances at milestone %d for %d addresses", ErrAnswer, len(a.Balances), a.MilestoneIndex, len(addresses))
	}
	for _, text := range a.Balances {
		b, err := strconv.ParseInt(text, 10, 64)
		if err != nil || b < 0 || b > int64(consts.TotalSupply) {
			return nil, 0, fmt.Errorf("getBalances: %w: a balance of %.40q", ErrAnswer, text)
		}
		balances = append(balances, b)
	}
	return balances, a.MilestoneIndex, nil
}

// findValue returns the transactions that add to or take from an address. If
// there are maxHashes of them, there may be more.
func (n *node) findValue(ctx context.Context, address trinary.Hash) ([]trinary.Hash, error) {
	// valueOnly is Hornet's; others pass it over and return the rest as well.
	return n.find(ctx, struct {
		api.Command
		Addresses []trinary.Hash `json:"addresses"`
		ValueOnly bool           `json:"valueOnly"`
	}{api.Command{Command: api.FindTransactionsCmd}, []trinary.Hash{address}, true})
}

// findBundles returns the transactions of all attachments of some bundles. If
// there are maxHashes of them, there may be more.
func (n *node) findBundles(ctx context.Context, bundles []trinary.Hash) ([]trinary.Hash, error) {
	return n.find(ctx, api.FindTransactionsCommand{
		Command:               api.Command{Command: api.FindTransactionsCmd},
		FindTransactionsQuery: api.FindTransactionsQuery{Bundles: bundles},
	})
}

func (n *node) find(ctx context.Context, command any) ([]trinary.Hash, error) {
	var a struct{ Hashes *[]trinary.Hash }
	if err := n.send(ctx, command, &a); err != nil {
		return nil, fmt.Errorf("findTransactions: %w", err)
	}
	if a.Hashes == nil {
		return nil, fmt.Errorf("findTransactions: %w: it has no hashes", ErrAnswer)
	}
	seen := make(map[trinary.Hash]bool, len(*a.Hashes))
	var hashes []trinary.Hash
	for _, h := range *a.Hashes {
		if !guards.IsTransactionHash(h) {
			return nil, fmt.Errorf("findTransactions: %w: a hash is %.90q", ErrAnswer, h)
		}
		if !seen[h] {
			seen[h] = true
			hashes = append(hashes, h)
		}
	}
	return hashes, nil
}

// getTrytes returns the transactions with some hashes, in parsed form. Left out
// are those that the node does not have, and those that no bundle can have: IRI
// takes them from anybody. Each has the hash that was computed from its trytes.
func (n *node) getTrytes(ctx context.Context, hashes []trinary.Hash) (map[trinary.Hash]*tx, error) {
	found := make(map[trinary.Hash]*tx, len(hashes))
	for len(hashes) > 0 {
		asked := hashes[:min(len(hashes), maxHashes)]
		hashes = hashes[len(asked):]
		var a struct{ Trytes []trinary.Trytes }
		err := n.send(ctx, api.GetTrytesCommand{Command: api.Command{Command: api.GetTrytesCmd}, Hashes: asked}, &a)
		if err != nil {
			return nil, fmt.Errorf("getTrytes: %w", err)
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
			} // else it is the network's: no bundle can need it
		}
	}
	return found, nil
}

// included tells for each transaction whether a milestone confirmed it, and its
// bundle had its effect on the balances.
func (n *node) included(ctx context.Context, hashes []trinary.Hash) (map[trinary.Hash]bool, error) {
	found := make(map[trinary.Hash]bool, len(hashes))
	for len(hashes) > 0 {
		asked := hashes[:min(len(hashes), maxHashes)]
		hashes = hashes[len(asked):]
		var a struct{ States []bool }
		err := n.send(ctx, api.GetInclusionStatesCommand{Command: api.Command{Command: api.GetInclusionStatesCmd}, Transactions: asked}, &a)
		if err != nil {
			return nil, fmt.Errorf("getInclusionStates: %w", err)
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

// spent tells for each address of 81 trytes whether something was signed with
// its key.
func (n *node) spent(ctx context.Context, addresses []trinary.Hash) ([]bool, error) {
	var a struct{ States []bool }
	err := n.send(ctx, api.WereAddressesSpentFromCommand{Command: api.Command{Command: api.WereAddressesSpentFromCmd}, Addresses: addresses}, &a)
	if err != nil {
		return nil, fmt.Errorf("wereAddressesSpentFrom: %w", err)
	}
	if len(a.States) != len(addresses) {
		return nil, fmt.Errorf("wereAddressesSpentFrom: %w: %d states for %d addresses", ErrAnswer, len(a.States), len(addresses))
	}
	return a.States, nil
}
