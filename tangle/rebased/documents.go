package rebased

import (
	"fmt"
	"strings"
)

// Limits of the public GraphQL service (its serviceConfig; crates/iota-graphql-rpc/src/config.rs):
// 300 nodes, depth 20, 5,000 bytes, 50 entries on a page. A list in the poll has
// 33 nodes.
const (
	perRequest = 8  // addresses of one poll
	perPoll    = 20 // transactions of each
	perPage    = 50 // transactions of a page when walking back
	perLean    = 5  // the same, after an answer that was refused or too long
	perLookup  = 8  // transactions asked for by digest at once
)

// details are the fields of a transaction that read needs. Only the first 50
// inputs may hold the memo: payers could make any number of them for nothing.
const details = `digest sender{address}
kind{...on ProgrammableTransactionBlock{inputs(first:50){nodes{...on Pure{bytes}}}}}
effects{status timestamp checkpoint{sequenceNumber}
balanceChanges(first:50){pageInfo{hasNextPage endCursor}nodes{amount coinType{repr}owner{address}}}}`

// listing are the fields of a list of transactions.
const listing = `pageInfo{hasPreviousPage startCursor}nodes{` + details + `}`

// tip says where the ledger and its reader are.
const tip = `chainIdentifier checkpoint{sequenceNumber timestamp}`

// filter is the name of the filter on transactions: affectedAddress, or on older
// servers recvAddress.
type filter string

const (
	affected filter = "affectedAddress"
	received filter = "recvAddress"
)

// pollDocument asks for the tip, for the checkpoint of a mark, and for the newest
// transactions of n addresses, $a0 and on, answered as a0 and on.
func pollDocument(n int, by filter) string {
	var b strings.Builder
	b.WriteString("query Poll($mark:UInt53")
	for i := range n {
		fmt.Fprintf(&b, ",$a%d:IotaAddress!", i)
	}
	fmt.Fprintf(&b, "){%s mark:checkpoint(id:{sequenceNumber:$mark}){sequenceNumber}\n", tip)
	for i := range n {
		fmt.Fprintf(&b, "a%d:transactionBlocks(last:%d,filter:{%s:$a%d}){...L}\n", i, perPoll, by, i)
	}
	b.WriteString("}\nfragment L on TransactionBlockConnection{" + listing + "}")
	return b.String()
}

// pageDocument asks for a page of transactions, the one before a cursor if it is
// set.
func pageDocument(by filter, size int) string {
	return fmt.Sprintf("query Page($a:IotaAddress!,$before:String){chainIdentifier a0:transactionBlocks(last:%d,before:$before,filter:{%s:$a}){%s}}", size, by, listing)
}

// digestsDocument asks for no more than the digests and checkpoints of a page:
// what is left to ask if the details of one transaction spoil the whole answer.
func digestsDocument(by filter) string {
	return fmt.Sprintf("query Digests($a:IotaAddress!,$before:String){chainIdentifier a0:transactionBlocks(last:%d,before:$before,filter:{%s:$a}){pageInfo{hasPreviousPage startCursor}nodes{digest effects{checkpoint{sequenceNumber}}}}}", perPoll, by)
}

// lookupDocument asks for n transactions, $d0 and on, answered as t0 and on.
func lookupDocument(n int) string {
	var head, body strings.Builder
	for i := range n {
		fmt.Fprintf(&head, ",$d%d:String!", i)
		fmt.Fprintf(&body, "t%d:transactionBlock(digest:$d%d){...T}\n", i, i)
	}
	return fmt.Sprintf("query Lookup(%s){chainIdentifier\n%s}\nfragment T on TransactionBlock{%s}", head.String()[1:], body.String(), details)
}

// changesDocument asks for the balance changes after a cursor.
const changesDocument = `query Changes($d:String!,$after:String){chainIdentifier transactionBlock(digest:$d){effects{balanceChanges(first:50,after:$after){pageInfo{hasNextPage endCursor}nodes{amount coinType{repr}owner{address}}}}}}`

// tipDocument asks where a node is, and what it still has.
const tipDocument = `query Tip{` + tip + ` checkpoints(first:1){nodes{sequenceNumber}}}`

// markDocument asks whether a node still has a checkpoint, and which is the first.
const markDocument = `query Mark($mark:UInt53){` + tip + ` checkpoints(first:1){nodes{sequenceNumber}} mark:checkpoint(id:{sequenceNumber:$mark}){sequenceNumber}}`

// balancesDocument asks for the tip, the first checkpoint, and the balances of n
// addresses, $a0 and on, answered as a0 and on.
func balancesDocument(n int) string {
	var head, body strings.Builder
	for i := range n {
		fmt.Fprintf(&head, ",$a%d:IotaAddress!", i)
		fmt.Fprintf(&body, "a%d:address(address:$a%d){balance(type:\"0x2::iota::IOTA\"){totalBalance}}\n", i, i)
	}
	return fmt.Sprintf("query Balances(%s){%s checkpoints(first:1){nodes{sequenceNumber}}\n%s}", head.String()[1:], tip, body.String())
}
