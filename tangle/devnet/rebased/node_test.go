package rebased

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// Run issues four checkpoints a second, empty ones too, and ends epochs on time.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := New(Config{Checkpoint: 250 * time.Millisecond, Epoch: time.Hour, Lag: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- n.Run(ctx) }()
		time.Sleep(3*time.Hour + 100*time.Millisecond)
		synctest.Wait()
		n.chain.mu.RLock()
		tip, indexed, epoch := n.chain.tip(), n.indexed(), n.chain.epoch()
		for i, cp := range n.chain.checkpoints[1:] {
			before := n.chain.checkpoints[i]
			if cp.number != before.number+1 || cp.time.Before(before.time) || cp.digest == before.digest {
				t.Fatalf("checkpoint %d at %s follows %d at %s", cp.number, cp.time, before.number, before.time)
			}
		}
		second := n.chain.epochs[1]
		if first := n.chain.checkpoints[second.first]; first.epoch != 1 || n.chain.checkpoints[second.first-1].epoch != 0 {
			t.Errorf("epoch 1 begins with checkpoint %+v", first)
		}
		n.chain.mu.RUnlock()
		if tip.number != 3*4*3600 || epoch != 3 {
			t.Errorf("got checkpoint %d in epoch %d, want 43200 in epoch 3", tip.number, epoch)
		}
		if indexed != tip.number-1 {
			t.Errorf("indexed %d of %d, want that the last one is not", indexed, tip.number)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A clock that goes backwards takes nothing back.
func TestClockGoesBackwards(t *testing.T) {
	w := newWorld(t, Config{Lag: time.Second})
	for range 3 {
		w.Step()
		w.clock.advance(time.Second)
	}
	before := w.chain.tip().time
	w.clock.advance(-time.Hour)
	w.Step()
	if now := w.chain.tip().time; now.Before(before) {
		t.Errorf("got %s after %s", now, before)
	}
	w.clock.advance(time.Hour + time.Second)
	if got := w.indexed(); got != 4 {
		t.Errorf("indexed %d, want 4", got)
	}
}

// What a transaction costs is in its checkpoint's running sum, which begins again
// with the epoch.
func TestRollingGas(t *testing.T) {
	w := newWorld(t, Config{})
	for range 3 {
		w.paid(Payment{Transfers: []Transfer{{To: txn.NewKey().Address(), Amount: 1}}})
		w.Step()
	}
	if got := w.chain.tip().gas.computation; got != 3_000_000 {
		t.Errorf("got %d, want 3000000", got)
	}
	w.EndEpoch()
	w.Step()
	if got := w.chain.tip().gas.computation; got != 0 {
		t.Errorf("next epoch: got %d, want 0", got)
	}
}
