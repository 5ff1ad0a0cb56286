package legacy

import (
	"time"

	"github.com/iotaledger/iota.go/trinary"
	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/legacy/node"
)

const (
	patience = 5 * time.Second // that a difference between balance and payments may last before it is logged
	nearMost = 800             // transactions of an address from which on to warn of the limit of node.MaxHashes
	maxKnown = 50000           // transactions that are remembered as done
)

// deposit is what is known of one deposit address.
type deposit struct {
	address string       // as configured
	hash    trinary.Hash // without its checksum

	done map[trinary.Hash]bool      // transactions that need no further look
	seen map[trinary.Hash]time.Time // when unconfirmed ones were seen first

	complete  bool  // all of its history was found at some time
	truncated bool  // the node has more transactions than it returns, and some may be missing
	skipped   bool  // milestones before those that were read one by one may hold more
	current   bool  // everything since the skipped milestones was found
	readTo    int64 // milestone up to which everything was found
	disputed  bool  // one node calls something included, too few agree

	balance  int64
	found    int64 // Σ of what the bundles found did to the balance
	reckoned bool  // opening is known
	opening  int64 // part of the balance from transactions that the nodes no longer have

	differsSince time.Time // since when the balance is not opening + found; zero if it is
	loggedAt     time.Time // that it differs
	reopenedAt   time.Time
	warnedNear   bool
	warnedSpent  bool
}

func newDeposit(address string, hash trinary.Hash) *deposit {
	return &deposit{
		address: address, hash: hash,
		done: make(map[trinary.Hash]bool), seen: make(map[trinary.Hash]time.Time),
	}
}

// explained tells whether the balance is what the bundles found add up to.
func (d *deposit) explained() bool { return d.balance == d.opening+d.found }

// settled tells whether nothing calls for a scan of the address.
func (d *deposit) settled() bool { return d.reckoned && d.explained() }

// reopen tells whether to look again at transactions that are done, seldom and
// only if the balance says that something was missed: two attachments can share
// all transactions but their tails, and the second be confirmed later.
func (d *deposit) reopen() bool {
	now := time.Now()
	if d.differsSince.IsZero() || now.Sub(d.differsSince) < patience || now.Sub(d.reopenedAt) < remindEvery {
		return false
	}
	d.reopenedAt = now
	return true
}

// sight remembers when transactions that are not done were seen first.
func (d *deposit) sight(open []trinary.Hash, now time.Time) {
	seen := make(map[trinary.Hash]time.Time, len(open))
	for _, h := range open {
		at, ok := d.seen[h]
		if !ok {
			at = now
		}
		seen[h] = at
	}
	d.seen = seen
}

// forget bounds the memory of transactions that are done. Those that are
// forgotten and turn up again are read again; the store knows them.
func (d *deposit) forget(current []trinary.Hash) {
	if len(d.done) <= maxKnown {
		return
	}
	done := make(map[trinary.Hash]bool)
	for _, h := range current {
		if d.done[h] {
			done[h] = true
		}
	}
	d.done, d.reckoned = done, false
	d.found = 0
}

// compare looks for money that came without a transaction to show for it. The
// balance and what was found must be as of the same milestone.
func (l *Ledger) compare(d *deposit) {
	now := time.Now()
	switch {
	case !d.reckoned && d.current: // what the nodes have pruned is not missing
		d.reckoned, d.opening, d.differsSince = true, d.balance-d.found, time.Time{}
		return
	case !d.reckoned && !d.disputed:
		return
	case d.settled():
		if !d.loggedAt.IsZero() {
			l.log(d).WithField("balance", d.balance).Info("balance and payments agree again")
		}
		d.differsSince, d.loggedAt = time.Time{}, time.Time{}
		return
	}
	if d.differsSince.IsZero() {
		d.differsSince = now
	}
	if now.Sub(d.differsSince) < patience || now.Sub(d.loggedAt) < remindEvery {
		return
	}
	d.loggedAt = now
	log := l.log(d).WithFields(logrus.Fields{
		"balance": d.balance, "explained": d.opening + d.found,
		"missing": d.balance - d.opening - d.found, "truncated": d.truncated,
	})
	switch {
	case d.reckoned && d.balance < d.opening+d.found:
		log.Warn("balance is lower than payments say, was the address spent from elsewhere?")
	case d.disputed:
		log.WithField("agree", l.cfg.Agree).Warn("payments wait until enough nodes call them confirmed")
	default:
		log.Warn("money came that no transaction explains, payments may be hidden: let nodes allow getLedgerDiffExt or change the deposit address")
	}
}

// openingBalance returns, as a payment, what an address held before it was first
// read and no transaction explains, so that the book adds up to the balance.
func (l *Ledger) openingBalance(d *deposit) tangle.Payment {
	now := l.cfg.Now()
	l.log(d).WithFields(logrus.Fields{"balance": d.balance, "opening": d.opening}).
		Info("part of the balance is older than what the nodes still have")
	return tangle.Payment{
		ID: "opening/" + d.address, Ledger: l.Ledger(), Address: d.address, Amount: d.opening,
		Unreadable: "the nodes no longer have the payments that brought it", Position: d.readTo, Seen: now, Confirmed: now,
	}
}

func (l *Ledger) log(d *deposit) logrus.FieldLogger {
	return l.cfg.Log.WithField("address", d.address)
}

// warnNear warns the seller before a node returns only a part of the
// transactions.
func (l *Ledger) warnNear(d *deposit, count int) {
	if d.warnedNear || count < nearMost {
		return
	}
	d.warnedNear = true
	l.log(d).WithFields(logrus.Fields{"transactions": count, "limit": node.MaxHashes}).
		Warn("address has nearly as many transactions as a node returns, change to a new deposit address")
}
