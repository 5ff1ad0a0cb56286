//go:build testnet

package rebased_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/tangle"
	devnet "github.com/iotoll/iotoll/tangle/devnet/rebased"
	"github.com/iotoll/iotoll/tangle/rebased"
	"github.com/iotoll/iotoll/tangle/rebased/graphql"
	"github.com/iotoll/iotoll/tangle/wallet"
)

var (
	networkFlag = flag.String("network", "testnet", "network to try: testnet, devnet or local")
	nodeFlag    = flag.String("node", "", "URL of another GraphQL service")
	faucetFlag  = flag.String("faucet", "", "URL of another faucet")
	recordFlag  = flag.String("record", "", "folder for the recorded answers; a new one in the temporary folder if empty")
)

// TestTestnet pays on a real network and says what differs from the simulated
// one. It takes coins from the faucet, so that it needs no secrets:
//
//	go test -tags testnet ./tangle/rebased -run Testnet -v
//
// CI never runs it.
func TestTestnet(t *testing.T) {
	network, err := rebased.NetworkByName(*networkFlag)
	if err != nil {
		t.Fatal(err)
	}
	if *nodeFlag != "" {
		network.Node = *nodeFlag
	}
	if *faucetFlag != "" {
		network.Faucet = *faucetFlag
	}
	if network.Faucet == "" {
		t.Fatalf("network %s has no faucet", *networkFlag)
	}

	t.Log("on the simulated network, to compare with:")
	node, err := devnet.New(devnet.Config{Checkpoint: 250 * time.Millisecond, Execution: 400 * time.Millisecond, Lag: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { node.Run(ctx) })
	defer done.Wait()
	defer stop()
	server := httptest.NewServer(node)
	defer server.Close()
	want := tryNetwork(t, rebased.Network{Node: server.URL, Faucet: server.URL + "/gas"})

	t.Logf("on %s:", network.Node)
	got := tryNetwork(t, network)

	folder := *recordFlag
	if folder == "" {
		if folder, err = os.MkdirTemp("", "iotoll-testnet-"); err != nil {
			t.Fatal(err)
		}
	}
	if err := got.write(folder); err != nil {
		t.Fatal(err)
	}
	t.Logf("recorded answers are in %s", folder)
	differences := diff(want, got)
	if len(differences) == 0 {
		t.Log("no differences from the simulator")
	}
	for _, d := range differences {
		t.Logf("differs: %s", d)
	}
}

// recording keeps the first good answer to each operation.
type recording struct {
	mu      sync.Mutex
	answers map[string][]byte // by operation name
	asked   map[string][]byte
	facts   map[string]string
}

// RoundTrip implements http.RoundTripper.
func (r *recording) RoundTrip(request *http.Request) (*http.Response, error) {
	sent, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	request.Body = io.NopCloser(bytes.NewReader(sent))
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	var q struct{ Query string }
	if json.Unmarshal(sent, &q) == nil {
		_, rest, _ := strings.Cut(q.Query, " ")
		name := rest[:max(0, strings.IndexAny(rest, "({"))]
		r.mu.Lock()
		defer r.mu.Unlock()
		// Later answers say more: the payment is in them.
		r.asked[name], r.answers[name] = sent, body
	}
	return response, nil
}

func (r *recording) write(folder string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, answer := range r.answers {
		if err := os.WriteFile(filepath.Join(folder, name+".request.json"), r.asked[name], 0o644); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, name+".answer.json"), answer, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// tryNetwork pays an address of its own with a memo and reads the payment.
func tryNetwork(t *testing.T, network rebased.Network) *recording {
	t.Helper()
	r := &recording{answers: make(map[string][]byte), asked: make(map[string][]byte), facts: make(map[string]string)}
	fact := func(name, format string, args ...any) {
		r.facts[name] = fmt.Sprintf(format, args...)
		t.Logf("  %s: %s", name, r.facts[name])
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	client := &http.Client{Transport: r}
	dir := t.TempDir()
	seller, err := wallet.WriteKey(filepath.Join(dir, "seller.key"))
	if err != nil {
		t.Fatal(err)
	}
	buyer, err := wallet.WriteKey(filepath.Join(dir, "buyer.key"))
	if err != nil {
		t.Fatal(err)
	}
	w := &wallet.Rebased{Node: network.Node, KeyFile: filepath.Join(dir, "buyer.key"), Client: client}

	limits(t, ctx, network, client, fact)

	log := logrus.New()
	log.SetOutput(io.Discard)
	deposit := seller.Address().String()
	l, err := rebased.New(rebased.Config{Nodes: []string{network.Node}, Addresses: []string{deposit}, Client: client, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	first, err := l.Confirmed(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	start, from := time.Now(), first.Marks[deposit].Position

	body := fmt.Sprintf(`{"FixedAmountRequest":{"recipient":%q}}`, buyer.Address())
	response, err := http.Post(network.Faucet, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatalf("ask the faucet: %v", err)
	}
	said, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
	response.Body.Close()
	if response.StatusCode/100 != 2 {
		t.Fatalf("ask the faucet: %s: %s", response.Status, said)
	}
	fact("faucet", "%d", response.StatusCode)
	balance := int64(0)
	for balance == 0 {
		if balance, err = w.Balance(ctx); err != nil {
			t.Fatal(err)
		}
		if err := ctx.Err(); err != nil {
			t.Fatalf("wait for the faucet's coins: %v", err)
		}
		time.Sleep(500 * time.Millisecond)
	}
	fact("faucet gives", "%d nanos", balance)

	const memo, amount = `{"username":"john","offer":"live"}`, 100_000_000
	sent := time.Now()
	transfer, err := w.Pay(ctx, deposit, amount, memo)
	if err != nil {
		t.Fatalf("pay: %v", err)
	}
	t.Logf("  executed after %s: %s", time.Since(sent).Round(time.Millisecond), transfer.Digest)
	marks := first.Marks
	var found tangle.Payment
	for found.ID == "" {
		b, err := l.Confirmed(ctx, marks)
		if err != nil {
			t.Fatal(err)
		}
		marks = b.Marks
		if len(b.Payments) > 0 {
			found = b.Payments[0]
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Logf("  seen as final after %s", time.Since(sent).Round(time.Millisecond))
	if want := transfer.Digest + "/" + deposit; found.ID != want || found.Amount != amount || found.Sender != buyer.Address().String() {
		t.Errorf("payment is %+v, want %s", found, want)
	}
	fact("memo survives", "%t", string(found.Message) == memo)
	if string(found.Message) != memo {
		t.Errorf("memo is %q, want %q", found.Message, memo)
	}
	if age := time.Since(found.Final); age < -time.Minute || age > 5*time.Minute {
		t.Errorf("final at %s, now it is %s", found.Final, time.Now().UTC())
	}
	if err := w.Wait(ctx, transfer); err != nil {
		t.Error(err)
	}
	rate := float64(found.Position-from) / time.Since(start).Seconds()
	t.Logf("  about %.1f checkpoints a second", rate)

	left := balance
	for left == balance {
		if left, err = w.Balance(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	fact("gas of the payment", "%d nanos", balance-amount-left)
	if b, err := l.Balances(ctx); err != nil || len(b) != 1 || b[0].Amount != amount {
		t.Errorf("balances: got %+v, %v, want %d", b, err, amount)
	}
	if err := w.Done(ctx, transfer); err != nil {
		t.Error(err)
	}
	return r
}

// limits asks for what the service allows, and for what it still has.
func limits(t *testing.T, ctx context.Context, network rebased.Network, client *http.Client, fact func(string, string, ...any)) {
	t.Helper()
	c, err := graphql.New(network.Node, client, 30*time.Second, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var a struct {
		ChainIdentifier string
		Checkpoint      struct{ SequenceNumber int64 }
		Checkpoints     struct {
			Nodes []struct{ SequenceNumber int64 }
		}
		ServiceConfig map[string]any
	}
	answer, err := c.Do(ctx, `query Limits{chainIdentifier checkpoint{sequenceNumber}checkpoints(first:1){nodes{sequenceNumber}}
		serviceConfig{maxPageSize defaultPageSize maxQueryDepth maxQueryNodes maxOutputNodes maxQueryPayloadSize requestTimeoutMs mutationTimeoutMs}}`, nil, &a)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("  chain %s, checkpoint %d, version %s", a.ChainIdentifier, a.Checkpoint.SequenceNumber, answer.Version)
	if len(a.Checkpoints.Nodes) > 0 {
		t.Logf("  keeps %d checkpoints", a.Checkpoint.SequenceNumber-a.Checkpoints.Nodes[0].SequenceNumber)
	}
	for name, value := range a.ServiceConfig {
		fact(name, "%v", value)
	}
}

// diff compares the facts, and the forms of the answers.
func diff(want, got *recording) []string {
	var all []string
	for name, value := range got.facts {
		if value != want.facts[name] {
			all = append(all, fmt.Sprintf("%s: %s, simulator: %s", name, value, want.facts[name]))
		}
	}
	for name, answer := range got.answers {
		var a, b any
		if json.Unmarshal(answer, &a) != nil || json.Unmarshal(want.answers[name], &b) != nil {
			all = append(all, fmt.Sprintf("answer to %s: missing or not JSON on one side", name))
			continue
		}
		forms, known := make(map[string]bool), make(map[string]bool)
		form("", a, forms)
		form("", b, known)
		for f := range forms {
			if !known[f] {
				all = append(all, fmt.Sprintf("answer to %s: %s, not so in the simulator", name, f))
			}
		}
	}
	slices.Sort(all)
	return all
}

// form notes which kinds of values stand where.
func form(path string, v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			form(path+"."+name, inner, into)
		}
	case []any:
		for _, inner := range v {
			form(path+"[]", inner, into)
		}
	default:
		into[fmt.Sprintf("%s is %T", path, v)] = true
	}
}
