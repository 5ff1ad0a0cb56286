package txn

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of the protocol (iota-protocol-config, version 38).
const (
	MaxSize     = 131072 // bytes of a transaction
	MaxPure     = 16384  // bytes of a pure input
	MaxGasCoins = 255    // coins that may pay for gas
)

// Transaction is a programmable transaction, TransactionData::V1 of the
// protocol.
type Transaction struct {
	Inputs     []Input
	Commands   []Command
	Sender     Address
	Gas        Gas
	Expiration Expiration
}

// Gas says who pays for a transaction, and with what.
type Gas struct {
	Coins  []ObjectRef // merged into the first when the transaction is executed
	Owner  Address     // of the coins: the sender, or a sponsor
	Price  uint64      // nanos for a unit of computation
	Budget uint64      // the most that may be charged, in nanos
}

// Expiration is the last epoch in which a transaction may be executed. The zero
// value means that it never expires.
type Expiration struct {
	Limited bool
	Epoch   uint64
}

// Until returns the expiration after an epoch.
func Until(epoch uint64) Expiration { return Expiration{Limited: true, Epoch: epoch} }

// Input is what commands refer to: a [Pure], [Owned], [Shared] or [Receiving].
type Input interface{ encodeInput(*encoder) }

type (
	// Pure is a value in BCS.
	Pure []byte
	// Owned is an immutable object or one that the sender owns.
	Owned ObjectRef
	// Shared is a shared object.
	Shared struct {
		ID             Address
		InitialVersion uint64
		Mutable        bool
	}
	// Receiving is an object that another object owns.
	Receiving ObjectRef
)

// PureU64 returns the input of a number.
func PureU64(v uint64) Pure { return binary.LittleEndian.AppendUint64(nil, v) }

// PureAddress returns the input of an address.
func PureAddress(a Address) Pure { return Pure(a[:]) }

// PureString returns the input of a string.
func PureString(s string) Pure {
	var e encoder
	e.bytes([]byte(s))
	return Pure(e)
}

// U64 returns the number that p holds; ok is false if p is not one.
func (p Pure) U64() (v uint64, ok bool) {
	if len(p) != 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(p), true
}

// Address returns the address that p holds; ok is false if p is not one.
func (p Pure) Address() (a Address, ok bool) {
	if len(p) != len(a) {
		return Address{}, false
	}
	return Address(p), true
}

// Text returns the bytes of the string that p holds; ok is false if p is not
// one. They may be other than UTF-8.
func (p Pure) Text() (text []byte, ok bool) {
	d := &decoder{rest: p}
	b := d.bytes()
	if d.err != nil || len(d.rest) > 0 {
		return nil, false
	}
	return b, true
}

// Command is a step of a transaction: [SplitCoins], [TransferObjects],
// [MergeCoins] or [MoveCall].
type Command interface{ encodeCommand(*encoder) }

type (
	// SplitCoins takes amounts out of a coin. Its results are the new coins.
	SplitCoins struct {
		Coin    Argument
		Amounts []Argument
	}
	// TransferObjects gives objects to an address.
	TransferObjects struct {
		Objects []Argument
		To      Argument
	}
	// MergeCoins puts coins into another.
	MergeCoins struct {
		Into Argument
		From []Argument
	}
	// MoveCall calls a function without type parameters.
	MoveCall struct {
		Package          Address
		Module, Function string
		Arguments        []Argument
	}
)

// ArgumentKind says what an Argument refers to.
type ArgumentKind uint8

// The kinds of arguments; the values are the protocol's.
const (
	GasCoinKind ArgumentKind = iota
	InputKind
	ResultKind
	NestedResultKind
)

// Argument is a value that a command uses.
type Argument struct {
	Kind   ArgumentKind
	Index  uint16 // of the input, or of the command whose result it is
	Nested uint16 // which of that command's results, for NestedResultKind
}

// GasCoin is the coin that pays for gas.
var GasCoin = Argument{Kind: GasCoinKind}

// InputAt returns the argument for input i.
func InputAt(i uint16) Argument { return Argument{Kind: InputKind, Index: i} }

// NestedResult returns the argument for result n of command i.
func NestedResult(i, n uint16) Argument {
	return Argument{Kind: NestedResultKind, Index: i, Nested: n}
}

// Variants of the protocol's enumerations.
const (
	variantV1           = 0
	variantProgrammable = 0
	variantPure         = 0
	variantObject       = 1
	variantOwned        = 0
	variantShared       = 1
	variantReceiving    = 2
	variantMoveCall     = 0
	variantTransfer     = 1
	variantSplit        = 2
	variantMerge        = 3
	variantNoExpiration = 0
	variantEpoch        = 1
)

// Encode returns t in BCS.
func (t Transaction) Encode() []byte {
	var e encoder
	e.uleb(variantV1)
	e.uleb(variantProgrammable)
	e.uleb(len(t.Inputs))
	for _, in := range t.Inputs {
		in.encodeInput(&e)
	}
	e.uleb(len(t.Commands))
	for _, c := range t.Commands {
		c.encodeCommand(&e)
	}
	e.raw(t.Sender[:])
	e.uleb(len(t.Gas.Coins))
	for _, c := range t.Gas.Coins {
		c.encode(&e)
	}
	e.raw(t.Gas.Owner[:])
	e.u64(t.Gas.Price)
	e.u64(t.Gas.Budget)
	if t.Expiration.Limited {
		e.uleb(variantEpoch)
		e.u64(t.Expiration.Epoch)
	} else {
		e.uleb(variantNoExpiration)
	}
	return e
}

func (r ObjectRef) encode(e *encoder) {
	e.raw(r.ID[:])
	e.u64(r.Version)
	e.bytes(r.Digest[:])
}

func (p Pure) encodeInput(e *encoder) {
	e.uleb(variantPure)
	e.bytes(p)
}

func (o Owned) encodeInput(e *encoder) {
	e.uleb(variantObject)
	e.uleb(variantOwned)
	ObjectRef(o).encode(e)
}

func (s Shared) encodeInput(e *encoder) {
	e.uleb(variantObject)
	e.uleb(variantShared)
	e.raw(s.ID[:])
	e.u64(s.InitialVersion)
	e.bool(s.Mutable)
}

func (r Receiving) encodeInput(e *encoder) {
	e.uleb(variantObject)
	e.uleb(variantReceiving)
	ObjectRef(r).encode(e)
}

func (c SplitCoins) encodeCommand(e *encoder) {
	e.uleb(variantSplit)
	c.Coin.encode(e)
	encodeArguments(e, c.Amounts)
}

func (c TransferObjects) encodeCommand(e *encoder) {
	e.uleb(variantTransfer)
	encodeArguments(e, c.Objects)
	c.To.encode(e)
}

func (c MergeCoins) encodeCommand(e *encoder) {
	e.uleb(variantMerge)
	c.Into.encode(e)
	encodeArguments(e, c.From)
}

func (c MoveCall) encodeCommand(e *encoder) {
	e.uleb(variantMoveCall)
	e.raw(c.Package[:])
	e.bytes([]byte(c.Module))
	e.bytes([]byte(c.Function))
	e.uleb(0) // type parameters
	encodeArguments(e, c.Arguments)
}

func (a Argument) encode(e *encoder) {
	e.uleb(int(a.Kind))
	if a.Kind != GasCoinKind {
		e.u16(a.Index)
	}
	if a.Kind == NestedResultKind {
		e.u16(a.Nested)
	}
}

func encodeArguments(e *encoder, all []Argument) {
	e.uleb(len(all))
	for _, a := range all {
		a.encode(e)
	}
}

// Decode reads a transaction in BCS. What it accepts, Encode turns into the same
// bytes. It returns an error for other kinds of transactions and commands than
// this package knows, for more than MaxSize bytes, and for bytes after the end.
func Decode(b []byte) (Transaction, error) {
	if len(b) > MaxSize {
		return Transaction{}, fmt.Errorf("decode transaction: %d bytes, more than %d", len(b), MaxSize)
	}
	d := &decoder{rest: b}
	t := d.transaction()
	if d.err == nil && len(d.rest) > 0 {
		d.fail(fmt.Errorf("%d bytes after the end", len(d.rest)))
	}
	if d.err != nil {
		return Transaction{}, fmt.Errorf("decode transaction: %w", d.err)
	}
	return t, nil
}

func (d *decoder) transaction() (t Transaction) {
	if v := d.uleb(); v != variantV1 {
		d.fail(fmt.Errorf("version %d, want V1", v+1))
	}
	if v := d.uleb(); v != variantProgrammable {
		d.fail(fmt.Errorf("kind %d, want a programmable transaction", v))
	}
	t.Inputs = vector(d, d.input)
	t.Commands = vector(d, d.command)
	t.Sender = d.address()
	t.Gas.Coins = vector(d, d.ref)
	t.Gas.Owner = d.address()
	t.Gas.Price = d.u64()
	t.Gas.Budget = d.u64()
	switch v := d.uleb(); v {
	case variantNoExpiration:
	case variantEpoch:
		t.Expiration = Until(d.u64())
	default:
		d.fail(fmt.Errorf("expiration of kind %d", v))
	}
	return t
}

func (d *decoder) address() (a Address) {
	copy(a[:], d.raw(len(a)))
	return a
}

func (d *decoder) ref() (r ObjectRef) {
	r.ID = d.address()
	r.Version = d.u64()
	digest := d.bytes()
	if d.err == nil && len(digest) != len(r.Digest) {
		d.fail(fmt.Errorf("digest of %d bytes", len(digest)))
	}
	copy(r.Digest[:], digest)
	return r
}

func (d *decoder) input() Input {
	switch v := d.uleb(); v {
	case variantPure:
		return Pure(d.bytes())
	case variantObject:
	default:
		d.fail(fmt.Errorf("input of kind %d", v))
		return nil
	}
	switch v := d.uleb(); v {
	case variantOwned:
		return Owned(d.ref())
	case variantShared:
		return Shared{ID: d.address(), InitialVersion: d.u64(), Mutable: d.bool()}
	case variantReceiving:
		return Receiving(d.ref())
	default:
		d.fail(fmt.Errorf("object of kind %d", v))
		return nil
	}
}

// commandNames are the protocol's, by variant.
var commandNames = []string{"MoveCall", "TransferObjects", "SplitCoins", "MergeCoins", "Publish", "MakeMoveVec", "Upgrade"}

func (d *decoder) command() Command {
	switch v := d.uleb(); v {
	case variantSplit:
		return SplitCoins{Coin: d.argument(), Amounts: d.arguments()}
	case variantTransfer:
		return TransferObjects{Objects: d.arguments(), To: d.argument()}
	case variantMerge:
		return MergeCoins{Into: d.argument(), From: d.arguments()}
	case variantMoveCall:
		c := MoveCall{Package: d.address(), Module: string(d.bytes()), Function: string(d.bytes())}
		if n := d.uleb(); n > 0 {
			d.fail(errors.New("command MoveCall with type parameters is not supported"))
		}
		c.Arguments = d.arguments()
		return c
	default:
		if v < len(commandNames) {
			d.fail(fmt.Errorf("command %s is not supported", commandNames[v]))
		}
		d.fail(fmt.Errorf("command of kind %d", v))
		return nil
	}
}

func (d *decoder) argument() (a Argument) {
	v := d.uleb()
	if v > int(NestedResultKind) {
		d.fail(fmt.Errorf("argument of kind %d", v))
		return a
	}
	a.Kind = ArgumentKind(v)
	if a.Kind != GasCoinKind {
		a.Index = d.u16()
	}
	if a.Kind == NestedResultKind {
		a.Nested = d.u16()
	}
	return a
}

func (d *decoder) arguments() []Argument { return vector(d, d.argument) }

// DigestOf returns the digest of a transaction in BCS, which names it for ever.
func DigestOf(transaction []byte) Digest {
	return hash([]byte("TransactionData::"), transaction)
}
