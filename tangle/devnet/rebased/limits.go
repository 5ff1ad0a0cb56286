package rebased

import (
	"encoding/json"
	"fmt"

	"github.com/vektah/gqlparser/v2/ast"
)

// Limits of the public service, which are the defaults of iota-graphql-rpc
// (crates/iota-graphql-rpc/src/config.rs, docs graphql.mdx).
const (
	maxDepth        = 20
	maxNodes        = 300
	maxOutputNodes  = 100_000
	maxQueryPayload = 5_000
	maxTxPayload    = 174_763 // a transaction of 131,072 bytes in base64
	defaultPage     = 20
	maxPage         = 50
	maxIDs          = 1_000
	maxScan         = 1_000_000
	requestTimeout  = 40_000 // milliseconds
	mutationTimeout = 74_000
	maxDBCost       = 20_000
)

func payloadProblem(message string) *problem {
	return problemOf(badUserInput, "%s. Requests are limited to %d bytes or fewer on transaction payloads (all inputs to executeTransactionBlock or dryRunTransactionBlock) and the rest of the request (the query part) must be %d bytes or fewer.",
		message, maxTxPayload, maxQueryPayload)
}

// checkLimits returns what is wrong with the size of a request, counted as the
// service counts it (extensions/query_limits_checker.rs): fields and fragments
// level by level, the whole request without the transaction, and how much the
// answer may have at most. It returns nil if all is well.
func checkLimits(op *ast.OperationDefinition, vars map[string]any, size int) *problem {
	nodes, level := 0, op.SelectionSet
	for depth := 0; len(level) > 0; depth++ {
		if depth == maxDepth {
			return problemOf(badUserInput, "Query nesting is over %d", maxDepth)
		}
		var next ast.SelectionSet
		for _, s := range level {
			if nodes++; nodes > maxNodes {
				return problemOf(badUserInput, "Query has over %d nodes", maxNodes)
			}
			next = append(next, inner(s)...)
		}
		level = next
	}
	payload := 0
	for _, s := range op.SelectionSet {
		payload += txPayload(s, vars)
	}
	if payload > maxTxPayload {
		return payloadProblem("Transaction payload too large")
	}
	if rest := size - payload; rest > maxQueryPayload {
		return payloadProblem(fmt.Sprintf("Query part too large: %d bytes", rest))
	}
	budget := maxOutputNodes
	for _, s := range op.SelectionSet {
		if !spend(&budget, s, vars, 1, 0) {
			return problemOf(badUserInput, "Estimated output nodes exceeds %d", maxOutputNodes)
		}
	}
	return nil
}

func inner(s ast.Selection) ast.SelectionSet {
	switch s := s.(type) {
	case *ast.Field:
		return s.SelectionSet
	case *ast.InlineFragment:
		return s.SelectionSet
	case *ast.FragmentSpread:
		return s.Definition.SelectionSet
	}
	return nil
}

// txPayload returns the size of a transaction and its signatures.
func txPayload(s ast.Selection, vars map[string]any) (size int) {
	f, ok := s.(*ast.Field)
	if !ok {
		for _, s := range inner(s) {
			size += txPayload(s, vars)
		}
		return size
	}
	if f.Name != "executeTransactionBlock" && f.Name != "dryRunTransactionBlock" {
		return 0
	}
	for _, a := range f.ArgumentMap(vars) {
		switch a := a.(type) {
		case string:
			size += len(a) + 2
		case []any:
			size += len(a) + 1
			for _, e := range a {
				if s, ok := e.(string); ok {
					size += len(s) + 2
				}
			}
		}
	}
	return size
}

// spend takes a selection's nodes in the answer out of the budget; page is the
// size of the connection that it is in, if it is one's field.
func spend(budget *int, s ast.Selection, vars map[string]any, times, page int) bool {
	f, ok := s.(*ast.Field)
	if !ok {
		for _, s := range inner(s) {
			if !spend(budget, s, vars, times, page) {
				return false
			}
		}
		return true
	}
	if *budget -= times; *budget < 0 {
		return false
	}
	if page > 0 && (f.Name == "edges" || f.Name == "nodes") {
		times *= page
	}
	size := 0
	if isConnection(f.SelectionSet) {
		size = defaultPage
		args := f.ArgumentMap(vars)
		for _, name := range []string{"first", "last"} {
			switch v := args[name].(type) {
			case int64:
				size = int(min(max(0, v), maxOutputNodes+1))
			case json.Number:
				i, _ := v.Int64()
				size = int(min(max(0, i), maxOutputNodes+1))
			}
		}
	}
	for _, s := range f.SelectionSet {
		if !spend(budget, s, vars, times, size) {
			return false
		}
	}
	return true
}

func isConnection(set ast.SelectionSet) bool {
	for _, s := range set {
		if f, ok := s.(*ast.Field); ok {
			if f.Name == "edges" || f.Name == "nodes" {
				return true
			}
		} else if isConnection(inner(s)) {
			return true
		}
	}
	return false
}

// features are the groups of fields that an operator can switch off
// (crates/iota-graphql-rpc/src/functional_group.rs), as the service names them,
// with their names in the schema.
var features = map[string]string{
	"analytics": "ANALYTICS", "coins": "COINS", "dynamic-fields": "DYNAMIC_FIELDS", "subscriptions": "SUBSCRIPTIONS", "system-state": "SYSTEM_STATE",
}

// featureOf returns the group of a field, or "".
func featureOf(typ, field string) string {
	switch typ + "." + field {
	case "Address.balance", "Address.balances", "Address.coins", "Owner.balance", "Owner.balances", "Owner.coins", "Query.coinMetadata":
		return "coins"
	case "Checkpoint.networkTotalTransactions":
		return "analytics"
	case "Epoch.protocolConfigs", "Epoch.referenceGasPrice", "Query.protocolConfig":
		return "system-state"
	}
	return ""
}
