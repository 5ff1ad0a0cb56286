package daemon

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/cmd/internal/config"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/buyer"
	"github.com/iotoll/iotoll/wemo/mqtt"
)

const (
	// heldInterval is how often the held payments of known users are read again: the
	// log of changes does not tell of one that the seller dismissed or refunded.
	// Nothing is read while there are none.
	heldInterval = time.Minute
	// clockCheck bounds how long a notice waits for its time without looking at the
	// wall clock, which may be set meanwhile.
	clockCheck = time.Minute
)

// accountStore is what accounts need of the store.
type accountStore interface {
	tangle.Users
	Last(ctx context.Context, subject, offer string) (tangle.Entry, error)
	Entry(ctx context.Context, subject, offer string, seq int64) (tangle.Entry, error)
	Pending(ctx context.Context, ledger string) (map[string]string, error)
	Unsettled(ctx context.Context, payment string) (tangle.Payment, bool, error)
	Decided(ctx context.Context, payment string) (tangle.Decision, error)
}

// accounts keeps the topic of each user's account up to date: when the store tells
// of a change, shortly before bought time ends, and when it has ended. Without
// either it does nothing.
type accounts struct {
	store    accountStore
	names    func(context.Context) ([]string, error) // of all users but the one that publishes
	skip     string                                  // the user that publishes
	offers   []tangle.Offer
	notation tangle.Notation
	news     *news
	publish  func(topic string, payload []byte)
	log      logrus.FieldLogger

	published map[string][]byte // the newest document of each user
	backlog   []string          // users to look at when nothing is urgent
	held      map[string]heldBy // payments that are held, by ID
	heldOf    map[string][]buyer.HeldPayment
	next      map[string]time.Time
	queue     dueQueue // of next; an entry that differs from next is void
}

// heldBy is a held payment and whom it names; nobody if that is empty.
type heldBy struct {
	user string
	buyer.HeldPayment
}

// accountsPart returns what keeps the topics of the accounts.
func (d *daemon) accountsPart(cfg *config.Config, broker mqtt.Broker) (*part, error) {
	offers, err := cfg.ForSale()
	if err != nil {
		return nil, err
	}
	notation, err := ledgers.Notation(cfg.Ledger.Kind)
	if err != nil {
		return nil, err
	}
	log := d.log.WithField("topic", buyer.AccountTopics)
	publisher := &mqtt.Publisher{Broker: broker, Log: log}
	return &part{
		name: "accounts", settings: []any{cfg.Offers, cfg.Ledger.Kind, broker}, accounts: publisher,
		run: func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return nil
			case <-d.prepared:
			}
			d.news.everything()
			a := &accounts{
				store: d.store, skip: cfg.Broker.Username, offers: offers.All(), notation: notation, news: d.news, log: log,
				names:   d.userNames,
				publish: func(topic string, payload []byte) { publisher.Publish(topic, payload, true) }, // Health tells of refusals
			}
			return publisher.Run(ctx, a.run)
		},
	}, nil
}

// userNames returns the names of all users who can log in or are disabled.
func (d *daemon) userNames(ctx context.Context) ([]string, error) {
	users, err := d.store.Users(ctx)
	var names []string
	for _, u := range users {
		if u.State == tangle.UserReady || u.State == tangle.UserDisabled {
			names = append(names, u.Name)
		}
	}
	return names, err
}

// run works until ctx ends. What the store refuses is tried again.
func (a *accounts) run(ctx context.Context) error {
	a.published, a.next = make(map[string][]byte), make(map[string]time.Time)
	timer := time.NewTimer(clockCheck)
	defer timer.Stop()
	trouble := false
	for ctx.Err() == nil {
		err := a.work(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			if !trouble {
				a.log.WithError(err).WithField("retry_in", retryInterval.String()).Warn("accounts cannot be read")
			}
			trouble = true
			if wait(ctx, retryInterval) != nil {
				break
			}
			continue
		}
		if trouble {
			a.log.Info("accounts are read again")
			trouble = false
		}
		timer.Reset(a.pause(time.Now()))
		select {
		case <-ctx.Done():
		case <-a.news.wake:
		case <-timer.C:
			if len(a.heldOf) > 0 {
				a.news.holding()
			}
		}
	}
	return nil
}

// pause returns how long nothing has to be done if nothing changes.
func (a *accounts) pause(now time.Time) time.Duration {
	pause := time.Duration(1<<63 - 1)
	if len(a.heldOf) > 0 {
		pause = heldInterval
	}
	if len(a.queue) > 0 {
		pause = min(pause, clockCheck, max(a.queue[0].at.Sub(now), time.Millisecond))
	}
	return pause
}

// work does what there is to do now. After an error it may be called again and does
// the rest.
func (a *accounts) work(ctx context.Context) error {
	for ctx.Err() == nil {
		users, all, held := a.news.take()
		for len(a.queue) > 0 && !a.queue[0].at.After(time.Now()) {
			d := heap.Pop(&a.queue).(due)
			if a.next[d.user].Equal(d.at) {
				users[d.user] = true
			}
		}
		err := func() error {
			if all {
				names, err := a.names(ctx)
				if err != nil {
					return err
				}
				a.backlog = names
				all = false
				for name := range a.published { // those of removed users are cleared
					users[name] = true
				}
			}
			if held {
				changed, err := a.readHeld(ctx)
				if err != nil {
					return err
				}
				held = false
				for _, name := range changed {
					users[name] = true
				}
			}
			for name := range users {
				if err := a.refresh(ctx, name); err != nil {
					return err
				}
				delete(users, name)
			}
			return nil
		}()
		if err != nil {
			for name := range users {
				a.news.user(name)
			}
			if all {
				a.news.everything()
			}
			if held {
				a.news.holding()
			}
			return err
		}
		if len(a.backlog) == 0 {
			return nil
		}
		// One at a time: a change is not to wait for all users.
		if err := a.refresh(ctx, a.backlog[len(a.backlog)-1]); err != nil {
			return err
		}
		a.backlog = a.backlog[:len(a.backlog)-1]
	}
	return nil
}

// readHeld reads which payments are held, and returns the users for whom that
// changed.
func (a *accounts) readHeld(ctx context.Context) (changed []string, err error) {
	reasons, err := a.store.Pending(ctx, a.notation.Ledger())
	if err != nil {
		return nil, err
	}
	now := make(map[string]heldBy)
	for id, reason := range reasons {
		if reason == "" { // it is being settled
			continue
		}
		if old, ok := a.held[id]; ok && old.Reason == reason {
			now[id] = old
			continue
		}
		h, ok, err := a.readPayment(ctx, id, reason)
		if err != nil {
			return nil, err
		}
		if ok {
			now[id] = h
			changed = append(changed, h.user)
		}
	}
	for id, old := range a.held {
		if _, ok := now[id]; !ok {
			changed = append(changed, old.user)
		}
	}
	a.held, a.heldOf = now, make(map[string][]buyer.HeldPayment)
	for _, h := range now {
		if h.user != "" {
			a.heldOf[h.user] = append(a.heldOf[h.user], h.HeldPayment)
		}
	}
	return changed, nil
}

// readPayment finds out whom a held payment names; ok is false if it is settled.
func (a *accounts) readPayment(ctx context.Context, id, reason string) (h heldBy, ok bool, err error) {
	p, ok, err := a.store.Unsettled(ctx, id)
	if err != nil || !ok {
		return heldBy{}, false, err
	}
	d, err := a.store.Decided(ctx, id)
	if err != nil {
		return heldBy{}, false, err
	}
	h = heldBy{HeldPayment: buyer.HeldPayment{Payment: p, Reason: reason}}
	if d.Verdict == tangle.AssignedTo {
		h.user = d.Subject
	} else if m, err := tangle.ParseMessage(p.Message); err == nil && p.Unreadable == "" {
		h.user = m.Username
	}
	h.Message = nil // it may be long
	return h, true, nil
}

// refresh publishes the account of a user if it differs from what was published
// last. Without a user of that name, the topic is cleared.
func (a *accounts) refresh(ctx context.Context, name string) error {
	topic, ok := buyer.AccountTopic(name)
	if !ok || name == a.skip {
		return nil
	}
	state, err := a.store.UserState(ctx, name)
	if err != nil {
		return fmt.Errorf("look up user %q: %w", name, err)
	}
	if state != tangle.UserReady && state != tangle.UserDisabled {
		delete(a.next, name)
		if len(a.published[name]) > 0 {
			delete(a.published, name)
			a.publish(topic, nil)
		}
		return nil
	}
	b, err := a.read(ctx, name)
	if err != nil {
		return err
	}
	account, next := buyer.NewAccount(b, time.Now())
	payload, err := json.Marshal(account)
	if err != nil {
		return fmt.Errorf("encode account of %q: %w", name, err)
	}
	if next.IsZero() {
		delete(a.next, name)
	} else if !a.next[name].Equal(next) {
		a.next[name] = next
		heap.Push(&a.queue, due{next, name})
	}
	if !bytes.Equal(payload, a.published[name]) {
		a.published[name] = payload
		a.publish(topic, payload)
	}
	return nil
}

// read returns what the store knows of a user.
func (a *accounts) read(ctx context.Context, name string) (buyer.Books, error) {
	b := buyer.Books{
		Username: name, Currency: a.notation.Currency(), Offers: a.offers,
		Heads: make(map[string]tangle.Entry), Held: a.heldOf[name],
	}
	for _, o := range a.offers {
		head, err := a.store.Last(ctx, name, o.ID)
		if err != nil {
			return buyer.Books{}, err
		}
		b.Heads[o.ID] = head
		paid, err := a.lastPaid(ctx, head)
		if err != nil {
			return buyer.Books{}, err
		}
		if paid.Seq > 0 && (b.Paid.Seq == 0 || paid.At.After(b.Paid.At)) {
			b.Paid = paid
		}
	}
	return b, nil
}

// lastPaid returns the newest entry of an account that a payment made and nobody
// took back; one with Seq 0 if there is none. head is the account's newest entry.
func (a *accounts) lastPaid(ctx context.Context, head tangle.Entry) (tangle.Entry, error) {
	for e := head; e.Seq > 0; {
		before := e.Seq - 1
		switch e.Kind {
		case tangle.Paid:
			return e, nil
		case tangle.Closed: // the user of that name was another one
			return tangle.Entry{}, nil
		case tangle.Released:
			if e.Undoes > 0 {
				before = e.Undoes - 1
			}
		}
		var err error
		if e, err = a.store.Entry(ctx, head.Subject, head.Offer, before); err != nil {
			return tangle.Entry{}, err
		}
	}
	return tangle.Entry{}, nil
}

// due is when the account of a user changes by itself.
type due struct {
	at   time.Time
	user string
}

// dueQueue is a heap, the earliest first.
type dueQueue []due

func (q dueQueue) Len() int           { return len(q) }
func (q dueQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q dueQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *dueQueue) Push(x any) { *q = append(*q, x.(due)) }

// Pop implements heap.Interface.
func (q *dueQueue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}
