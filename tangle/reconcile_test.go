package tangle_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iotoll/iotoll/tangle"
	"github.com/iotoll/iotoll/tangle/tangletest"
)

type memory = tangletest.Ledger

// inspected is a ledger whose balances can be set.
type inspected struct {
	*memory

	mu      sync.Mutex
	balance int64
	err     error
}

func (l *inspected) set(balance int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.balance, l.err = balance, err
}

func (l *inspected) Health() []tangle.NodeHealth { return nil }

func (l *inspected) Balances(context.Context) ([]tangle.Balance, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return []tangle.Balance{{Address: "JANE", Amount: l.balance}}, l.err
}

// TestReconcile: what an address received beyond the book shows soon after the start,
// and is over once the book has it. A payment on its way is no loss.
func TestReconcile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		ledger := &inspected{memory: s.ledger}
		s.Ledger = ledger
		var mu sync.Mutex
		booked, readings, bookErr := int64(1000), 0, error(nil)
		s.Booked = func(ctx context.Context) (map[string]int64, error) {
			select { // a long book
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(3 * time.Second):
			}
			mu.Lock()
			defer mu.Unlock()
			readings++
			return map[string]int64{"JANE": booked}, bookErr
		}
		want := func(when string, want map[string]int64) {
			t.Helper()
			synctest.Wait()
			if got := s.Health().Unbooked; !maps.Equal(got, want) {
				t.Errorf("%s: got unbooked %v, want %v", when, got, want)
			}
		}
		ledger.set(1234, nil)
		s.open(t)
		time.Sleep(time.Minute + 4*time.Second)
		want("after one comparison", nil)
		time.Sleep(9 * time.Second)
		want("after two", map[string]int64{"JANE": 234})
		if s.logged("address received more than the book has") == 0 {
			t.Error("the loss was not logged")
		}
		reads := s.ledger.Requests()
		time.Sleep(3 * time.Second)
		if got := s.ledger.Requests() - reads; got < 10 {
			t.Errorf("the ledger was read %d times in 3 s, want it read while the book is", got)
		}
		mu.Lock()
		booked = 1234
		mu.Unlock()
		time.Sleep(15 * time.Minute)
		want("once it is in the book", nil)
		ledger.set(100, nil) // the seller spent it
		time.Sleep(2 * time.Hour)
		want("with less than the book", nil)

		ledger.set(2000, errors.New("node is away"))
		time.Sleep(2 * time.Hour)
		want("while the node is away", nil)
		ledger.set(2000, nil)
		mu.Lock()
		bookErr = errors.New("store is away")
		mu.Unlock()
		time.Sleep(2 * time.Hour)
		want("while the store is away", nil)
		mu.Lock()
		bookErr, readings = nil, 0
		mu.Unlock()
		time.Sleep(2 * time.Minute)
		want("afterwards", map[string]int64{"JANE": 766})
		s.close(t)
	})
}
