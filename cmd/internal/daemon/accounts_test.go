package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/buyer"
	"github.com/iotoll/iotoll/tangle/rebased"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// bureau runs accounts over a store in memory, in a bubble of synctest.
type bureau struct {
	*accounts
	t       *testing.T
	store   *tangletest.Store
	settler *tangle.Settler
	users   []string
	mu      sync.Mutex
	topics  map[string]string // the retained messages
	sent    int               // messages
	paid    int
	down    atomic.Bool // the store fails
}

func newBureau(t *testing.T, users ...string) *bureau {
	t.Helper()
	filter, err := acl.ParseFilter("sensor/live")
	if err != nil {
		t.Fatal(err)
	}
	offers, err := tangle.NewOffers(tangle.Offer{ID: "live", Filters: []acl.Filter{filter}, Price: 500_000_000, Period: time.Hour, Address: "0xjane"})
	if err != nil {
		t.Fatal(err)
	}
	log, _ := logtest.NewNullLogger()
	b := &bureau{t: t, store: new(tangletest.Store), users: users, topics: make(map[string]string)}
	b.store.Fault = func(p tangletest.Point) error {
		if b.down.Load() && !p.After {
			return errors.New("store is down")
		}
		return nil
	}
	for _, name := range users {
		b.store.AddUser(name)
	}
	b.settler = &tangle.Settler{Store: b.store, Offers: offers}
	b.accounts = &accounts{
		store: b.store, skip: "iotoll", offers: offers.All(), notation: rebased.Notation{}, news: newNews(), log: log,
		names: func(context.Context) ([]string, error) { return b.users, nil },
		publish: func(topic string, payload []byte) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.topics[topic] = string(payload)
			b.sent++
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	b.news.everything()
	go func() {
		defer close(done)
		if err := b.run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return b
}

// pay settles a payment as the watcher does.
func (b *bureau) pay(amount int64, message string) string {
	b.t.Helper()
	b.paid++
	p := tangle.Payment{ID: fmt.Sprint("payment-", b.paid), Ledger: "iota", Address: "0xjane", Amount: amount, Message: []byte(message), Seen: time.Now()}
	if _, err := b.store.Record(b.t.Context(), p, tangle.Settling); err != nil {
		b.t.Fatal(err)
	}
	r, err := b.settler.Settle(b.t.Context(), p)
	if err != nil {
		b.t.Fatal(err)
	}
	if r.Outcome == tangle.Unmatched {
		b.news.holding()
	} else {
		b.news.user("john")
	}
	synctest.Wait()
	return p.ID
}

// messages returns how many were published.
func (b *bureau) messages() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sent
}

// retained returns the message on the topic of a user; ok is false if there was
// none.
func (b *bureau) retained(name string) (text string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, ok = b.topics["iotoll/account/"+name]
	return text, ok
}

func (b *bureau) account(name string) buyer.Account {
	b.t.Helper()
	text, _ := b.retained(name)
	a, err := buyer.ParseAccount([]byte(text))
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// texts returns the notices of an account.
func texts(a buyer.Account) string {
	var all []string
	for _, n := range a.Notices {
		all = append(all, string(n.Kind)+": "+n.Text)
	}
	return strings.Join(all, "\n")
}

const (
	fromJohn = `{"username": "john"}`
	renewal  = ` To renew for 1h, pay 0.5 IOTA to 0xjane with the message {"username":"john","offer":"live"}`
)

// An account is told of each payment at once, of the end five minutes before and
// when it comes, and of nothing in between.
func TestAccountNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBureau(t, "john", "iotoll", "a/b")
		if n := b.messages(); n != 1 {
			t.Errorf("got %d messages, want one for john", n)
		}
		if a := b.account("john"); a.Offers[0].State != buyer.None || a.Offers[0].Renewal != "0.5" || a.Receipt != nil || len(a.Notices) > 0 {
			t.Errorf("before: got %+v", a)
		}
		b.pay(300_000_000, fromJohn)
		a := b.account("john")
		if h := a.Offers[0]; h.State != buyer.None && h.Until != nil || h.Credit != "0.3" || h.Renewal != "0.2" {
			t.Errorf("underpaid: got %+v", a)
		}
		if got, want := texts(a), "underpaid: 0.3 of 0.5 IOTA received for live. Send 0.2 more; the 0.3 stay yours."; got != want {
			t.Errorf("underpaid: got %q, want %q", got, want)
		}
		if r := a.Receipt; r == nil || r.Amount != "0.3" || r.Until != nil || r.Payment != "payment-1" {
			t.Errorf("underpaid: got receipt %+v", r)
		}
		b.pay(200_000_000, fromJohn)
		begin := time.Now()
		end := begin.Add(time.Hour)
		a = b.account("john")
		if h := a.Offers[0]; h.State != buyer.Open || !h.Until.Equal(end) || h.Credit != "0" || len(a.Notices) > 0 || !a.Receipt.Until.Equal(end) || a.Receipt.Amount != "0.2" {
			t.Errorf("paid: got %+v", a)
		}
		sent := b.messages()
		asked := b.store.Calls("Last")
		time.Sleep(time.Until(end.Add(-5*time.Minute - time.Millisecond)))
		synctest.Wait()
		if b.messages() != sent || b.store.Calls("Last") != asked || b.store.Calls("Pending") > 2 {
			t.Errorf("idle: got %d messages and %d questions, want none", b.messages()-sent, b.store.Calls("Last")-asked)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if got, want := texts(b.account("john")), "ending: live ends at "+end.UTC().Format("2006-01-02 15:04:05")+" UTC."+renewal; got != want {
			t.Errorf("5 minutes before: got %q, want %q", got, want)
		}
		time.Sleep(5*time.Minute - time.Millisecond)
		synctest.Wait()
		if a := b.account("john"); a.Offers[0].State != buyer.Open {
			t.Errorf("1 ms before: got %+v, want open", a)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		a = b.account("john")
		if got, want := texts(a), "ended: live ended at "+end.UTC().Format("2006-01-02 15:04:05")+" UTC."+renewal; got != want || a.Offers[0].State != buyer.Ended {
			t.Errorf("at the end: got %q, want %q", got, want)
		}
		if b.messages() != sent+2 {
			t.Errorf("got %d messages about the end, want 2", b.messages()-sent)
		}
	})
}

// Renewing in time moves the notices; revoking ends at once.
func TestAccountRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBureau(t, "john")
		b.pay(500_000_000, fromJohn)
		time.Sleep(57 * time.Minute)
		b.pay(1_000_000_000, fromJohn)
		if a := b.account("john"); a.Offers[0].State != buyer.Open || len(a.Notices) > 0 {
			t.Errorf("renewed: got %+v", a)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if a := b.account("john"); a.Offers[0].State != buyer.Open || len(a.Notices) > 0 {
			t.Errorf("later: got %+v", a)
		}
		if _, err := b.settler.Revoke(t.Context(), "john", "live", "misuse", tangle.NewCause()); err != nil {
			t.Fatal(err)
		}
		b.news.user("john")
		synctest.Wait()
		if a := b.account("john"); a.Offers[0].State != buyer.Ended || !a.Offers[0].Until.Equal(time.Now()) || a.Receipt.Payment != "payment-2" {
			t.Errorf("revoked: got %+v", a)
		}
	})
}

// A held payment is shown to whom it names, with the reason, until it is settled
// or the seller concludes it; a payment that names nobody is shown to nobody.
func TestAccountHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBureau(t, "john", "mary")
		b.pay(1, "who am I")
		id := b.pay(500_000_000, `{"username": "john", "offer": "gone"}`)
		a := b.account("john")
		if len(a.Held) != 1 || a.Held[0].Payment != id || a.Held[0].Amount != "0.5" || a.Offers[0].State != buyer.None {
			t.Fatalf("held: got %+v", a)
		}
		want := `held: A payment of 0.5 IOTA is held: the message names the offer "gone", which does not exist. It stays on the record: ask the seller, who can assign it or pay it back. Payment: ` + id
		if got := texts(a); got != want {
			t.Errorf("held: got %q, want %q", got, want)
		}
		if a := b.account("mary"); len(a.Held) > 0 {
			t.Errorf("mary: got %+v", a)
		}
		// The log of changes does not tell of this.
		p := tangle.Payment{ID: id}
		if _, err := b.settler.Dismiss(t.Context(), p, "jane", "spam"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(heldInterval)
		synctest.Wait()
		if a := b.account("john"); len(a.Held) > 0 || len(a.Notices) > 0 {
			t.Errorf("dismissed: got %+v", a)
		}
		for range 50 { // of which anybody can make many
			b.pay(500_000_000, `{"username": "john", "offer": "gone"}`)
		}
		if a := b.account("john"); len(a.Held) != 10 {
			t.Errorf("many: got %d, want 10", len(a.Held))
		}
	})
}

// The topic of a removed user is cleared, and what it bought is not shown to the
// next one of that name.
func TestAccountRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBureau(t, "john")
		b.pay(800_000_000, fromJohn)
		b.store.SetUser("john", tangle.UserDisabled)
		if err := b.settler.Close(t.Context(), "john", "user removed"); err != nil {
			t.Fatal(err)
		}
		b.store.SetUser("john", tangle.UserUnknown)
		b.news.user("john")
		synctest.Wait()
		if text, ok := b.retained("john"); !ok || text != "" {
			t.Errorf("removed: got %q, want an empty message", text)
		}
		sent := b.messages()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if b.messages() != sent {
			t.Errorf("got %d messages after the removal", b.messages()-sent)
		}
		b.store.AddUser("john")
		b.news.user("john")
		synctest.Wait()
		if a := b.account("john"); a.Offers[0].State != buyer.None || a.Offers[0].Credit != "0" || a.Receipt != nil || len(a.Notices) > 0 {
			t.Errorf("next john: got %+v", a)
		}
	})
}

// While the store fails nothing is lost: it is made up for later.
func TestAccountStoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBureau(t, "john")
		b.pay(500_000_000, fromJohn)
		b.down.Store(true)
		time.Sleep(56 * time.Minute) // the notice is due meanwhile
		synctest.Wait()
		b.down.Store(false)
		time.Sleep(retryInterval)
		synctest.Wait()
		if got := texts(b.account("john")); !strings.HasPrefix(got, "ending: ") {
			t.Errorf("got %q, want the notice", got)
		}
		b.down.Store(true)
		b.users = append(b.users, "mary")
		b.store.AddUser("mary")
		b.news.everything() // such as after a restored backup
		time.Sleep(10 * time.Second)
		synctest.Wait()
		b.down.Store(false)
		time.Sleep(retryInterval)
		synctest.Wait()
		b.account("mary")
	})
}
