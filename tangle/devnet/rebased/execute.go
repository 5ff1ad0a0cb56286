package rebased

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// failure is why a transaction failed in execution, which costs gas.
type failure struct {
	code    string // as JSON-RPC has it
	text    string // as GraphQL has it
	command int    // below 0 if it is no command's fault
}

// String returns the form of JSON-RPC.
func (f *failure) String() string {
	if f.command < 0 {
		return f.code
	}
	return fmt.Sprintf("%s in command %d", f.code, f.command)
}

// graphql returns the form of GraphQL (transaction_block_effects.rs), with the
// ordinals that it has.
func (f *failure) graphql() string {
	if f.command < 0 {
		return f.text
	}
	n := f.command + 1
	suffix := "th"
	switch n % 10 {
	case 1:
		suffix = "st"
	case 2:
		suffix = "nd"
	case 3:
		suffix = "rd"
	}
	return fmt.Sprintf("Error in %d%s command, %s", n, suffix, f.text)
}

var (
	insufficientCoin = failure{code: "InsufficientCoinBalance", text: "Insufficient coin balance for operation."}
	insufficientGas  = failure{code: "InsufficientGas", text: "Insufficient Gas.", command: -1}
	overflow         = failure{code: "CoinBalanceOverflow", text: "The coin balance overflows u64"}
)

func badArgument(i int, kind string) failure {
	return failure{
		code: fmt.Sprintf("CommandArgumentError { arg_idx: %d, kind: %s }", i, kind),
		text: fmt.Sprintf("Invalid command argument at %d. %s", i, kind),
	}
}

// refuse returns why validators would not execute a transaction at all, or nil.
// A dry run may do without gas coins. Locks are another question. Messages are those of crates/iota-types/src/error.rs.
func (c *chain) refuse(t txn.Transaction, raw []byte, dry bool) error {
	switch {
	case len(raw) > txn.MaxSize:
		return rejected("Transaction size exceeds the maximum: %d bytes, limit is %d", len(raw), txn.MaxSize)
	case t.Expiration.Limited && t.Expiration.Epoch < c.epoch():
		return rejected("Transaction is expired: its last epoch is %d, the current one %d", t.Expiration.Epoch, c.epoch())
	case len(t.Commands) == 0:
		return rejected("Empty command input: a programmable transaction needs a command")
	case len(t.Commands) > maxCommands:
		return rejected("Size limit exceeded: maximum commands in a programmable transaction is %d", maxCommands)
	case len(t.Inputs)+len(t.Gas.Coins) > maxInputs:
		return rejected("Size limit exceeded: maximum input objects in a transaction is %d", maxInputs)
	case len(t.Gas.Coins) == 0 && !dry:
		return rejected("Missing gas payment")
	case len(t.Gas.Coins) > txn.MaxGasCoins:
		return rejected("Size limit exceeded: maximum number of gas payment objects is %d", txn.MaxGasCoins+1)
	case t.Gas.Price < referenceGasPrice:
		return rejected("Gas price %d under reference gas price (RGP) %d", t.Gas.Price, referenceGasPrice)
	case t.Gas.Price > maxGasPrice:
		return rejected("Gas price cannot exceed %d nanos", maxGasPrice)
	case t.Gas.Budget > maxBudget:
		return rejected("Gas budget: %d is higher than max: %d", t.Gas.Budget, uint64(maxBudget))
	case t.Gas.Budget < computationUnits*t.Gas.Price:
		return rejected("Gas budget: %d is lower than min: %d", t.Gas.Budget, computationUnits*t.Gas.Price)
	}
	for i, in := range t.Inputs {
		if p, ok := in.(txn.Pure); ok && len(p) > txn.MaxPure {
			return rejected("Size limit exceeded: pure argument %d exceeds the size of %d bytes", i, txn.MaxPure)
		}
	}
	seen := make(map[txn.Address]bool)
	sum := new(big.Int)
	for _, ref := range t.Gas.Coins {
		if seen[ref.ID] {
			return rejected("Mutable object %s cannot appear more than one in one transaction", ref.ID)
		}
		seen[ref.ID] = true
		o, err := c.available(ref)
		switch {
		case err != nil:
			return err
		case !o.isIOTA():
			return rejected("Gas object is not an owned object with owner: Address(%s)", t.Gas.Owner)
		case o.owner != t.Gas.Owner:
			return rejected("Transaction was not signed by the correct sender: Object %s is owned by account address %s, but given owner/signer address is %s", o.id, o.owner, t.Gas.Owner)
		}
		sum.Add(sum, new(big.Int).SetUint64(o.balance))
	}
	if len(t.Gas.Coins) > 0 && sum.Cmp(new(big.Int).SetUint64(t.Gas.Budget)) < 0 {
		return rejected("Balance of gas object %s is lower than the needed amount: %d", sum, t.Gas.Budget)
	}
	if !sum.IsUint64() {
		return rejected("Gas coins hold %s together, more than a coin can", sum)
	}
	for _, in := range t.Inputs {
		ref, ok := in.(txn.Owned)
		if !ok {
			if _, ok := in.(txn.Pure); !ok {
				return rejected("Could not find the referenced object: the simulator has no shared objects and none to receive")
			}
			continue
		}
		if seen[ref.ID] {
			return rejected("Mutable object %s cannot appear more than one in one transaction", ref.ID)
		}
		seen[ref.ID] = true
		o, err := c.available(txn.ObjectRef(ref))
		if err != nil {
			return err
		}
		if o.owner != t.Sender {
			return rejected("Transaction was not signed by the correct sender: Object %s is owned by account address %s, but given owner/signer address is %s", o.id, o.owner, t.Sender)
		}
	}
	return nil
}

// available returns the object that a reference means, if it is the newest version.
func (c *chain) available(ref txn.ObjectRef) (*object, error) {
	o := c.objects[ref.ID]
	switch {
	case o == nil:
		return nil, rejected("Could not find the referenced object %s at version Some(SequenceNumber(%d))", ref.ID, ref.Version)
	case o.version != ref.Version:
		return nil, rejected("Object (%s, SequenceNumber(%d), o#%s) is not available for consumption, its current version: SequenceNumber(%d)", ref.ID, ref.Version, ref.Digest, o.version)
	case o.digest != ref.Digest:
		return nil, rejected("Invalid Object digest for object %s. Expected digest : %s", ref.ID, o.digest)
	}
	return o, nil
}

// slot is a value during execution: an object, or nothing of interest.
type slot struct {
	o     *object // a copy that may change
	fresh bool    // made by this transaction
	gone  bool    // moved or merged
}

// execution is the run of one transaction over a copy of what it touches.
type execution struct {
	t       txn.Transaction
	digest  txn.Digest
	gas     *slot
	inputs  []*slot
	results [][]*slot
	moved   []*slot // results that were transferred
	made    uint64
}

// execute runs a transaction that is not refused, and changes nothing.
func (c *chain) execute(t txn.Transaction, raw []byte) *transaction {
	x := &transaction{
		digest: txn.DigestOf(raw), bytes: raw, sender: t.Sender, payer: t.Gas.Owner, epoch: c.epoch(),
		seq: -1, checkpoint: -1,
	}
	depends := make(map[txn.Digest]bool)
	input := func(id txn.Address) *object {
		o := c.objects[id]
		x.inputs = append(x.inputs, o)
		x.version = max(x.version, o.version)
		depends[o.previous] = true
		return o
	}
	for _, ref := range t.Gas.Coins {
		input(ref.ID)
	}
	coins := len(x.inputs)
	for _, in := range t.Inputs {
		if ref, ok := in.(txn.Owned); ok {
			input(ref.ID)
		}
	}
	if coins == 0 { // a dry run without coins: one is lent
		x.inputs = append(x.inputs, &object{id: derive(x.digest, math.MaxUint64), owner: t.Gas.Owner, coin: &txn.IOTA, balance: 1e18})
	}
	x.version++
	for d := range depends {
		x.depends = append(x.depends, d)
	}
	slices.SortFunc(x.depends, func(a, b txn.Digest) int { return bytes.Compare(a[:], b[:]) })

	x.gas.computation = computationUnits * t.Gas.Price
	begin := func() *execution {
		e := c.begin(t, x.digest)
		if coins == 0 {
			lent := *x.inputs[len(x.inputs)-1]
			e.gas = &slot{o: &lent}
		}
		return e
	}
	e := begin()
	x.failure = e.run()
	if x.failure == nil && !x.charge(e) {
		f := insufficientGas
		x.failure = &f
	}
	if x.failure != nil {
		// What it did is undone, but its coins are merged and its inputs rewritten.
		e = begin()
		if !x.charge(e) {
			x.gas = gasUsed{computation: t.Gas.Budget}
			e = begin() // with the rebates that were
			x.outcome(e)
		}
	}
	x.seal(e)
	return x
}

// begin loads what a transaction touches; its gas coins are merged.
func (c *chain) begin(t txn.Transaction, digest txn.Digest) *execution {
	e := &execution{t: t, digest: digest}
	for _, ref := range t.Gas.Coins {
		o := *c.objects[ref.ID]
		if e.gas == nil {
			e.gas = &slot{o: &o}
		} else {
			e.gas.o.balance += o.balance
		}
	}
	for _, in := range t.Inputs {
		s := new(slot)
		if ref, ok := in.(txn.Owned); ok {
			o := *c.objects[ref.ID]
			s.o = &o
		}
		e.inputs = append(e.inputs, s)
	}
	return e
}

// run executes the commands.
func (e *execution) run() *failure {
	for i, command := range e.t.Commands {
		var results []*slot
		var fail *failure
		switch command := command.(type) {
		case txn.SplitCoins:
			results, fail = e.split(command)
		case txn.TransferObjects:
			fail = e.transfer(command)
		case txn.MergeCoins:
			fail = e.merge(command)
		case txn.MoveCall:
			results, fail = e.call(command)
		default:
			fail = &failure{code: "FeatureNotYetSupported", text: "Attempted to used feature that is not supported yet"}
		}
		if fail != nil {
			f := *fail
			f.command = i
			return &f
		}
		e.results = append(e.results, results)
	}
	for i, list := range e.results {
		for j, s := range list {
			if s.o != nil && !s.gone {
				return &failure{
					code:    fmt.Sprintf("UnusedValueWithoutDrop { result_idx: %d, secondary_idx: %d }", i, j),
					text:    fmt.Sprintf("Unused result without the drop ability. Command result %d, return value %d", i, j),
					command: -1,
				}
			}
		}
	}
	return nil
}

// value returns what an argument refers to.
func (e *execution) value(i int, a txn.Argument) (*slot, *failure) {
	bad := func(kind string) (*slot, *failure) {
		f := badArgument(i, kind)
		return nil, &f
	}
	var s *slot
	switch a.Kind {
	case txn.GasCoinKind:
		s = e.gas
	case txn.InputKind:
		if int(a.Index) >= len(e.inputs) {
			return bad(fmt.Sprintf("IndexOutOfBounds { idx: %d }", a.Index))
		}
		s = e.inputs[a.Index]
	default:
		if int(a.Index) >= len(e.results) {
			return bad(fmt.Sprintf("IndexOutOfBounds { idx: %d }", a.Index))
		}
		list := e.results[a.Index]
		if a.Kind == txn.ResultKind && len(list) != 1 {
			return bad(fmt.Sprintf("InvalidResultArity { result_idx: %d }", a.Index))
		}
		if int(a.Nested) >= len(list) {
			return bad(fmt.Sprintf("SecondaryIndexOutOfBounds { result_idx: %d, secondary_idx: %d }", a.Index, a.Nested))
		}
		s = list[a.Nested]
	}
	if s.gone {
		return bad("InvalidValueUsage")
	}
	return s, nil
}

func (e *execution) coin(i int, a txn.Argument) (*slot, *failure) {
	s, fail := e.value(i, a)
	if fail == nil && (s.o == nil || s.o.coin == nil) {
		f := badArgument(i, "TypeMismatch")
		fail = &f
	}
	return s, fail
}

// pure returns the value of a pure input.
func (e *execution) pure(i int, a txn.Argument) (txn.Pure, *failure) {
	if _, fail := e.value(i, a); fail != nil {
		return nil, fail
	}
	if a.Kind == txn.InputKind {
		if p, ok := e.t.Inputs[a.Index].(txn.Pure); ok {
			return p, nil
		}
	}
	f := badArgument(i, "TypeMismatch")
	return nil, &f
}

func (e *execution) number(i int, a txn.Argument) (uint64, *failure) {
	p, fail := e.pure(i, a)
	if fail != nil {
		return 0, fail
	}
	v, ok := p.U64()
	if !ok {
		f := badArgument(i, "InvalidBCSBytes")
		return 0, &f
	}
	return v, nil
}

func (e *execution) address(i int, a txn.Argument) (txn.Address, *failure) {
	p, fail := e.pure(i, a)
	if fail != nil {
		return txn.Address{}, fail
	}
	v, ok := p.Address()
	if !ok {
		f := badArgument(i, "InvalidBCSBytes")
		return txn.Address{}, &f
	}
	return v, nil
}

// create makes a new object.
func (e *execution) create(o object) *slot {
	o.id = derive(e.digest, e.made)
	e.made++
	return &slot{o: &o, fresh: true}
}

func (e *execution) split(c txn.SplitCoins) ([]*slot, *failure) {
	from, fail := e.coin(0, c.Coin)
	if fail != nil {
		return nil, fail
	}
	left := from.o.balance
	if from == e.gas { // the budget is out of reach
		left -= e.t.Gas.Budget
	}
	var made []*slot
	for i, a := range c.Amounts {
		amount, fail := e.number(1+i, a)
		if fail != nil {
			return nil, fail
		}
		if amount > left {
			return nil, &insufficientCoin
		}
		left -= amount
		from.o.balance -= amount
		made = append(made, e.create(object{owner: e.t.Sender, coin: from.o.coin, balance: amount}))
	}
	return made, nil
}

func (e *execution) transfer(c txn.TransferObjects) *failure {
	to, fail := e.address(len(c.Objects), c.To)
	if fail != nil {
		return fail
	}
	for i, a := range c.Objects {
		s, fail := e.value(i, a)
		if fail != nil {
			return fail
		}
		if s.o == nil {
			f := badArgument(i, "TypeMismatch")
			return &f
		}
		s.o.owner, s.gone = to, true
		if s.fresh {
			e.moved = append(e.moved, s)
		}
	}
	return nil
}

func (e *execution) merge(c txn.MergeCoins) *failure {
	into, fail := e.coin(0, c.Into)
	if fail != nil {
		return fail
	}
	for i, a := range c.From {
		s, fail := e.coin(1+i, a)
		if fail != nil {
			return fail
		}
		if s == into || s == e.gas || *s.o.coin != *into.o.coin {
			f := badArgument(1+i, "TypeMismatch")
			return &f
		}
		if into.o.balance+s.o.balance < into.o.balance {
			return &overflow
		}
		into.o.balance += s.o.balance
		s.o, s.gone = nil, true
	}
	return nil
}

// simulator is the package whose functions make what only tests need.
var simulator = txn.Address{30: 0x51, 31: 0x09}

// call runs the functions that exist: 0x1::string::utf8, which the SDK uses for
// memos, and the simulator's own faucet::mint(type, amount, to) and
// nft::mint(to).
func (e *execution) call(c txn.MoveCall) ([]*slot, *failure) {
	arguments := func(n int) *failure {
		if len(c.Arguments) != n {
			return &failure{code: "ArityMismatch", text: "Arity mismatch for Move function."}
		}
		return nil
	}
	switch name := c.Module + "::" + c.Function; {
	case c.Package == txn.Address{31: 1} && name == "string::utf8":
		if fail := arguments(1); fail != nil {
			return nil, fail
		}
		p, fail := e.pure(0, c.Arguments[0])
		if fail != nil {
			return nil, fail
		}
		text, ok := p.Text()
		if !ok {
			f := badArgument(0, "InvalidBCSBytes")
			return nil, &f
		}
		if !utf8.Valid(text) {
			return nil, &failure{
				code: `MoveAbort(MoveLocation { module: ModuleId { address: 0x1, name: Identifier("string") }, function: 0, instruction: 9, function_name: Some("utf8") }, 1)`,
				text: "from '0x0000000000000000000000000000000000000000000000000000000000000001::string::utf8' (instruction 9), abort code: 1",
			}
		}
		return []*slot{{}}, nil
	case c.Package == simulator && name == "faucet::mint":
		if fail := arguments(3); fail != nil {
			return nil, fail
		}
		p, fail := e.pure(0, c.Arguments[0])
		if fail != nil {
			return nil, fail
		}
		text, _ := p.Text()
		coin, err := txn.ParseCoinType(string(text))
		if err != nil || coin == txn.IOTA {
			f := badArgument(0, "InvalidBCSBytes")
			return nil, &f
		}
		amount, fail := e.number(1, c.Arguments[1])
		if fail != nil {
			return nil, fail
		}
		to, fail := e.address(2, c.Arguments[2])
		if fail != nil {
			return nil, fail
		}
		e.moved = append(e.moved, e.create(object{owner: to, coin: &coin, balance: amount}))
		return nil, nil
	case c.Package == simulator && name == "nft::mint":
		if fail := arguments(1); fail != nil {
			return nil, fail
		}
		to, fail := e.address(0, c.Arguments[0])
		if fail != nil {
			return nil, fail
		}
		e.moved = append(e.moved, e.create(object{owner: to}))
		return nil, nil
	}
	return nil, &failure{code: "FunctionNotFound", text: "Function Not Found."}
}

// outcome says which objects were written and deleted.
func (x *transaction) outcome(e *execution) {
	x.created, x.mutated, x.deleted = nil, nil, nil
	x.mutated = append(x.mutated, e.gas.o)
	for _, s := range e.inputs {
		if s.o != nil {
			x.mutated = append(x.mutated, s.o)
		}
	}
	for _, s := range e.moved {
		x.created = append(x.created, s.o)
	}
	kept := make(map[txn.Address]bool)
	for _, o := range x.mutated {
		kept[o.id] = true
	}
	for _, o := range x.inputs {
		if !kept[o.id] {
			x.deleted = append(x.deleted, o)
		}
	}
}

// charge takes the gas out of the gas coin, wherever it went. It reports false
// and changes no balance if the budget does not suffice.
func (x *transaction) charge(e *execution) bool {
	x.outcome(e)
	x.gas.storage, x.gas.rebate = 0, 0
	for _, list := range [][]*object{x.created, x.mutated} {
		for _, o := range list {
			o.rebate = o.storageCost()
			x.gas.storage += o.rebate
		}
	}
	for _, o := range x.inputs {
		x.gas.rebate += o.rebate
	}
	return x.gas.net().Cmp(new(big.Int).SetUint64(e.t.Gas.Budget)) <= 0
}

// seal gives what was written its version and digest, and sums up the changes of
// balances.
func (x *transaction) seal(e *execution) {
	x.gasObject = e.gas.o
	net := x.gas.net()
	e.gas.o.balance = new(big.Int).Sub(new(big.Int).SetUint64(e.gas.o.balance), net).Uint64()
	for _, list := range [][]*object{x.created, x.mutated} {
		for _, o := range list {
			o.version, o.previous = x.version, x.digest
			o.seal()
		}
		slices.SortFunc(list, func(a, b *object) int { return bytes.Compare(a.id[:], b.id[:]) })
	}
	if x.failure != nil {
		x.changes = []balanceChange{{owner: x.payer, coin: txn.IOTA, amount: net.Neg(net)}}
		return
	}
	type key struct {
		owner txn.Address
		coin  txn.CoinType
	}
	sums := make(map[key]*big.Int)
	add := func(list []*object, sign int64) {
		for _, o := range list {
			if o.coin == nil {
				continue
			}
			k := key{o.owner, *o.coin}
			if sums[k] == nil {
				sums[k] = new(big.Int)
			}
			b := new(big.Int).SetUint64(o.balance)
			sums[k].Add(sums[k], b.Mul(b, big.NewInt(sign)))
		}
	}
	add(x.created, 1)
	add(x.mutated, 1)
	add(x.inputs, -1)
	for k, sum := range sums {
		if sum.Sign() != 0 {
			x.changes = append(x.changes, balanceChange{owner: k.owner, coin: k.coin, amount: sum})
		}
	}
	slices.SortFunc(x.changes, func(a, b balanceChange) int {
		if c := bytes.Compare(a.owner[:], b.owner[:]); c != 0 {
			return c
		}
		return strings.Compare(a.coin.String(), b.coin.String())
	})
}
