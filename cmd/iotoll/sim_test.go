package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/iotoll/iotoll/tangle/wallet"
)

// TestSimIOTA: the simulated node of today's network gives a new key its coins,
// answers, and obeys its control port.
func TestSimIOTA(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "john.key")
	args := []string{"sim", "iota", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--key-file", file, "--iota", "12"}
	lines := background(t, "", args...)
	key, err := wallet.ReadKey(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 6 || lines[3] != "key "+file+" owns 12 IOTA at "+key.Address().String() {
		t.Fatalf("got %q", lines)
	}
	node, faucet := strings.TrimPrefix(lines[0], "node "), strings.TrimPrefix(lines[1], "faucet ")
	chain, control := strings.TrimPrefix(lines[2], "chain "), strings.TrimPrefix(lines[4], "control ")
	post := func(url, body string) string {
		t.Helper()
		res, err := http.Post(url, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	balance := func() string {
		return post(node, `{"query":"{ address(address: \"`+key.Address().String()+`\") { balance { totalBalance coinObjectCount } } }"}`)
	}
	if got := balance(); got != `{"data":{"address":{"balance":{"totalBalance":"12000000000","coinObjectCount":5}}}}` {
		t.Errorf("balance: got %s", got)
	}
	if got := post(node, `{"jsonrpc":"2.0","id":1,"method":"iota_getChainIdentifier","params":[]}`); got != `{"jsonrpc":"2.0","id":1,"result":"`+chain+`"}` {
		t.Errorf("chain over JSON-RPC: got %s, want %s", got, chain)
	}
	if got := post(faucet, `{"FixedAmountRequest":{"recipient":"`+key.Address().String()+`"}}`); !strings.Contains(got, `"task":`) {
		t.Errorf("faucet: got %s", got)
	}
	if got := post(control+"/break?fault=html-200", ""); !json.Valid([]byte(got)) || !strings.HasPrefix(balance(), "<!DOCTYPE html>") {
		t.Errorf("control: got %s, then %s", got, balance())
	}

	// The same key again, in a new network.
	if lines := background(t, "", append(args, "--conflicts", "pcool")...); len(lines) != 6 || !strings.HasSuffix(lines[3], key.Address().String()) {
		t.Errorf("again: got %q", lines)
	}
	if err := os.WriteFile(file, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := iotoll(t, "", args...); r.code != 1 || !strings.Contains(r.errOut, "private key") || strings.Contains(r.errOut, "hunter2") {
		t.Errorf("bad key: got %+v", r)
	}
}
