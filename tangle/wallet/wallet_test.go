package wallet

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/api"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/transaction"
	"github.com/iotaledger/iota.go/trinary"

	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
)

var sellerSeed = strings.Repeat("SELLER999", 9)

func addressOf(t *testing.T, seed trinary.Trytes, index uint64) trinary.Hash {
	t.Helper()
	a, err := address.GenerateAddress(seed, index, consts.SecurityLevelMedium, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// start serves a tangle on which the demo seed owns some iotas.
func start(t *testing.T, iotas uint64) (*devlegacy.Node, *Wallet) {
	t.Helper()
	genesis, err := devlegacy.SeedGenesis(devlegacy.DemoSeed, iotas)
	if err != nil {
		t.Fatal(err)
	}
	n, err := devlegacy.New(devlegacy.Config{Genesis: genesis, MWM: 2})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(n)
	t.Cleanup(server.Close)
	return n, &Wallet{Node: server.URL, Seed: devlegacy.DemoSeed, MWM: 2, Force: true}
}

func milestone(t *testing.T, n *devlegacy.Node) {
	t.Helper()
	if _, err := n.Milestone(); err != nil {
		t.Fatal(err)
	}
}

// wantFunds checks what the wallet could spend: it tells when asked for too much.
func wantFunds(t *testing.T, w *Wallet, want int64) {
	t.Helper()
	_, err := w.Pay(t.Context(), addressOf(t, sellerSeed, 0), supply, "")
	if text := fmt.Sprintf("%d are confirmed and spendable", want); !errors.Is(err, ErrInsufficient) || !strings.Contains(err.Error(), text) {
		t.Errorf("pay more than there is: got %v, want %v: %s", err, ErrInsufficient, text)
	}
}

// Payments in a row each leave their remainder on a fresh address, and the last
// one, of all that is left, needs none.
func TestPay(t *testing.T) {
	n, w := start(t, 2000)
	to := addressOf(t, sellerSeed, 0)
	for i, amount := range []int64{500, 1, 1499} {
		r, err := w.Pay(t.Context(), to, amount, `{"username": "john"}`)
		if err != nil {
			t.Fatalf("pay %d: %v", amount, err)
		}
		if n.Included(r.Tail) {
			t.Fatalf("payment of %d: included before a milestone", amount)
		}
		milestone(t, n)
		if err := w.Wait(t.Context(), r); err != nil {
			t.Fatalf("wait for %d: %v", amount, err)
		}
		if got := n.Balance(addressOf(t, devlegacy.DemoSeed, uint64(i))); got != 0 {
			t.Errorf("after payment %d: %d iotas stay on the address paid from", i+1, got)
		}
	}
	if got := n.Balance(to); got != 2000 {
		t.Errorf("the seller's balance: got %d, want 2000", got)
	}
	wantFunds(t, w, 0)
	if _, err := w.Pay(t.Context(), to, 1, ""); !errors.Is(err, ErrInsufficient) {
		t.Errorf("pay from an empty wallet: got %v, want %v", err, ErrInsufficient)
	}
}

// Without a configured magnitude, the wallet uses the one that the node asks for.
func TestAskMagnitude(t *testing.T) {
	n, w := start(t, 2000)
	w.MWM = 0
	to := addressOf(t, sellerSeed, 0)
	if _, err := w.Pay(t.Context(), to, 500, ""); err != nil {
		t.Fatal(err)
	}
	milestone(t, n)
	if got := n.Balance(to); got != 500 {
		t.Errorf("the seller's balance: got %d, want 500", got)
	}
	for text, want := range map[string]int{
		"Wrong MinWeightMagnitude. requested: 9, expected: 14":  14,
		"Wrong MinWeightMagnitude. requested: 9, expected: 15":  0,
		"Wrong MinWeightMagnitude. requested: 9, expected: 0":   0,
		"Wrong MinWeightMagnitude. requested: 9, expected: 100": 0,
		"Wrong MinWeightMagnitude.":                             0,
	} {
		if got := wantedMWM(errors.New(text)); got != want {
			t.Errorf("wantedMWM(%q): got %d, want %d", text, got, want)
		}
	}
}

// A long message spans transactions, and arrives complete.
func TestPayLongMessage(t *testing.T) {
	n, w := start(t, 2000)
	text := `{"username": "` + strings.Repeat("j", 1500) + `"}`
	r, err := w.Pay(t.Context(), addressOf(t, sellerSeed, 0), 500, text)
	if err != nil {
		t.Fatal(err)
	}
	milestone(t, n)
	node, err := api.ComposeAPI(api.HTTPClientSettings{URI: w.Node})
	if err != nil {
		t.Fatal(err)
	}
	b, err := node.GetBundle(r.Tail)
	if err != nil {
		t.Fatal(err)
	}
	if b[0].Bundle != r.Bundle {
		t.Errorf("bundle hash: got %s, want %s", r.Bundle, b[0].Bundle)
	}
	if got, err := transaction.ExtractJSON(b); err != nil || got != text {
		t.Errorf("message: got %q, %v, want %q", got, err, text)
	}
}

// Inputs of several addresses are put together.
func TestPayFromSeveral(t *testing.T) {
	one := addressOf(t, devlegacy.DemoSeed, 0)
	far := addressOf(t, devlegacy.DemoSeed, 3)
	n, err := devlegacy.New(devlegacy.Config{Genesis: map[trinary.Hash]uint64{one: 300, far: 300}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(n)
	defer server.Close()
	w := &Wallet{Node: server.URL, Seed: devlegacy.DemoSeed, MWM: 1, Force: true}
	to := addressOf(t, sellerSeed, 0)
	if _, err := w.Pay(t.Context(), to, 500, ""); err != nil {
		t.Fatal(err)
	}
	milestone(t, n)
	if got := n.Balance(to); got != 500 {
		t.Errorf("the seller's balance: got %d, want 500", got)
	}
	if got := n.Balance(addressOf(t, devlegacy.DemoSeed, 4)); got != 100 {
		t.Errorf("the remainder at the address after the last used: got %d, want 100", got)
	}
}

// An address that a signature was seen of is never spent from again: neither
// while the first payment is on its way, nor when somebody pays to it later.
func TestSpentAddress(t *testing.T) {
	n, w := start(t, 1000)
	to := addressOf(t, sellerSeed, 0)
	if _, err := w.Pay(t.Context(), to, 400, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Pay(t.Context(), to, 400, ""); !errors.Is(err, ErrInsufficient) {
		t.Errorf("pay while all is on its way: got %v, want %v", err, ErrInsufficient)
	}
	milestone(t, n)
	if _, err := w.Pay(t.Context(), addressOf(t, devlegacy.DemoSeed, 0), 100, ""); err != nil { // to the address spent from
		t.Fatal(err)
	}
	milestone(t, n)
	wantFunds(t, w, 500) // what is on the spent address does not count
	if _, err := w.Pay(t.Context(), to, 600, ""); !errors.Is(err, ErrInsufficient) || !strings.Contains(err.Error(), "100 more") {
		t.Errorf("pay more than can be spent: got %v, want %v and the 100 on the spent address", err, ErrInsufficient)
	}
}

func TestBadInput(t *testing.T) {
	n, good := start(t, 1000)
	to := addressOf(t, sellerSeed, 0)
	for name, c := range map[string]struct {
		change  func(*Wallet)
		to      trinary.Hash
		amount  int64
		message string
		want    string
	}{
		"checksum":      {to: to[:89] + string('A'+(to[89]-'A'+1)%26), amount: 1, want: "mistyped"},
		"no checksum":   {to: to[:81], amount: 1, want: "want 90 trytes"},
		"lower case":    {to: strings.ToLower(to), amount: 1, want: "A to Z and 9"},
		"zero":          {to: to, amount: 0, want: "amount 0"},
		"negative":      {to: to, amount: -500, want: "amount -500"},
		"supply":        {to: to, amount: supply + 1, want: "amount 2779530283277762"},
		"not ASCII":     {to: to, amount: 1, message: "für", want: "byte 1"},
		"short seed":    {change: func(w *Wallet) { w.Seed = "SECRET" }, to: to, amount: 1, want: "seed of 6 characters"},
		"bad seed":      {change: func(w *Wallet) { w.Seed = strings.Repeat("secret999", 9) }, to: to, amount: 1, want: "A to Z and 9"},
		"magnitude":     {change: func(w *Wallet) { w.MWM = 15 }, to: to, amount: 1, want: "magnitude 15"},
		"wrong MWM":     {change: func(w *Wallet) { w.MWM = 9 }, to: to, amount: 1, want: "Wrong MinWeightMagnitude"},
		"no URL":        {change: func(w *Wallet) { w.Node = "localhost" }, to: to, amount: 1, want: "want a URL"},
		"nobody there":  {change: func(w *Wallet) { w.Node = "http://127.0.0.1:1" }, to: to, amount: 1, want: "refused"},
		"to ourselves":  {to: addressOf(t, devlegacy.DemoSeed, 0), amount: 1, want: "own"},
		"negativedepth": {change: func(w *Wallet) { w.Depth = -1 }, to: to, amount: 1, want: "depth -1"},
	} {
		w := *good
		if c.change != nil {
			c.change(&w)
		}
		_, err := w.Pay(t.Context(), c.to, c.amount, c.message)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
		if err != nil && strings.Contains(strings.ToUpper(err.Error()), "SECRET") {
			t.Errorf("%s: the seed is in the error: %v", name, err)
		}
	}
	milestone(t, n)
	if got := n.Balance(to); got != 0 {
		t.Errorf("the seller got %d iotas", got)
	}
}

// A node that answers nonsense makes an error, never a panic, and never a
// signature when what it says of the funds is incomplete.
func TestNonsense(t *testing.T) {
	for name, answer := range map[string]string{
		"empty object": `{}`,
		"empty lists":  `{"balances":[],"states":[],"hashes":[],"trytes":[]}`,
		"one":          `{"balances":["1"],"states":[false],"hashes":[],"trytes":[],"milestoneIndex":1}`,
		"html":         `<html>`,
		"nothing":      ``,
		"too much":     `{"balances":["99999999999999999"` + strings.Repeat(`,"0"`, gap-1) + `],"states":[false` + strings.Repeat(",false", gap-1) + `],"hashes":[],"milestoneIndex":1}`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(answer)) }))
		w := &Wallet{Node: server.URL, Seed: devlegacy.DemoSeed, MWM: 1, Force: true}
		if _, err := w.Pay(t.Context(), addressOf(t, sellerSeed, 0), 1, ""); err == nil {
			t.Errorf("%s: got no error", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := w.Wait(ctx, Receipt{Tail: strings.Repeat("A", 81)}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: wait: got %v, want a deadline", name, err)
		}
		cancel()
		server.Close()
	}
}

// A node that does not answer delays nobody longer than the timeout, or ctx.
func TestSilence(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	w := &Wallet{Node: server.URL, Seed: devlegacy.DemoSeed, MWM: 1, Force: true, Timeout: 50 * time.Millisecond}
	if _, err := w.Pay(t.Context(), addressOf(t, sellerSeed, 0), 1, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("pay: got %v, want a deadline", err)
	}
	w.Timeout = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.Pay(ctx, addressOf(t, sellerSeed, 0), 1, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("pay with a deadline: got %v", err)
	}
}

// For each fault of a node's answers, Pay ends, tells the truth about whether it paid,
// and pays again once the fault is over.
func TestFaults(t *testing.T) {
	to := addressOf(t, sellerSeed, 0)
	for _, c := range []struct {
		command string
		fault   devlegacy.Fault
		want    string // "paid", "refused", or "unknown": an error with a receipt
	}{
		{"", devlegacy.Hang, "refused"},
		{"", devlegacy.Endless, "refused"},
		{"", devlegacy.Reset, "refused"},
		{"", devlegacy.Error403, "refused"},
		{"getBalances", devlegacy.WrongTypes, "refused"},
		{"wereAddressesSpentFrom", devlegacy.AllTrue, "refused"},
		{"wereAddressesSpentFrom", devlegacy.ShortLists, "refused"},
		{"findTransactions", devlegacy.Nines, "paid"}, // what was signed is known as spent
		{"getTrytes", devlegacy.Forged, "refused"},
		{"getTransactionsToApprove", devlegacy.EmptyObject, "refused"},
		{"attachToTangle", devlegacy.EmptyLists, "refused"},
		{"attachToTangle", devlegacy.LongLists, "refused"},
		{"attachToTangle", devlegacy.Nines, "refused"},
		{"attachToTangle", devlegacy.Forged, "refused"},
		{"attachToTangle", devlegacy.Truncated, "refused"},
		{"storeTransactions", devlegacy.Error500, "unknown"},
		{"broadcastTransactions", devlegacy.Truncated, "unknown"},
		{"broadcastTransactions", devlegacy.Reset, "unknown"},
		{"broadcastTransactions", devlegacy.EmptyBody, "unknown"},
	} {
		t.Run(fmt.Sprintf("%s of %s", c.fault, cmp.Or(c.command, "everything")), func(t *testing.T) {
			t.Parallel()
			n, w := start(t, 1000)
			pay := func(limit time.Duration) (Receipt, error) {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				return w.Pay(ctx, to, 1, "")
			}
			if _, err := pay(time.Minute); err != nil {
				t.Fatalf("before the fault: %v", err)
			}
			milestone(t, n)
			if err := n.Break(c.command, c.fault); err != nil {
				t.Fatal(err)
			}
			if c.fault == devlegacy.Hang {
				w.Timeout = 100 * time.Millisecond
			}
			limit := time.Minute
			if c.fault == devlegacy.AllTrue { // a seed without end
				limit = time.Second
			}
			r, err := pay(limit)
			got := "refused"
			switch {
			case err == nil:
				got = "paid"
			case r.Tail != "":
				got = "unknown"
			}
			if got != c.want {
				t.Errorf("got %s, %v, want %s", got, err, c.want)
			}
			milestone(t, n)
			arrived := n.Balance(to) - 1
			if arrived > 1 || got == "refused" && arrived != 0 || got == "paid" && arrived != 1 || n.Included(r.Tail) != (arrived == 1) {
				t.Errorf("%s, but %d iotas arrived; receipt %+v", got, arrived, r)
			}
			if err := n.Break("", ""); err != nil {
				t.Fatal(err)
			}
			w.Timeout = 0
			if _, err := pay(time.Minute); err != nil {
				t.Errorf("after the fault: %v", err)
			}
		})
	}
}

// A message that the seller could not read is sent by force only.
func TestMessage(t *testing.T) {
	n, w := start(t, 1000)
	w.Force = false
	to := addressOf(t, sellerSeed, 0)
	for _, message := range []string{"", "john", `{"user": "john"}`, `{"username": "john"} ` + "\x01", `{"username": ""}`} {
		if _, err := w.Pay(t.Context(), to, 100, message); !errors.Is(err, ErrMessage) {
			t.Errorf("%q: got %v, want %v", message, err, ErrMessage)
		}
	}
	milestone(t, n)
	if got := n.Balance(to); got != 0 {
		t.Errorf("the seller got %d iotas", got)
	}
	w.Force = true
	if _, err := w.Pay(t.Context(), to, 100, "john"); err != nil {
		t.Errorf("by force: %v", err)
	}
}

// The caller hears of each step, and goes on hearing while the node works.
func TestProgress(t *testing.T) {
	n, w := start(t, 1000)
	ticks := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if bytes.Contains(body, []byte("attachToTangle")) {
			for range 2 {
				<-ticks // the work takes until the caller has heard of it twice
			}
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		n.ServeHTTP(rw, r)
	}))
	defer server.Close()
	w.Node, w.beat = server.URL, time.Millisecond
	var steps []Step
	w.Progress = func(s Step, elapsed time.Duration) {
		switch {
		case elapsed == 0:
			steps = append(steps, s)
		case s == StepWork:
			select {
			case ticks <- struct{}{}:
			default:
			}
		}
	}
	if _, err := w.Pay(t.Context(), addressOf(t, sellerSeed, 0), 1, `{"username": "john"}`); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(steps, []Step{StepFunds, StepWork, StepSend}) {
		t.Errorf("got steps %q, want all three", steps)
	}
}

// Wait tells a payment that lost against a conflicting one from one that is pending,
// and finds one that was confirmed through another attachment.
func TestWait(t *testing.T) {
	n, w := start(t, 1000)
	to := addressOf(t, sellerSeed, 0)
	for _, iri := range []bool{false, true} {
		n.IRI(iri)
		lost, err := w.Pay(t.Context(), to, 100, "")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := w.Wait(ctx, lost); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrConflict) {
			t.Errorf("pending: got %v, want a deadline", err)
		}
		cancel()
		if err := n.Crash(0); err != nil { // the node forgets it
			t.Fatal(err)
		}
		milestone(t, n)
		won, err := w.Pay(t.Context(), to, 200, "")
		if err != nil {
			t.Fatal(err)
		}
		again, err := n.Replay(won.Tail)
		if err != nil {
			t.Fatal(err)
		}
		milestone(t, n)
		if err := w.Wait(t.Context(), lost); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), won.Bundle) {
			t.Errorf("lost: got %v, want %v, and the bundle that won", err, ErrConflict)
		}
		if n.Included(again) {
			t.Fatal("both attachments are included")
		}
		for _, tail := range []trinary.Hash{won.Tail, again} {
			r := won
			r.Tail = tail
			if err := w.Wait(t.Context(), r); err != nil {
				t.Errorf("confirmed, asked with %s: %v", tail, err)
			}
		}
	}
}

// A node that returns other transactions than were signed is found out before
// they are sent.
func TestForgedAttachment(t *testing.T) {
	n, w := start(t, 1000)
	other := addressOf(t, sellerSeed, 1)
	to := addressOf(t, sellerSeed, 0)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		n.ServeHTTP(rec, r)
		rw.WriteHeader(rec.Code)
		rw.Write([]byte(strings.ReplaceAll(rec.Body.String(), to[:81], other[:81])))
	}))
	defer server.Close()
	w.Node = server.URL
	if _, err := w.Pay(t.Context(), to, 100, ""); err == nil || !strings.Contains(err.Error(), "other transactions") {
		t.Errorf("pay: got %v, want that the node returned other transactions", err)
	}
}
