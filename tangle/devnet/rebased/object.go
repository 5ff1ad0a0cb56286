package rebased

import (
	"encoding/binary"
	"math/big"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// object is one version of an object: a coin, or something else that can be
// owned and transferred (an "NFT"). It does not change.
type object struct {
	id       txn.Address
	version  uint64
	digest   txn.Digest
	owner    txn.Address
	coin     *txn.CoinType // nil if it is no coin
	balance  uint64        // of a coin
	previous txn.Digest    // the transaction that wrote it
	rebate   uint64        // what was paid for its storage, and comes back with it
}

// nftType is the type of objects that are no coins.
const nftType = "0x0000000000000000000000000000000000000000000000000000000000005109::nft::Picture"

func (o *object) ref() txn.ObjectRef {
	return txn.ObjectRef{ID: o.id, Version: o.version, Digest: o.digest}
}

func (o *object) isIOTA() bool { return o.coin != nil && *o.coin == txn.IOTA }

// typeName returns the object's Move type with full addresses.
func (o *object) typeName() string {
	if o.coin == nil {
		return nftType
	}
	return coinOf(o.coin.String())
}

// coinOf returns the type of objects that are coins of a type.
func coinOf(coin string) string { return txn.IOTA.Address.String() + "::coin::Coin<" + coin + ">" }

// contents returns the object's fields in BCS.
func (o *object) contents() []byte {
	if o.coin == nil {
		return o.id[:]
	}
	return binary.LittleEndian.AppendUint64(o.id[:len(o.id):len(o.id)], o.balance)
}

// storageUnit is the price of a byte of an object: 100 units at 76 nanos
// (obj_data_cost_refundable × storage_gas_price).
const storageUnit = 100 * 76

// storageCost returns what the object's storage costs, in nanos. The sizes of
// IOTA coins (129 bytes, 980,400 nanos) and of NFTs (168 bytes, as of the object
// in iota-graphql-e2e-tests/tests/prune) are recorded ones; that of other
// coins adds the type's length in BCS.
func (o *object) storageCost() uint64 {
	switch {
	case o.coin == nil:
		return 168 * storageUnit
	case *o.coin == txn.IOTA:
		return 129 * storageUnit
	default:
		return uint64(129+1+32+1+len(o.coin.Module)+1+len(o.coin.Name)+1) * storageUnit
	}
}

// seal computes the digest. It has the form of the network's (crates/iota-types
// object.rs): what the object is, its owner, the transaction and the rebate.
func (o *object) seal() {
	e := append([]byte("Object::"), 0) // a Move object
	switch {
	case o.isIOTA():
		e = append(e, 1)
	case o.coin != nil:
		e = append(e, 3)
		e = append(e, o.coin.String()...)
	default:
		e = append(e, 0)
		e = append(e, nftType...)
	}
	e = binary.LittleEndian.AppendUint64(e, o.version)
	e = append(binary.AppendUvarint(e, uint64(len(o.contents()))), o.contents()...)
	e = append(append(e, 0), o.owner[:]...)
	e = append(append(e, byte(len(o.previous))), o.previous[:]...)
	o.digest = hash(binary.LittleEndian.AppendUint64(e, o.rebate))
}

// gasUsed is what a transaction was charged, in nanos. All of the rebate is
// given back, nothing is "non-refundable" (storage_rebate_rate 10000).
type gasUsed struct{ computation, storage, rebate uint64 }

func (g *gasUsed) add(other gasUsed) {
	g.computation += other.computation
	g.storage += other.storage
	g.rebate += other.rebate
}

// net returns what the payer lost; below 0 it gained.
func (g gasUsed) net() *big.Int {
	paid := new(big.Int).SetUint64(g.computation)
	paid.Add(paid, new(big.Int).SetUint64(g.storage))
	return paid.Sub(paid, new(big.Int).SetUint64(g.rebate))
}

// derive returns the ID of the nth object that a transaction creates
// (crates/iota-types base_types.rs, derive_id).
func derive(digest txn.Digest, n uint64) txn.Address {
	return hash([]byte{0xf1}, digest[:], binary.LittleEndian.AppendUint64(nil, n))
}
