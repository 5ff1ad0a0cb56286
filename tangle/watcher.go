package tangle

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// How a Watcher paces itself.
const (
	maxBackOff   = 10 * time.Second       // between attempts at what keeps failing
	recheckEvery = time.Minute            // between checks of what is pending in the store, and of the names that held payments wait for
	retryEvery   = 10 * time.Minute       // between attempts to settle every held payment
	recheckSlice = 50 * time.Millisecond  // longest time for held payments between two scans of the ledger
	logEvery     = time.Minute            // between log lines on trouble that goes on
	maxFailures  = 3                      // in a row, after which the rest waits for the next pass
	markEvery    = time.Minute            // between writes of marks that moved without a payment
	eagerEvery   = 500 * time.Millisecond // between scans of the ledger while a payment is likely
	eagerFor     = 2 * time.Minute        // after what said so
)

// Watcher turns the payments of a ledger into grants. Several may watch the same
// ledger for the same store.
type Watcher struct {
	Ledger Ledger
	Store  Store
	Offers *Offers

	// Interval is the time between two scans of the ledger. It is half a second, if
	// that is less, for two minutes after a payment or a call of Expect.
	Interval time.Duration
	// Timeout bounds one scan of the ledger, and the settling of one payment.
	Timeout time.Duration
	// FromStart also settles what was on a deposit address before the first
	// scan. Otherwise such payments are recorded as Historic.
	FromStart bool
	// Recheck names users who were created or changed: payments that wait for them
	// are settled again at once. Nil means once a minute only.
	Recheck <-chan string
	// Rules find out whose a payment is; nil means by its message.
	Rules []Rule
	// Booked, if set, returns what the book has received at each deposit address,
	// in base units. If the ledger is an Inspector, balances are compared with it.
	Booked func(ctx context.Context) (map[string]int64, error)
	// Observe, if set, is told what became of a payment, and again if that
	// changes. took is the time from when it was seen confirmed until its grant
	// was written; 0 if it got none, or had to wait for something else than us.
	Observe func(p Payment, o Outcome, took time.Duration)

	Log logrus.FieldLogger
	Now func() time.Time // the time written in grants; time.Now if nil

	settler *Settler
	// stored are the marks in the store: the addresses that are watched.
	stored map[string]Mark
	// read are the marks up to which the ledger was read in this process. They
	// are stored once everything that was read is recorded.
	read map[string]Mark
	// markAt is when marks that moved are stored again.
	markAt time.Time
	// complete are the addresses of which the ledger has returned everything.
	complete map[string]bool
	// fresh are the payments that the ledger returned and that are not yet
	// recorded and either settled or held, in order.
	fresh []*waiting
	// dust are the payments that are too small to count, by address.
	dust   map[string]*dustBin
	ledger trouble
	store  trouble

	recheck recheck

	// clock is the ledger's time and nodeClock that of a node; newest is the date of
	// the newest entry in the store, read where the ledger has no time. clockErr
	// says that one of them is far from our clock: then nothing is settled.
	clock      remoteClock
	nodeClock  remoteClock
	newest     time.Time
	newestAt   time.Time // when newest is read again
	clockErr   error
	clockSince time.Time
	termsKept  bool // what the offers cost is in the store

	mu     sync.Mutex // guards health, eager and wake
	health Health
	eager  time.Time     // until when a payment is likely
	wake   chan struct{} // told of a call of Expect

	reconciler reconciler
}

// waiting is a payment on its way into the store.
type waiting struct {
	payment  Payment
	history  bool // it came before everything on its address had been read
	late     bool // an earlier scan had succeeded
	recorded bool
	noted    bool // the book says that it waits for the clock
	fails    int
	at       time.Time // of the next attempt
}

// Health tells how a Watcher fares.
type Health struct {
	LastSuccess time.Time // of the last scan of the ledger that succeeded; zero if none did
	LedgerError error     // of the last scan, nil if it succeeded
	LedgerSince time.Time // since when scans fail
	LedgerReads int64     // scans since Run began, also those that failed
	LedgerFails int64     // scans that failed
	StoreError  error     // of the store, nil if it works
	StoreSince  time.Time // since when it fails
	StoreFails  int64     // passes in which it failed since Run began
	Waiting     int       // payments seen and not yet in the store, because it fails
	Held        int       // payments that wait for the seller, for a user to be created, or for the clock
	ClockError  error     // a *ClockError while settling waits since our clock seems wrong; else nil
	ClockSince  time.Time // since when it does
	Unwatched   []string  // deposit addresses that were watched before and are not configured now
	Partial     []string  // deposit addresses whose history may be incomplete, by the last scan that succeeded
	// Unbooked is what each address received beyond the book, in base units: payments
	// that are hidden or were lost to pruning. Addresses without a difference are
	// left out.
	Unbooked map[string]int64
}

// Health returns a snapshot. It may be called at any time, also while Run runs.
func (w *Watcher) Health() Health {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.health
}

// Expect says that a payment is likely, so that whoever makes it does not wait long:
// the ledger is scanned at once and then twice a second for two minutes. It may be
// called at any time, also before Run.
func (w *Watcher) Expect() {
	w.hurry()
	select {
	case w.woken() <- struct{}{}:
	default: // it wakes already
	}
}

// hurry scans often from the next scan on.
func (w *Watcher) hurry() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.eager = time.Now().Add(eagerFor)
}

func (w *Watcher) woken() chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wake == nil {
		w.wake = make(chan struct{}, 1)
	}
	return w.wake
}

// pace returns the time between two scans now.
func (w *Watcher) pace() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Now().Before(w.eager) {
		return min(w.Interval, eagerEvery)
	}
	return w.Interval
}

// Run scans the ledger every Interval until ctx ends, and then returns nil.
// What fails is tried again, at growing intervals; only an incomplete Watcher
// is an error.
func (w *Watcher) Run(ctx context.Context) error {
	switch {
	case w.Ledger == nil || w.Store == nil || w.Offers == nil || w.Log == nil:
		return fmt.Errorf("watch ledger: Ledger, Store, Offers and Log must be set")
	case w.Interval <= 0 || w.Timeout <= 0:
		return fmt.Errorf("watch ledger: interval is %s and timeout %s, want both above 0", w.Interval, w.Timeout)
	}
	w.settler = &Settler{Store: w.Store, Offers: w.Offers, Rules: w.Rules, Now: w.Now}
	w.stored, w.read = nil, make(map[string]Mark)
	w.complete = make(map[string]bool)
	if w.dust == nil { // what an earlier Run was told is not told again, as with w.fresh
		w.dust = make(map[string]*dustBin)
	}
	w.recheck = newRecheck()
	w.markAt, w.newestAt, w.clockErr, w.termsKept = time.Time{}, time.Time{}, nil, false
	w.clock, w.nodeClock = remoteClock{}, remoteClock{}
	w.reconciler = reconciler{at: time.Now().Add(reconcileFirst)}
	defer w.reconciler.reading.Wait()
	w.ledger = trouble{base: w.Interval}
	w.store = trouble{base: w.Interval}
	names, woken := w.Recheck, w.woken()
	var scanned time.Time
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-woken:
			tick.Reset(time.Until(scanned.Add(w.pace()))) // no more often than that, whoever expects
			continue
		case name, ok := <-names:
			if !ok {
				names = nil
				continue
			}
			w.recheck.user(name)
		case <-tick.C:
		}
		w.poll(ctx)
		scanned = time.Now()
		tick.Reset(w.pace())
	}
}

// poll does what is due. New payments come first.
func (w *Watcher) poll(ctx context.Context) {
	tried, err := w.readMarks(ctx)
	if w.stored != nil {
		w.scan(ctx)
	}
	for _, step := range []func(context.Context) (bool, error){w.checkClock, w.keepTerms} {
		if err == nil && w.stored != nil {
			var more bool
			more, err = step(ctx)
			tried = tried || more
		}
	}
	if err == nil {
		var more bool
		more, err = w.settleFresh(ctx)
		tried = tried || more
	}
	if !tried || err == nil {
		var more bool
		more, err = w.settleHeld(ctx)
		tried = tried || more
	}
	w.reconcile(ctx)
	if ctx.Err() != nil {
		return
	}
	if tried {
		w.report(&w.store, err, "store fails, payments wait", "store works again")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.health.LedgerError, w.health.LedgerSince = w.ledger.err, w.ledger.since
	w.health.StoreError, w.health.StoreSince = w.store.err, w.store.since
	if err != nil {
		w.health.StoreFails++
	}
	noted := w.forClock()
	w.health.Waiting, w.health.Held = len(w.fresh)-noted, len(w.recheck.held)+noted
	w.health.ClockError, w.health.ClockSince = w.clockErr, w.clockSince
}

// forClock returns how many payments are recorded and wait for the clock.
func (w *Watcher) forClock() (n int) {
	for _, f := range w.fresh {
		if f.noted {
			n++
		}
	}
	return n
}

// readMarks reads once from where to go on reading the ledger.
func (w *Watcher) readMarks(ctx context.Context) (tried bool, err error) {
	if w.stored != nil || time.Now().Before(w.store.until) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	stored, err := w.Store.Marks(ctx, w.Ledger.Ledger())
	if err != nil {
		return true, fmt.Errorf("read marks: %w", err)
	}
	w.stored, w.read = stored, maps.Clone(stored)
	for address := range w.Offers.byAddress {
		if _, ok := stored[address]; !ok && w.FromStart {
			w.read[address] = Mark{}
		}
	}
	missing := w.Offers.Unconfigured(stored)
	for _, address := range missing {
		delete(w.read, address)
		w.Log.WithFields(logrus.Fields{"ledger": w.Ledger.Ledger(), "address": address}).
			Warn("deposit address was watched before and is not configured: payments to it are not seen")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.health.Unwatched = missing
	return true, nil
}

// checkClock compares our clock with the ledger's, a node's or the newest entry.
func (w *Watcher) checkClock(ctx context.Context) (tried bool, err error) {
	now := time.Now()
	if w.clock.said.IsZero() && !now.Before(w.newestAt) && !now.Before(w.store.until) {
		ctx, cancel := context.WithTimeout(ctx, w.Timeout)
		defer cancel()
		if w.newest, err = w.Store.LastWritten(ctx); err != nil {
			return true, fmt.Errorf("read date of the newest entry: %w", err)
		}
		tried, w.newestAt = true, now.Add(recheckEvery)
	}
	before := w.clockErr
	w.clockErr = CheckClock(w.settler.now(), w.clock.now(), w.nodeClock.now(), w.newest)
	switch {
	case w.clockErr != nil && before == nil:
		w.clockSince = now
		w.Log.WithError(w.clockErr).Error("settling waits until the clock is right")
	case w.clockErr == nil && before != nil:
		w.clockSince = time.Time{}
		w.Log.WithField("after", now.Sub(w.clockSince).Round(time.Millisecond)).Info("clock is right, settling goes on")
		w.recheck.all()
	}
	return tried, nil
}

// keepTerms keeps once what the offers cost, dated by a clock that is right.
func (w *Watcher) keepTerms(ctx context.Context) (tried bool, err error) {
	unchecked := w.clock.said.IsZero() && w.newestAt.IsZero()
	if w.termsKept || unchecked || w.clockErr != nil || time.Now().Before(w.store.until) {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	if err := w.settler.RecordTerms(ctx); err != nil {
		return true, err
	}
	w.termsKept = true
	return true, nil
}

// scan asks the ledger for new payments.
func (w *Watcher) scan(ctx context.Context) {
	if time.Now().Before(w.ledger.until) {
		return
	}
	callCtx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	batch, err := w.Ledger.Confirmed(callCtx, w.read)
	w.clock.set(batch.Time)
	w.nodeClock.set(batch.NodeTime)
	for _, p := range batch.Payments {
		if p.Amount < w.Ledger.Currency().Dust && p.Position > 0 && batch.Marks != nil {
			if w.dust[p.Address] == nil {
				w.dust[p.Address] = new(dustBin)
			}
			w.dust[p.Address].add(p)
			continue
		}
		w.hurry()
		w.fresh = append(w.fresh, &waiting{payment: p, history: !w.complete[p.Address], late: !w.health.LastSuccess.IsZero()})
	}
	maps.Copy(w.read, batch.Marks)
	if ctx.Err() != nil {
		return
	}
	w.report(&w.ledger, err, "ledger cannot be read, payments wait", "ledger can be read again")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.health.LedgerReads++
	if err != nil {
		w.health.LedgerFails++
		return
	}
	for address := range w.Offers.byAddress {
		w.complete[address] = w.complete[address] || !slices.Contains(batch.Partial, address)
	}
	w.health.LastSuccess, w.health.Partial = time.Now(), batch.Partial
}

// settleFresh records and settles what the ledger returned. tried tells whether
// the store was used, err the last failure; the failure of one payment does not
// hold up the others.
func (w *Watcher) settleFresh(ctx context.Context) (tried bool, err error) {
	left := w.fresh[:0:0]
	failures := 0
	for i, f := range w.fresh {
		if ctx.Err() != nil || failures == maxFailures {
			left = append(left, w.fresh[i:]...)
			break
		}
		if time.Now().Before(f.at) || f.recorded && !w.termsKept || f.noted && w.clockErr != nil {
			left = append(left, f)
			continue
		}
		tried = true
		done, itsErr := w.settleOne(ctx, f)
		if itsErr != nil {
			err = itsErr
			f.at = time.Now().Add(BackOff(w.Interval, maxBackOff, f.fails))
			f.fails++
			failures++
		} else {
			failures = 0
		}
		if !done {
			left = append(left, f)
		}
	}
	w.fresh = left
	due := w.dueMarks()
	if len(due) == 0 || time.Now().Before(w.store.until) {
		return tried, err
	}
	if markErr := w.storeMarks(ctx, due); markErr != nil {
		err = markErr
	}
	return true, err
}

// settleOne takes one payment as far as it goes; done tells that it needs no
// further attempt.
func (w *Watcher) settleOne(ctx context.Context, f *waiting) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	p := f.payment
	if !f.recorded {
		outcome, err := w.recordAs(ctx, f)
		if err != nil || outcome == "" {
			return false, err
		}
		added, err := w.Store.Record(ctx, p, outcome)
		if err != nil {
			// It may have been written all the same, and then is among the unsettled.
			w.recheck.soon(BackOff(w.Interval, maxBackOff, w.store.fails))
			return false, fmt.Errorf("record payment %s: %w", p.ID, err)
		}
		if !added {
			// It was recorded before, and then Run settles it when it begins. Or
			// another watcher recorded it, which may die.
			if !f.history {
				w.recheck.soon(BackOff(w.Interval, maxBackOff, w.store.fails))
			}
			return true, nil
		}
		if outcome == Historic {
			w.observe(p, Historic, 0)
			if f.late {
				w.fields(p).WithField("address", p.Address).
					Warn("payment may be older than the first start, since its address cannot be read as a whole: assign it, or change to a new deposit address")
			}
			return true, nil
		}
		f.recorded = true
		w.fields(p).Info("payment seen")
	}
	if w.clockErr == nil && !w.termsKept {
		return false, nil
	}
	if w.clockErr != nil {
		if err := w.Store.Hold(ctx, p.ID, "settling waits: our clock seems to be wrong"); err != nil {
			return false, fmt.Errorf("hold payment %s: %w", p.ID, err)
		}
		f.noted = true
		return false, nil
	}
	if err := w.settle(ctx, p, "", !f.noted); err != nil {
		return false, err
	}
	return true, nil
}

// recordAs says as what a new payment is to be recorded: as Historic or to be
// settled, or "" if it is too early to tell.
func (w *Watcher) recordAs(ctx context.Context, f *waiting) (Outcome, error) {
	address := f.payment.Address
	if _, ours := w.Offers.byAddress[address]; !ours || w.FromStart {
		return Settling, nil
	}
	if _, watched := w.stored[address]; !watched {
		stored, err := w.Store.Marks(ctx, w.Ledger.Ledger()) // another watcher may have noted it
		if err != nil {
			return "", fmt.Errorf("read marks: %w", err)
		}
		mark, watched := stored[address]
		switch {
		case watched:
			w.stored[address] = mark
		case f.history:
			return Historic, nil
		default:
			return "", nil
		}
	}
	return Settling, nil
}

// dueMarks returns the addresses whose marks are to be stored now: those that are
// not watched yet and may be, and now and then those whose mark moved.
func (w *Watcher) dueMarks() []string {
	var due []string
	moved := !time.Now().Before(w.markAt)
	for address := range w.Offers.byAddress {
		stored, watched := w.stored[address]
		if !watched && (w.FromStart || w.complete[address]) || watched && moved && w.read[address] != stored {
			due = append(due, address)
		}
	}
	return due
}

// storeMarks stores the marks of addresses of which everything that was read is
// recorded: from then on payments to them count.
func (w *Watcher) storeMarks(ctx context.Context, addresses []string) error {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	unrecorded, history := make(map[string]bool), make(map[string]bool)
	for _, f := range w.fresh {
		unrecorded[f.payment.Address] = unrecorded[f.payment.Address] || !f.recorded
		history[f.payment.Address] = history[f.payment.Address] || f.history
	}
	var last error
	for _, address := range addresses {
		_, watched := w.stored[address]
		mark := w.read[address]
		switch {
		case watched && unrecorded[address]:
			continue // the mark moves only over what is in the store
		case !watched && unrecorded[address] && mark != (Mark{}):
			mark.Position = 0 // from_start: read again from the beginning
		case !watched && !w.FromStart && history[address]:
			continue
		}
		if err := w.bookDust(ctx, address, mark, watched || w.FromStart); err != nil {
			last = err
			continue
		}
		if err := w.Store.SetMark(ctx, w.Ledger.Ledger(), address, mark); err != nil {
			last = fmt.Errorf("write mark of %s: %w", address, err)
			continue
		}
		if !watched {
			w.Log.WithFields(logrus.Fields{"ledger": w.Ledger.Ledger(), "address": address}).
				Info("deposit address is watched from now on")
		}
		w.stored[address] = mark
	}
	if last == nil {
		w.markAt = time.Now().Add(markEvery)
	}
	return last
}

// bookDust writes the sum of what was paid to an address up to a mark and is too
// small to count. Before an address is watched, dust is history.
func (w *Watcher) bookDust(ctx context.Context, address string, mark Mark, watched bool) error {
	bin := w.dust[address]
	switch {
	case bin == nil:
		return nil
	case !watched:
		delete(w.dust, address)
		return nil
	}
	return bin.book(ctx, w.Store, w.Ledger.Ledger(), address, mark)
}

// settle settles one recorded payment and tells what became of it. before is why
// it was held, if it was. fresh says that it waited for nobody but us.
func (w *Watcher) settle(ctx context.Context, p Payment, before string, fresh bool) error {
	old, ok := w.recheck.held[p.ID]
	if ok {
		before = old.reason
	}
	wasHeld := ok && old.known // and this process has said so
	r, err := w.settler.settle(ctx, p, before, fresh)
	if err != nil {
		return err
	}
	switch r.Outcome {
	case Unmatched:
		w.recheck.hold(p, r)
		w.mu.Lock()
		w.health.Held = len(w.recheck.held) + w.forClock()
		w.mu.Unlock()
		if !wasHeld {
			w.observe(p, Unmatched, 0)
		}
		if !wasHeld || r.Reason != before {
			w.fields(p).WithField("reason", r.Reason).Warn("payment held, assign it or create the user")
		}
		return nil
	case Replayed, Dismissed, Refunded:
		w.recheck.drop(p.ID)
		w.observe(p, r.Outcome, 0)
		return nil
	}
	w.recheck.drop(p.ID)
	took := time.Duration(0)
	if fresh {
		took = max(1, time.Since(p.Confirmed))
	}
	w.observe(p, r.Outcome, took)
	log := w.fields(p).WithFields(logrus.Fields{"subject": r.Entry.Subject, "offer": r.Entry.Offer})
	if r.Outcome == Underpaid {
		log.WithField("credit", r.Entry.Credit).Info("payment is below the price and kept as credit")
	} else {
		log.WithField("until", r.Entry.NotAfter.Format(time.RFC3339)).Info("payment credited")
	}
	return nil
}

func (w *Watcher) observe(p Payment, o Outcome, took time.Duration) {
	if w.Observe != nil {
		w.Observe(p, o, took)
	}
}

func (w *Watcher) fields(p Payment) logrus.FieldLogger {
	return w.Log.WithFields(logrus.Fields{"payment": p.ID, "ledger": p.Ledger, "amount": p.Amount})
}

// trouble is something that fails for a while.
type trouble struct {
	base   time.Duration
	err    error
	fails  int
	since  time.Time
	logged time.Time
	until  time.Time // it is left alone
}

// report notes how an attempt went, and logs the beginning, the course and the
// end of trouble.
func (w *Watcher) report(t *trouble, err error, failed, recovered string) {
	now := time.Now()
	if err == nil {
		if t.err != nil {
			w.Log.WithField("after", now.Sub(t.since).Round(time.Millisecond)).Info(recovered)
		}
		*t = trouble{base: t.base}
		return
	}
	if t.err == nil {
		t.since = now
	}
	in := BackOff(t.base, maxBackOff, t.fails)
	t.err, t.until = err, now.Add(in)
	t.fails++
	if t.logged.IsZero() || now.Sub(t.logged) >= logEvery {
		t.logged = now
		w.Log.WithError(err).WithFields(logrus.Fields{"since": t.since.UTC().Format(time.RFC3339), "attempts": t.fails, "retry_in": in}).Warn(failed)
	}
}
