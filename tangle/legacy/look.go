package legacy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/trinary"
	"github.com/iotoll/iotoll/tangle"
	"github.com/sirupsen/logrus"
)

// poll reads from one node what is new. whole are the addresses that were looked
// at and of which everything was found that the node has. Payments that come with
// an error are good.
func (l *Ledger) poll(ctx context.Context, n *node, sweep bool) (payments []tangle.Payment, whole []*deposit, err error) {
	balances, index, err := n.getBalances(ctx, l.hashes)
	if err != nil {
		return nil, nil, err
	}
	l.mu.Lock()
	n.advance(index, time.Now())
	// A node, or one of several behind a name, that has fallen behind says
	// nothing about the present.
	behind := index < n.index
	l.mu.Unlock()
	now := time.Now()
	var look []*deposit
	for i, d := range l.deposits {
		moved := d.balance != balances[i]
		if behind {
			moved = false
		} else {
			d.balance = balances[i]
		}
		if sweep || !d.settled() && (moved || !now.Before(l.lookAt)) {
			look = append(look, d)
		}
	}
	if len(look) == 0 {
		return nil, nil, nil
	}
	for _, d := range look {
		found, all, err := l.look(ctx, n, d, index)
		payments = append(payments, found...)
		if err != nil {
			return payments, nil, err
		}
		if all {
			whole = append(whole, d)
		}
	}
	// Only if no milestone came in between do balances and payments belong together.
	after, indexAfter, err := n.getBalances(ctx, l.hashes)
	if err != nil {
		return payments, nil, err
	}
	if same := indexAfter == index && slices.Equal(after, balances); same && !behind {
		l.compare(look)
	}
	l.pace()
	if sweep && !now.Before(l.spentAt) {
		l.warnSpent(ctx, n)
	}
	return payments, whole, nil
}

// explained tells whether the balance is what the bundles found add up to.
func (d *deposit) explained() bool { return d.balance == d.accounted+d.offset }

// settled tells whether nothing calls for a look at the address.
func (d *deposit) settled() bool { return d.based && d.explained() }

// pace makes the looks rarer that a difference calls for.
func (l *Ledger) pace() {
	for _, d := range l.deposits {
		if !d.settled() {
			in := maxAttempts
			if l.looks < 8 {
				in = min(in, 250*time.Millisecond<<l.looks)
			}
			l.looks++
			l.lookAt = time.Now().Add(in)
			return
		}
	}
	l.looks, l.lookAt = 0, time.Time{}
}

// compare looks for money that came without a transaction to show for it.
func (l *Ledger) compare(look []*deposit) {
	now := time.Now()
	for _, d := range look {
		switch {
		case !d.based && d.tracked:
			// What the node has forgotten is not missing.
			d.based, d.offset, d.apart = true, d.balance-d.accounted, time.Time{}
			if d.offset != 0 {
				l.log(d).WithFields(logrus.Fields{"balance": d.balance, "found": d.accounted}).
					Info("part of the balance is older than what the nodes still have")
			}
			continue
		case !d.based && !d.doubted:
			continue
		case d.based && d.explained():
			if !d.reminded.IsZero() {
				l.log(d).WithField("balance", d.balance).Info("balance and payments agree again")
			}
			d.apart, d.reminded = time.Time{}, time.Time{}
			continue
		}
		if d.apart.IsZero() {
			d.apart = now
		}
		if now.Sub(d.apart) < patience || now.Sub(d.reminded) < remindEvery {
			continue
		}
		d.reminded = now
		fields := logrus.Fields{
			"balance": d.balance, "explained": d.accounted + d.offset,
			"missing": d.balance - d.accounted - d.offset, "cut": d.cut,
		}
		if d.based && d.balance < d.accounted+d.offset {
			l.log(d).WithFields(fields).Warn("balance is lower than payments say, was the address spent from elsewhere?")
			continue
		}
		if d.doubted {
			l.log(d).WithFields(fields).WithField("agree", l.cfg.Agree).Warn("payments wait until enough nodes call them confirmed")
			continue
		}
		l.log(d).WithFields(fields).Warn("money came that no transaction explains, payments may be hidden: let nodes allow getLedgerDiffExt or change the deposit address")
	}
}

func (l *Ledger) log(d *deposit) logrus.FieldLogger {
	return l.cfg.Log.WithField("address", d.address)
}

// look finds the confirmed bundles that touch one address and were not dealt
// with. What is unconfirmed costs its hash in two requests, and is forgotten.
func (l *Ledger) look(ctx context.Context, n *node, d *deposit, index int64) (payments []tangle.Payment, whole bool, err error) {
	hashes, err := n.findValue(ctx, d.hash)
	if err != nil {
		return nil, false, err
	}
	cut := len(hashes) >= maxHashes
	l.warnCut(d, len(hashes))
	again := d.reopen()
	d.doubted = false
	open := hashes[:0:0]
	for _, h := range hashes {
		if again || !d.done[h] {
			open = append(open, h)
		}
	}
	d.watch(open, l.cfg.Now())
	states, err := n.included(ctx, open)
	if err != nil {
		return nil, false, err
	}
	var included []trinary.Hash
	for _, h := range open {
		if states[h] {
			included = append(included, h)
		}
	}
	d.tracked = true
	if !cut {
		d.gap = false
	} else {
		var beyond []trinary.Hash
		if beyond, d.tracked, err = l.beyond(ctx, n, d, index); err != nil {
			return nil, false, err
		}
		for _, h := range beyond {
			if !slices.Contains(included, h) {
				included = append(included, h)
			}
		}
	}
	d.cut = cut && (d.gap || !d.tracked)
	whole = !d.cut
	// In portions: what is done stays done when time runs out.
	known := make(map[trinary.Hash]*tx)
	for len(included) > 0 {
		portion := included[:min(len(included), 50)]
		included = included[len(portion):]
		portion = slices.DeleteFunc(portion, func(h trinary.Hash) bool { return d.done[h] && !again })
		if len(portion) == 0 { // dealt with beside others of the same bundle
			continue
		}
		if len(known) > 2*maxHashes {
			clear(known)
		}
		found, all, err := l.resolve(ctx, n, d, portion, known, index)
		payments = append(payments, found...)
		if err != nil {
			return payments, false, err
		}
		whole = whole && all
		d.tracked = d.tracked && all
	}
	if d.tracked {
		d.covered = index
	}
	d.forget(hashes)
	return payments, whole, nil
}

// reopen tells whether to look also at what was dealt with, seldom and only if
// the balance says that something was missed: two attachments can share all
// transactions but their tails, and the second be confirmed later.
func (d *deposit) reopen() bool {
	now := time.Now()
	if d.apart.IsZero() || now.Sub(d.apart) < patience || now.Sub(d.reopened) < remindEvery {
		return false
	}
	d.reopened = now
	return true
}

// watch remembers when transactions that are still open were seen first.
func (d *deposit) watch(open []trinary.Hash, now time.Time) {
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

// forget keeps the memory of what was dealt with bounded. What is forgotten and
// turns up again is read again, and the store knows it.
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
	d.done, d.based = done, false
	d.accounted = 0
}

// resolve turns transactions that are included and touch an address into
// payments. whole is false if one of them could not be read. known are
// transactions that were read before.
func (l *Ledger) resolve(ctx context.Context, n *node, d *deposit, included []trinary.Hash, known map[trinary.Hash]*tx, index int64) (payments []tangle.Payment, whole bool, err error) {
	if err := l.fetch(ctx, n, included, known); err != nil {
		return nil, false, err
	}
	var bundles []trinary.Hash
	size := make(map[trinary.Hash]int)
	for _, h := range included {
		t := known[h]
		if t == nil {
			continue
		}
		if t.Address != d.hash {
			return nil, false, fmt.Errorf("findTransactions: %w: transaction %s has another address than asked for", ErrAnswer, h)
		}
		if t.Value == 0 { // of no interest, from a node that does not know valueOnly
			d.done[h] = true
			continue
		}
		if size[t.Bundle] == 0 {
			bundles = append(bundles, t.Bundle)
		}
		size[t.Bundle] = int(min(t.LastIndex, maxBundleLen)) + 1
	}
	for len(bundles) > 0 {
		// Several bundles in one request, unless their answer might be cut.
		count, sum := 1, size[bundles[0]]
		for count < len(bundles) && sum+size[bundles[count]] <= maxHashes/4 {
			sum += size[bundles[count]]
			count++
		}
		some := bundles[:count]
		bundles = bundles[count:]
		if err := l.gather(ctx, n, some, known); err != nil {
			return payments, false, err
		}
		for _, b := range some {
			found, err := l.settle(ctx, n, d, b, known, index)
			payments = append(payments, found...)
			if err != nil {
				return payments, false, err
			}
		}
	}
	whole = true
	for _, h := range included {
		whole = whole && d.done[h]
	}
	return payments, whole, nil
}

// fetch adds transactions to known that are not there yet.
func (l *Ledger) fetch(ctx context.Context, n *node, hashes []trinary.Hash, known map[trinary.Hash]*tx) error {
	var missing []trinary.Hash
	for _, h := range hashes {
		if known[h] == nil {
			missing = append(missing, h)
		}
	}
	more, err := n.getTrytes(ctx, missing)
	if err != nil {
		return err
	}
	maps.Copy(known, more)
	return nil
}

// gather adds to known the transactions of all attachments of some bundles.
func (l *Ledger) gather(ctx context.Context, n *node, bundles []trinary.Hash, known map[trinary.Hash]*tx) error {
	hashes, err := n.findBundles(ctx, bundles)
	if err != nil {
		return err
	}
	if len(hashes) >= maxHashes && len(bundles) > 1 {
		for _, b := range bundles {
			if err := l.gather(ctx, n, []trinary.Hash{b}, known); err != nil {
				return err
			}
		}
		return nil
	}
	for rounds := 0; len(hashes) > 0 && rounds < maxBundleLen/4; rounds++ {
		before := len(known)
		if err := l.fetch(ctx, n, hashes, known); err != nil {
			return err
		}
		if rounds > 0 && len(known) == before {
			return nil
		}
		// An answer that was cut may lack the middle of an attachment.
		hashes = nil
		for _, t := range known {
			if slices.Contains(bundles, t.Bundle) && t.CurrentIndex < t.LastIndex && t.CurrentIndex < maxBundleLen && known[t.TrunkTransaction] == nil {
				hashes = append(hashes, t.TrunkTransaction)
			}
		}
	}
	return nil
}

// attachment is one way in which a bundle was attached.
type attachment struct {
	bundle  bundle.Bundle
	effects map[trinary.Hash]*effect
	own     bool
}

// settle deals with all attachments of one bundle.
func (l *Ledger) settle(ctx context.Context, n *node, d *deposit, hash trinary.Hash, known map[trinary.Hash]*tx, index int64) ([]tangle.Payment, error) {
	var all []attachment
	var tails []trinary.Hash
	for _, t := range known {
		if t.Bundle != hash || t.CurrentIndex != 0 {
			continue
		}
		b, err := assemble(t, known)
		if err != nil {
			if !errors.Is(err, errIncomplete) {
				l.log(d).WithError(err).WithFields(logrus.Fields{"node": n.name, "tail": t.Hash}).Debug("attachment is broken")
			}
			continue
		}
		effects, own := effects(b, l.ours)
		all = append(all, attachment{b, effects, own})
		if !d.done[t.Hash] {
			tails = append(tails, t.Hash)
		}
	}
	states, err := n.included(ctx, tails)
	if err != nil {
		return nil, err
	}
	confirmed := slices.DeleteFunc(tails, func(t trinary.Hash) bool { return !states[t] })
	agreed := l.agree(ctx, n, confirmed)
	for _, t := range confirmed {
		d.doubted = d.doubted || !agreed[t]
	}
	slices.SortFunc(all, func(a, b attachment) int { // the same order whatever the node's
		if a.bundle[0].Hash < b.bundle[0].Hash {
			return -1
		}
		return 1
	})
	var payments []tangle.Payment
	for _, a := range all {
		tail := a.bundle[0].Hash
		if !agreed[tail] {
			continue
		}
		e := a.effects[d.hash]
		if e == nil {
			continue
		}
		// Signatures are checked last and once: of an attachment that is said to
		// be included and was not dealt with. One that is not valid is left out
		// for good, and holds up no other: IRI's rules are not quite iota.go's.
		err := valid(a.bundle)
		switch {
		case err != nil:
			l.log(d).WithError(err).WithFields(logrus.Fields{"node": n.name, "tail": tail, "iotas": e.outputs}).
				Warn("node calls a bundle included that is not valid, it is no payment")
		case a.own:
			l.log(d).WithFields(logrus.Fields{"tail": tail, "net": e.net}).Info("bundle spends from a deposit address and is no payment")
		case e.outputs > 0:
			payments = append(payments, l.payment(d, a, e, all, index))
		}
		if err == nil {
			d.accounted += e.net
		}
		d.done[tail] = true
		for i := range a.bundle {
			if t := &a.bundle[i]; t.Address == d.hash && t.Value != 0 {
				d.done[t.Hash] = true
			}
		}
	}
	return payments, nil
}

// payment describes what one confirmed attachment pays to one address.
func (l *Ledger) payment(d *deposit, a attachment, e *effect, all []attachment, index int64) tangle.Payment {
	messages := make([][]byte, 0, len(all))
	for _, other := range all {
		if o := other.effects[d.hash]; o != nil {
			messages = append(messages, o.message)
		}
	}
	now := l.cfg.Now()
	p := tangle.Payment{
		ID:        paymentID(a.bundle, e),
		Ledger:    l.Ledger(),
		Address:   d.address,
		Amount:    e.outputs,
		Message:   join(messages),
		Reference: a.bundle[0].Bundle,
		Position:  index,
		Claimed:   claimed(&a.bundle[0]),
		Seen:      now,
		Confirmed: now,
	}
	for i := range a.bundle {
		if at, ok := d.seen[a.bundle[i].Hash]; ok && at.Before(p.Seen) {
			p.Seen = at
		}
	}
	return p
}

// warnCut tells the seller in time that a node will not show all there is.
func (l *Ledger) warnCut(d *deposit, count int) {
	if d.nearTold || count < nearCut {
		return
	}
	d.nearTold = true
	l.log(d).WithFields(logrus.Fields{"transactions": count, "shown": maxHashes}).
		Warn("address has nearly as many transactions as a node shows, change to a new deposit address")
}

// warnSpent tells the seller of deposit addresses that were spent from: each
// further signature with such a key gives more of it away (Winternitz one-time
// signatures).
func (l *Ledger) warnSpent(ctx context.Context, n *node) {
	states, err := n.spent(ctx, l.hashes)
	if err != nil {
		return // some nodes do not know; the next question is at the next sweep
	}
	l.spentAt = time.Now().Add(spentEvery)
	for i, d := range l.deposits {
		if states[i] && !d.spentTold {
			d.spentTold = true
			l.log(d).Warn("deposit address was spent from, whoever pays to it now risks the money: change to a new deposit address")
		}
	}
}
