package wallet

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
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
	return n, &Wallet{Node: server.URL, Seed: devlegacy.DemoSeed, MWM: 2}
}

func milestone(t *testing.T, n *devlegacy.Node) {
	t.Helper()
	if _, err := n.Milestone(); err != nil {
		t.Fatal(err)
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
	if got, err := w.Balance(t.Context()); err != nil || got != 0 {
		t.Errorf("the buyer's balance: got %d, %v, want 0", got, err)
	}
	if _, err := w.Pay(t.Context(), to, 1, ""); !errors.Is(err, ErrInsufficient) {
		t.Errorf("pay from an empty wallet: got %v, want %v", err, ErrInsufficient)
	}
}

// Who does not know the network's magnitude is told by the node.
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

// A long message spans transactions, and arrives whole.
func TestPayLongMessage(t *testing.T) {
	n, w := start(t, 2000)
	text := `{"username": "` + strings.Repeat("j", 1500) + `"}`
	r, err := w.Pay(t.Context(), addressOf(t, sellerSeed, 0), 500, text)
	if err != nil {
		t.Fatal(err)
	}
	milestone(t, n)
	node, err := w.connect(t.Context())
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
	w := &Wallet{Node: server.URL, Seed: devlegacy.DemoSeed, MWM: 1}
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
	if got, err := w.Balance(t.Context()); err != nil || got != 500 {
		t.Errorf("balance: got %d, %v, want 500: what is on the spent address does not count", got, err)
	}
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
		"one":          `{"balances":["1"],"states":[false],"hashes":[],"trytes":[]}`,
		"html":         `<html>`,
		"nothing":      ``,
		"too much":     `{"balances":["99999999999999999"` + strings.Repeat(`,"0"`, gap-1) + `],"states":[false` + strings.Repeat(",false", gap-1) + `],"hashes":[]}`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(answer)) }))
		w := &Wallet{Node: server.URL, Seed: devlegacy.DemoSeed, MWM: 1}
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

// A node that does not answer holds nobody longer than the timeout, or ctx.
func TestSilence(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	w := &Wallet{Node: server.URL, Seed: devlegacy.DemoSeed, MWM: 1, Timeout: 50 * time.Millisecond}
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

// Whatever a node answers, to all commands or to one, Pay ends in time, and
// either the payment arrives or there is an error. If it arrives in spite of an
// error, the receipt says so.
func TestFaults(t *testing.T) {
	n, w := start(t, 1000000)
	w.Timeout = 200 * time.Millisecond
	to := addressOf(t, sellerSeed, 0)
	milestone(t, n)
	for _, c := range []struct {
		command string
		faults  []devlegacy.Fault
	}{
		{"", []devlegacy.Fault{devlegacy.Hang, devlegacy.Endless, devlegacy.Reset, devlegacy.Error403}},
		{"getBalances", []devlegacy.Fault{devlegacy.WrongTypes}},
		{"wereAddressesSpentFrom", []devlegacy.Fault{devlegacy.AllTrue, devlegacy.ShortLists}},
		{"findTransactions", []devlegacy.Fault{devlegacy.Nines}},
		{"getTransactionsToApprove", []devlegacy.Fault{devlegacy.EmptyObject}},
		{"attachToTangle", []devlegacy.Fault{devlegacy.EmptyLists, devlegacy.LongLists, devlegacy.Nines, devlegacy.Forged, devlegacy.Truncated}},
		{"storeTransactions", []devlegacy.Fault{devlegacy.Error500}},
		{"broadcastTransactions", []devlegacy.Fault{devlegacy.Truncated, devlegacy.Reset, devlegacy.EmptyBody}},
	} {
		for _, fault := range c.faults {
			command := c.command
			before := n.Balance(to)
			if err := n.Break(command, fault); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			r, err := w.Pay(ctx, to, 1, "")
			cancel()
			if mend := n.Break("", ""); mend != nil {
				t.Fatal(mend)
			}
			milestone(t, n)
			arrived := n.Balance(to) - before
			switch {
			case arrived > 1 || arrived == 0 && err == nil:
				t.Errorf("%s to %q: got %d iotas and %v", fault, command, arrived, err)
			case arrived == 1 && !n.Included(r.Tail):
				t.Errorf("%s to %q: the payment arrived, but the receipt says %+v, %v", fault, command, r, err)
			}
			if err == nil && !n.Included(r.Tail) {
				t.Errorf("%s to %q: no error, but the receipt is wrong", fault, command)
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

var _ api.HTTPClient = (*bounded)(nil)
