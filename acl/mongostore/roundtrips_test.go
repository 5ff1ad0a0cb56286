package mongostore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

// counter counts the commands that a Store sends.
type counter struct {
	mu       sync.Mutex
	commands []string
}

func (c *counter) started(_ context.Context, e *event.CommandStartedEvent) {
	name, _ := e.Command.Lookup(e.CommandName).StringValueOK()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.commands = append(c.commands, e.CommandName+" "+name)
}

// take returns the commands sent since it was called last.
func (c *counter) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.commands
	c.commands = nil
	return taken
}

// counted returns a Store on a database whose commands are counted.
func counted(t testing.TB, database string) (*Store, *counter) {
	t.Helper()
	c := new(counter)
	s, err := open(server, database, &event.CommandMonitor{Started: c.started})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, c
}

// TestRoundTrips: what a payment costs, from being seen to being credited. Before,
// a first payment cost 18 round trips and the tenth one 27.
func TestRoundTrips(t *testing.T) {
	database := newDatabase()
	s, count := counted(t, database)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"john", "mary"} {
		if err := s.AddUser(t.Context(), acl.User{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	offers, err := tangle.NewOffers(tangle.Offer{ID: "live", Filters: filters(t, "sensor/live"), Price: 500, Period: time.Hour, Address: "ADDRESS"})
	if err != nil {
		t.Fatal(err)
	}
	ledger := new(tangletest.Ledger)
	settled := make(chan tangle.Outcome, 1)
	watch := func(s *Store) (stop func()) {
		w := &tangle.Watcher{
			Ledger: ledger, Store: s, Offers: offers, Interval: time.Millisecond, Timeout: time.Minute, Log: s.Log, FromStart: true,
			Observe: func(_ tangle.Payment, o tangle.Outcome, _ time.Duration) { settled <- o },
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		for w.Health().LedgerReads < 3 {
			time.Sleep(time.Millisecond)
		}
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	stop := watch(s)
	pay := func(name string, count *counter) []string {
		count.take()
		p := payment(fmt.Sprintf("P%d", databases.Add(1)))
		p.Ledger, p.Message = "test", []byte(fmt.Sprintf(`{"username": %q}`, name))
		ledger.Confirm(p)
		<-settled
		return count.take()
	}
	pay("mary", count) // the first of an offer in a process costs one more
	for i := 1; i <= 10; i++ {
		want := 15
		if i == 1 {
			want = 14
		}
		if got := pay("john", count); len(got) > want {
			t.Errorf("payment %d of john: got %d round trips, want at most %d:\n%s", i, len(got), want, strings.Join(got, "\n"))
		}
	}
	if _, err := s.UserState(t.Context(), "nobody"); err != nil { // the first reads all users
		t.Fatal(err)
	}
	if got := pay("nobody", count); len(got) > 8 {
		t.Errorf("payment for a user who does not exist: got %d round trips, want at most 8:\n%s", len(got), strings.Join(got, "\n"))
	}
	stop()
	// Another process has to find the end of the account first.
	other, count := counted(t, database)
	stop = watch(other)
	if got := pay("john", count); len(got) > 24 {
		t.Errorf("payment 11 of john, in a new process: got %d round trips, want at most 24:\n%s", len(got), strings.Join(got, "\n"))
	}
	stop()
}
