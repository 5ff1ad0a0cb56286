package legacy

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/api"
	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/consts"
	"github.com/iotaledger/iota.go/trinary"
	"github.com/iotoll/iotoll/tangle"
	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

var janeSeed = strings.Repeat("JANE99999", 9)

// bankSeed owns the funds that payments are made from: a million at each address.
const bankSeed = "BANK9FOR9TESTS9OF9THE9LEGACY9LEDGER999999999999999999999999999999999999999999999A"

func addressOf(t testing.TB, seed trinary.Trytes, index uint64) trinary.Hash {
	t.Helper()
	a, err := address.GenerateAddress(seed, index, consts.SecurityLevelMedium, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// watched is a node's HTTP API that records requests and can be given faults.
type watched struct {
	*httptest.Server
	next http.Handler

	mu       sync.Mutex
	commands []string
	bytes    int
	// fault, if set, may answer a request; if it does not, the node does.
	fault func(command string, body []byte, w http.ResponseWriter) (answered bool)
}

func serve(t testing.TB, next http.Handler) *watched {
	t.Helper()
	s := &watched{next: next}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

type counting struct {
	http.ResponseWriter
	n int
}

func (c *counting) Write(p []byte) (int, error) {
	c.n += len(p)
	return c.ResponseWriter.Write(p)
}

func (s *watched) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var c struct{ Command string }
	_ = json.Unmarshal(body, &c)
	s.mu.Lock()
	s.commands = append(s.commands, c.Command)
	fault := s.fault
	s.mu.Unlock()
	count := &counting{ResponseWriter: w}
	if fault == nil || !fault(c.Command, body, count) {
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.next.ServeHTTP(count, r)
	}
	s.mu.Lock()
	s.bytes += count.n
	s.mu.Unlock()
}

func (s *watched) setFault(fault func(command string, body []byte, w http.ResponseWriter) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// asked returns the commands since the last call.
func (s *watched) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	commands := s.commands
	s.commands = nil
	s.bytes = 0
	return commands
}

// world is a simulated tangle, a node, and a ledger that reads it.
type world struct {
	t      *testing.T
	net    *devlegacy.Node
	node   *watched
	ledger *Ledger
	log    *logtest.Hook
	jane   trinary.Hash
	next   uint64 // of the bank's addresses
}

const bankAddresses = 25

var bank = sync.OnceValue(func() map[trinary.Hash]uint64 {
	genesis := make(map[trinary.Hash]uint64)
	for i := range uint64(bankAddresses) {
		a, err := address.GenerateAddress(bankSeed, i, consts.SecurityLevelMedium, true)
		if err != nil {
			panic(err)
		}
		genesis[a] = 1_000_000
	}
	return genesis
})

func newWorld(t *testing.T, deposits ...trinary.Hash) *world {
	t.Helper()
	net, err := devlegacy.New(devlegacy.Config{Genesis: bank()})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, net: net, node: serve(t, net), jane: addressOf(t, janeSeed, 0)}
	if len(deposits) == 0 {
		deposits = []trinary.Hash{w.jane}
	}
	w.ledger = w.read(Config{Nodes: []string{w.node.URL}, Addresses: deposits})
	return w
}

func (w *world) read(cfg Config) *Ledger {
	w.t.Helper()
	logger, hook := logtest.NewNullLogger()
	logger.SetLevel(logrus.DebugLevel)
	cfg.Log = logger
	l, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.log = hook
	return l
}

func (w *world) quiet() logrus.FieldLogger {
	logger, _ := logtest.NewNullLogger()
	return logger
}

// spend signs a transfer from the bank's next address.
func (w *world) spend(s devlegacy.Spend) []trinary.Trytes {
	w.t.Helper()
	if s.Seed == "" {
		if w.next == bankAddresses {
			w.t.Fatal("the bank has no more addresses")
		}
		s.Seed, s.Index = bankSeed, w.next
		w.next++
	}
	signed, err := s.Sign()
	if err != nil {
		w.t.Fatal(err)
	}
	return signed
}

func (w *world) send(signed []trinary.Trytes) trinary.Hash {
	w.t.Helper()
	tail, err := w.net.Send(signed)
	if err != nil {
		w.t.Fatal(err)
	}
	return tail
}

func (w *world) transfer(to trinary.Hash, value uint64, message string) bundle.Transfer {
	w.t.Helper()
	text, err := devlegacy.Message(message)
	if err != nil {
		w.t.Fatal(err)
	}
	return bundle.Transfer{Address: to, Value: value, Message: text}
}

// pay sends value to Jane and leaves the rest to a new address of the bank's.
func (w *world) pay(value uint64, message string) trinary.Hash {
	w.t.Helper()
	return w.send(w.spend(devlegacy.Spend{
		To: bundle.Transfers{w.transfer(w.jane, value, message)}, Take: 1_000_000, Remainder: addressOf(w.t, bankSeed, 100+w.next),
	}))
}

func (w *world) milestone() {
	w.t.Helper()
	if _, err := w.net.Milestone(); err != nil {
		w.t.Fatal(err)
	}
}

// everything calls Confirmed once. complete tells that no address is partial.
func everything(ctx context.Context, l *Ledger) (payments []tangle.Payment, complete bool, err error) {
	payments, partial, err := confirmed(l, ctx)
	return payments, err == nil && len(partial) == 0, err
}

// confirmed calls Confirmed once.
func (w *world) confirmed() []tangle.Payment {
	w.t.Helper()
	payments, _, err := confirmed(w.ledger, w.t.Context())
	if err != nil {
		w.t.Fatalf("Confirmed: %v", err)
	}
	return payments
}

// sweep calls Confirmed as it is called every 30 s.
func (w *world) sweep() []tangle.Payment {
	w.t.Helper()
	w.ledger.sweepAt = time.Time{}
	return w.confirmed()
}

// retryNow makes a scan due that waits because an earlier one found nothing.
func (w *world) retryNow() { w.ledger.retryAt = time.Time{} }

func (w *world) logged(text string) bool {
	for _, e := range w.log.AllEntries() {
		if strings.Contains(e.Message, text) {
			return true
		}
	}
	return false
}

func ids(payments []tangle.Payment) []string {
	var all []string
	for _, p := range payments {
		all = append(all, p.ID)
	}
	slices.Sort(all)
	return all
}

func sum(payments []tangle.Payment) int64 {
	var all int64
	for _, p := range payments {
		all += p.Amount
	}
	return all
}

const fromJohn = `{"username": "john"}`

func TestPayment(t *testing.T) {
	w := newWorld(t)
	if payments, complete, err := everything(t.Context(), w.ledger); err != nil || !complete || len(payments) != 0 {
		t.Fatalf("first scan: got %v, %t, %v", payments, complete, err)
	}
	// Iota.go's own client pays.
	a, err := api.ComposeAPI(api.HTTPClientSettings{URI: w.node.URL, Client: &http.Client{Timeout: 10 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	message, err := devlegacy.Message(fromJohn)
	if err != nil {
		t.Fatal(err)
	}
	b, err := a.SendTransfer(bankSeed, 3, 1, bundle.Transfers{{Address: w.jane, Value: 500, Message: message}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.node.asked()
	if got := w.confirmed(); len(got) != 0 {
		t.Errorf("before its milestone: got %v", got)
	}
	if got := w.sweep(); len(got) != 0 { // now the transaction is seen, unconfirmed
		t.Errorf("before its milestone: got %v", got)
	}
	before := time.Now()
	w.milestone()
	w.node.asked()
	got := w.confirmed()
	t.Logf("requests from confirmation to payment: %q", w.node.asked())
	if len(got) != 1 {
		t.Fatalf("after its milestone: got %v, want one payment", got)
	}
	p := got[0]
	if p.ID != b[0].Hash || p.Ledger != "legacy" || p.Address != w.jane || p.Amount != 500 || string(p.Message) != fromJohn ||
		p.Reference != b[0].Bundle || p.Position != int64(w.net.Index()) || p.Claimed.Unix() != int64(b[0].Timestamp) {
		t.Errorf("got %+v", p)
	}
	if !p.Seen.Before(before) || p.Confirmed.Before(before) {
		t.Errorf("got seen %s, confirmed %s, want one before and one after %s", p.Seen, p.Confirmed, before)
	}
	for range 3 {
		if got := w.confirmed(); len(got) != 0 {
			t.Errorf("again: got %v", got)
		}
	}
	if got := w.sweep(); len(got) != 0 {
		t.Errorf("again: got %v", got)
	}
	// Another process finds it in the history.
	other := w.read(w.ledger.cfg)
	payments, complete, err := everything(t.Context(), other)
	if err != nil || !complete || len(payments) != 1 || payments[0].ID != p.ID {
		t.Errorf("after a restart: got %v, %t, %v", payments, complete, err)
	}
}

func TestIdle(t *testing.T) {
	w := newWorld(t)
	w.pay(500, fromJohn)
	w.milestone()
	if err := w.net.Flood(w.jane, 300, devlegacy.Unconfirmable); err != nil {
		t.Fatal(err)
	}
	if got := w.confirmed(); len(got) != 1 {
		t.Fatalf("got %v", got)
	}
	for range 5 {
		w.milestone()
		w.node.asked()
		if got := w.confirmed(); len(got) != 0 {
			t.Errorf("got %v", got)
		}
		w.node.mu.Lock()
		size := w.node.bytes
		w.node.mu.Unlock()
		if got := w.node.asked(); !slices.Equal(got, []string{"getBalances"}) || size > 300 {
			t.Errorf("idle poll: got requests %q and %d bytes, want one getBalances of at most 300", got, size)
		}
	}
}

// confirmed calls Confirmed without marks.
func confirmed(l *Ledger, ctx context.Context) ([]tangle.Payment, []string, error) {
	batch, err := l.Confirmed(ctx, nil)
	return batch.Payments, batch.Partial, err
}
