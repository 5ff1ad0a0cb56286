package wallet_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	devnet "github.com/iotoll/iotoll/tangle/devnet/rebased"
	"github.com/iotoll/iotoll/tangle/rebased/graphql"
	"github.com/iotoll/iotoll/tangle/rebased/txn"
	"github.com/iotoll/iotoll/tangle/wallet"
)

const (
	nanos = 1_000_000_000 // of an IOTA
	memo  = `{"username":"john","offer":"live"}`
)

// inProcess carries requests to a handler without a network, so that time can be
// injected. before and after may panic, as if the process were killed.
type inProcess struct {
	handler       http.Handler
	before, after func(document string)
}

func (p *inProcess) RoundTrip(r *http.Request) (response *http.Response, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var q struct{ Query string }
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, err
	}
	if p.before != nil {
		p.before(q.Query)
	}
	rec := httptest.NewRecorder()
	in := httptest.NewRequest(r.Method, "/", strings.NewReader(string(body))).WithContext(r.Context())
	in.Header = r.Header
	func() {
		defer func() {
			if p := recover(); p == http.ErrAbortHandler {
				err = errors.New("connection reset")
			} else if p != nil {
				panic(p)
			}
		}()
		p.handler.ServeHTTP(rec, in)
	}()
	if p.after != nil {
		p.after(q.Query)
	}
	if ctxErr := r.Context().Err(); ctxErr != nil {
		return nil, ctxErr
	}
	if err != nil {
		return nil, err
	}
	return rec.Result(), nil
}

// purse is a simulated network, and a wallet on it.
type purse struct {
	*wallet.Rebased
	t    *testing.T
	node *devnet.Node
	way  *inProcess
	key  txn.Key
	to   txn.Address
}

// open makes a purse with coins.
func open(t *testing.T, coins ...uint64) *purse {
	t.Helper()
	node, err := devnet.New(devnet.Config{Checkpoint: 250 * time.Millisecond, Execution: 400 * time.Millisecond, Lag: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	p := &purse{t: t, node: node, way: &inProcess{handler: node}, to: txn.NewKey().Address()}
	file := filepath.Join(t.TempDir(), "john.key")
	if p.key, err = wallet.WriteKey(file); err != nil {
		t.Fatal(err)
	}
	p.Rebased = &wallet.Rebased{Node: "http://node.test/", KeyFile: file, Timeout: 10 * time.Second, Client: &http.Client{Transport: p.way}}
	node.Fund(p.key.Address(), coins...)
	return p
}

// run runs f while checkpoints are issued.
func run(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) { f(t) })
}

// checkpoints issues them until the test ends.
func (p *purse) checkpoints() {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { p.node.Run(ctx) })
	p.t.Cleanup(func() { cancel(); done.Wait() })
	time.Sleep(time.Second)
}

// again is the wallet of another process.
func (p *purse) again() *wallet.Rebased {
	w := *p.Rebased
	return &w
}

// paid wants that so many nanos reached the seller.
func (p *purse) paid(want uint64) {
	p.t.Helper()
	if got := p.node.Balance(p.to); got != want {
		p.t.Errorf("the seller has %d nanos, want %d", got, want)
	}
}

func (p *purse) journal() bool {
	_, err := os.Stat(p.KeyFile + ".journal")
	return err == nil
}

func TestRebasedPay(t *testing.T) {
	run(t, func(t *testing.T) {
		p := open(t, 5*nanos)
		p.checkpoints()
		// What a killed process leaves of a journal that it never finished.
		if err := os.WriteFile(p.KeyFile+".journal.new", []byte(`{"digest":`), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		tr, err := p.Pay(ctx, strings.ToUpper(p.to.String()), nanos/2, memo)
		if err != nil || tr.Resumed || tr.Amount != nanos/2 || tr.To != p.to.String() {
			t.Fatalf("got %+v, %v", tr, err)
		}
		p.paid(nanos / 2)
		if err := p.Wait(ctx, tr); err != nil {
			t.Error(err)
		}
		// The same again is the same payment until it was taken note of.
		again, err := p.again().Pay(ctx, p.to.String(), nanos/2, memo)
		if err != nil || !again.Resumed || again.Digest != tr.Digest {
			t.Errorf("got %+v, %v, want the same transfer", again, err)
		}
		if err := p.Done(ctx, tr); err != nil || p.journal() {
			t.Errorf("done: %v, journal %t", err, p.journal())
		}
		if tr, err = p.Pay(ctx, p.to.String(), nanos/2, memo); err != nil || tr.Resumed {
			t.Errorf("got %+v, %v", tr, err)
		}
		// Another payment forgets one that is over.
		if tr, err = p.Pay(ctx, p.to.String(), nanos, ""); err != nil || tr.Resumed {
			t.Errorf("got %+v, %v", tr, err)
		}
		p.paid(2 * nanos)
		time.Sleep(time.Second)
		got, err := p.Rebased.Balance(ctx)
		if want := int64(p.node.Balance(p.key.Address())); err != nil || got != want || got < 3*nanos-10_000_000 {
			t.Errorf("balance: got %d, %v, want %d", got, err, want)
		}
	})
}

// TestRebasedCoins: up to 255 coins pay.
func TestRebasedCoins(t *testing.T) {
	run(t, func(t *testing.T) {
		coins := make([]uint64, 300)
		for i := range coins {
			coins[i] = 10_000_000
		}
		p := open(t, coins...)
		p.checkpoints()
		if _, err := p.Pay(t.Context(), p.to.String(), 255*10_000_000-5_000_000, memo); err != nil {
			t.Error(err)
		}
		p.paid(255*10_000_000 - 5_000_000)
		if _, err := p.Pay(t.Context(), p.to.String(), 256*10_000_000, ""); err == nil || !strings.Contains(err.Error(), "not enough funds") {
			t.Errorf("more than 255 coins hold: got %v", err)
		}
	})
}

func TestRebasedRefuses(t *testing.T) {
	run(t, func(t *testing.T) {
		p := open(t, nanos)
		p.checkpoints()
		ctx := t.Context()
		for name, test := range map[string]struct {
			to     string
			amount int64
			memo   string
			want   string
		}{
			"short address": {to: "0x2", amount: 1, want: "64 hexadecimal digits"},
			"own address":   {to: p.key.Address().String(), amount: 1, want: "the payer's own"},
			"nothing":       {to: p.to.String(), want: "at least 1 nano"},
			"negative":      {to: p.to.String(), amount: -1, want: "at least 1 nano"},
			"long memo":     {to: p.to.String(), amount: 1, memo: strings.Repeat("x", 5000), want: "at most 4096"},
			"too much":      {to: p.to.String(), amount: nanos - 1_000_000, want: "not enough funds: 1 IOTA, want 0.999 IOTA and 0.003 IOTA for gas"},
			"all there is":  {to: p.to.String(), amount: 1<<63 - 1, want: "not enough funds"},
		} {
			if _, err := p.Pay(ctx, test.to, test.amount, test.memo); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v, want %q", name, err, test.want)
			}
		}
		if _, err := p.Pay(ctx, p.to.String(), 2*nanos, ""); !errors.Is(err, wallet.ErrInsufficient) {
			t.Errorf("got %v, want ErrInsufficient", err)
		}
		p.Chain = "00000000"
		if _, err := p.Pay(ctx, p.to.String(), 1, ""); err == nil || !strings.Contains(err.Error(), p.node.ChainID()) {
			t.Errorf("another chain: got %v", err)
		}
		p.Chain = p.node.ChainID()
		if err := p.node.Disable("coins", true); err != nil {
			t.Fatal(err)
		}
		var errs graphql.Errors
		if _, err := p.Pay(ctx, p.to.String(), 1, ""); !errors.As(err, &errs) || !strings.Contains(err.Error(), "coins") {
			t.Errorf("without coins: got %v", err)
		}
		p.paid(0)
		if p.journal() {
			t.Error("a refused payment is in the journal")
		}
		if err := os.WriteFile(p.KeyFile+".journal", []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Pay(ctx, p.to.String(), 1, ""); err == nil || !strings.Contains(err.Error(), "not a journal") {
			t.Errorf("broken journal: got %v", err)
		}
	})
}

// TestRebasedMisbehaviour: whatever is said of an execution, the seller is paid
// once.
func TestRebasedMisbehaviour(t *testing.T) {
	for _, m := range []devnet.Misbehaviour{
		devnet.ExecutedError, devnet.ExecutedTimeout, devnet.ExecutedLost, devnet.Late, devnet.Dropped, devnet.DroppedLost,
	} {
		t.Run(string(m), func(t *testing.T) {
			run(t, func(t *testing.T) {
				p := open(t, 5*nanos)
				p.checkpoints()
				if err := p.node.Misbehave(m, 1); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				tr, err := p.Pay(t.Context(), p.to.String(), nanos, memo)
				if err != nil {
					t.Fatalf("got %+v, %v", tr, err)
				}
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("took %s", took)
				}
				p.paid(nanos)
			})
		})
	}
}

// TestRebasedLocked: a payment whose coins are locked until the epoch ends is
// undecided until then. The same bytes pay afterwards, or never.
func TestRebasedLocked(t *testing.T) {
	for _, epochs := range []int{1, 2} {
		run(t, func(t *testing.T) {
			p := open(t, 5*nanos, 5*nanos)
			p.checkpoints()
			ctx := t.Context()
			if err := p.node.Misbehave(devnet.Split, 1); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			first, err := p.Pay(ctx, p.to.String(), nanos, memo)
			if took := time.Since(start); !errors.Is(err, wallet.ErrUndecided) || first.Digest == "" || took < time.Minute || took > 2*time.Minute {
				t.Fatalf("got %+v, %v after %s", first, err, took)
			}
			// Nothing else is paid meanwhile, from whichever process.
			other, err := p.again().Pay(ctx, p.to.String(), 7, "")
			if !errors.Is(err, wallet.ErrUndecided) || other.Digest != first.Digest || !other.Resumed {
				t.Errorf("got %+v, %v", other, err)
			}
			p.paid(0)
			// Nor is it sent to another network, or forgotten there.
			elsewhere, err := devnet.New(devnet.Config{})
			if err != nil {
				t.Fatal(err)
			}
			p.way.handler = elsewhere
			start = time.Now()
			if _, err := p.again().Pay(ctx, p.to.String(), 7, ""); !errors.Is(err, wallet.ErrUndecided) || !strings.Contains(err.Error(), elsewhere.ChainID()) ||
				time.Since(start) > time.Second || !p.journal() {
				t.Errorf("on another chain: got %v", err)
			}
			p.way.handler = p.node
			for range epochs {
				p.node.EndEpoch()
			}
			again, err := p.again().Pay(ctx, p.to.String(), nanos, memo)
			if err != nil {
				t.Fatal(err)
			}
			if again.Resumed != (epochs == 1) || (again.Digest == first.Digest) != (epochs == 1) {
				t.Errorf("after %d epochs: got %+v, first was %+v", epochs, again, first)
			}
			p.paid(nanos)
		})
	}
}

// TestRebasedOvertaken: a transaction whose coin was used by another one is
// dead, and that is found out.
func TestRebasedOvertaken(t *testing.T) {
	run(t, func(t *testing.T) {
		p := open(t, 5*nanos)
		p.checkpoints()
		p.way.before = func(document string) {
			if strings.HasPrefix(document, "mutation") {
				p.way.before = nil
				if _, err := p.node.Pay(devnet.Payment{From: &p.key, Transfers: []devnet.Transfer{{To: txn.NewKey().Address(), Amount: nanos}}}); err != nil {
					t.Error(err)
				}
			}
		}
		if tr, err := p.Pay(t.Context(), p.to.String(), nanos, memo); !errors.Is(err, wallet.ErrDead) || tr.Digest != "" || p.journal() {
			t.Errorf("got %+v, %v, journal %t", tr, err, p.journal())
		}
		p.paid(0)
		if _, err := p.Pay(t.Context(), p.to.String(), nanos, memo); err != nil {
			t.Error(err)
		}
		p.paid(nanos)
	})
}

// TestRebasedFaults: answers that are wrong for a while delay a payment and do
// not double it.
func TestRebasedFaults(t *testing.T) {
	for _, fault := range devnet.Faults() {
		if fault == devnet.Hang || fault == devnet.Endless {
			continue // need a connection; see TestRebasedTimeout
		}
		t.Run(string(fault), func(t *testing.T) {
			run(t, func(t *testing.T) {
				p := open(t, 5*nanos)
				p.checkpoints()
				p.way.before = func(document string) {
					if strings.HasPrefix(document, "mutation") {
						p.way.before = nil
						p.node.Break("", fault)
						time.AfterFunc(15*time.Second, func() { p.node.Break("", "") })
					}
				}
				if tr, err := p.Pay(t.Context(), p.to.String(), nanos, memo); err != nil {
					t.Errorf("got %+v, %v", tr, err)
				}
				p.paid(nanos)
				time.Sleep(20 * time.Second)
			})
		})
	}
}

// killed stands for a process that ends at once.
type killed struct{}

// TestRebasedKilled: killed before or after any request, and started again, the
// seller is paid once.
func TestRebasedKilled(t *testing.T) {
	for _, trick := range []devnet.Misbehaviour{"", devnet.ExecutedLost, devnet.Late, devnet.Dropped} {
		for at := 0; ; at++ {
			done := false
			run(t, func(t *testing.T) {
				p := open(t, 5*nanos)
				p.checkpoints()
				if err := p.node.Misbehave(trick, 1); err != nil {
					t.Fatal(err)
				}
				n := 0
				kill := func(string) {
					if n++; n == at+1 {
						panic(killed{})
					}
				}
				p.way.before, p.way.after = kill, kill
				func() {
					defer func() {
						if r := recover(); r != nil && r != (killed{}) {
							panic(r)
						}
					}()
					_, err := p.Pay(t.Context(), p.to.String(), nanos, memo)
					if err != nil {
						t.Errorf("%s %d: %v", trick, at, err)
					}
					done = n <= at
				}()
				p.way.before, p.way.after = nil, nil
				for range 2 {
					if _, err := p.again().Pay(t.Context(), p.to.String(), nanos, memo); err != nil {
						t.Errorf("%s %d: again: %v", trick, at, err)
					}
				}
				p.paid(nanos)
				time.Sleep(time.Minute)
				p.paid(nanos)
			})
			if done || t.Failed() {
				t.Logf("%q: killed at %d moments", trick, at)
				break
			}
		}
	}
}

// TestRebasedTogether: two processes with one key pay one after the other.
func TestRebasedTogether(t *testing.T) {
	run(t, func(t *testing.T) {
		p := open(t, 5*nanos)
		p.checkpoints()
		p.node.SplitConflicts(true)
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				if _, err := p.again().Pay(t.Context(), p.to.String(), int64(nanos/2+i), memo); err != nil {
					t.Errorf("payment %d: %v", i, err)
				}
			})
		}
		all.Wait()
		p.paid(4*(nanos/2) + 6)

		// Who waits for the lock says so.
		release := make(chan struct{})
		p.way.before = func(string) { <-release }
		all.Go(func() { p.Pay(t.Context(), p.to.String(), nanos, memo) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.again().Pay(ctx, p.to.String(), nanos, memo); err == nil || !strings.Contains(err.Error(), "another process pays with this key") {
			t.Errorf("got %v", err)
		}
		close(release)
		all.Wait()
	})
}

// TestRebasedTimeout: a node that hangs costs a timeout, over a real connection.
func TestRebasedTimeout(t *testing.T) {
	p := open(t, 5*nanos)
	s := httptest.NewServer(p.node)
	defer s.Close()
	p.Node, p.Client, p.Timeout = s.URL, s.Client(), 2*time.Second
	p.node.Step()
	time.Sleep(400 * time.Millisecond)
	if err := p.node.Break("executeTransactionBlock", devnet.Hang); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Pay(t.Context(), p.to.String(), nanos, memo); err != nil {
		t.Error(err)
	}
	p.paid(nanos)
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	key, err := wallet.WriteKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := wallet.ReadKey(path); err != nil || got.Address() != key.Address() {
		t.Errorf("got %s, %v, want %s", got, err, key)
	}
	if _, err := wallet.WriteKey(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("write again: got %v", err)
	}
	if _, err := wallet.ReadKey(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: got %v", err)
	}
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte(key.Secret()[:60]), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := wallet.ReadKey(bad); err == nil || strings.Contains(err.Error(), key.Secret()[12:40]) || !strings.Contains(err.Error(), bad) {
		t.Errorf("cut: got %v", err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := wallet.ReadKey(path); err == nil || !strings.Contains(err.Error(), "want 0600") {
			t.Errorf("mode %04o: got %v", mode, err)
		}
	}
}
