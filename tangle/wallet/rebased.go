package wallet

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gofrs/flock"

	"github.com/iotoll/iotoll/tangle/rebased"
	"github.com/iotoll/iotoll/tangle/rebased/graphql"
	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// Pace and limits of paying on today's network.
const (
	resendEvery  = 2 * time.Second  // the same bytes, while the outcome is unknown
	resendFor    = 60 * time.Second // before Pay gives up for now
	deadAfter    = 30 * time.Second // that a transaction stays unknown although it cannot be executed any more
	prepareEvery = time.Second      // between attempts to build a payment
	prepareTries = 5
	lockPoll     = 100 * time.Millisecond
	waitPoll     = 500 * time.Millisecond

	minBudget  = 3_000_000     // nanos
	maxBudget  = 1_000_000_000 // nanos; a payment costs some 2,000,000, and a node might lie
	maxPrice   = 100_000       // the protocol's greatest gas price
	maxCoins   = txn.MaxGasCoins
	maxPages   = 100     // pages of 50 coins that are read
	maxBody    = 4 << 20 // bytes of an answer
	maxMessage = 4096    // bytes of a memo; the seller reads no more
)

// currency is how amounts are written in errors.
var currency = rebased.Notation{}.Currency()

// Faults of paying, for errors.Is. ErrInsufficient is another one.
var (
	// ErrUndecided means that a payment was sent and its outcome is not known yet.
	// The next call of Pay continues with that payment.
	ErrUndecided = errors.New("payment is undecided")
	// ErrDead means that a payment was not executed and never will be.
	ErrDead = errors.New("payment is dead")
	// ErrFailed means that a payment was executed and failed: only its gas was
	// charged.
	ErrFailed = errors.New("payment failed")
)

// Rebased pays from one key through one node of today's IOTA network. Fill in
// the fields and call Pay.
//
// The outcome of a payment is looked up by its digest and never read from an
// error. The signed bytes are in a journal before they are sent. Until the ledger
// shows the transaction, or cannot execute it any more, this process and later
// ones send these bytes again and build no other payment.
type Rebased struct {
	// Node is the URL of a GraphQL service.
	Node string

	// KeyFile holds the key; see ReadKey. KeyFile + ".journal" is the journal, and
	// KeyFile + ".lock" the lock that lets one process pay at a time.
	KeyFile string

	// Chain is the chain identifier that the node must have; empty if any will do.
	Chain string

	// Timeout bounds each request to the node; 30 s if zero. The node answers an
	// execution once it is final.
	Timeout time.Duration

	// Client makes the requests; may be nil.
	Client *http.Client
}

// Transfer identifies a payment that was sent.
type Transfer struct {
	Digest  string // of the transaction
	To      string
	Amount  int64 // nanos
	Resumed bool  // an earlier call had sent it
}

// Pay sends an amount of nanos to an address, with a memo unless that is empty.
// When it returns nil, the ledger has executed the payment finally, although a
// checkpoint may not include it yet: see Wait. Call Done once the result is safe
// with the caller.
//
// If an earlier call, in this process or another, left a payment in the journal,
// Pay first finds out its outcome. If that payment was executed and has the same
// address, amount and memo, Pay returns it with Resumed set and pays nothing.
//
// An error that wraps ErrUndecided comes with the transfer in question. After any
// other error nothing was paid.
func (w *Rebased) Pay(ctx context.Context, to string, amount int64, memo string) (Transfer, error) {
	key, err := ReadKey(w.KeyFile)
	if err != nil {
		return Transfer{}, err
	}
	recipient, err := txn.ParseAddress(to)
	switch {
	case err != nil:
		return Transfer{}, err
	case recipient == key.Address():
		return Transfer{}, fmt.Errorf("address %s: it is the payer's own", to)
	case amount <= 0:
		return Transfer{}, fmt.Errorf("amount %d: want at least 1 nano", amount)
	case len(memo) > maxMessage:
		return Transfer{}, fmt.Errorf("memo: %d bytes, want at most %d", len(memo), maxMessage)
	}
	to = recipient.String()
	node, err := w.connect()
	if err != nil {
		return Transfer{}, err
	}
	unlock, err := w.lock(ctx)
	if err != nil {
		return Transfer{}, err
	}
	defer unlock()

	left, err := readJournal(w.journal())
	if err != nil {
		return Transfer{}, err
	}
	if left != nil {
		err := w.settle(ctx, node, left, true)
		switch {
		case err != nil && !errors.Is(err, ErrDead) && !errors.Is(err, ErrFailed):
			t := left.transfer()
			t.Resumed = true
			return t, fmt.Errorf("an earlier payment of %s to %s: %w", currency.Format(left.Amount), left.To, err)
		case err == nil && left.same(to, amount, memo):
			t := left.transfer()
			t.Resumed = true
			return t, nil
		}
		if err := clearJournal(w.journal()); err != nil {
			return Transfer{}, err
		}
	}

	var e *entry
	for attempt := range prepareTries {
		// Right after a payment the lists may still show the coins of before.
		e, err = w.prepare(ctx, node, key, recipient, amount, memo)
		if err == nil || errors.Is(err, ErrInsufficient) || attempt == prepareTries-1 || pause(ctx, prepareEvery) != nil {
			break
		}
	}
	if err != nil {
		return Transfer{}, err
	}
	if err := writeJournal(w.journal(), e); err != nil {
		return Transfer{}, err
	}
	if err := w.settle(ctx, node, e, false); err != nil {
		if errors.Is(err, ErrDead) || errors.Is(err, ErrFailed) {
			return Transfer{}, errors.Join(err, clearJournal(w.journal()))
		}
		return e.transfer(), err
	}
	return e.transfer(), nil
}

// Done removes a transfer that Pay returned from the journal. From then on, the
// same arguments to Pay make another payment.
func (w *Rebased) Done(ctx context.Context, t Transfer) error {
	unlock, err := w.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	e, err := readJournal(w.journal())
	if err != nil || e == nil || e.Digest != t.Digest {
		return err
	}
	return clearJournal(w.journal())
}

// Wait returns once a checkpoint includes the transfer. A node that fails
// meanwhile is asked again, until ctx ends.
func (w *Rebased) Wait(ctx context.Context, t Transfer) error {
	node, err := w.connect()
	if err != nil {
		return err
	}
	for {
		state, err := look(ctx, node, w.Chain, t.Digest)
		if err == nil && state.known && state.checkpoint {
			return nil
		}
		if pauseErr := pause(ctx, waitPoll); pauseErr != nil {
			if err != nil && !errors.Is(err, pauseErr) {
				return fmt.Errorf("wait for transaction %s: %w (%s: %s)", t.Digest, pauseErr, node.Name(), err)
			}
			return fmt.Errorf("wait for transaction %s: %w", t.Digest, pauseErr)
		}
	}
}

// Balance returns what the key's address holds, in nanos.
func (w *Rebased) Balance(ctx context.Context) (int64, error) {
	key, err := ReadKey(w.KeyFile)
	if err != nil {
		return 0, err
	}
	node, err := w.connect()
	if err != nil {
		return 0, err
	}
	var a struct {
		ChainIdentifier string
		Address         *struct {
			Balance *struct{ TotalBalance *string }
		}
	}
	answer, err := node.Do(ctx, balanceDocument, map[string]any{"a": key.Address().String()}, &a)
	if err == nil {
		err = checkChain(a.ChainIdentifier, w.Chain)
	}
	if err == nil && len(answer.Errors) > 0 {
		err = answer.Errors
	}
	if err != nil {
		return 0, fmt.Errorf("read balance at %s: %w", node.Name(), err)
	}
	if a.Address == nil || a.Address.Balance == nil || a.Address.Balance.TotalBalance == nil {
		return 0, nil
	}
	amount, err := parseNanos(*a.Address.Balance.TotalBalance)
	if err != nil {
		return 0, fmt.Errorf("read balance at %s: %w", node.Name(), err)
	}
	return amount, nil
}

func (w *Rebased) journal() string { return w.KeyFile + ".journal" }

// lock lets one process pay at a time; others wait.
func (w *Rebased) lock(ctx context.Context) (unlock func(), err error) {
	path := w.KeyFile + ".lock"
	f := flock.New(path, flock.SetPermissions(0o600))
	if ok, err := f.TryLockContext(ctx, lockPoll); err != nil || !ok {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("lock %s: another process pays with this key: %w", path, ctx.Err())
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Unlock() }, nil
}

func (w *Rebased) connect() (*graphql.Client, error) {
	return graphql.New(w.Node, w.Client, cmp.Or(w.Timeout, defaultTimeout), maxBody)
}

// errChain means that a node is on another chain than the one asked for.
var errChain = errors.New("node is on another chain")

// checkChain compares the chain that a node is on with the one wanted, if any.
func checkChain(chain, want string) error {
	if want != "" && chain != want {
		return fmt.Errorf("%w: %.40q, want %q", errChain, chain, want)
	}
	return nil
}

// The documents that a wallet sends.
const (
	balanceDocument = `query Balance($a:IotaAddress!){chainIdentifier address(address:$a){balance(type:"0x2::iota::IOTA"){totalBalance}}}`

	coinsDocument = `query Coins($a:IotaAddress!,$after:String){chainIdentifier epoch{epochId referenceGasPrice}
address(address:$a){coins(first:50,after:$after,type:"0x2::iota::IOTA"){pageInfo{hasNextPage endCursor}nodes{coinBalance address version digest}}}}`

	dryRunDocument = `query DryRun($tx:String!){dryRunTransactionBlock(txBytes:$tx){error
transaction{effects{status errors gasEffects{gasSummary{computationCost storageCost storageRebate}}}}}}`

	executeDocument = `mutation Execute($tx:String!,$signatures:[String!]!){executeTransactionBlock(txBytes:$tx,signatures:$signatures){errors
effects{status errors transactionBlock{digest}}}}`

	lookDocument = `query Look($d:String!){chainIdentifier transactionBlock(digest:$d){digest effects{status errors checkpoint{sequenceNumber}}}}`

	deadDocument = `query Dead($d:String!,$coin:IotaAddress!){chainIdentifier epoch{epochId}
transactionBlock(digest:$d){digest} object(address:$coin){version}}`
)

// coin is one that can pay.
type coin struct {
	ref     txn.ObjectRef
	balance int64
}

// purse is what there is to pay with.
type purse struct {
	chain string
	epoch uint64
	price uint64
	coins []coin // the greatest first
	total int64  // of coins
}

// insufficient is the ErrInsufficient of today's network.
type insufficient struct {
	purse
	amount, gas int64
}

// Error names what there is and what is wanted.
func (e *insufficient) Error() string {
	where := ""
	if len(e.coins) == maxCoins {
		where = fmt.Sprintf(" in the %d largest coins", maxCoins)
	}
	return fmt.Sprintf("not enough funds: %s%s, want %s and %s for gas",
		currency.Format(e.total), where, currency.Format(e.amount), currency.Format(e.gas))
}

// Is reports whether target is ErrInsufficient.
func (e *insufficient) Is(target error) bool { return target == ErrInsufficient }

// prepare builds and signs a payment.
func (w *Rebased) prepare(ctx context.Context, node *graphql.Client, key txn.Key, to txn.Address, amount int64, memo string) (*entry, error) {
	f, err := w.open(ctx, node, key.Address(), amount)
	if err != nil {
		return nil, fmt.Errorf("look for coins at %s: %w", node.Name(), err)
	}
	if f.total-minBudget < amount {
		return nil, &insufficient{f, amount, minBudget}
	}
	t := txn.Transaction{
		Inputs: []txn.Input{txn.PureU64(uint64(amount)), txn.PureAddress(to)},
		Commands: []txn.Command{
			txn.SplitCoins{Coin: txn.GasCoin, Amounts: []txn.Argument{txn.InputAt(0)}},
			txn.TransferObjects{Objects: []txn.Argument{txn.NestedResult(0, 0)}, To: txn.InputAt(1)},
		},
		Sender:     key.Address(),
		Gas:        txn.Gas{Owner: key.Address(), Price: f.price, Budget: uint64(min(f.total-amount, maxBudget))},
		Expiration: txn.Until(f.epoch + 1),
	}
	if memo != "" {
		t.Inputs = append(t.Inputs, txn.PureString(memo))
	}
	for _, c := range f.coins {
		t.Gas.Coins = append(t.Gas.Coins, c.ref)
	}
	gas, err := dryRun(ctx, node, t.Encode())
	if err != nil {
		return nil, fmt.Errorf("dry run at %s: %w", node.Name(), err)
	}
	budget := max(gas+gas/2, minBudget)
	if budget > maxBudget {
		return nil, fmt.Errorf("dry run at %s: gas of %s, want at most %s", node.Name(), currency.Format(gas), currency.Format(maxBudget*2/3))
	}
	t.Gas.Budget = uint64(budget)
	if f.total-amount < int64(t.Gas.Budget) {
		return nil, &insufficient{f, amount, budget}
	}
	b := t.Encode()
	return &entry{
		Chain: f.chain, To: to.String(), Amount: amount, Memo: memo,
		Digest: txn.DigestOf(b).String(), TxBytes: b, Signature: key.Sign(b),
		Coin: f.coins[0].ref.ID.String(), Version: f.coins[0].ref.Version, LastEpoch: t.Expiration.Epoch,
	}, nil
}

// open reads coins until they suffice for the amount, or there are no more. It
// keeps the greatest 255.
func (w *Rebased) open(ctx context.Context, node *graphql.Client, owner txn.Address, amount int64) (purse, error) {
	var f purse
	variables := map[string]any{"a": owner.String()}
	for range maxPages {
		var a struct {
			ChainIdentifier string
			Epoch           *struct {
				EpochID           uint64 `json:"epochId"`
				ReferenceGasPrice *string
			}
			Address *struct {
				Coins struct {
					PageInfo struct {
						HasNextPage bool
						EndCursor   *string
					}
					Nodes []struct {
						CoinBalance *string
						Address     string
						Version     uint64
						Digest      *string
					}
				}
			}
		}
		answer, err := node.Do(ctx, coinsDocument, variables, &a)
		switch {
		case err != nil:
			return purse{}, err
		case len(answer.Errors) > 0:
			return purse{}, answer.Errors
		case a.Epoch == nil || a.Epoch.ReferenceGasPrice == nil:
			return purse{}, fmt.Errorf("%w: no gas price", graphql.ErrAnswer)
		}
		if err := checkChain(a.ChainIdentifier, w.Chain); err != nil {
			return purse{}, err
		}
		f.chain, f.epoch = a.ChainIdentifier, a.Epoch.EpochID
		if f.price, err = strconv.ParseUint(*a.Epoch.ReferenceGasPrice, 10, 64); err != nil || f.price > maxPrice {
			return purse{}, fmt.Errorf("%w: gas price %.40q", graphql.ErrAnswer, *a.Epoch.ReferenceGasPrice)
		}
		if a.Address == nil {
			return f, nil
		}
		for _, n := range a.Address.Coins.Nodes {
			if n.CoinBalance == nil || n.Digest == nil {
				return purse{}, fmt.Errorf("%w: a coin without balance or digest", graphql.ErrAnswer)
			}
			var c coin
			if c.balance, err = parseNanos(*n.CoinBalance); err != nil {
				return purse{}, err
			}
			if c.ref.ID, err = txn.ParseAddress(n.Address); err != nil {
				return purse{}, fmt.Errorf("%w: coin: %w", graphql.ErrAnswer, err)
			}
			if c.ref.Digest, err = txn.ParseDigest(*n.Digest); err != nil {
				return purse{}, fmt.Errorf("%w: coin: %w", graphql.ErrAnswer, err)
			}
			c.ref.Version = n.Version
			if !slices.ContainsFunc(f.coins, func(o coin) bool { return o.ref.ID == c.ref.ID }) {
				f.coins = append(f.coins, c)
			}
		}
		slices.SortStableFunc(f.coins, func(a, b coin) int { return cmp.Compare(b.balance, a.balance) })
		f.coins = f.coins[:min(len(f.coins), maxCoins)]
		sum := new(big.Int)
		for _, c := range f.coins {
			sum.Add(sum, big.NewInt(c.balance))
		}
		if !sum.IsInt64() {
			return purse{}, fmt.Errorf("%w: coins of %s nanos", graphql.ErrAnswer, sum)
		}
		f.total = sum.Int64()
		page := a.Address.Coins.PageInfo
		if f.total-10*minBudget >= amount || !page.HasNextPage || page.EndCursor == nil {
			return f, nil
		}
		variables["after"] = *page.EndCursor
	}
	return f, nil
}

// dryRun returns the gas that a transaction would cost, in nanos.
func dryRun(ctx context.Context, node *graphql.Client, tx []byte) (int64, error) {
	var a struct {
		DryRunTransactionBlock struct {
			Error       *string
			Transaction *struct {
				Effects *struct {
					Status     *string
					Errors     *string
					GasEffects *struct {
						GasSummary *struct{ ComputationCost, StorageCost, StorageRebate *string }
					}
				}
			}
		}
	}
	answer, err := node.Do(ctx, dryRunDocument, map[string]any{"tx": base64.StdEncoding.EncodeToString(tx)}, &a)
	r := a.DryRunTransactionBlock
	switch {
	case err != nil:
		return 0, err
	case r.Error != nil:
		return 0, fmt.Errorf("refused: %.300q", *r.Error)
	case len(answer.Errors) > 0:
		return 0, answer.Errors
	case r.Transaction == nil || r.Transaction.Effects == nil || r.Transaction.Effects.Status == nil:
		return 0, fmt.Errorf("%w: no effects", graphql.ErrAnswer)
	}
	e := r.Transaction.Effects
	if *e.Status != "SUCCESS" {
		return 0, fmt.Errorf("%w: %.300q", ErrFailed, text(e.Errors))
	}
	if e.GasEffects == nil || e.GasEffects.GasSummary == nil {
		return 0, fmt.Errorf("%w: no gas", graphql.ErrAnswer)
	}
	var costs [3]int64
	for i, c := range []*string{e.GasEffects.GasSummary.ComputationCost, e.GasEffects.GasSummary.StorageCost, e.GasEffects.GasSummary.StorageRebate} {
		if c == nil {
			return 0, fmt.Errorf("%w: no gas", graphql.ErrAnswer)
		}
		if costs[i], err = parseNanos(*c); err != nil || costs[i] > math.MaxInt64/8 {
			return 0, fmt.Errorf("%w: gas of %.40q", graphql.ErrAnswer, *c)
		}
	}
	// A rebate that exceeds the storage comes afterwards: the budget must cover
	// the computation.
	return costs[0] + max(0, costs[1]-costs[2]), nil
}

// settle sends the bytes of a payment until its outcome is known. left says that
// an earlier call left the payment. It returns nil if the payment was executed
// with success; otherwise an error that wraps ErrFailed, ErrDead or ErrUndecided.
func (w *Rebased) settle(ctx context.Context, node *graphql.Client, e *entry, left bool) error {
	if e.Executed {
		return nil
	}
	undecided := func(cause error) error {
		return fmt.Errorf("%w: transaction %s may have been executed: %w", ErrUndecided, e.Digest, cause)
	}
	if left {
		// The node may be on another network than the one that it was sent to.
		if _, err := look(ctx, node, e.Chain, e.Digest); errors.Is(err, errChain) {
			return undecided(err)
		}
	}
	end := time.Now().Add(resendFor)
	for {
		state, sendErr := send(ctx, node, e)
		if !state.known {
			looked, err := look(ctx, node, e.Chain, e.Digest)
			if err != nil {
				sendErr = errors.Join(sendErr, err)
			}
			state = looked
		}
		switch {
		case state.known && state.success:
			e.Executed = true
			if err := writeJournal(w.journal(), e); err != nil {
				return undecided(err) // the next process finds out once more
			}
			return nil
		case state.known:
			return fmt.Errorf("%w: transaction %s: %.300q", ErrFailed, e.Digest, state.reason)
		}
		if ctx.Err() != nil {
			return undecided(ctx.Err())
		}
		if isDead, why := dead(ctx, node, e); isDead {
			return why
		}
		if !time.Now().Before(end) {
			return undecided(sendErr)
		}
		if err := pause(ctx, resendEvery); err != nil {
			return undecided(errors.Join(sendErr, err))
		}
	}
}

// outcome is what the ledger shows of a transaction.
type outcome struct {
	known      bool // it was executed
	success    bool
	reason     string // of a failure
	checkpoint bool   // one includes it
}

// send asks the node to execute a transaction. The outcome is known only if the
// answer holds the effects of this very digest. The error is for people.
func send(ctx context.Context, node *graphql.Client, e *entry) (outcome, error) {
	var a struct {
		ExecuteTransactionBlock *struct {
			Errors  []string
			Effects *struct {
				Status           *string
				Errors           *string
				TransactionBlock *struct{ Digest *string }
			}
		}
	}
	variables := map[string]any{"tx": base64.StdEncoding.EncodeToString(e.TxBytes), "signatures": []string{e.Signature}}
	answer, err := node.Do(ctx, executeDocument, variables, &a)
	r := a.ExecuteTransactionBlock
	switch {
	case err != nil:
		return outcome{}, fmt.Errorf("send to %s: %w", node.Name(), err)
	case r == nil || r.Effects == nil || r.Effects.Status == nil:
		return outcome{}, fmt.Errorf("send to %s: %w", node.Name(), incomplete(answer))
	case r.Effects.TransactionBlock == nil || text(r.Effects.TransactionBlock.Digest) != e.Digest:
		return outcome{}, fmt.Errorf("send to %s: %w: effects of another transaction", node.Name(), graphql.ErrAnswer)
	}
	o, err := decide(*r.Effects.Status, r.Effects.Errors)
	if err != nil {
		return outcome{}, fmt.Errorf("send to %s: %w", node.Name(), err)
	}
	return o, nil
}

// decide reads the status of effects.
func decide(status string, reason *string) (outcome, error) {
	if status != "SUCCESS" && status != "FAILURE" {
		return outcome{}, fmt.Errorf("%w: status %.40q", graphql.ErrAnswer, status)
	}
	return outcome{known: true, success: status == "SUCCESS", reason: text(reason)}, nil
}

// look asks what the ledger shows of a transaction. A node on another chain than
// the one wanted, if any, is an error.
func look(ctx context.Context, node *graphql.Client, chain, digest string) (outcome, error) {
	var a struct {
		ChainIdentifier  string
		TransactionBlock *struct {
			Digest  *string
			Effects *struct {
				Status     *string
				Errors     *string
				Checkpoint *struct{ SequenceNumber int64 }
			}
		}
	}
	answer, err := node.Do(ctx, lookDocument, map[string]any{"d": digest}, &a)
	if err == nil {
		err = checkChain(a.ChainIdentifier, chain)
	}
	t := a.TransactionBlock
	switch {
	case err != nil:
		return outcome{}, fmt.Errorf("look up %s at %s: %w", digest, node.Name(), err)
	case t == nil && len(answer.Errors) == 0:
		return outcome{}, nil
	case t == nil || text(t.Digest) != digest || t.Effects == nil || t.Effects.Status == nil:
		return outcome{}, fmt.Errorf("look up %s at %s: %w", digest, node.Name(), incomplete(answer))
	}
	o, err := decide(*t.Effects.Status, t.Effects.Errors)
	if err != nil {
		return outcome{}, fmt.Errorf("look up %s at %s: %w", digest, node.Name(), err)
	}
	o.checkpoint = t.Effects.Checkpoint != nil
	return o, nil
}

// dead reports whether a transaction that the ledger does not show cannot be
// executed any more: its last epoch is over, or another transaction used its coin.
// It looks twice, half a minute apart, before it says so, with the reason.
func dead(ctx context.Context, node *graphql.Client, e *entry) (isDead bool, reason error) {
	why := ""
	for attempt := range 2 {
		var a struct {
			ChainIdentifier string
			Epoch           *struct {
				EpochID uint64 `json:"epochId"`
			}
			TransactionBlock *struct{ Digest *string }
			Object           *struct{ Version uint64 }
		}
		answer, err := node.Do(ctx, deadDocument, map[string]any{"d": e.Digest, "coin": e.Coin}, &a)
		// Versions and epochs of another chain say nothing.
		if err != nil || len(answer.Errors) > 0 || a.TransactionBlock != nil || a.ChainIdentifier != e.Chain {
			return false, nil
		}
		switch {
		case a.Epoch != nil && a.Epoch.EpochID > e.LastEpoch:
			why = fmt.Sprintf("epoch %d is over", e.LastEpoch)
		case a.Object != nil && a.Object.Version > e.Version:
			why = fmt.Sprintf("coin %s was used by another transaction", e.Coin)
		default:
			return false, nil
		}
		if attempt == 0 && pause(ctx, deadAfter) != nil {
			return false, nil
		}
	}
	return true, fmt.Errorf("%w: transaction %s: %s", ErrDead, e.Digest, why)
}

// pause waits, or returns why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// incomplete says why an answer lacks something.
func incomplete(a graphql.Answer) error {
	if len(a.Errors) > 0 {
		return a.Errors
	}
	return fmt.Errorf("%w: something is missing from it", graphql.ErrAnswer)
}

// parseNanos reads an amount that is not negative.
func parseNanos(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: amount %.40q", graphql.ErrAnswer, s)
	}
	return n, nil
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
