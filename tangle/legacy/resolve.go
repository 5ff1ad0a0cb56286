package legacy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/trinary"
	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/legacy/node"
)

// maxBundle is how many transactions of one bundle are followed.
const maxBundle = 1000

// resolve turns transactions that are included and touch an address into
// payments. complete is false if one of them could not be read.
func (s *scan) resolve(ctx context.Context, d *deposit, included []trinary.Hash) (complete bool, err error) {
	if err := s.fetch(ctx, included); err != nil {
		return false, err
	}
	var bundles []trinary.Hash
	size := make(map[trinary.Hash]int)
	for _, h := range included {
		t := s.known[h]
		switch {
		case t == nil:
			continue
		case t.Address != d.hash:
			return false, fmt.Errorf("findTransactions: %w: transaction %s has another address than asked for", ErrAnswer, h)
		case t.Value == 0: // from a node that does not know valueOnly
			d.done[h] = true
			continue
		case size[t.Bundle] == 0:
			bundles = append(bundles, t.Bundle)
		}
		size[t.Bundle] = int(min(t.LastIndex, maxBundle)) + 1
	}
	for len(bundles) > 0 {
		// Several bundles in one request, unless the node might truncate its answer.
		count, sum := 1, size[bundles[0]]
		for count < len(bundles) && sum+size[bundles[count]] <= node.MaxHashes/4 {
			sum += size[bundles[count]]
			count++
		}
		some := bundles[:count]
		bundles = bundles[count:]
		if err := s.gather(ctx, some, included); err != nil {
			return false, err
		}
		for _, b := range some {
			if err := s.settle(ctx, d, b); err != nil {
				return false, err
			}
		}
	}
	return !slices.ContainsFunc(included, func(h trinary.Hash) bool { return !d.done[h] }), nil
}

// gather adds to known the transactions of all attachments of some bundles. If
// there are more than the node returns, it makes sure of the attachments that the
// included transactions belong to.
func (s *scan) gather(ctx context.Context, bundles, included []trinary.Hash) error {
	hashes, err := s.node.Find(ctx, node.Query{Bundles: bundles})
	if err != nil {
		return err
	}
	truncated := len(hashes) >= node.MaxHashes
	if truncated && len(bundles) > 1 {
		for _, b := range bundles {
			if err := s.gather(ctx, []trinary.Hash{b}, included); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s.fetch(ctx, hashes); err != nil {
		return err
	}
	if truncated {
		if err := s.followBack(ctx, bundles[0], included); err != nil {
			return err
		}
	}
	return s.followTrunks(ctx, bundles)
}

// followTrunks adds to known what the attachments of some bundles lack, from each
// transaction to the next.
func (s *scan) followTrunks(ctx context.Context, bundles []trinary.Hash) error {
	for range maxBundle / 4 {
		var next []trinary.Hash
		for _, t := range s.known {
			if slices.Contains(bundles, t.Bundle) && t.CurrentIndex < t.LastIndex && t.CurrentIndex < maxBundle && s.known[t.TrunkTransaction] == nil {
				next = append(next, t.TrunkTransaction)
			}
		}
		before := len(s.known)
		if err := s.fetch(ctx, next); err != nil {
			return err
		}
		if len(s.known) == before {
			break
		}
	}
	return nil
}

// followBack adds to known what lies between included transactions of a bundle
// and their tails. All transactions of an included attachment are included, so
// that those which only claim to precede them are not followed.
func (s *scan) followBack(ctx context.Context, hash trinary.Hash, included []trinary.Hash) error {
	preceded := make(map[trinary.Hash]bool)
	step := slices.DeleteFunc(slices.Clone(included), func(h trinary.Hash) bool {
		return s.known[h] == nil || s.known[h].Bundle != hash
	})
	for range maxBundle {
		step = slices.DeleteFunc(step, func(h trinary.Hash) bool { return s.known[h].CurrentIndex == 0 || preceded[h] })
		if len(step) == 0 {
			break
		}
		for _, h := range step {
			preceded[h] = true
		}
		approvers, err := s.node.Find(ctx, node.Query{Approvees: step})
		if err != nil {
			return err
		}
		states, err := s.node.Included(ctx, s.milestone, approvers)
		if err != nil {
			return err
		}
		approvers = slices.DeleteFunc(approvers, func(h trinary.Hash) bool { return !states[h] })
		if err := s.fetch(ctx, approvers); err != nil {
			return err
		}
		step = slices.DeleteFunc(approvers, func(h trinary.Hash) bool {
			t := s.known[h]
			return t == nil || !preceded[t.TrunkTransaction] || !follows(s.known[t.TrunkTransaction], t)
		})
	}
	return nil
}

// attachment is one way in which a bundle was attached.
type attachment struct {
	bundle  bundle.Bundle
	effects map[trinary.Hash]*effect
	own     bool // it spends from a deposit address
}

func (a attachment) tail() trinary.Hash { return a.bundle[0].Hash }

// settle turns the included attachments of one bundle that are not done into
// payments.
func (s *scan) settle(ctx context.Context, d *deposit, hash trinary.Hash) error {
	var all []attachment
	var tails []trinary.Hash
	for _, t := range s.known {
		if t.Bundle != hash || t.CurrentIndex != 0 {
			continue
		}
		b, err := assemble(t, s.known)
		if err != nil {
			if !errors.Is(err, errIncomplete) {
				s.log(d).WithError(err).WithFields(logrus.Fields{"node": s.node.Name(), "tail": t.Hash}).Debug("attachment is broken")
			}
			continue
		}
		effects, own := effects(b, s.ours)
		all = append(all, attachment{b, effects, own})
		if !d.done[t.Hash] {
			tails = append(tails, t.Hash)
		}
	}
	states, err := s.node.Included(ctx, s.milestone, tails)
	if err != nil {
		return err
	}
	confirmed := slices.DeleteFunc(tails, func(t trinary.Hash) bool { return !states[t] })
	agreed := s.agree(ctx, s.node, confirmed)
	for _, t := range confirmed {
		d.disputed = d.disputed || !agreed[t]
	}
	slices.SortFunc(all, func(a, b attachment) int { return cmp.Compare(a.tail(), b.tail()) }) // nodes have no order
	for _, a := range all {
		e := a.effects[d.hash]
		if !agreed[a.tail()] || e == nil {
			continue
		}
		log := s.log(d).WithFields(logrus.Fields{"node": s.node.Name(), "tail": a.tail()})
		// Signatures are checked last and once. An invalid attachment is left out for
		// good, and delays no other: IRI's rules are not quite iota.go's.
		err := valid(a.bundle)
		switch {
		case err != nil:
			log.WithError(err).WithField("iotas", e.outputs).Warn("node calls an invalid bundle included, it is no payment")
		case a.own:
			log.WithField("net", e.net).Info("bundle spends from a deposit address and is no payment")
		case e.outputs > 0:
			s.payments = append(s.payments, s.payment(d, a, e, all))
		}
		if err == nil {
			d.found += e.net
		}
		d.done[a.tail()] = true
		for i := range a.bundle {
			if t := &a.bundle[i]; t.Address == d.hash && t.Value != 0 {
				d.done[t.Hash] = true
			}
		}
	}
	return nil
}

// payment describes what one confirmed attachment pays to one address. all are
// the attachments of its bundle.
func (s *scan) payment(d *deposit, a attachment, e *effect, all []attachment) tangle.Payment {
	var messages []message
	for _, other := range all {
		if o := other.effects[d.hash]; o != nil {
			messages = append(messages, o.message)
		}
	}
	m := join(messages)
	now := s.cfg.Now()
	p := tangle.Payment{
		ID:         paymentID(a.bundle, e),
		Ledger:     Notation{}.Ledger(),
		Address:    d.address,
		Amount:     e.outputs,
		Message:    m.text,
		Unreadable: m.unreadable,
		Reference:  a.bundle[0].Bundle,
		Position:   s.index,
		Claimed:    claimed(&a.bundle[0]),
		Seen:       now,
		Confirmed:  now,
	}
	for i := range a.bundle {
		if at, ok := d.seen[a.bundle[i].Hash]; ok && at.Before(p.Seen) {
			p.Seen = at
		}
	}
	return p
}
