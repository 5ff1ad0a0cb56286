package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/cmd/internal/rig"
)

// TestAnonymous: without an account one reads what is free, and nothing else.
func TestAnonymous(t *testing.T) {
	r := newRig(t, rig.Options{Minute: time.Second})
	everything := client(t, r, "anonymous", "", "-t", "#")
	receives(t, everything, "sensor/1m", 2)
	silent(t, r, everything, "sensor/live")
	paid := client(t, r, "anonymous-live", "", "-t", "sensor/live")
	eventually(t, "the subscription to be refused", func() bool {
		return strings.Contains(paid.Output(), "denied")
	})
}

// TestStory is the main job: subscribed, paid, extended, expired, paid again.
func TestStory(t *testing.T) {
	for _, ledger := range []string{ledgers.Legacy, ledgers.IOTA} {
		t.Run(ledger, func(t *testing.T) { story(t, ledger) })
	}
}

func story(t *testing.T, ledger string) {
	const period = 8 * time.Second
	r := newRig(t, rig.Options{Ledger: ledger, Period: period, Minute: time.Second})
	exact := client(t, r, "exact", "john", "-t", "sensor/live")
	c := client(t, r, "john", "john", "-t", "sensor/#")
	receives(t, c, "sensor/1m", 2)
	silent(t, r, c, "sensor/live")
	silent(t, r, exact, "sensor/live")

	pay(t, r, r.Price, john)
	receives(t, c, "sensor/live", 2) // without a reconnect
	receives(t, exact, "sensor/live", 2)
	pay(t, r, r.Price, john)
	eventually(t, "the second payment to be credited", func() bool { return outcomes(t, r, "credited") == 2 })
	g := grants(t, r)
	if !g[1].From.Equal(g[0].Until) || g[1].Until.Sub(g[1].From) != period {
		t.Errorf("grants: got %+v, want the second to extend the first by %s", g, period)
	}
	time.Sleep(time.Until(g[0].Until))
	receives(t, c, "sensor/live", 2) // beyond the end of the first

	time.Sleep(time.Until(g[1].Until) + 100*time.Millisecond)
	silent(t, r, c, "sensor/live")
	receives(t, c, "sensor/1m", 1)
	again := client(t, r, "again", "john", "-t", "sensor/live") // as after a lost connection

	pay(t, r, r.Price, john)
	receives(t, c, "sensor/live", 2)
	receives(t, exact, "sensor/live", 2)
	receives(t, again, "sensor/live", 2)
	if got := count(c, "sensor/status"); got != 0 {
		t.Errorf("john received %d messages of a topic that is neither free nor sold", got)
	}
}

// TestUnderpaid: 200 of a price of 500 are kept as credit until 300 more come.
func TestUnderpaid(t *testing.T) {
	r := newRig(t, rig.Options{})
	c := client(t, r, "john", "john", "-t", "sensor/#")
	pay(t, r, "200", john)
	eventually(t, "the credit to be visible", func() bool { return outcomes(t, r, "underpaid") == 1 })
	if got := payments(t, r)[0].Credit; got != "200" {
		t.Errorf("credit after a payment of 200: got %s", got)
	}
	silent(t, r, c, "sensor/live")
	pay(t, r, "300", john)
	receives(t, c, "sensor/live", 2)
}

// TestHeld: what names nobody waits for the seller; what names a user who is
// not there yet waits for the user.
func TestHeld(t *testing.T) {
	r := newRig(t, rig.Options{})
	c := client(t, r, "john", "john", "-t", "sensor/#")
	pay(t, r, r.Price, "")
	pay(t, r, r.Price, `{"username": "mary"}`)
	eventually(t, "both payments to be held", func() bool { return outcomes(t, r, "unmatched") == 2 })
	if err := r.AddUser(t.Context(), "mary"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // until the broker knows her
	mary := client(t, r, "mary", "mary", "-t", "sensor/#")
	receives(t, mary, "sensor/live", 2)
	silent(t, r, c, "sensor/live")

	held := payments(t, r, "--outcome", "unmatched")
	if len(held) != 1 {
		t.Fatalf("held payments: got %+v, want the one that names nobody", held)
	}
	iotoll(t, r, "payment", "assign", held[0].Payment, "john", "live")
	receives(t, c, "sensor/live", 2)
}

// TestRevoked: what the seller takes back ends at once, on the open connection.
func TestRevoked(t *testing.T) {
	r := newRig(t, rig.Options{})
	c := paidClient(t, r)
	iotoll(t, r, "grant", "revoke", "john", "live", "--reason", "test")
	time.Sleep(200 * time.Millisecond) // twice as long as it may take
	silent(t, r, c, "sensor/live")
	// The next payment starts from now, not from the end of what was taken.
	pay(t, r, r.Price, john)
	receives(t, c, "sensor/live", 2)
}

// TestStoreAway: serve and its store die without warning. Who paid keeps
// reading what others publish; the broker lets everybody in whom it knows.
func TestStoreAway(t *testing.T) {
	r := newRig(t, rig.Options{})
	c := paidClient(t, r)
	r.Serve.Kill()

	before := count(c, "sensor/live")
	publish(t, r, "sensor/live", "1")
	eventually(t, "john to receive what is published now", func() bool { return count(c, "sensor/live") > before })
	again := client(t, r, "john-again", "john", "-t", "sensor/live")
	anonymous := client(t, r, "anonymous", "", "-t", "sensor/#")
	time.Sleep(200 * time.Millisecond)
	publish(t, r, "sensor/live", "2")
	publish(t, r, "sensor/1m", "3")
	eventually(t, "john's new client to receive it", func() bool { return count(again, "sensor/live") > 0 })
	eventually(t, "an anonymous client to receive what is free", func() bool { return count(anonymous, "sensor/1m") > 0 })
	if count(anonymous, "sensor/live") > 0 {
		t.Error("an anonymous client received sensor/live")
	}

	if err := r.StartServe(t.Context()); err != nil {
		t.Fatal(err)
	}
	receives(t, c, "sensor/live", 2)
	if got := outcomes(t, r, "credited"); got != 1 {
		t.Errorf("credited payments after the crash: got %d, want 1", got)
	}
}

// TestStartWithoutStore: the broker starts first and serves what is free. A client
// with an account waits, and gets in by itself once the store is there.
func TestStartWithoutStore(t *testing.T) {
	r := newRig(t, rig.Options{Minute: time.Second})
	r.Broker.Stop()
	r.Serve.Stop()
	if err := r.StartBroker(t.Context()); err != nil {
		t.Fatal(err)
	}
	anonymous := client(t, r, "anonymous", "", "-t", "sensor/1m")
	c := client(t, r, "john", "john", "-t", "sensor/#")
	time.Sleep(time.Second) // a client that was refused would have ended by then
	if err := r.StartServe(t.Context()); err != nil {
		t.Fatal(err)
	}
	receives(t, anonymous, "sensor/1m", 1)
	receives(t, c, "sensor/1m", 1)
	pay(t, r, r.Price, john)
	receives(t, c, "sensor/live", 2)
}

// TestNodeAway: the node stops answering in the middle of a payment.
func TestNodeAway(t *testing.T) {
	for _, ledger := range []string{ledgers.Legacy, ledgers.IOTA} {
		t.Run(ledger, func(t *testing.T) { nodeAway(t, ledger) })
	}
}

func nodeAway(t *testing.T, ledger string) {
	r := newRig(t, rig.Options{Ledger: ledger})
	c := paidClient(t, r)

	if out, err := r.Pay(t.Context(), r.Price, john); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.Node.Signal(syscall.SIGSTOP)
	receives(t, c, "sensor/live", 8) // nobody else notices
	r.Node.Signal(syscall.SIGCONT)
	eventually(t, "the second payment to be credited", func() bool { return outcomes(t, r, "credited") == 2 })
}

// TestBrokerRestarted: an ordinary client reconnects and goes on.
func TestBrokerRestarted(t *testing.T) {
	r := newRig(t, rig.Options{})
	c := paidClient(t, r)
	r.Broker.Stop()
	if err := r.StartBroker(t.Context()); err != nil {
		t.Fatal(err)
	}
	receives(t, c, "sensor/live", 2)
}

// TestKilled: serve dies by SIGKILL, again and again, while payments come in.
// None is lost and none counts twice.
func TestKilled(t *testing.T) {
	r := newRig(t, rig.Options{})
	const n = 5
	for i := range n {
		pay(t, r, r.Price, john)
		time.Sleep(time.Duration(i) * 60 * time.Millisecond)
		r.Serve.Kill()
		if err := r.StartServe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "every payment to be credited", func() bool { return outcomes(t, r, "credited") == n })
	var bought time.Duration
	all := grants(t, r)
	for i, g := range all {
		bought += g.Until.Sub(g.From)
		if i > 0 && !g.From.Equal(all[i-1].Until) {
			t.Errorf("grant %d begins at %s, want the end of the one before, %s", i+1, g.From, all[i-1].Until)
		}
	}
	if bought != n*time.Hour {
		t.Errorf("%d payments of the price bought %s, want %s", n, bought, n*time.Hour)
	}
}
