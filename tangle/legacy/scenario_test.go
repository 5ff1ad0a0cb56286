package legacy

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/curl"
	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
	"github.com/sirupsen/logrus"
)

// TestOutputs: one bundle with several outputs to the address is one payment.
func TestOutputs(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	elsewhere := addressOf(t, janeSeed, 50)
	tail := w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{
		w.transfer(w.jane, 20, fromJohn), w.transfer(elsewhere, 7000, "not for Jane"), w.transfer(w.jane, 30, ""), w.transfer(w.jane, 50, ""),
	}, Take: 1_000_000, Remainder: addressOf(t, bankSeed, 100)}))
	w.milestone()
	got := w.confirmed()
	if len(got) != 1 || got[0].ID != tail || got[0].Amount != 100 || string(got[0].Message) != fromJohn {
		t.Errorf("got %+v, want one payment of 100", got)
	}
}

// TestTwoMessages: outputs with different messages are unreadable together.
func TestTwoMessages(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	const fromMary = `{"username": "mary"}`
	for _, test := range []struct{ first, second, want string }{
		{fromJohn, fromMary, fromJohn + doubt + fromMary},
		{fromJohn, fromJohn, fromJohn},
		{"", fromJohn, fromJohn},
		{fromJohn, "", fromJohn},
	} {
		w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{w.transfer(w.jane, 20, test.first), w.transfer(w.jane, 30, test.second)}}))
		w.milestone()
		if got := w.confirmed(); len(got) != 1 || string(got[0].Message) != test.want {
			t.Errorf("%q and %q: got %+v, want the message %q", test.first, test.second, got, test.want)
		}
	}
}

// TestMessages: a message runs on through several transactions, and a character
// may be divided between two of them.
func TestMessages(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	for _, n := range []int{0, 1, 1092, 1093, 1094, 2187, 3000, 9000} {
		message := strings.Repeat("ab9 ~", n/5+1)[:n]
		tail := w.pay(500, message)
		w.milestone()
		got := w.confirmed()
		if len(got) != 1 || got[0].ID != tail || got[0].Amount != 500 || string(got[0].Message) != message[:min(n, maxMessage/2)] {
			t.Errorf("message of %d bytes: got %d payments, %+.200v", n, len(got), got)
		}
	}
}

// TestUnreadable: trytes that are not in the encoding are not made to fit a name.
func TestUnreadable(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	trytes := pairs(`{"username": "Ond`) + "UL" + pairs(`ej"}`) // ř as one pair of value 345; 345 - 256 is Y
	tail := w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{{Address: w.jane, Value: 500, Message: trytes}}}))
	w.milestone()
	got := w.confirmed()
	if len(got) != 1 || got[0].ID != tail || string(got[0].Message) != trytes || !strings.Contains(got[0].Unreadable, "trytes UL") {
		t.Errorf("got %+v, want an unreadable payment with its trytes", got)
	}
}

// TestReplays: a bundle that leaves something at its input pays again each time
// that it is attached; a bundle that spends it whole pays once.
func TestReplays(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	whole := w.pay(500, fromJohn)
	for range 3 {
		if _, err := w.net.Replay(whole); err != nil {
			t.Fatal(err)
		}
	}
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != whole {
		t.Errorf("four attachments of a bundle that spends all: got %v, want one payment", got)
	}
	part := w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{w.transfer(w.jane, 1000, fromJohn)}}))
	tails := []string{part}
	for range 2 {
		again, err := w.net.Replay(part)
		if err != nil {
			t.Fatal(err)
		}
		tails = append(tails, again)
	}
	w.milestone()
	got := w.confirmed()
	slices.Sort(tails)
	if !slices.Equal(ids(got), tails) || sum(got) != 3000 {
		t.Errorf("three attachments of a bundle that leaves something: got %v, want three payments", got)
	}
	for _, p := range got {
		if p.Reference != got[0].Reference || string(p.Message) != fromJohn {
			t.Errorf("got %+v, want all of the same bundle", p)
		}
	}
	later, err := w.net.Replay(part)
	if err != nil {
		t.Fatal(err)
	}
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].ID != later {
		t.Errorf("attached once more later: got %v", got)
	}
	if !w.ledger.deposits[0].settled() {
		t.Errorf("balance and payments differ: %+v", w.ledger.deposits[0])
	}
}

// TestImpersonated: neither a bundle's hash nor its signatures cover messages.
func TestImpersonated(t *testing.T) {
	const fromEve = `{"username": "eve"}`
	w := newWorld(t)
	w.confirmed()
	tail := w.pay(500, fromJohn)
	twin, err := w.net.Impersonate(tail, fromEve)
	if err != nil {
		t.Fatal(err)
	}
	w.milestone()
	got := w.confirmed()
	if len(got) != 1 || got[0].ID != tail && got[0].ID != twin || got[0].Amount != 500 {
		t.Fatalf("got %v, want one payment", got)
	}
	if text := string(got[0].Message); text != fromEve+doubt+fromJohn {
		t.Errorf("got message %q, want both", text)
	}
	// The same where both pay, one after the other.
	part := w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{w.transfer(w.jane, 1000, fromJohn)}}))
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || string(got[0].Message) != fromJohn {
		t.Errorf("before the twin: got %v", got)
	}
	if _, err := w.net.Impersonate(part, fromEve); err != nil {
		t.Fatal(err)
	}
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || string(got[0].Message) != fromEve+doubt+fromJohn {
		t.Errorf("the twin: got %v, want one payment with both messages", got)
	}
}

// TestBrokenTwin: IRI accepts from anybody a transaction whose index is beyond its
// bundle's last one. Neither that bundle nor others wait for it.
func TestBrokenTwin(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	tail := w.pay(500, fromJohn)
	other := w.pay(700, fromJohn)
	w.milestone()
	// ask has the simulated node answer, which itself refuses such transactions.
	ask := func(body []byte, answer any) {
		r, err := http.NewRequest("POST", "/", bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		rec := &recorder{header: make(http.Header)}
		w.net.ServeHTTP(rec, r)
		if err := json.Unmarshal(rec.body, answer); err != nil {
			t.Error(err)
		}
	}
	var got struct{ Trytes []string }
	ask([]byte(`{"command": "getTrytes", "hashes": ["`+tail+`"]}`), &got)
	const index = 2331 // where the index is, in front of the last one: 9 trytes each
	broken := got.Trytes[0][:index] + "Z99999999" + got.Trytes[0][index+9:]
	hash, err := curl.HashTrytes(broken)
	if err != nil {
		t.Fatal(err)
	}
	w.node.setFault(func(command string, body []byte, a http.ResponseWriter) bool {
		var asked struct{ Bundles, Hashes []string }
		if err := json.Unmarshal(body, &asked); err != nil {
			t.Error(err)
		}
		switch {
		case command == "findTransactions" && len(asked.Bundles) > 0:
			var found struct{ Hashes []string }
			ask(body, &found)
			json.NewEncoder(a).Encode(map[string]any{"hashes": append(found.Hashes, hash)})
		case command == "getTrytes":
			var found struct{ Trytes []string }
			ask(body, &found)
			if i := slices.Index(asked.Hashes, hash); i >= 0 {
				found.Trytes[i] = broken
			}
			json.NewEncoder(a).Encode(map[string]any{"trytes": found.Trytes})
		default:
			return false
		}
		return true
	})
	want := []string{tail, other}
	slices.Sort(want)
	if got := ids(w.confirmed()); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if d := w.ledger.deposits[0]; !d.settled() {
		t.Errorf("got balance %d, explained %d", d.balance, d.found+d.opening)
	}
}

// TestInvalidIncluded: a bundle that iota.go finds invalid and a node calls included
// is no payment, and delays no other. IRI accepts some of those: its rules for
// signatures and values are not quite iota.go's.
func TestInvalidIncluded(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	forged := w.spend(devlegacy.Spend{To: bundle.Transfers{w.transfer(w.jane, 600, fromJohn)}})
	forged[0] = strings.Repeat("A", 2187) + forged[0][2187:] // the second half of the signature
	bad := w.send(forged)
	tail := w.pay(500, fromJohn)
	w.milestone()
	w.node.setFault(func(command string, body []byte, a http.ResponseWriter) bool {
		var asked struct{ Transactions []string }
		if err := json.Unmarshal(body, &asked); err != nil {
			t.Error(err)
		}
		if command != "getInclusionStates" {
			return false
		}
		json.NewEncoder(a).Encode(map[string]any{"states": slices.Repeat([]bool{true}, len(asked.Transactions))})
		return true
	})
	got, whole, err := everything(t.Context(), w.ledger)
	if err != nil || !whole || !slices.Equal(ids(got), []string{tail}) {
		t.Errorf("got %v, whole %t, %v, want the payment %s alone", got, whole, err, tail)
	}
	for _, e := range w.log.AllEntries() {
		if e.Level == logrus.WarnLevel && e.Data["tail"] == bad {
			return
		}
	}
	t.Errorf("nobody was told of %s", bad)
}

// TestNoPayments: a bundle that no milestone confirms, or that moves nothing, is no
// payment.
func TestNoPayments(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	jane := func(value uint64) bundle.Transfers { return bundle.Transfers{w.transfer(w.jane, value, fromJohn)} }

	first := w.spend(devlegacy.Spend{To: jane(500), Take: 1_000_000, Remainder: addressOf(t, bankSeed, 100)})
	second := devlegacy.Spend{Seed: bankSeed, Index: w.next - 1, To: jane(700), Take: 1_000_000, Remainder: addressOf(t, bankSeed, 100)}
	winner := w.send(first)
	w.send(w.spend(second))                               // the same input, to the same address
	w.send(w.spend(devlegacy.Spend{To: jane(5_000_000)})) // more than the address holds
	w.send(w.spend(devlegacy.Spend{To: jane(0)}))         // nothing
	broken := w.spend(devlegacy.Spend{To: jane(600)})     // a signature of something else
	if broken[0][0] == 'A' {
		broken[0] = "B" + broken[0][1:]
	} else {
		broken[0] = "A" + broken[0][1:]
	}
	w.send(broken)
	incomplete, err := w.net.Attach(w.spend(devlegacy.Spend{To: jane(800)}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.net.Submit(incomplete[:1]); err != nil {
		t.Fatal(err)
	}
	w.milestone()
	got := append(w.confirmed(), w.sweep()...)
	if !slices.Equal(ids(got), []string{winner}) || sum(got) != 500 {
		t.Errorf("got %v, want one payment of 500", got)
	}
	w.send(w.spend(second)) // once more, after the first was confirmed
	w.milestone()
	if got := append(w.confirmed(), w.sweep()...); len(got) != 0 {
		t.Errorf("a late double spend: got %v", got)
	}
	// The rest of the bundle arrives after all.
	if _, err := w.net.Submit(incomplete); err != nil {
		t.Fatal(err)
	}
	w.milestone()
	if got := w.confirmed(); len(got) != 1 || got[0].Amount != 800 {
		t.Errorf("once the bundle is complete: got %v, want 800", got)
	}
}

func TestForgedTimes(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	for _, at := range []int64{1, 1_000_000_000, 4_000_000_000, 253402300799, 999_999_999_999} {
		w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{w.transfer(w.jane, 500, fromJohn)}, Time: time.Unix(at, 0)}))
		w.milestone()
		got := w.confirmed()
		if len(got) != 1 || got[0].Amount != 500 || time.Since(got[0].Confirmed) > time.Minute {
			t.Fatalf("dated %d: got %+v", at, got)
		}
		if want := time.Unix(at, 0); at < 253402300800 && !got[0].Claimed.Equal(want) || at >= 253402300800 && !got[0].Claimed.IsZero() {
			t.Errorf("dated %d: got claimed %s", at, got[0].Claimed)
		}
	}
}

// TestOwnSpends: Jane's spending from her address is no payment, nor is the change.
func TestOwnSpends(t *testing.T) {
	w := newWorld(t)
	w.confirmed()
	w.pay(1000, fromJohn)
	w.milestone()
	if got := w.confirmed(); len(got) != 1 {
		t.Fatalf("got %v", got)
	}
	w.send(w.spend(devlegacy.Spend{
		Seed: janeSeed, To: bundle.Transfers{w.transfer(addressOf(t, janeSeed, 9), 300, fromJohn)}, Take: 1000, Remainder: w.jane,
	}))
	w.milestone()
	if got := w.confirmed(); len(got) != 0 {
		t.Errorf("change to the deposit address: got %v", got)
	}
	if d := w.ledger.deposits[0]; !d.settled() || d.balance != 700 {
		t.Errorf("balance and payments differ: %+v", d)
	}
	if !w.logged("is no payment") {
		t.Error("the seller's own bundle was not logged")
	}
	w.ledger.spentAt = time.Time{}
	w.sweep()
	if !w.logged("deposit address was spent from") {
		t.Error("no warning that the address was spent from")
	}
	// An income and a spend of the same size leave the balance as it was.
	tail := w.pay(700, fromJohn)
	w.send(w.spend(devlegacy.Spend{Seed: janeSeed, To: bundle.Transfers{w.transfer(addressOf(t, janeSeed, 9), 700, "")}}))
	w.milestone()
	if got := w.confirmed(); len(got) != 0 {
		t.Errorf("with the balance as before: got %v, want nothing until the next sweep", got)
	}
	if got := w.sweep(); len(got) != 1 || got[0].ID != tail {
		t.Errorf("the sweep: got %v, want the payment", got)
	}
}

// TestAddresses: a bundle that pays to two addresses is two payments, whose IDs do not
// depend on the configuration.
func TestAddresses(t *testing.T) {
	second := addressOf(t, janeSeed, 1)
	w := newWorld(t, addressOf(t, janeSeed, 0), second)
	w.confirmed()
	tail := w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{
		w.transfer(addressOf(t, janeSeed, 50), 5, ""), w.transfer(second, 20, fromJohn), w.transfer(w.jane, 30, `{"username": "mary"}`),
	}}))
	single := w.send(w.spend(devlegacy.Spend{To: bundle.Transfers{w.transfer(second, 40, fromJohn)}}))
	w.milestone()
	want := []string{tail + "/1", tail + "/2", single}
	slices.Sort(want)
	got := w.confirmed()
	if !slices.Equal(ids(got), want) {
		t.Fatalf("got %q, want %q", ids(got), want)
	}
	for _, p := range got {
		if p.ID == tail+"/1" && (p.Address != second || p.Amount != 20 || string(p.Message) != fromJohn) ||
			p.ID == tail+"/2" && (p.Address != w.jane || p.Amount != 30 || string(p.Message) != `{"username": "mary"}`) {
			t.Errorf("got %+v", p)
		}
	}
	alone := w.read(Config{Nodes: []string{w.node.URL}, Addresses: []string{w.jane}})
	if payments, _, err := confirmed(alone, t.Context()); err != nil || len(payments) != 1 || payments[0].ID != tail+"/2" {
		t.Errorf("with one address configured: got %v, %v, want the same ID", payments, err)
	}
}
