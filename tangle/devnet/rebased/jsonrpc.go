package rebased

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// Codes of errors (crates/iota-json-rpc/src/error.rs).
const (
	rpcParse     = -32700
	rpcInvalid   = -32600
	rpcMethod    = -32601
	rpcParams    = -32602
	rpcInternal  = -32603
	rpcRejected  = -32002
	rpcBatch     = -32005
	rpcTransient = -32050
)

// rpcError is an error of JSON-RPC.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return e.Message }

func rpcErrorOf(code int, format string, args ...any) error {
	return &rpcError{code, fmt.Sprintf(format, args...)}
}

// rpcAnswer is the body of an answer. A result of null is left out with an error.
type rpcAnswer struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

// isRPC reports whether a body is for JSON-RPC rather than GraphQL.
func isRPC(body []byte) bool {
	var batch []json.RawMessage
	if json.Unmarshal(body, &batch) == nil {
		return true
	}
	var request struct {
		Version json.RawMessage `json:"jsonrpc"`
		Method  json.RawMessage `json:"method"`
	}
	return json.Unmarshal(body, &request) == nil && (request.Version != nil || request.Method != nil)
}

// serveRPC answers a call.
func (n *Node) serveRPC(w http.ResponseWriter, r *http.Request, body []byte) {
	var request struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params json.RawMessage `json:"params"`
	}
	answer := func(err error) *rpcAnswer {
		var known *rpcError
		if !errors.As(err, &known) {
			known = &rpcError{rpcInternal, err.Error()}
		}
		return &rpcAnswer{Version: "2.0", ID: request.ID, Error: known}
	}
	if err := json.Unmarshal(body, &request); err != nil {
		code, message := rpcInvalid, "Invalid request"
		if strings.HasPrefix(strings.TrimSpace(string(body)), "[") {
			code, message = rpcBatch, "Batched requests are not supported by this server"
		}
		n.answer(w, r, "", func() any { return answer(rpcErrorOf(code, "%s", message)) })
		return
	}
	if len(request.ID) == 0 {
		request.ID = json.RawMessage("null")
	}
	n.answer(w, r, request.Method, func() any {
		var params rpcParameters
		if len(request.Params) > 0 { // some clients leave it out
			if err := json.Unmarshal(request.Params, &params); err != nil {
				return answer(rpcErrorOf(rpcParams, "Invalid params"))
			}
		}
		method := methods[request.Method]
		if method == nil {
			return answer(rpcErrorOf(rpcMethod, "Method not found"))
		}
		result, err := method(n, params)
		if errors.Is(err, errLost) {
			return nil
		}
		if err != nil {
			return answer(err)
		}
		encoded, err := json.Marshal(result)
		if err != nil {
			return answer(err)
		}
		return &rpcAnswer{Version: "2.0", ID: request.ID, Result: encoded}
	})
}

// rpcParameters are a call's, by position. Those that are missing or null stay
// what they are.
type rpcParameters []json.RawMessage

func (p rpcParameters) get(i int, into any) error {
	if i >= len(p) || string(p[i]) == "null" {
		return nil
	}
	if err := json.Unmarshal(p[i], into); err != nil {
		return rpcErrorOf(rpcParams, "Invalid params: parameter %d: %v", i, err)
	}
	return nil
}

func (p rpcParameters) address(i int) (txn.Address, error) {
	var text string
	if err := p.get(i, &text); err != nil {
		return txn.Address{}, err
	}
	a, err := parseAddress(text)
	if err != nil {
		return a, rpcErrorOf(rpcParams, "Invalid params: %v", err)
	}
	return a, nil
}

func (p rpcParameters) coin(i int) (txn.CoinType, error) {
	text := ""
	if err := p.get(i, &text); err != nil || text == "" {
		return txn.IOTA, err
	}
	coin, err := txn.ParseCoinType(text)
	if err != nil {
		return coin, rpcErrorOf(rpcParams, "Invalid params: %v", err)
	}
	return coin, nil
}

func (p rpcParameters) digest(i int) (txn.Digest, error) {
	var text string
	if err := p.get(i, &text); err != nil {
		return txn.Digest{}, err
	}
	d, err := txn.ParseDigest(text)
	if err != nil {
		return d, rpcErrorOf(rpcParams, "Invalid params: %v", err)
	}
	return d, nil
}

// limit returns a page size: 50 if it is absent, 0 or more than 50.
func (p rpcParameters) limit(i int) (int, error) {
	limit := 0
	if err := p.get(i, &limit); err != nil {
		return 0, err
	}
	if limit <= 0 || limit > maxPage {
		limit = maxPage
	}
	return limit, nil
}

// methods are the calls that the façade knows: enough for the wallet of another
// project to pay and to check. Names, parameters and shapes are those of
// crates/iota-open-rpc/spec/openrpc.json.
var methods map[string]func(n *Node, p rpcParameters) (any, error)

func init() { // methods and Break refer to each other
	methods = map[string]func(n *Node, p rpcParameters) (any, error){
		"iota_getChainIdentifier": reading(func(n *Node, _ rpcParameters) (any, error) { return n.chain.id, nil }),
		"iota_getLatestCheckpointSequenceNumber": reading(func(n *Node, _ rpcParameters) (any, error) {
			return fmt.Sprint(n.seen()), nil
		}),
		"iota_getTotalTransactionBlocks": reading(func(n *Node, _ rpcParameters) (any, error) {
			return fmt.Sprint(n.chain.checkpoints[n.seen()].total), nil
		}),
		"iotax_getReferenceGasPrice":     reading(func(*Node, rpcParameters) (any, error) { return fmt.Sprint(referenceGasPrice), nil }),
		"iota_getCheckpoint":             reading((*Node).rpcCheckpoint),
		"iota_getObject":                 reading((*Node).rpcObject),
		"iota_getTransactionBlock":       reading((*Node).rpcTransaction),
		"iota_multiGetTransactionBlocks": reading((*Node).rpcTransactions),
		"iota_dryRunTransactionBlock":    reading((*Node).rpcDryRun),
		"iota_executeTransactionBlock":   (*Node).rpcExecute,
		"iotax_getBalance":               reading((*Node).rpcBalance),
		"iotax_getAllBalances":           reading((*Node).rpcBalances),
		"iotax_getCoins":                 reading((*Node).rpcCoins),
		"iotax_getAllCoins":              reading((*Node).rpcAllCoins),
		"iotax_getCoinMetadata":          reading((*Node).rpcCoinMetadata),
		"iotax_queryTransactionBlocks":   reading((*Node).rpcQuery),
	}
}

// reading runs a call under the chain's lock.
func reading(f func(*Node, rpcParameters) (any, error)) func(*Node, rpcParameters) (any, error) {
	return func(n *Node, p rpcParameters) (any, error) {
		n.chain.mu.RLock()
		defer n.chain.mu.RUnlock()
		return f(n, p)
	}
}

// jsonObject is an object in an answer.
type jsonObject = map[string]any

func (n *Node) rpcCheckpoint(p rpcParameters) (any, error) {
	var id string
	if err := p.get(0, &id); err != nil {
		return nil, err
	}
	tip := n.seen()
	var cp *checkpoint
	var number int64
	if _, err := fmt.Sscan(id, &number); err == nil && fmt.Sprint(number) == id {
		cp = n.at(number, tip)
	} else {
		for i := tip; i >= n.pruned && cp == nil; i-- {
			if n.chain.checkpoints[i].digest.String() == id {
				cp = n.chain.checkpoints[i]
			}
		}
	}
	if cp == nil {
		return nil, rpcErrorOf(rpcInternal, "Invalid argument with error: `Checkpoint %s not found`", id)
	}
	digests := []string{}
	for _, x := range n.chain.ordered[cp.first:cp.total] {
		digests = append(digests, x.digest.String())
	}
	out := jsonObject{
		"epoch": fmt.Sprint(cp.epoch), "sequenceNumber": fmt.Sprint(cp.number), "digest": cp.digest.String(),
		"networkTotalTransactions": fmt.Sprint(cp.total), "epochRollingGasCostSummary": rpcGas(cp.gas),
		"timestampMs": fmt.Sprint(cp.time.UnixMilli()), "transactions": digests, "checkpointCommitments": []any{},
		"validatorSignature": base64.StdEncoding.EncodeToString(make([]byte, 48)),
	}
	if cp.number > 0 {
		out["previousDigest"] = n.chain.checkpoints[cp.number-1].digest.String()
	}
	return out, nil
}

func rpcGas(g gasUsed) any {
	return jsonObject{
		"computationCost": fmt.Sprint(g.computation), "computationCostBurned": fmt.Sprint(g.computation),
		"storageCost": fmt.Sprint(g.storage), "storageRebate": fmt.Sprint(g.rebate), "nonRefundableStorageFee": "0",
	}
}

func rpcOwner(a txn.Address) any { return jsonObject{"AddressOwner": a.String()} }

func (n *Node) rpcObject(p rpcParameters) (any, error) {
	id, err := p.address(0)
	if err != nil {
		return nil, err
	}
	var options struct{ ShowType, ShowOwner, ShowPreviousTransaction, ShowStorageRebate, ShowContent bool }
	if err := p.get(1, &options); err != nil {
		return nil, err
	}
	o := n.chain.objects[id]
	if o == nil {
		return jsonObject{"error": jsonObject{"code": "notExists", "object_id": id.String()}}, nil
	}
	data := jsonObject{"objectId": id.String(), "version": fmt.Sprint(o.version), "digest": o.digest.String()}
	if options.ShowType {
		data["type"] = n.spell(o.typeName(), Short)
	}
	if options.ShowOwner {
		data["owner"] = rpcOwner(o.owner)
	}
	if options.ShowPreviousTransaction {
		data["previousTransaction"] = o.previous.String()
	}
	if options.ShowStorageRebate {
		data["storageRebate"] = fmt.Sprint(o.rebate)
	}
	if options.ShowContent {
		fields := jsonObject{"id": jsonObject{"id": id.String()}}
		if o.coin != nil {
			fields["balance"] = fmt.Sprint(o.balance)
		}
		data["content"] = jsonObject{"dataType": "moveObject", "type": n.spell(o.typeName(), Short), "fields": fields}
	}
	return jsonObject{"data": data}, nil
}

func rpcBalanceOf(n *Node, b *balanceNode) any {
	return jsonObject{"coinType": n.spell(b.coin.String(), Short), "coinObjectCount": b.count, "totalBalance": b.total.String()}
}

func (n *Node) rpcBalance(p rpcParameters) (any, error) {
	a, err := p.address(0)
	if err != nil {
		return nil, err
	}
	coin, err := p.coin(1)
	if err != nil {
		return nil, err
	}
	for _, b := range n.balances(a, n.seen()) {
		if b.coin == coin {
			return rpcBalanceOf(n, b), nil
		}
	}
	return jsonObject{"coinType": n.spell(coin.String(), Short), "coinObjectCount": 0, "totalBalance": "0"}, nil
}

func (n *Node) rpcBalances(p rpcParameters) (any, error) {
	a, err := p.address(0)
	if err != nil {
		return nil, err
	}
	all := []any{}
	for _, b := range n.balances(a, n.seen()) {
		all = append(all, rpcBalanceOf(n, b))
	}
	return all, nil
}

func (n *Node) rpcCoins(p rpcParameters) (any, error) {
	coin, err := p.coin(1)
	if err != nil {
		return nil, err
	}
	return n.rpcCoinPage(p, 2, func(o *object) bool { return o.coin != nil && *o.coin == coin })
}

func (n *Node) rpcAllCoins(p rpcParameters) (any, error) {
	return n.rpcCoinPage(p, 1, func(o *object) bool { return o.coin != nil })
}

// rpcCoinPage returns coins by ID, after the cursor at a position among the
// parameters; the limit follows it.
func (n *Node) rpcCoinPage(p rpcParameters, at int, want func(*object) bool) (any, error) {
	a, err := p.address(0)
	if err != nil {
		return nil, err
	}
	cursor := ""
	if err := p.get(at, &cursor); err != nil {
		return nil, err
	}
	limit, err := p.limit(at + 1)
	if err != nil {
		return nil, err
	}
	data := []any{}
	more := false
	next := any(nil)
	if cursor != "" {
		next = cursor
	}
	for _, o := range n.chain.owned(a, n.seen()) {
		if !want(o) || cursor != "" && o.id.String() <= cursor {
			continue
		}
		if len(data) == limit {
			more = true
			break
		}
		next = o.id.String()
		data = append(data, jsonObject{
			"coinType": n.spell(o.coin.String(), Short), "coinObjectId": o.id.String(), "version": fmt.Sprint(o.version),
			"digest": o.digest.String(), "balance": fmt.Sprint(o.balance), "previousTransaction": o.previous.String(),
		})
	}
	return jsonObject{"data": data, "nextCursor": next, "hasNextPage": more}, nil
}

func (n *Node) rpcCoinMetadata(p rpcParameters) (any, error) {
	coin, err := p.coin(0)
	if err != nil || coin != txn.IOTA {
		return nil, err
	}
	return jsonObject{
		"id": txn.Address(hash([]byte("metadata"))).String(), "decimals": 9, "name": "IOTA", "symbol": "IOTA",
		"description": "The main (gas)token of the IOTA Network.", "iconUrl": "https://iota.org/logo.png",
	}, nil
}

// rpcOptions say which parts of a transaction a client wants.
type rpcOptions struct {
	ShowInput, ShowRawInput, ShowEffects, ShowEvents, ShowObjectChanges, ShowBalanceChanges bool
}

func (n *Node) rpcTransaction(p rpcParameters) (any, error) {
	d, err := p.digest(0)
	if err != nil {
		return nil, err
	}
	var options rpcOptions
	if err := p.get(1, &options); err != nil {
		return nil, err
	}
	x := n.readable(d)
	if x == nil {
		return nil, rpcErrorOf(rpcInternal, "Invalid argument with error: `Transaction %s not found`", d)
	}
	return n.rpcTransactionOf(x, options)
}

func (n *Node) rpcTransactions(p rpcParameters) (any, error) {
	var digests []string
	if err := p.get(0, &digests); err != nil {
		return nil, err
	}
	if len(digests) > maxPage {
		return nil, rpcErrorOf(rpcParams, "Exceeded maximum transaction number %d", maxPage)
	}
	var options rpcOptions
	if err := p.get(1, &options); err != nil {
		return nil, err
	}
	all := []any{}
	for i, text := range digests {
		d, err := txn.ParseDigest(text)
		if err != nil || slices.Contains(digests[:i], text) {
			return nil, rpcErrorOf(rpcParams, "The list of digests in the input contains a duplicate or an invalid one: %.60q", text)
		}
		x := n.readable(d)
		if x == nil {
			return nil, rpcErrorOf(rpcInternal, "Invalid argument with error: `Transaction %s not found`", d)
		}
		one, err := n.rpcTransactionOf(x, options)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// rpcTransactionOf returns a transaction in the form of JSON-RPC.
func (n *Node) rpcTransactionOf(x *transaction, options rpcOptions) (any, error) {
	out := jsonObject{"digest": x.digest.String()}
	if options.ShowInput && x.kind == programmable {
		out["transaction"] = jsonObject{"data": n.rpcData(x), "txSignatures": x.signed()}
	}
	if options.ShowRawInput && x.kind == programmable {
		out["rawTransaction"] = base64.StdEncoding.EncodeToString(x.senderSigned())
	}
	if (options.ShowEffects || options.ShowBalanceChanges) && n.unreadable[x.digest] {
		return nil, rpcErrorOf(rpcInternal, "Error deserializing transaction effects")
	}
	if options.ShowEffects {
		out["effects"] = n.rpcEffects(x)
	}
	if options.ShowEvents {
		out["events"] = []any{}
	}
	if options.ShowObjectChanges {
		out["objectChanges"] = n.rpcObjectChanges(x)
	}
	if options.ShowBalanceChanges {
		out["balanceChanges"] = n.rpcBalanceChanges(x)
	}
	if x.checkpoint >= 0 && x.checkpoint <= n.indexed() {
		cp := n.chain.checkpoints[x.checkpoint]
		out["checkpoint"] = fmt.Sprint(cp.number)
		out["timestampMs"] = fmt.Sprint(cp.time.UnixMilli())
	}
	return out, nil
}

func rpcRef(r txn.ObjectRef) any {
	return jsonObject{"objectId": r.ID.String(), "version": r.Version, "digest": r.Digest.String()}
}

func (n *Node) rpcEffects(x *transaction) any {
	status := jsonObject{"status": "success"}
	if x.failure != nil {
		status = jsonObject{"status": "failure", "error": x.failure.String()}
	}
	owned := func(o *object) any { return jsonObject{"owner": rpcOwner(o.owner), "reference": rpcRef(o.ref())} }
	out := jsonObject{
		"messageVersion": "v1", "status": status, "executedEpoch": fmt.Sprint(x.epoch), "gasUsed": rpcGas(x.gas),
		"transactionDigest": x.digest.String(),
		"gasObject": jsonObject{"owner": rpcOwner(txn.Address{}), "reference": jsonObject{
			"objectId": txn.Address{}.String(), "version": 0, "digest": txn.Digest{}.String()}},
	}
	if x.gasObject != nil {
		out["gasObject"] = owned(x.gasObject)
	}
	add := func(key string, all []any) {
		if len(all) > 0 {
			out[key] = all
		}
	}
	var created, mutated, deleted, modified, depends []any
	for _, o := range x.created {
		created = append(created, owned(o))
	}
	for _, o := range x.mutated {
		mutated = append(mutated, owned(o))
	}
	for _, o := range x.deleted {
		deleted = append(deleted, rpcRef(txn.ObjectRef{ID: o.id, Version: x.version}))
	}
	for _, o := range x.inputs {
		modified = append(modified, jsonObject{"objectId": o.id.String(), "sequenceNumber": fmt.Sprint(o.version)})
	}
	for _, d := range x.depends {
		depends = append(depends, d.String())
	}
	add("created", created)
	add("mutated", mutated)
	add("deleted", deleted)
	add("modifiedAtVersions", modified)
	add("dependencies", depends)
	return out
}

func (n *Node) rpcObjectChanges(x *transaction) any {
	all := []any{}
	for _, c := range x.objectChanges() {
		o := c.after
		if o == nil {
			all = append(all, jsonObject{"type": "deleted", "sender": x.sender.String(), "objectType": n.spell(c.before.typeName(), Short),
				"objectId": c.before.id.String(), "version": fmt.Sprint(x.version)})
			continue
		}
		out := jsonObject{"type": "created", "sender": x.sender.String(), "owner": rpcOwner(o.owner), "objectType": n.spell(o.typeName(), Short),
			"objectId": o.id.String(), "version": fmt.Sprint(o.version), "digest": o.digest.String()}
		switch {
		case c.before == nil:
		case c.before.owner != o.owner:
			out["type"], out["recipient"] = "transferred", rpcOwner(o.owner)
			delete(out, "owner")
		default:
			out["type"], out["previousVersion"] = "mutated", fmt.Sprint(c.before.version)
		}
		all = append(all, out)
	}
	return all
}

func (n *Node) rpcBalanceChanges(x *transaction) any {
	all := []any{}
	for _, c := range x.changes {
		all = append(all, jsonObject{"owner": rpcOwner(c.owner), "coinType": n.spell(c.coin.String(), Short), "amount": n.forge(c.amount).String()})
	}
	return all
}

// rpcData returns what was signed. Pure inputs are shown with the type that
// their use gives them, or as numbers of bytes.
func (n *Node) rpcData(x *transaction) any {
	t := x.data()
	types := make(map[uint16]string)
	note := func(a txn.Argument, name string) {
		if a.Kind == txn.InputKind {
			types[a.Index] = name
		}
	}
	argument := func(a txn.Argument) any {
		switch a.Kind {
		case txn.GasCoinKind:
			return "GasCoin"
		case txn.InputKind:
			return jsonObject{"Input": a.Index}
		case txn.ResultKind:
			return jsonObject{"Result": a.Index}
		default:
			return jsonObject{"NestedResult": []uint16{a.Index, a.Nested}}
		}
	}
	arguments := func(all []txn.Argument) []any {
		out := []any{}
		for _, a := range all {
			out = append(out, argument(a))
		}
		return out
	}
	commands := []any{}
	for _, c := range t.Commands {
		switch c := c.(type) {
		case txn.SplitCoins:
			for _, a := range c.Amounts {
				note(a, "u64")
			}
			commands = append(commands, jsonObject{"SplitCoins": []any{argument(c.Coin), arguments(c.Amounts)}})
		case txn.TransferObjects:
			note(c.To, "address")
			commands = append(commands, jsonObject{"TransferObjects": []any{arguments(c.Objects), argument(c.To)}})
		case txn.MergeCoins:
			commands = append(commands, jsonObject{"MergeCoins": []any{argument(c.Into), arguments(c.From)}})
		case txn.MoveCall:
			call := jsonObject{"package": c.Package.String(), "module": c.Module, "function": c.Function}
			if len(c.Arguments) > 0 {
				call["arguments"] = arguments(c.Arguments)
			}
			commands = append(commands, jsonObject{"MoveCall": call})
		}
	}
	inputs := []any{}
	for i, in := range t.Inputs {
		if ref, ok := in.(txn.Owned); ok {
			inputs = append(inputs, jsonObject{"type": "object", "objectType": "immOrOwnedObject", "objectId": ref.ID.String(),
				"version": fmt.Sprint(ref.Version), "digest": ref.Digest.String()})
			continue
		}
		pure, _ := in.(txn.Pure)
		out := jsonObject{"type": "pure", "valueType": nil}
		if v, ok := pure.U64(); ok && types[uint16(i)] == "u64" {
			out["valueType"], out["value"] = "u64", fmt.Sprint(v)
		} else if a, ok := pure.Address(); ok && types[uint16(i)] == "address" {
			out["valueType"], out["value"] = "address", a.String()
		} else {
			numbers := []int{}
			for _, b := range pure {
				numbers = append(numbers, int(b))
			}
			out["value"] = numbers
		}
		inputs = append(inputs, out)
	}
	payment := []any{}
	for _, c := range t.Gas.Coins {
		payment = append(payment, rpcRef(c))
	}
	return jsonObject{
		"messageVersion": "v1", "sender": t.Sender.String(),
		"transaction": jsonObject{"kind": "ProgrammableTransaction", "inputs": inputs, "transactions": commands},
		"gasData":     jsonObject{"payment": payment, "owner": t.Gas.Owner.String(), "price": fmt.Sprint(t.Gas.Price), "budget": fmt.Sprint(t.Gas.Budget)},
	}
}

// transaction decodes a transaction in base64.
func (p rpcParameters) transaction(i int) (t txn.Transaction, raw []byte, err error) {
	var text string
	if err := p.get(i, &text); err != nil {
		return t, nil, err
	}
	if raw, err = base64.StdEncoding.DecodeString(text); err != nil {
		return t, nil, rpcErrorOf(rpcParams, "Invalid params: transaction bytes: %v", err)
	}
	if t, err = txn.Decode(raw); err != nil {
		return t, nil, rpcErrorOf(rpcParams, "Invalid params: %v", err)
	}
	return t, raw, nil
}

func (n *Node) rpcDryRun(p rpcParameters) (any, error) {
	t, raw, err := p.transaction(0)
	if err != nil {
		return nil, err
	}
	x, err := n.dryRun(t, raw)
	if err != nil {
		return nil, rpcErrorOf(rpcRejected, "%v", err)
	}
	return jsonObject{
		"effects": n.rpcEffects(x), "events": []any{}, "objectChanges": n.rpcObjectChanges(x), "balanceChanges": n.rpcBalanceChanges(x),
		"input": n.rpcData(x), "suggestedGasPrice": fmt.Sprint(referenceGasPrice),
	}, nil
}

func (n *Node) rpcExecute(p rpcParameters) (any, error) {
	_, raw, err := p.transaction(0)
	if err != nil {
		return nil, err
	}
	var signatures []string
	if err := p.get(1, &signatures); err != nil {
		return nil, err
	}
	var options rpcOptions
	if err := p.get(2, &options); err != nil {
		return nil, err
	}
	x, err := n.submit(raw, signatures)
	switch {
	case errors.Is(err, errLost):
		return nil, err
	case errors.Is(err, errTimeout):
		return nil, rpcErrorOf(rpcTransient, "Transaction timed out before reaching finality")
	case err != nil:
		return nil, rpcErrorOf(rpcRejected, "Transaction execution failed due to issues with transaction inputs, please review the errors and try again: %v", err)
	}
	n.chain.mu.RLock()
	defer n.chain.mu.RUnlock()
	out, err := n.rpcTransactionOf(x, options)
	if m, ok := out.(jsonObject); ok { // only reads say it
		delete(m, "checkpoint")
		delete(m, "timestampMs")
		m["confirmedLocalExecution"] = true
	}
	return out, err
}

// rpcQuery pages through transactions; the cursor is the digest of one.
func (n *Node) rpcQuery(p rpcParameters) (any, error) {
	var query struct {
		Filter  map[string]json.RawMessage
		Options rpcOptions
	}
	cursor, descending := "", false
	for i, into := range []any{&query, &cursor, nil, &descending} {
		if into == nil {
			continue
		}
		if err := p.get(i, into); err != nil {
			return nil, err
		}
	}
	limit, err := p.limit(2)
	if err != nil {
		return nil, err
	}
	tip := n.seen()
	lo, hi := n.oldest(), n.chain.checkpoints[tip].total
	matches, err := n.rpcFilter(query.Filter, &lo)
	if err != nil {
		return nil, err
	}
	if cursor != "" {
		d, err := txn.ParseDigest(cursor)
		if err != nil {
			return nil, rpcErrorOf(rpcParams, "Invalid params: %v", err)
		}
		x := n.chain.byDigest[d]
		switch {
		case x == nil || x.seq < 0:
			return nil, rpcErrorOf(rpcParams, "Could not find the referenced transaction [TransactionDigest(%s)].", cursor)
		case x.seq < lo:
			return nil, rpcErrorOf(rpcInternal, "Missing data due to pruning: `transaction %d has been pruned (min available: %d)`", x.seq, lo)
		case descending:
			hi = min(hi, x.seq)
		default:
			lo = x.seq + 1
		}
	}
	data := []any{}
	next := any(nil)
	if cursor != "" {
		next = cursor
	}
	more := false
	for i := range max(0, hi-lo) {
		seq := lo + i
		if descending {
			seq = hi - 1 - i
		}
		x := n.chain.ordered[seq]
		if !matches(x) {
			continue
		}
		if len(data) == limit {
			more = true
			break
		}
		one, err := n.rpcTransactionOf(x, query.Options)
		if err != nil {
			return nil, err
		}
		data = append(data, one)
		next = x.digest.String()
	}
	return jsonObject{"data": data, "nextCursor": next, "hasNextPage": more}, nil
}

// rpcFilter returns the test of a filter. It widens lo where an archive serves
// what was pruned.
func (n *Node) rpcFilter(filter map[string]json.RawMessage, lo *int) (func(*transaction) bool, error) {
	if len(filter) == 0 {
		return func(*transaction) bool { return true }, nil
	}
	if len(filter) > 1 {
		return nil, rpcErrorOf(rpcParams, "Invalid params: a filter has one condition")
	}
	in := func(m map[txn.Address][]int, a txn.Address) func(*transaction) bool {
		seqs := m[a]
		return func(x *transaction) bool {
			_, found := slices.BinarySearch(seqs, x.seq)
			return found
		}
	}
	for name, value := range filter {
		p := rpcParameters{value}
		switch name {
		case "FromAddress", "ToAddress":
			a, err := p.address(0)
			if err != nil {
				return nil, err
			}
			if name == "ToAddress" {
				return in(n.chain.received, a), nil
			}
			return in(n.chain.sent, a), nil
		case "FromOrToAddress":
			var both struct{ Addr string }
			if err := p.get(0, &both); err != nil {
				return nil, err
			}
			a, err := parseAddress(both.Addr)
			if err != nil {
				return nil, rpcErrorOf(rpcParams, "Invalid params: %v", err)
			}
			if n.fallback {
				*lo = 0
			}
			return in(n.chain.affected, a), nil
		case "FromAndToAddress":
			var both struct{ From, To string }
			if err := p.get(0, &both); err != nil {
				return nil, err
			}
			from, err := parseAddress(both.From)
			if err != nil {
				return nil, rpcErrorOf(rpcParams, "Invalid params: %v", err)
			}
			to, err := parseAddress(both.To)
			if err != nil {
				return nil, rpcErrorOf(rpcParams, "Invalid params: %v", err)
			}
			sent, received := in(n.chain.sent, from), in(n.chain.received, to)
			return func(x *transaction) bool { return sent(x) && received(x) }, nil
		case "Checkpoint":
			var number json.Number
			if err := p.get(0, &number); err != nil {
				return nil, err
			}
			at, err := number.Int64()
			if err != nil {
				return nil, rpcErrorOf(rpcParams, "Invalid params: %v", err)
			}
			if n.fallback {
				*lo = 0
			}
			return func(x *transaction) bool { return x.checkpoint == at }, nil
		case "TransactionKind":
			var kind string
			if err := p.get(0, &kind); err != nil {
				return nil, err
			}
			return func(x *transaction) bool { return (kind == "ProgrammableTransaction") == (x.kind == programmable) }, nil
		}
	}
	return nil, rpcErrorOf(rpcInvalid, "Unsupported feature: this filter")
}
