package rebased

import (
	"errors"
	"fmt"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// rejection is an error of validators: the transaction is not executed.
type rejection struct{ message string }

func (r *rejection) Error() string { return r.message }

func rejected(format string, args ...any) error {
	return &rejection{fmt.Sprintf(format, args...)}
}

var (
	// errTimeout says that finality was not reached in the time allowed. The transaction may
	// be executed all the same.
	errTimeout = errors.New("timed out before finality")
	// errLost closes the connection.
	errLost = errors.New("answer lost")
)

// lateBy is how many checkpoints a transaction waits that was refused and is
// executed all the same.
const lateBy = 8

// submit executes a signed transaction and returns it. The same bytes again
// return the same transaction.
func (n *Node) submit(raw []byte, signatures []string) (*transaction, error) {
	t, err := txn.Decode(raw)
	if err != nil {
		return nil, rejected("Failed to deserialize fields in transaction: %v", err)
	}
	if err := checkSignatures(t, raw, signatures); err != nil {
		return nil, err
	}
	digest := txn.DigestOf(raw)
	c := n.chain

	c.mu.Lock()
	if x := c.byDigest[digest]; x != nil {
		c.mu.Unlock()
		return x, nil
	}
	if err := c.refuse(t, raw, false); err != nil {
		c.mu.Unlock()
		return nil, err
	}
	uses := used(t)
	if err := c.conflict(uses, digest, n.splits()); err != nil {
		c.mu.Unlock()
		return nil, err
	}
	trick := n.misbehave()
	switch trick {
	case Late:
		c.later = append(c.later, late{t, raw, signatures, int64(len(c.checkpoints)) + lateBy})
		c.mu.Unlock()
		return nil, rejected("Transaction was not executed: rejected by more than 1/3 of the validators")
	case Dropped:
		l := lock{by: digest, epoch: c.epoch()}
		if c.conflicts == PCool {
			l.until = c.now().Add(softLock)
		}
		for _, v := range uses {
			c.locks[v] = l
		}
		c.mu.Unlock()
		return nil, errTimeout
	case DroppedLost:
		c.mu.Unlock()
		return nil, errLost
	case Split:
		for _, v := range uses {
			c.locks[v] = lock{by: digest, epoch: c.epoch(), dead: true}
		}
		c.mu.Unlock()
		return nil, locked(digest)
	}
	for _, v := range uses {
		c.inFlight[v] = digest
	}
	c.mu.Unlock()
	n.sleep(n.execution) // as consensus goes on, whether or not the client waits

	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range uses {
		if c.inFlight[v] == digest {
			delete(c.inFlight, v)
		}
	}
	x := c.byDigest[digest] // another client sent the same bytes meanwhile
	if x == nil {
		if err := c.refuse(t, raw, false); err != nil {
			return nil, err
		}
		if err := c.conflict(uses, digest, false); err != nil {
			return nil, err
		}
		x = c.execute(t, raw)
		c.commit(x, signatures, nil)
	}
	switch trick {
	case ExecutedError:
		return nil, locked(digest)
	case ExecutedTimeout:
		return nil, errTimeout
	case ExecutedLost:
		return nil, errLost
	}
	return x, nil
}

// checkSignatures returns nil if the sender and, if it is another, the owner of
// the gas coins signed.
func checkSignatures(t txn.Transaction, raw []byte, signatures []string) error {
	required := []txn.Address{t.Sender}
	if t.Gas.Owner != t.Sender {
		required = append(required, t.Gas.Owner)
	}
	if len(signatures) != len(required) {
		return rejected("Expect %d signer signatures but got %d", len(required), len(signatures))
	}
	by := make(map[txn.Address]bool)
	for _, s := range signatures {
		a, err := txn.Verify(raw, s)
		if err != nil {
			return rejected("Signature is not valid: %v", err)
		}
		by[a] = true
	}
	for _, a := range required {
		if !by[a] {
			return rejected("Required Signature from %s is absent", a)
		}
	}
	return nil
}

// used returns the object versions that a transaction consumes.
func used(t txn.Transaction) []version {
	var all []version
	for _, ref := range t.Gas.Coins {
		all = append(all, version{ref.ID, ref.Version})
	}
	for _, in := range t.Inputs {
		if ref, ok := in.(txn.Owned); ok {
			all = append(all, version{ref.ID, ref.Version})
		}
	}
	return all
}

func locked(by txn.Digest) error {
	return rejected("Failed to sign transaction by a quorum of validators because of locked objects. Retried a conflicting transaction Some(TransactionDigest(%s)), success: Some(false)", by)
}

// conflict returns an error if another transaction has what this one uses. If
// split is true, the validators then split between two that are under way, and
// neither will have it.
func (c *chain) conflict(uses []version, digest txn.Digest, split bool) error {
	for _, v := range uses {
		if l, ok := c.lockedBy(v); ok && (l.dead || l.by != digest) {
			return locked(l.by)
		}
	}
	for _, v := range uses {
		other, ok := c.inFlight[v]
		if !ok || other == digest {
			continue
		}
		if split && c.conflicts == Certificates {
			c.locks[v] = lock{by: other, epoch: c.epoch(), dead: true}
			return locked(other)
		}
		return rejected("Object (%s, SequenceNumber(%d)) is already locked by a different transaction: TransactionDigest(%s)", v.id, v.version, other)
	}
	return nil
}
