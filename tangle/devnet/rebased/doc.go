// Package rebased is a simulated network of today's IOTA ("Rebased"), for the
// demonstration, for tests, and for a buyer to try a payment on.
//
// A [Node] is what operators run: a full node with its indexer. One state
// machine keeps coins, object versions, gas, checkpoints, epochs and locks;
// transactions in BCS are decoded, their signatures checked, and executed with
// the gas numbers of mainnet's protocol 38. It can also be made to do what real
// nodes do to those who trust them: see [Node.Break], [Node.Misbehave],
// [Node.Prune], [Node.Lag] and their neighbours, and [Node.Control] for the same
// from outside the process. [Node.Pay] makes payments of every odd kind,
// [Node.Flood] a hundred thousand at once.
//
// # Endpoints
//
// A node is one http.Handler:
//
//	POST /      GraphQL ({"query":…}), or JSON-RPC ({"jsonrpc":…,"method":…})
//	POST /gas   the faucet: {"FixedAmountRequest":{"recipient":"0x…"}}, 5 coins of 2 IOTA
//
// Any other path is treated as /. GraphQL is executed against schema.graphql, the
// part of the official schema that payers and watchers use, with the limits of
// the public service: depth 20, 300 nodes, 100,000 output nodes, 5,000 bytes
// not counting the transaction, pages of 20, at most 50. JSON-RPC knows
//
//	iota_getChainIdentifier  iota_getLatestCheckpointSequenceNumber  iota_getTotalTransactionBlocks
//	iota_getCheckpoint  iota_getObject  iota_getTransactionBlock  iota_multiGetTransactionBlocks
//	iota_dryRunTransactionBlock  iota_executeTransactionBlock
//	iotax_getBalance  iotax_getAllBalances  iotax_getCoins  iotax_getAllCoins  iotax_getCoinMetadata
//	iotax_getReferenceGasPrice  iotax_queryTransactionBlocks
//
// # What is simpler than in reality
//
// Transactions are programmable ones of SplitCoins, MergeCoins, TransferObjects
// and three functions: 0x1::string::utf8, and two that mint coins and NFTs for
// [Payment]. There are no shared objects and no packages. Signatures are Ed25519.
// There are no system transactions but genesis, so that an empty checkpoint has
// none. One process stands for all validators: [Certificates] and [PCool] say how
// they deal with conflicts, [Split] and [Dropped] what goes wrong there.
// Subscriptions and introspection are not served. Everything is in memory.
//
// Where a comment names a file, it is one of github.com/iotaledger/iota as of
// 2026, crates/iota-graphql-rpc/src where no crate is named.
package rebased
