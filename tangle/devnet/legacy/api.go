package legacy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/guards"
	"github.com/iotaledger/iota.go/trinary"
)

// What a node's configuration usually limits; getNodeAPIConfiguration tells.
const (
	maxFind   = 1000
	maxList   = 1000
	maxTrytes = 1000
	maxBody   = 1000000 // told, but Hornet 0.5.6 does not enforce it

	hardBody = 64 << 20 // what we do enforce
)

// unknownTrytes is what getTrytes says of a transaction that the node does not
// have.
var unknownTrytes = strings.Repeat("9", consts.TransactionTrytesSize)

// fail is an answer that is not 200: a status and Hornet's words for it. With no
// words the body is empty, as after a panic in Hornet.
type fail struct {
	status int
	text   string
}

func (f fail) Error() string { return f.text }

func bad(format string, args ...any) error {
	return fail{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// commands are the ones that are answered, by their names in lower case.
var commands = map[string]func(*Node, []byte) (any, error){
	"getnodeinfo":              (*Node).getNodeInfo,
	"getnodeapiconfiguration":  (*Node).getNodeAPIConfiguration,
	"findtransactions":         (*Node).findTransactions,
	"gettrytes":                (*Node).getTrytes,
	"getinclusionstates":       (*Node).getInclusionStates,
	"getbalances":              (*Node).getBalances,
	"wereaddressesspentfrom":   (*Node).wereAddressesSpentFrom,
	"checkconsistency":         (*Node).checkConsistency,
	"gettipinfo":               (*Node).getTipInfo,
	"getledgerdiff":            (*Node).getLedgerDiff,
	"getledgerdiffext":         (*Node).getLedgerDiffExt,
	"gettransactionstoapprove": (*Node).getTransactionsToApprove,
	"attachtotangle":           (*Node).attachToTangle,
	"broadcasttransactions":    (*Node).broadcastTransactions,
	"storetransactions":        (*Node).broadcastTransactions,
}

// ServeHTTP answers the API on POST / and the health check on GET /healthz.
func (n *Node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/healthz" && r.Method == http.MethodGet:
		n.tangle.mu.Lock()
		healthy := n.healthy()
		n.tangle.mu.Unlock()
		if !healthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	case r.URL.Path != "/" || r.Method != http.MethodPost:
		reply(w, nil, fail{http.StatusNotFound, "not found"})
	default:
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, hardBody))
		if err != nil {
			reply(w, nil, fail{http.StatusRequestEntityTooLarge, err.Error()})
			return
		}
		command, err := commandOf(body)
		fault, latency := n.trick(strings.ToLower(command))
		if latency > 0 {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(latency):
			}
		}
		var out any
		if err == nil {
			out, err = n.run(command, body)
		}
		if fault != "" {
			spoil(w, r, fault, out, err)
			return
		}
		reply(w, out, err)
	}
}

// commandOf finds out what a request asks for.
func commandOf(body []byte) (string, error) {
	var request map[string]any
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&request); err != nil {
		return "", bad("%s", err)
	}
	name, ok := request["command"]
	if !ok {
		return "", bad("error parsing command")
	}
	command, ok := name.(string)
	if !ok {
		return "", fail{status: http.StatusInternalServerError}
	}
	return command, nil
}

func (n *Node) run(command string, body []byte) (any, error) {
	run, ok := commands[strings.ToLower(command)]
	if !ok {
		return nil, bad("command [%s] is unknown", command)
	}
	return run(n, body)
}

func reply(w http.ResponseWriter, out any, err error) {
	status := http.StatusOK
	if err != nil {
		f := fail{http.StatusInternalServerError, err.Error()}
		errors.As(err, &f)
		status = f.status
		if f.text == "" {
			w.WriteHeader(status)
			return
		}
		out = map[string]string{"error": f.text}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(out) // the client is gone if this fails
}

// decode reads the fields of a request, and says what is wrong as Hornet does.
func decode(body []byte, to any) error {
	err := json.NewDecoder(bytes.NewReader(body)).Decode(to)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Type.Kind().String() == "slice":
		return fail{http.StatusInternalServerError, fmt.Sprintf(
			"internal error: 1 error(s) decoding:\n\n* '%s': source data must be an array or slice, got %s", fieldName(wrong), wrong.Value)}
	case errors.As(err, &wrong):
		return fail{http.StatusInternalServerError, fmt.Sprintf(
			"internal error: 1 error(s) decoding:\n\n* '%s' expected type '%s', got %s", fieldName(wrong), wrong.Type, wrong.Value)}
	case err != nil:
		return fail{http.StatusInternalServerError, "internal error: " + err.Error()}
	}
	return nil
}

// fieldName is a field of a request as the API spells it.
func fieldName(err *json.UnmarshalTypeError) string {
	if err.Field == "" {
		return err.Field
	}
	return strings.ToLower(err.Field[:1]) + err.Field[1:]
}

var errUnsynced = bad("node not synced")

// timing ends every answer. Hornet always says 0.
type timing struct {
	Duration int `json:"duration"`
}

func (n *Node) getNodeInfo([]byte) (any, error) {
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	info := struct {
		AppName                            string       `json:"appName"`
		AppVersion                         string       `json:"appVersion"`
		LatestMilestone                    trinary.Hash `json:"latestMilestone"`
		LatestMilestoneIndex               int          `json:"latestMilestoneIndex"`
		LatestSolidSubtangleMilestone      trinary.Hash `json:"latestSolidSubtangleMilestone"`
		LatestSolidSubtangleMilestoneIndex int          `json:"latestSolidSubtangleMilestoneIndex"`
		IsSynced                           bool         `json:"isSynced"`
		IsHealthy                          bool         `json:"isHealthy"`
		MilestoneStartIndex                int          `json:"milestoneStartIndex"`
		LastSnapshottedMilestoneIndex      int          `json:"lastSnapshottedMilestoneIndex"`
		Neighbors                          int          `json:"neighbors"`
		Time                               int64        `json:"time"`
		Tips                               int          `json:"tips"`
		TransactionsToRequest              int          `json:"transactionsToRequest"`
		Features                           []string     `json:"features"`
		CoordinatorAddress                 trinary.Hash `json:"coordinatorAddress"`
		timing
	}{
		AppName: "HORNET", AppVersion: "0.5.6",
		LatestMilestone: consts.NullHashTrytes, LatestSolidSubtangleMilestone: consts.NullHashTrytes,
		IsSynced: n.synced(), IsHealthy: n.healthy(),
		MilestoneStartIndex: n.start, LastSnapshottedMilestoneIndex: n.start,
		Neighbors:          n.neighbors(),
		Time:               n.tangle.now().Unix() * 1000,
		Features:           []string{"RemotePOW", "WereAddressesSpentFrom"},
		CoordinatorAddress: n.tangle.coordinator,
	}
	if m := n.newest(); m != nil {
		info.LatestMilestone, info.LatestMilestoneIndex = m.hash, m.index
	}
	if m := n.solid(); m != nil {
		info.LatestSolidSubtangleMilestone, info.LatestSolidSubtangleMilestoneIndex = m.hash, m.index
	}
	if n.synced() {
		info.Tips = 2
	}
	return info, nil
}

func (n *Node) getNodeAPIConfiguration([]byte) (any, error) {
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	return struct {
		MaxFindTransactions int `json:"maxFindTransactions"`
		MaxRequestsList     int `json:"maxRequestsList"`
		MaxGetTrytes        int `json:"maxGetTrytes"`
		MaxBodyLength       int `json:"maxBodyLength"`
		MilestoneStartIndex int `json:"milestoneStartIndex"`
		timing
	}{maxFind, maxList, maxTrytes, maxBody, n.start, timing{}}, nil
}

func (n *Node) findTransactions(body []byte) (any, error) {
	var query struct {
		Addresses, Bundles, Tags, Approvees []string
		MaxResults                          int
		ValueOnly                           bool
	}
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	addresses := make([]string, len(query.Addresses))
	for i, a := range query.Addresses {
		if address.ValidAddress(a) != nil {
			return nil, bad("address hash invalid: %s", a)
		}
		addresses[i] = a[:consts.HashTrytesSize]
	}
	for _, b := range query.Bundles {
		if !guards.IsTransactionHash(b) {
			return nil, bad("bundle hash invalid: %s", b)
		}
	}
	for _, a := range query.Approvees {
		if !guards.IsTransactionHash(a) {
			return nil, bad("approvee hash invalid: %s", a)
		}
	}
	tags := make([]string, len(query.Tags))
	for i, tag := range query.Tags {
		if trinary.ValidTrytes(tag) != nil || len(tag) > tagSize {
			return nil, bad("tag invalid: %s", tag)
		}
		tags[i] = tag + strings.Repeat("9", tagSize-len(tag))
	}
	limit := maxFind
	if query.MaxResults > 0 && query.MaxResults < limit {
		limit = query.MaxResults
	}

	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	hashes := []trinary.Hash{}
	searched := false
	// The first kind of filter searches, up to the limit; the others only take
	// away from what it found.
	for _, filter := range []struct {
		keys    []string
		index   map[string]*list
		matches func(x *tx, key string) bool
	}{
		{query.Bundles, n.tangle.byBundle, func(x *tx, key string) bool { return x.bundle == key }},
		{addresses, n.tangle.byAddress, func(x *tx, key string) bool { return x.address == key }},
		{query.Approvees, n.tangle.byApprovee, func(x *tx, key string) bool { return x.trunk == key || x.branch == key }},
		{tags, n.tangle.byTag, func(x *tx, key string) bool { return x.tag == key }},
	} {
		if len(filter.keys) == 0 {
			continue
		}
		if searched {
			hashes = slices.DeleteFunc(hashes, func(h trinary.Hash) bool {
				x := n.tangle.byHash[h]
				return !slices.ContainsFunc(filter.keys, func(key string) bool { return filter.matches(x, key) })
			})
			continue
		}
		searched = true
		found := make(map[trinary.Hash]bool)
		for _, key := range filter.keys {
			for _, x := range filter.index[key].inOrder() {
				if len(hashes) >= limit {
					break
				}
				if !found[x.hash] && n.sees(x) && (!query.ValueOnly || x.value != 0) {
					found[x.hash] = true
					hashes = append(hashes, x.hash)
				}
			}
		}
	}
	rand.Shuffle(len(hashes), func(i, j int) { hashes[i], hashes[j] = hashes[j], hashes[i] })
	return struct {
		Hashes []trinary.Hash `json:"hashes"`
		timing
	}{hashes, timing{}}, nil
}

func (n *Node) getTrytes(body []byte) (any, error) {
	var query struct{ Hashes []string }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	if len(query.Hashes) > maxTrytes {
		return nil, bad("Too many hashes. maximum allowed: %d", maxTrytes)
	}
	trytes := make([]trinary.Trytes, len(query.Hashes))
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	for i, h := range query.Hashes {
		if !guards.IsTransactionHash(h) {
			return nil, bad("Invalid hash supplied: %s", h)
		}
		trytes[i] = unknownTrytes
		if x := n.tangle.byHash[h]; x != nil && n.sees(x) {
			trytes[i] = x.trytes
		}
	}
	return struct {
		Trytes []trinary.Trytes `json:"trytes"`
		timing
	}{trytes, timing{}}, nil
}

func (n *Node) getInclusionStates(body []byte) (any, error) {
	var query struct{ Transactions []string }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	for _, h := range query.Transactions {
		if !guards.IsTransactionHash(h) {
			return nil, bad("Invalid reference hash supplied: %s", h)
		}
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	if !n.synced() {
		return nil, errUnsynced
	}
	states := make([]bool, len(query.Transactions))
	for i, h := range query.Transactions {
		states[i] = n.includes(n.tangle.byHash[h])
	}
	return struct {
		States []bool `json:"states"`
		timing
	}{states, timing{}}, nil
}

func (n *Node) getBalances(body []byte) (any, error) {
	var query struct{ Addresses []string }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	if len(query.Addresses) == 0 {
		return nil, bad("No addresses provided")
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	if !n.synced() {
		return nil, errUnsynced
	}
	balances := make([]string, len(query.Addresses))
	for i, a := range query.Addresses {
		if address.ValidAddress(a) != nil {
			return nil, bad("address hash invalid: %s", a)
		}
		if len(a) != consts.HashTrytesSize {
			return nil, fail{status: http.StatusInternalServerError} // Hornet panics
		}
		balances[i] = strconv.FormatInt(n.balance(a), 10)
	}
	m := n.solid()
	return struct {
		Balances       []string       `json:"balances"`
		References     []trinary.Hash `json:"references"`
		MilestoneIndex int            `json:"milestoneIndex"`
		timing
	}{balances, []trinary.Hash{m.hash}, m.index, timing{}}, nil
}

func (n *Node) wereAddressesSpentFrom(body []byte) (any, error) {
	var query struct{ Addresses []string }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	if !n.synced() {
		return nil, errUnsynced
	}
	if len(query.Addresses) == 0 {
		return nil, bad("No addresses provided")
	}
	states := make([]bool, len(query.Addresses))
	for i, a := range query.Addresses {
		if address.ValidAddress(a) != nil {
			return nil, bad("Provided address hash invalid: %s", a)
		}
		states[i] = n.tangle.spent[a[:consts.HashTrytesSize]]
	}
	return struct {
		States []bool `json:"states"`
		timing
	}{states, timing{}}, nil
}

// checkConsistency is true whatever is asked, as in Hornet 0.5.
func (n *Node) checkConsistency([]byte) (any, error) {
	return struct {
		State bool `json:"state"`
		timing
	}{true, timing{}}, nil
}

// From how many milestones on a pending transaction should be promoted, and when
// only a reattachment helps, as in Hornet.
const (
	promoteAfter  = 2
	reattachAfter = 15
)

func (n *Node) getTipInfo(body []byte) (any, error) {
	var query struct{ TailTransaction string }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	if !n.synced() {
		return nil, bad("node is not synced")
	}
	if !guards.IsTransactionHash(query.TailTransaction) {
		return nil, bad("Invalid hash supplied: %s", query.TailTransaction)
	}
	x := n.tangle.byHash[query.TailTransaction]
	if x == nil || !n.sees(x) {
		return nil, bad("unknown tail transaction")
	}
	if x.index != 0 {
		return nil, bad("transaction is not a tail")
	}
	if n.tangle.bundleOf(x) == nil {
		return nil, bad("transaction is not solid")
	}
	info := struct {
		Confirmed      bool `json:"confirmed"`
		Conflicting    bool `json:"conflicting"`
		ShouldPromote  bool `json:"shouldPromote"`
		ShouldReattach bool `json:"shouldReattach"`
		timing
	}{Confirmed: n.includes(x)}
	info.Conflicting = x.decided > 0 && x.included == 0 && x.decided <= n.solid().index
	if x.decided == 0 && x.verdict == valid {
		age := n.solid().index - x.epoch
		info.ShouldReattach = age >= reattachAfter
		info.ShouldPromote = age >= promoteAfter && !info.ShouldReattach
	}
	return info, nil
}

func (n *Node) getLedgerDiff(body []byte) (any, error) {
	var query struct{ MilestoneIndex int }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	m, err := n.milestoneAt(query.MilestoneIndex)
	if err != nil {
		return nil, err
	}
	return struct {
		Diff           map[trinary.Hash]int64 `json:"diff"`
		MilestoneIndex int                    `json:"milestoneIndex"`
		timing
	}{m.diff, m.index, timing{}}, nil
}

func (n *Node) getLedgerDiffExt(body []byte) (any, error) {
	var query struct{ MilestoneIndex int }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	// The names of the fields are those of 0.5.6; 0.5.10 has them in camel case.
	type valueTx struct {
		TxHash, TailTxHash, BundleHash, Address trinary.Hash
		Value                                   int64
	}
	type bundleTx struct {
		TxHash, Address trinary.Hash
		Index           uint64
		Value           int64
	}
	type valueBundle struct {
		BundleHash, TailTxHash trinary.Hash
		LastIndex              uint64
		Txs                    []bundleTx
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	m, err := n.milestoneAt(query.MilestoneIndex)
	if err != nil {
		return nil, err
	}
	txs, bundles := []valueTx{}, []valueBundle{}
	for _, tail := range m.included {
		moves := false
		vb := valueBundle{BundleHash: tail.bundle, TailTxHash: tail.hash, LastIndex: tail.last}
		for _, x := range n.tangle.bundleOf(tail) {
			vb.Txs = append(vb.Txs, bundleTx{x.hash, x.address, x.index, x.value})
			if x.value != 0 {
				moves = true
				txs = append(txs, valueTx{x.hash, tail.hash, x.bundle, x.address, x.value})
			}
		}
		if moves {
			bundles = append(bundles, vb)
		}
	}
	return struct {
		ConfirmedTxWithValue      []valueTx              `json:"confirmedTxWithValue"`
		ConfirmedBundlesWithValue []valueBundle          `json:"confirmedBundlesWithValue"`
		Diff                      map[trinary.Hash]int64 `json:"diff"`
		MilestoneIndex            int                    `json:"milestoneIndex"`
		timing
	}{txs, bundles, m.diff, m.index, timing{}}, nil
}

func (n *Node) getTransactionsToApprove(body []byte) (any, error) {
	var query struct{ Reference string }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	n.tangle.mu.Lock()
	defer n.tangle.mu.Unlock()
	if !n.synced() {
		return nil, fail{http.StatusServiceUnavailable, "node is not synchronized"}
	}
	trunk, branch := n.solid().hash, n.solid().hash
	if n.tangle.tip != nil && n.sees(n.tangle.tip) {
		trunk = n.tangle.tip.hash
	}
	if query.Reference != "" {
		if !guards.IsTransactionHash(query.Reference) {
			return nil, bad("Invalid reference hash supplied: %s", query.Reference)
		}
		if x := n.tangle.byHash[query.Reference]; x == nil || !n.sees(x) {
			return nil, bad("unknown reference transaction")
		}
		branch = query.Reference
	}
	return struct {
		TrunkTransaction  trinary.Hash `json:"trunkTransaction"`
		BranchTransaction trinary.Hash `json:"branchTransaction"`
		timing
	}{trunk, branch, timing{}}, nil
}

func (n *Node) attachToTangle(body []byte) (any, error) {
	var query struct {
		TrunkTransaction, BranchTransaction string
		MinWeightMagnitude                  int
		Trytes                              []string
	}
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	if query.MinWeightMagnitude != n.tangle.mwm {
		return nil, bad("Wrong MinWeightMagnitude. requested: %d, expected: %d", query.MinWeightMagnitude, n.tangle.mwm)
	}
	if len(query.Trytes) == 0 {
		return nil, bad("No trytes provided")
	}
	if !guards.IsTransactionHash(query.TrunkTransaction) || !guards.IsTransactionHash(query.BranchTransaction) {
		return nil, bad("Invalid trunk or branch hash supplied")
	}
	attached, err := n.tangle.attach(query.TrunkTransaction, query.BranchTransaction, query.Trytes, n.tangle.now())
	if errors.Is(err, errTrytes) {
		return nil, bad("%s", err)
	}
	if err != nil {
		return nil, err
	}
	return struct {
		Trytes []trinary.Trytes `json:"trytes"`
		timing
	}{n.tangle.remember(attached), timing{}}, nil
}

func (n *Node) broadcastTransactions(body []byte) (any, error) {
	var query struct{ Trytes []string }
	if err := decode(body, &query); err != nil {
		return nil, err
	}
	if len(query.Trytes) == 0 {
		return nil, bad("No trytes provided")
	}
	if err := n.tangle.store(n, query.Trytes); err != nil {
		return nil, bad("%s", err)
	}
	return timing{}, nil
}
