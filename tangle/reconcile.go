package tangle

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// How a Watcher compares balances with the book.
const (
	reconcileFirst = time.Minute // after the start, which has more urgent things to read
	reconcileEvery = time.Hour
	confirmAfter   = 5 * time.Second  // before a difference counts: a payment may be on its way into the book
	differsEvery   = 10 * time.Minute // while there is one
)

// reconciler compares what deposit addresses hold with what the book has received:
// a payment that was lost to pruning, or is hidden, shows nowhere else. Balances
// come first and the book afterwards, so that the book has what they include.
type reconciler struct {
	at       time.Time        // of the next comparison
	balances []Balance        // to be compared once what they include is in the book
	book     chan book        // the reading of the book that goes on; nil if none does
	suspect  map[string]int64 // the difference of the last comparison, by address
	reading  sync.WaitGroup
}

type book struct {
	received map[string]int64
	err      error
}

// Unbooked returns by how much each balance exceeds what the book has received at
// its address, in base units; addresses where it does not are left out. A balance
// may be lower, since the seller may spend it.
func Unbooked(balances []Balance, booked map[string]int64) map[string]int64 {
	more := make(map[string]int64)
	for _, b := range balances {
		if d := b.Amount - booked[b.Address]; d > 0 {
			more[b.Address] = d
		}
	}
	return more
}

// reconcile takes the next step of a comparison, if one is due and everything that
// the ledger returned is in the book. It does not wait for the book, which may take
// long to read. A failure is logged and tried again.
func (w *Watcher) reconcile(ctx context.Context) {
	r, now := &w.reconciler, time.Now()
	ledger, ok := w.Ledger.(Inspector)
	if !ok || w.Booked == nil || len(w.fresh) > 0 || w.ledger.err != nil || len(w.complete) == 0 || ctx.Err() != nil {
		return
	}
	var err error
	switch {
	case r.book != nil:
		select {
		case b := <-r.book:
			if err = b.err; err == nil {
				received := make(map[string]int64)
				maps.Copy(received, b.received)
				for address, bin := range w.dust { // on its way into the book
					received[address] += bin.total()
				}
				w.compare(Unbooked(r.balances, received))
			}
			r.book, r.balances = nil, nil
		default:
		}
	case r.balances != nil:
		r.book = make(chan book, 1)
		r.reading.Go(func() {
			received, err := w.Booked(ctx)
			r.book <- book{received, err}
		})
	case !now.Before(r.at):
		r.at = now.Add(reconcileEvery)
		balanceCtx, cancel := context.WithTimeout(ctx, w.Timeout)
		defer cancel()
		var balances []Balance
		if balances, err = ledger.Balances(balanceCtx); err == nil {
			r.balances = balances
		}
	}
	if err != nil && ctx.Err() == nil {
		r.at = now.Add(time.Minute)
		w.Log.WithError(err).WithField("ledger", w.Ledger.Ledger()).Warn("balances cannot be compared with the book")
	}
}

// compare notes and logs by how much balances exceed the book. A difference counts
// once two comparisons in a row found one at the address.
func (w *Watcher) compare(unbooked map[string]int64) {
	r := &w.reconciler
	w.mu.Lock()
	known := w.health.Unbooked
	w.mu.Unlock()
	confirmed := make(map[string]int64)
	for address, amount := range unbooked {
		if before := r.suspect[address]; before > 0 {
			confirmed[address] = min(before, amount)
		}
	}
	switch {
	case len(confirmed) < len(unbooked):
		r.at = time.Now().Add(confirmAfter)
	case len(unbooked) > 0:
		r.at = time.Now().Add(differsEvery)
	}
	r.suspect = unbooked
	for address, amount := range confirmed {
		if known[address] != amount {
			w.Log.WithFields(logrus.Fields{"ledger": w.Ledger.Ledger(), "address": address, "unbooked": amount}).
				Warn("address received more than the book has, payments are hidden or lost to pruning: add a node with more history, or ask the buyers and grant their time by hand")
		}
	}
	for address := range known {
		if confirmed[address] == 0 {
			w.Log.WithFields(logrus.Fields{"ledger": w.Ledger.Ledger(), "address": address}).Info("the book has all that the address received")
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.health.Unbooked = confirmed
}
