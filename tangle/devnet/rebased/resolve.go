package rebased

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

type queryRoot struct{}

func (queryRoot) typeName() string { return "Query" }

func (queryRoot) field(q *query, name string, args arguments) (any, error) {
	n := q.n
	switch name {
	case "chainIdentifier":
		return n.chain.id, nil
	case "availableRange":
		return rangeNode{}, nil
	case "serviceConfig":
		return configNode{}, nil
	case "dryRunTransactionBlock":
		return q.dryRun(args)
	case "isTransactionIndexedOnNode":
		x, err := q.byDigest(args.text("digest"))
		return x != nil, err
	case "object":
		id, _, err := args.address("address")
		if err != nil {
			return nil, err
		}
		o := n.chain.index.object(id, q.tip)
		v, ok, err := args.number("version")
		if err != nil || o == nil || ok && int64(o.version) != v {
			return nil, err
		}
		return objectNode{o, "Object"}, nil
	case "address":
		a, _, err := args.address("address")
		return addressNode{a, "Address"}, err
	case "epoch":
		id, ok, err := args.number("id")
		if err != nil {
			return nil, err
		}
		if !ok {
			id = int64(n.chain.checkpoints[q.tip].epoch)
		}
		return q.epoch(uint64(id)), nil
	case "checkpoint":
		id, _ := args["id"].(map[string]any)
		return q.checkpoint(id)
	case "checkpoints":
		return q.checkpoints(args)
	case "transactionBlock":
		x, err := q.byDigest(args.text("digest"))
		if err != nil || x == nil {
			return nil, err
		}
		return txNode{x: x}, nil
	case "transactionBlocksByDigests":
		all := []any{}
		digests, _ := args["digests"].([]any)
		for _, d := range digests {
			text, _ := d.(string)
			x, err := q.byDigest(text)
			switch {
			case err != nil:
				return nil, err
			case x == nil:
				all = append(all, nil)
			default:
				all = append(all, txNode{x: x})
			}
		}
		return all, nil
	case "transactionBlocks":
		filter, _ := args["filter"].(map[string]any)
		return q.transactions(args, filter)
	case "protocolConfig":
		return protocolNode{}, nil
	case "coinMetadata":
		coin, err := txn.ParseCoinType(args.text("coinType"))
		switch {
		case err != nil:
			return nil, problemOf(badUserInput, "Invalid coin type: %v", err)
		case coin != txn.IOTA:
			return nil, nil
		}
		return metadataNode{}, nil
	}
	return unknown(queryRoot{}, name)
}

// byDigest returns the transaction that reads by digest see, or nil.
func (q *query) byDigest(text string) (*transaction, error) {
	d, err := txn.ParseDigest(text)
	if err != nil {
		return nil, problemOf(badUserInput, "Invalid digest: %v", err)
	}
	return q.n.readable(d), nil
}

func (q *query) checkpoint(id arguments) (any, error) {
	number, ok, err := id.number("sequenceNumber")
	if err != nil {
		return nil, err
	}
	digest := id.text("digest")
	if !ok && digest == "" {
		return checkpointNode{q.n.chain.checkpoints[q.tip]}, nil
	}
	if !ok {
		number = -1
		for i := q.tip; i >= q.n.pruned && number < 0; i-- {
			if q.n.chain.checkpoints[i].digest.String() == digest {
				number = i
			}
		}
	}
	cp := q.n.at(number, q.tip)
	if cp == nil || digest != "" && cp.digest.String() != digest {
		return nil, nil
	}
	return checkpointNode{cp}, nil
}

func (q *query) epoch(id uint64) any {
	if id >= uint64(len(q.n.chain.epochs)) || q.n.chain.epochs[id].first > q.tip {
		return nil
	}
	return epochNode{id}
}

// mutationRoot's fields are resolved by mutate.
type mutationRoot struct{}

func (mutationRoot) typeName() string { return "Mutation" }

func (mutationRoot) field(_ *query, name string, _ arguments) (any, error) {
	return unknown(mutationRoot{}, name)
}

// mutate runs a mutation, without the chain's lock.
func (q *query) mutate(name string, args arguments) (node, error) {
	if name != "executeTransactionBlock" {
		return nil, fmt.Errorf("no mutation %q", name)
	}
	raw, err := base64.StdEncoding.DecodeString(args.text("txBytes"))
	if err != nil {
		return nil, problemOf(badUserInput, "Unable to deserialize transaction bytes from Base64: %v", err)
	}
	var signatures []string
	given, _ := args["signatures"].([]any)
	for _, s := range given {
		text, _ := s.(string)
		if _, err := base64.StdEncoding.DecodeString(text); err != nil {
			return nil, problemOf(badUserInput, "Unable to deserialize signature bytes %s from Base64: %v", text, err)
		}
		signatures = append(signatures, text)
	}
	x, err := q.n.submit(raw, signatures)
	switch {
	case errors.Is(err, errTimeout):
		return nil, problemOf(timeout, "Mutation request timed out. Limit: %.1fs", float64(mutationTimeout)/1000)
	case errors.Is(err, errLost):
		return nil, err
	case err != nil:
		return nil, internalProblem("Unable to execute transaction: %v", err)
	}
	return executionNode{x}, nil
}

// dryRun executes a transaction that need not be signed, and forgets it.
func (q *query) dryRun(args arguments) (any, error) {
	if args.has("txMeta") {
		return nil, problemOf(badUserInput, "The simulator dry-runs whole transactions only, without txMeta")
	}
	raw, err := base64.StdEncoding.DecodeString(args.text("txBytes"))
	if err != nil {
		return nil, problemOf(badUserInput, "Unable to deserialize transaction bytes from Base64: %v", err)
	}
	t, err := txn.Decode(raw)
	if err != nil {
		return nil, problemOf(badUserInput, "Unable to deserialize transaction: %v", err)
	}
	x, err := q.n.dryRun(t, raw)
	if err != nil {
		return nil, internalProblem("Unable to dry run transaction: %v", err)
	}
	return dryRunNode{x}, nil
}

// dryRun returns what a transaction would do, or why it would be refused.
func (n *Node) dryRun(t txn.Transaction, raw []byte) (*transaction, error) {
	if err := n.chain.refuse(t, raw, true); err != nil {
		return nil, err
	}
	return n.chain.execute(t, raw), nil
}

type executionNode struct{ x *transaction }

func (executionNode) typeName() string { return "ExecutionResult" }

func (e executionNode) field(_ *query, name string, _ arguments) (any, error) {
	switch name {
	case "errors":
		if e.x.failure != nil {
			return []any{e.x.failure.String()}, nil
		}
		return nil, nil
	case "effects":
		return effectsNode{e.x, "executed"}, nil
	}
	return unknown(e, name)
}

type dryRunNode struct{ x *transaction }

func (dryRunNode) typeName() string { return "DryRunResult" }

func (d dryRunNode) field(_ *query, name string, _ arguments) (any, error) {
	switch name {
	case "error":
		if d.x.failure != nil {
			return d.x.failure.graphql(), nil
		}
		return nil, nil
	case "transaction":
		return txNode{d.x, "dry run"}, nil
	}
	return unknown(d, name)
}

type rangeNode struct{}

func (rangeNode) typeName() string { return "AvailableRange" }

func (r rangeNode) field(q *query, name string, _ arguments) (any, error) {
	switch name {
	case "first":
		return checkpointNode{q.n.chain.checkpoints[max(q.n.pruned, q.tip-consistentCheckpoints+1, 0)]}, nil
	case "last":
		return checkpointNode{q.n.chain.checkpoints[q.tip]}, nil
	}
	return unknown(r, name)
}

type configNode struct{}

func (configNode) typeName() string { return "ServiceConfig" }

func (c configNode) field(q *query, name string, args arguments) (any, error) {
	numbers := map[string]int{
		"maxQueryDepth": maxDepth, "maxQueryNodes": maxNodes, "maxOutputNodes": maxOutputNodes, "maxDbQueryCost": maxDBCost,
		"defaultPageSize": defaultPage, "maxPageSize": maxPage, "mutationTimeoutMs": mutationTimeout, "requestTimeoutMs": requestTimeout,
		"maxTransactionPayloadSize": maxTxPayload, "maxQueryPayloadSize": maxQueryPayload, "maxTransactionIds": maxIDs, "maxScanLimit": maxScan,
	}
	if v, ok := numbers[name]; ok {
		return v, nil
	}
	var enabled []string
	for feature, upper := range features {
		if !q.n.disabled[feature] && feature != "subscriptions" {
			enabled = append(enabled, upper)
		}
	}
	slices.Sort(enabled)
	switch name {
	case "isEnabled":
		return slices.Contains(enabled, args.text("feature")), nil
	case "enabledFeatures":
		all := []any{}
		for _, f := range enabled {
			all = append(all, f)
		}
		return all, nil
	}
	return unknown(c, name)
}

// addressNode is an Address or an Owner.
type addressNode struct {
	a   txn.Address
	typ string
}

func (a addressNode) typeName() string { return a.typ }

func (a addressNode) field(q *query, name string, args arguments) (any, error) {
	switch name {
	case "address":
		return a.a.String(), nil
	case "asAddress":
		return addressNode{a.a, "Address"}, nil
	case "balance":
		coin, err := coinArgument(args)
		if err != nil {
			return nil, err
		}
		for _, b := range q.n.balances(a.a, q.tip) {
			if b.coin == coin {
				return b, nil
			}
		}
		return nil, nil
	case "balances":
		all := q.n.balances(a.a, q.tip)
		return q.indexed("Balance", args, len(all), func(i int) node { return all[i] })
	case "coins":
		coin, err := coinArgument(args)
		if err != nil {
			return nil, err
		}
		owned := func(view int64) []*object {
			return slices.DeleteFunc(q.n.chain.owned(a.a, view), func(o *object) bool { return o.coin == nil || *o.coin != coin })
		}
		return q.objects("Coin", args, owned, func(o *object) node { return objectNode{o, "Coin"} })
	case "transactionBlocks":
		filter := arguments{}
		given, _ := args["filter"].(map[string]any)
		for k, v := range given {
			filter[k] = v
		}
		key := map[string]string{"": "sentAddress", "SENT": "sentAddress", "RECV": "recvAddress", "AFFECTED": "affectedAddress"}[args.text("relation")]
		if filter.has(key) && !strings.EqualFold(filter.text(key), a.a.String()) {
			return &connection{typ: "TransactionBlock"}, nil
		}
		filter[key] = a.a.String()
		return q.transactions(args, filter)
	}
	return unknown(a, name)
}

func coinArgument(args arguments) (txn.CoinType, error) {
	if !args.has("type") {
		return txn.IOTA, nil
	}
	coin, err := txn.ParseCoinType(args.text("type"))
	if err != nil {
		return coin, problemOf(badUserInput, "Invalid type: %v", err)
	}
	return coin, nil
}

// balances returns what an address held at a checkpoint, by coin type.
func (n *Node) balances(a txn.Address, at int64) []*balanceNode {
	var all []*balanceNode
	of := make(map[txn.CoinType]*balanceNode)
	for _, o := range n.chain.owned(a, at) {
		if o.coin == nil {
			continue
		}
		b := of[*o.coin]
		if b == nil {
			b = &balanceNode{coin: *o.coin, total: new(big.Int)}
			of[*o.coin] = b
			all = append(all, b)
		}
		b.count++
		b.total.Add(b.total, new(big.Int).SetUint64(o.balance))
	}
	slices.SortFunc(all, func(a, b *balanceNode) int { return strings.Compare(a.coin.String(), b.coin.String()) })
	return all
}

type balanceNode struct {
	coin  txn.CoinType
	count int64
	total *big.Int
}

func (*balanceNode) typeName() string { return "Balance" }

func (b *balanceNode) field(_ *query, name string, _ arguments) (any, error) {
	switch name {
	case "coinType":
		return typeNode{b.coin.String()}, nil
	case "coinObjectCount":
		return b.count, nil
	case "totalBalance":
		return b.total.String(), nil
	}
	return unknown(b, name)
}

// typeNode is a Move type, with full addresses.
type typeNode struct{ repr string }

func (typeNode) typeName() string { return "MoveType" }

func (t typeNode) field(q *query, name string, _ arguments) (any, error) {
	if name == "repr" {
		return q.n.spell(t.repr, Long), nil
	}
	return unknown(t, name)
}

// spell writes the addresses in a type, given with full addresses, as the node
// does.
func (n *Node) spell(repr string, usual Spelling) string {
	s := n.spelling
	if s == "" {
		s = usual
	}
	var out strings.Builder
	for {
		i := strings.Index(repr, "0x")
		if i < 0 || len(repr) < i+66 {
			return out.String() + repr
		}
		digits := repr[i+2 : i+66]
		switch s {
		case Short:
			if digits = strings.TrimLeft(digits, "0"); digits == "" {
				digits = "0"
			}
		case Upper:
			digits = strings.ToUpper(digits)
		}
		out.WriteString(repr[:i+2] + digits)
		repr = repr[i+66:]
	}
}

type metadataNode struct{}

func (metadataNode) typeName() string { return "CoinMetadata" }

func (m metadataNode) field(_ *query, name string, _ arguments) (any, error) {
	switch name {
	case "address":
		return txn.Address(hash([]byte("metadata"))).String(), nil
	case "decimals":
		return 9, nil
	case "name", "symbol":
		return "IOTA", nil
	case "description":
		return "The main (gas)token of the IOTA Network.", nil
	case "iconUrl":
		return "https://iota.org/logo.png", nil
	}
	return unknown(m, name)
}

// objectNode is an Object, a MoveObject or a Coin.
type objectNode struct {
	o   *object
	typ string
}

func (o objectNode) typeName() string { return o.typ }

func (o objectNode) field(q *query, name string, _ arguments) (any, error) {
	switch name {
	case "address":
		return o.o.id.String(), nil
	case "version":
		return o.o.version, nil
	case "status":
		return "INDEXED", nil
	case "digest":
		return o.o.digest.String(), nil
	case "owner":
		return ownerNode{o.o.owner}, nil
	case "previousTransactionBlock":
		if x := q.n.readable(o.o.previous); x != nil {
			return txNode{x: x}, nil
		}
		return nil, nil
	case "storageRebate":
		return fmt.Sprint(o.o.rebate), nil
	case "contents":
		return valueNode{o.o}, nil
	case "coinBalance":
		return fmt.Sprint(o.o.balance), nil
	case "asMoveObject":
		return objectNode{o.o, "MoveObject"}, nil
	case "asCoin":
		if o.o.coin == nil {
			return nil, nil
		}
		return objectNode{o.o, "Coin"}, nil
	}
	return unknown(o, name)
}

type ownerNode struct{ a txn.Address }

func (ownerNode) typeName() string { return "AddressOwner" }

func (o ownerNode) field(_ *query, name string, _ arguments) (any, error) {
	if name == "owner" {
		return addressNode{o.a, "Owner"}, nil
	}
	return unknown(o, name)
}

type valueNode struct{ o *object }

func (valueNode) typeName() string { return "MoveValue" }

func (v valueNode) field(_ *query, name string, _ arguments) (any, error) {
	switch name {
	case "type":
		return typeNode{v.o.typeName()}, nil
	case "bcs":
		return base64.StdEncoding.EncodeToString(v.o.contents()), nil
	case "json":
		out := map[string]any{"id": v.o.id.String()}
		if v.o.coin != nil {
			out["balance"] = map[string]any{"value": fmt.Sprint(v.o.balance)}
		}
		return out, nil
	}
	return unknown(v, name)
}

type checkpointNode struct{ cp *checkpoint }

func (checkpointNode) typeName() string { return "Checkpoint" }

func (c checkpointNode) field(q *query, name string, args arguments) (any, error) {
	switch name {
	case "digest":
		return c.cp.digest.String(), nil
	case "sequenceNumber":
		return c.cp.number, nil
	case "timestamp":
		return dateTime(c.cp.time), nil
	case "previousCheckpointDigest":
		if c.cp.number == 0 {
			return nil, nil
		}
		return q.n.chain.checkpoints[c.cp.number-1].digest.String(), nil
	case "networkTotalTransactions":
		return c.cp.total, nil
	case "rollingGasSummary":
		return gasNode{c.cp.gas}, nil
	case "epoch":
		return epochNode{c.cp.epoch}, nil
	case "transactionBlocks":
		filter := arguments{}
		given, _ := args["filter"].(map[string]any)
		for k, v := range given {
			filter[k] = v
		}
		filter["atCheckpoint"] = c.cp.number
		return q.transactions(args, filter)
	}
	return unknown(c, name)
}

// dateTime returns a time as the service writes it: RFC 3339 in UTC, with
// milliseconds if there are any.
func dateTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999Z07:00") }

type epochNode struct{ id uint64 }

func (epochNode) typeName() string { return "Epoch" }

func (e epochNode) field(q *query, name string, _ arguments) (any, error) {
	all := q.n.chain.epochs
	switch name {
	case "epochId":
		return e.id, nil
	case "referenceGasPrice":
		return fmt.Sprint(referenceGasPrice), nil
	case "startTimestamp":
		return dateTime(all[e.id].start), nil
	case "endTimestamp":
		if e.id+1 < uint64(len(all)) {
			return dateTime(all[e.id+1].start), nil
		}
		return nil, nil
	case "totalCheckpoints":
		if e.id+1 < uint64(len(all)) {
			return all[e.id+1].first - all[e.id].first, nil
		}
		return nil, nil
	case "protocolConfigs":
		return protocolNode{}, nil
	}
	return unknown(e, name)
}

// protocolValues are the values of the protocol that matter to payments.
var protocolValues = map[string]string{
	"base_gas_price": "1000", "base_tx_cost_fixed": "1000", "gas_rounding_step": "1000", "max_gas_price": "100000", "max_gas_payment_objects": "256",
	"max_pure_argument_size": "16384", "max_tx_gas": "50000000000", "max_tx_size_bytes": "131072", "obj_data_cost_refundable": "100",
	"storage_gas_price": "76", "storage_rebate_rate": "10000",
}

type protocolNode struct{}

func (protocolNode) typeName() string { return "ProtocolConfigs" }

func (p protocolNode) field(_ *query, name string, args arguments) (any, error) {
	switch name {
	case "protocolVersion":
		return protocolVersion, nil
	case "config":
		if _, ok := protocolValues[args.text("key")]; ok {
			return attributeNode{args.text("key")}, nil
		}
		return nil, nil
	case "configs":
		var keys []string
		for k := range protocolValues {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		all := []any{}
		for _, k := range keys {
			all = append(all, attributeNode{k})
		}
		return all, nil
	}
	return unknown(p, name)
}

type attributeNode struct{ key string }

func (attributeNode) typeName() string { return "ProtocolConfigAttr" }

func (a attributeNode) field(_ *query, name string, _ arguments) (any, error) {
	switch name {
	case "key":
		return a.key, nil
	case "value":
		return protocolValues[a.key], nil
	}
	return unknown(a, name)
}

// txNode is a transaction. how is "dry run" for one that was not executed.
type txNode struct {
	x   *transaction
	how string
}

func (txNode) typeName() string { return "TransactionBlock" }

func (t txNode) field(q *query, name string, _ arguments) (any, error) {
	x := t.x
	user := x.kind == programmable
	switch name {
	case "digest":
		if t.how == "dry run" { // dry runs have none
			return nil, nil
		}
		return x.digest.String(), nil
	case "sender":
		if !user {
			return nil, nil
		}
		return addressNode{x.sender, "Address"}, nil
	case "gasInput":
		return gasInputNode{x}, nil
	case "kind":
		if !user {
			return genesisNode{}, nil
		}
		return programmableNode{x.data()}, nil
	case "signatures":
		if t.how == "dry run" {
			return nil, nil
		}
		all := []any{}
		for _, s := range x.signed() {
			all = append(all, s)
		}
		return all, nil
	case "effects":
		if q.n.unreadable[x.digest] {
			return nil, internalProblem("Error deserializing transaction effects")
		}
		return effectsNode(t), nil
	case "expiration":
		if !user {
			return nil, nil
		}
		if e := x.data().Expiration; e.Limited {
			return q.epoch(e.Epoch), nil
		}
		return nil, nil
	case "bcs":
		if t.how == "dry run" || !user {
			return nil, nil
		}
		return base64.StdEncoding.EncodeToString(x.senderSigned()), nil
	case "indexedOnNode":
		return t.how != "dry run", nil
	}
	return unknown(t, name)
}

// senderSigned returns the transaction with its signatures in BCS: a vector of
// one element, which is the intent, the transaction and a vector of signatures.
func (x *transaction) senderSigned() []byte {
	out := append([]byte{1, 0, 0, 0}, x.bytes...)
	signatures := x.signed()
	out = append(out, byte(len(signatures)))
	for _, s := range signatures {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			continue // it was verified
		}
		out = append(append(out, byte(len(b))), b...)
	}
	return out
}

type gasInputNode struct{ x *transaction }

func (gasInputNode) typeName() string { return "GasInput" }

func (g gasInputNode) field(q *query, name string, args arguments) (any, error) {
	if g.x.kind != programmable {
		switch name {
		case "gasPayment":
			return &connection{typ: "Object"}, nil
		case "gasPrice":
			return "1", nil
		case "gasBudget":
			return "0", nil
		}
		return nil, nil
	}
	gas := g.x.data().Gas
	switch name {
	case "gasSponsor":
		return addressNode{gas.Owner, "Address"}, nil
	case "gasPayment":
		coins := slices.Clone(g.x.inputs[:min(len(gas.Coins), len(g.x.inputs))])
		slices.SortFunc(coins, func(a, b *object) int { return strings.Compare(a.id.String(), b.id.String()) })
		return q.objects("Object", args, func(int64) []*object { return coins }, func(o *object) node { return objectNode{o, "Object"} })
	case "gasPrice":
		return fmt.Sprint(gas.Price), nil
	case "gasBudget":
		return fmt.Sprint(gas.Budget), nil
	}
	return unknown(g, name)
}

type genesisNode struct{}

func (genesisNode) typeName() string { return "GenesisTransaction" }

func (g genesisNode) field(_ *query, name string, _ arguments) (any, error) {
	if name == "objects" {
		return &connection{typ: "Object"}, nil
	}
	return unknown(g, name)
}

type programmableNode struct{ t txn.Transaction }

func (programmableNode) typeName() string { return "ProgrammableTransactionBlock" }

func (p programmableNode) field(q *query, name string, args arguments) (any, error) {
	switch name {
	case "inputs":
		return q.indexed("TransactionInput", args, len(p.t.Inputs), func(i int) node {
			if ref, ok := p.t.Inputs[i].(txn.Owned); ok {
				return ownedNode(ref)
			}
			pure, _ := p.t.Inputs[i].(txn.Pure)
			return pureNode(pure)
		})
	case "transactions":
		return q.indexed("ProgrammableTransaction", args, len(p.t.Commands), func(i int) node { return commandNode{p.t.Commands[i]} })
	}
	return unknown(p, name)
}

type ownedNode txn.Owned

func (ownedNode) typeName() string { return "OwnedOrImmutable" }

func (o ownedNode) field(q *query, name string, _ arguments) (any, error) {
	switch name {
	case "address":
		return o.ID.String(), nil
	case "version":
		return o.Version, nil
	case "digest":
		return o.Digest.String(), nil
	case "object":
		if now := q.n.chain.index.object(o.ID, q.tip); now != nil && now.version == o.Version {
			return objectNode{now, "Object"}, nil
		}
		return nil, nil
	}
	return unknown(o, name)
}

type pureNode txn.Pure

func (pureNode) typeName() string { return "Pure" }

func (p pureNode) field(_ *query, name string, _ arguments) (any, error) {
	if name == "bytes" {
		return base64.StdEncoding.EncodeToString(p), nil
	}
	return unknown(p, name)
}

type commandNode struct{ c txn.Command }

func (c commandNode) typeName() string {
	switch c.c.(type) {
	case txn.SplitCoins:
		return "SplitCoinsTransaction"
	case txn.TransferObjects:
		return "TransferObjectsTransaction"
	case txn.MergeCoins:
		return "MergeCoinsTransaction"
	default:
		return "MoveCallTransaction"
	}
}

func (c commandNode) field(_ *query, name string, _ arguments) (any, error) {
	arguments := func(all []txn.Argument) any {
		out := []any{}
		for _, a := range all {
			out = append(out, argumentNode(a))
		}
		return out
	}
	switch command := c.c.(type) {
	case txn.SplitCoins:
		switch name {
		case "coin":
			return argumentNode(command.Coin), nil
		case "amounts":
			return arguments(command.Amounts), nil
		}
	case txn.TransferObjects:
		switch name {
		case "inputs":
			return arguments(command.Objects), nil
		case "address":
			return argumentNode(command.To), nil
		}
	case txn.MergeCoins:
		switch name {
		case "coin":
			return argumentNode(command.Into), nil
		case "coins":
			return arguments(command.From), nil
		}
	case txn.MoveCall:
		switch name {
		case "package":
			return command.Package.String(), nil
		case "module":
			return command.Module, nil
		case "functionName":
			return command.Function, nil
		case "arguments":
			return arguments(command.Arguments), nil
		}
	}
	return unknown(c, name)
}

type argumentNode txn.Argument

func (a argumentNode) typeName() string {
	switch a.Kind {
	case txn.GasCoinKind:
		return "GasCoin"
	case txn.InputKind:
		return "Input"
	default:
		return "Result"
	}
}

func (a argumentNode) field(_ *query, name string, _ arguments) (any, error) {
	switch name {
	case "_":
		return nil, nil
	case "cmd":
		return int64(a.Index), nil
	case "ix":
		switch a.Kind {
		case txn.InputKind:
			return int64(a.Index), nil
		case txn.NestedResultKind:
			return int64(a.Nested), nil
		}
		return nil, nil
	}
	return unknown(a, name)
}

// effectsNode is what a transaction did. how is "dry run" or "executed" if it was
// asked for where the service knows no checkpoint, or "" if it looks.
type effectsNode txNode

func (effectsNode) typeName() string { return "TransactionBlockEffects" }

// checkpointed returns the checkpoint of the transaction in this view, or nil.
func (e effectsNode) checkpointed(q *query) *checkpoint {
	if e.how != "" || e.x.checkpoint < 0 || e.x.checkpoint > q.n.indexed() {
		return nil
	}
	return q.n.chain.checkpoints[e.x.checkpoint]
}

func (e effectsNode) field(q *query, name string, args arguments) (any, error) {
	x := e.x
	cp := e.checkpointed(q)
	switch name {
	case "transactionBlock":
		t := txNode{x: x}
		if e.how == "dry run" {
			t.how = e.how
		}
		return t, nil
	case "status":
		if x.failure != nil {
			return "FAILURE", nil
		}
		return "SUCCESS", nil
	case "lamportVersion":
		return x.version, nil
	case "errors":
		if x.failure != nil {
			return x.failure.graphql(), nil
		}
		return nil, nil
	case "dependencies":
		var all []txNode
		for _, d := range x.depends {
			if x := q.n.readable(d); x != nil {
				all = append(all, txNode{x: x})
			}
		}
		return q.indexed("Dependency", args, len(all), func(i int) node { return all[i] })
	case "gasEffects":
		return gasEffectsNode{x}, nil
	case "objectChanges":
		all := x.objectChanges()
		return q.indexed("ObjectChange", args, len(all), func(i int) node { return all[i] })
	case "balanceChanges":
		// Known only with the checkpoint.
		all := x.changes
		if cp == nil {
			all = nil
		}
		return q.indexed("BalanceChange", args, len(all), func(i int) node { return changeNode(all[i]) })
	case "timestamp":
		if cp == nil {
			return nil, nil
		}
		return dateTime(cp.time), nil
	case "epoch":
		if cp == nil {
			return nil, nil
		}
		return q.epoch(x.epoch), nil
	case "checkpoint":
		if cp == nil {
			return nil, nil
		}
		return checkpointNode{cp}, nil
	}
	return unknown(e, name)
}

type gasEffectsNode struct{ x *transaction }

func (gasEffectsNode) typeName() string { return "GasEffects" }

func (g gasEffectsNode) field(_ *query, name string, _ arguments) (any, error) {
	switch name {
	case "gasObject":
		if g.x.gasObject == nil {
			return nil, nil
		}
		return objectNode{g.x.gasObject, "Object"}, nil
	case "gasSummary":
		return gasNode{g.x.gas}, nil
	}
	return unknown(g, name)
}

type gasNode struct{ g gasUsed }

func (gasNode) typeName() string { return "GasCostSummary" }

func (g gasNode) field(_ *query, name string, _ arguments) (any, error) {
	switch name {
	case "computationCost", "computationCostBurned":
		return fmt.Sprint(g.g.computation), nil
	case "storageCost":
		return fmt.Sprint(g.g.storage), nil
	case "storageRebate":
		return fmt.Sprint(g.g.rebate), nil
	case "nonRefundableStorageFee":
		return "0", nil
	}
	return unknown(g, name)
}

// objectChange is what happened to one object.
type objectChange struct{ before, after *object }

func (x *transaction) objectChanges() []objectChange {
	before := make(map[txn.Address]*object)
	for _, o := range x.inputs {
		before[o.id] = o
	}
	var all []objectChange
	for _, o := range x.created {
		all = append(all, objectChange{nil, o})
	}
	for _, o := range x.mutated {
		all = append(all, objectChange{before[o.id], o})
	}
	for _, o := range x.deleted {
		all = append(all, objectChange{o, nil})
	}
	slices.SortFunc(all, func(a, b objectChange) int { return strings.Compare(a.id().String(), b.id().String()) })
	return all
}

func (c objectChange) id() txn.Address {
	if c.after != nil {
		return c.after.id
	}
	return c.before.id
}

func (objectChange) typeName() string { return "ObjectChange" }

func (c objectChange) field(_ *query, name string, _ arguments) (any, error) {
	state := func(o *object) any {
		if o == nil {
			return nil
		}
		return objectNode{o, "Object"}
	}
	switch name {
	case "address":
		return c.id().String(), nil
	case "inputState":
		return state(c.before), nil
	case "outputState":
		return state(c.after), nil
	case "idCreated":
		return c.before == nil, nil
	case "idDeleted":
		return c.after == nil, nil
	}
	return unknown(c, name)
}

type changeNode balanceChange

func (changeNode) typeName() string { return "BalanceChange" }

func (c changeNode) field(q *query, name string, _ arguments) (any, error) {
	switch name {
	case "owner":
		return addressNode{c.owner, "Owner"}, nil
	case "coinType":
		return typeNode{c.coin.String()}, nil
	case "amount":
		return q.n.forge(c.amount).String(), nil
	}
	return unknown(c, name)
}
