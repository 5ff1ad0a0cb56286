package wallet_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	devnet "github.com/iotoll/iotoll/tangle/devnet/rebased"
	"github.com/iotoll/iotoll/tangle/rebased/txn"
	"github.com/iotoll/iotoll/tangle/wallet"
)

// TestMain runs the tests, or, as the child process of one, a payment.
func TestMain(m *testing.M) {
	if node := os.Getenv("TEST_PAY_NODE"); node != "" {
		w := &wallet.Rebased{Node: node, KeyFile: os.Getenv("TEST_PAY_KEY"), Timeout: 10 * time.Second}
		t, err := w.Pay(context.Background(), os.Getenv("TEST_PAY_TO"), nanos, memo)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(t.Digest)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestRebasedKilledProcess kills a paying process (SIGKILL) when the node gets its
// nth request, and when it has dealt with it, and starts another one. The seller
// is paid once.
func TestRebasedKilledProcess(t *testing.T) {
	for at := 0; ; at++ {
		node, err := devnet.New(devnet.Config{Checkpoint: 200 * time.Millisecond, Execution: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { node.Run(ctx) })

		file, to := filepath.Join(t.TempDir(), "john.key"), txn.NewKey().Address()
		key, err := wallet.WriteKey(file)
		if err != nil {
			t.Fatal(err)
		}
		node.Fund(key.Address(), 5*nanos, 5*nanos)
		node.Step()

		var mu sync.Mutex
		var child *exec.Cmd
		moments, killed := 0, false
		moment := func() {
			mu.Lock()
			defer mu.Unlock()
			if moments++; moments == at+1 {
				killed = true
				child.Process.Kill()
			}
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// Read it all, so that the request counts although its sender is dead.
			body, _ := io.ReadAll(r.Body)
			r = r.WithContext(ctx)
			r.Body = io.NopCloser(bytes.NewReader(body))
			moment()
			rec := httptest.NewRecorder()
			node.ServeHTTP(rec, r)
			moment()
			w.Write(rec.Body.Bytes())
		}))
		start := func() *bytes.Buffer {
			mu.Lock()
			defer mu.Unlock()
			child = exec.Command(os.Args[0])
			child.Env = append(os.Environ(), "TEST_PAY_NODE="+server.URL, "TEST_PAY_KEY="+file, "TEST_PAY_TO="+to.String())
			out := new(bytes.Buffer)
			child.Stdout, child.Stderr = out, out
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			return out
		}
		out := start()
		err = child.Wait()
		mu.Lock()
		first := killed
		mu.Unlock()
		if err != nil && !first {
			t.Errorf("pay: %v: %s", err, out)
		}
		out = start()
		if err := child.Wait(); err != nil {
			t.Errorf("moment %d: pay again: %v: %s", at, err, out)
		}
		if got := node.Balance(to); got != nanos {
			t.Errorf("moment %d: the seller has %d nanos, want %d", at, got, nanos)
		}
		server.Close()
		stop()
		running.Wait()
		if !first || t.Failed() {
			t.Logf("killed at %d moments", at)
			if at < 6 {
				t.Error("too few")
			}
			return
		}
	}
}
