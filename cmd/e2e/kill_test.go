package e2e

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/iotaledger/iota.go/address"
	"github.com/iotaledger/iota.go/bundle"
	"github.com/iotaledger/iota.go/consts"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/cmd/internal/ledgers"
	"github.com/iotoll/iotoll/cmd/internal/rig"
	"github.com/iotoll/iotoll/tangle"
	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
	devrebased "github.com/iotoll/iotoll/tangle/devnet/rebased"
	"github.com/iotoll/iotoll/tangle/rebased/txn"
)

// What the till sells. Amounts are in units of the till's ledger.
const (
	tillPrice  = 500
	tillPeriod = time.Hour
)

// simulated is a simulated ledger on which payments become final when the test says
// so.
type simulated interface {
	http.Handler
	// pay sends payments with a message, makes them final, and returns their IDs.
	pay(t testing.TB, message string, amounts []int64) (ids []string)
}

// tillLedger is a kind of ledger that the till can sell on.
type tillLedger struct {
	kind string
	unit int64  // base units: so that no amount is dust
	one  string // the price, as the ledger writes it
	open func(t testing.TB) (net simulated, shop string)
}

var tillLedgers = []tillLedger{
	{ledgers.Legacy, 1, "500 i", openTangle},
	{ledgers.IOTA, 1_000_000, "0.5 IOTA", openIOTA},
}

// tangleNet is a legacy tangle.
type tangleNet struct {
	*devlegacy.Node
	seed, shop string
	paid       int
}

func openTangle(t testing.TB) (simulated, string) {
	n := &tangleNet{seed: strings.Repeat("JOHN9", 16) + "9"}
	genesis, err := devlegacy.SeedGenesis(n.seed, 1_000_000_000)
	if err != nil {
		t.Fatal(err)
	}
	if n.Node, err = devlegacy.New(devlegacy.Config{Genesis: genesis}); err != nil {
		t.Fatal(err)
	}
	if n.shop, err = address.GenerateAddress(strings.Repeat("JANE9", 16)+"9", 0, consts.SecurityLevelMedium, true); err != nil {
		t.Fatal(err)
	}
	return n, n.shop
}

// pay implements simulated with one milestone. The node forgets all but the latest.
func (n *tangleNet) pay(t testing.TB, message string, amounts []int64) (ids []string) {
	t.Helper()
	n.Prune(n.Index() - 3)
	trytes, err := devlegacy.Message(message)
	if err != nil {
		t.Fatal(err)
	}
	for _, amount := range amounts {
		signed, err := devlegacy.Spend{
			Seed: n.seed, To: bundle.Transfers{{Address: n.shop, Value: uint64(amount), Message: trytes}},
			Time: time.Now().Add(time.Duration(n.paid) * time.Second), // else the same bundle with another message
		}.Sign()
		if err != nil {
			t.Fatal(err)
		}
		id, err := n.Send(signed)
		if err != nil {
			t.Fatal(err)
		}
		n.paid++
		ids = append(ids, id)
	}
	if _, err := n.Milestone(); err != nil {
		t.Fatal(err)
	}
	return ids
}

// iotaNet is today's network.
type iotaNet struct {
	*devrebased.Node
	from txn.Key
	shop txn.Address
}

func openIOTA(t testing.TB) (simulated, string) {
	n := &iotaNet{from: txn.NewKey(), shop: txn.NewKey().Address()}
	var err error
	if n.Node, err = devrebased.New(devrebased.Config{Checkpoint: 200 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	// Its time has to go on.
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("simulated network: %v", err)
		}
	})
	return n, n.shop.String()
}

func (n *iotaNet) pay(t testing.TB, message string, amounts []int64) (ids []string) {
	t.Helper()
	for _, amount := range amounts {
		digest, err := n.Pay(devrebased.Payment{
			From: &n.from, Memo: []string{message}, Transfers: []devrebased.Transfer{{To: n.shop, Amount: uint64(amount)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, digest+"/"+n.shop.String())
	}
	n.Step()
	return ids
}

// settled is how the log tells that a payment was settled, after its last write.
var settled = []string{"payment credited", "payment is below the price and kept as credit"}

const held = "payment held"

// injected builds iotoll such that it can be killed or halted at a write; see
// inject_on.go in acl/mongostore.
var injected = sync.OnceValues(func() (string, error) {
	path := filepath.Join(bin, "iotoll-injected")
	out, err := exec.Command("go", "build", "-tags", "injectsignals", "-o", path, "../iotoll").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// till is what "iotoll serve" needs to settle payments, and no more: a simulated
// ledger and a store.
type till struct {
	tillLedger

	t      testing.TB
	dir    string
	net    simulated
	node   string // the URL of the ledger's API
	where  string // which store it is, as in the configuration
	store  string // the store's URI
	client *mongostore.Store
	shop   string // the deposit address
	config string

	paid map[string]int64       // amounts by payment
	told map[string]bool        // grants of which those learn who follow the store
	at   mongostore.ResumeToken // up to which they were asked
}

// newTill prepares a till. Its store is that of serve, or else at uri.
func newTill(t testing.TB, ledger tillLedger, uri string) *till {
	t.Helper()
	tl := &till{tillLedger: ledger, t: t, dir: t.TempDir(), store: uri, paid: make(map[string]int64), told: make(map[string]bool)}
	tl.net, tl.shop = ledger.open(t)
	server := httptest.NewServer(tl.net)
	t.Cleanup(server.Close)
	t.Cleanup(tl.hangUp)
	tl.node = server.URL
	tl.where = fmt.Sprintf("uri_file: %q", filepath.Join(tl.dir, "uri"))
	if uri == "" {
		socket := filepath.Join(tl.dir, "run", "store.sock")
		tl.store = embedded.URI(socket)
		tl.where = fmt.Sprintf("embedded: {directory: %q, socket: %q}", filepath.Join(tl.dir, "store"), socket)
	} else if err := os.WriteFile(filepath.Join(tl.dir, "uri"), []byte(uri), 0o600); err != nil {
		t.Fatal(err)
	}
	tl.config = tl.configure("iotoll.yaml", tl.where, tl.node)
	return tl
}

// configure writes a configuration file and returns its name. Without a node,
// nothing is for sale.
func (tl *till) configure(name, store, node string) string {
	tl.t.Helper()
	path := filepath.Join(tl.dir, name)
	text := fmt.Sprintf("store: {%s}\n", store)
	if node != "" {
		text += fmt.Sprintf(`ledger: {kind: %s, network: local, nodes: [%q], poll: 50ms}
offers:
  - {id: live, topics: [sensor/live], price: %s, period: %s, address: %q}
`, tl.kind, node, tl.one, tillPeriod, tl.shop)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tl.t.Fatal(err)
	}
	return path
}

// pay sends payments, some units each, which are then final, and returns their IDs.
func (tl *till) pay(user string, units ...int64) (ids []string) {
	tl.t.Helper()
	amounts := make([]int64, len(units))
	for i, n := range units {
		amounts[i] = n * tl.unit
	}
	ids = tl.net.pay(tl.t, fmt.Sprintf(`{"username": %q}`, user), amounts)
	for i, id := range ids {
		tl.paid[id] = amounts[i]
	}
	return ids
}

// open returns a connection to the store.
func (tl *till) open() *mongostore.Store {
	tl.t.Helper()
	if tl.client == nil {
		var err error
		if tl.client, err = mongostore.Open(tl.store, "mosquitto"); err != nil {
			tl.t.Fatal(err)
		}
	}
	return tl.client
}

// hangUp ends the connection to a store that has died: the driver would wait
// before it tries the server again.
func (tl *till) hangUp() {
	if tl.client != nil {
		tl.client.Close(context.Background())
		tl.client = nil
	}
}

// with calls do with the store.
func (tl *till) with(do func(context.Context, *mongostore.Store) error) {
	tl.t.Helper()
	if err := do(tl.t.Context(), tl.open()); err != nil {
		tl.t.Fatal(err)
	}
}

// addUsers creates accounts.
func (tl *till) addUsers(names ...string) {
	tl.t.Helper()
	tl.with(func(ctx context.Context, s *mongostore.Store) error {
		for _, name := range names {
			if err := s.AddUser(ctx, acl.User{Name: name}); err != nil {
				return err
			}
		}
		return nil
	})
}

// approach lets the log of changes grow until its end is a number of changes
// before the next 64th, which is also noted elsewhere.
func (tl *till) approach(near func(left int64) bool) {
	tl.t.Helper()
	tl.with(func(ctx context.Context, s *mongostore.Store) error {
		for {
			at, err := s.End(ctx)
			if err != nil || near(64-at.Seq%64) {
				return err
			}
			if err := s.AddUser(ctx, acl.User{Name: fmt.Sprintf("filler%d", at.Seq)}); err != nil {
				return err
			}
		}
	})
}

// server is a running "iotoll serve".
type server struct {
	t    testing.TB
	cmd  *exec.Cmd
	out  rig.Output
	done chan struct{} // closed when it has ended
}

// serve starts "iotoll serve". inject says when it is to be killed or halted.
func (tl *till) serve(config, inject string) *server {
	tl.t.Helper()
	program, err := injected()
	if err != nil {
		tl.t.Fatal(err)
	}
	s := &server{t: tl.t, cmd: exec.Command(program, "--config", config, "serve"), done: make(chan struct{})}
	s.cmd.Env = append(os.Environ(), "IOTOLL_INJECT="+inject)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		tl.t.Fatal(err)
	}
	go func() {
		s.cmd.Wait()
		close(s.done)
	}()
	tl.t.Cleanup(s.kill)
	return s
}

func (s *server) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.done
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// said counts the lines in which the server said one of these.
func (s *server) said(texts ...string) (n int) {
	out := s.out.String()
	for _, text := range texts {
		n += strings.Count(out, text)
	}
	return n
}

// await waits until happened.
func (s *server) await(what string, happened func() bool) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); !happened(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("waited in vain for: %s; serve said:\n%s", what, s.out.String())
		}
	}
}

// struck returns the write at which the server was killed or halted.
func (s *server) struck() string {
	for line := range strings.Lines(s.out.String()) {
		if _, what, ok := strings.Cut(line, "injected: "); ok {
			return strings.TrimSpace(what)
		}
	}
	return ""
}

// check compares accounts and book with what was paid.
func (tl *till) check(users ...string) (lost, doubled int) {
	tl.t.Helper()
	times := make(map[string]int) // that a payment was entered
	tl.with(func(ctx context.Context, s *mongostore.Store) error {
		for more := true; more; {
			changes, to, err := s.Changes(ctx, tl.at)
			if err != nil {
				return err
			}
			for _, c := range changes {
				if c.Grant != nil {
					tl.told[c.Grant.ID] = true
				}
			}
			more, tl.at = to.Seq > tl.at.Seq, to
		}
		for _, user := range users {
			entries, err := s.Entries(ctx, user, "live")
			if err != nil {
				return err
			}
			// The model: what is paid adds up to the price at least, and then
			// buys time from the end of what was bought before.
			var credit int64
			var end time.Time
			for i, g := range entries {
				times[g.Cause]++
				credit += tl.paid[g.Cause]
				from, to := g.At, g.At
				if credit >= tillPrice*tl.unit {
					if end.After(from) {
						from = end
					}
					to = from.Add(time.Duration(credit/tl.unit) * tillPeriod / tillPrice)
					credit, end = 0, to
				}
				if g.Seq != int64(i+1) || g.Amount != tl.paid[g.Cause] || g.Credit != credit ||
					!g.NotBefore.Equal(from) || !g.NotAfter.Equal(to) || !g.End.Equal(end) || !tl.told[g.ID] {
					tl.t.Errorf("%s: entry %d (followers are told: %t) is %+v, want [%s, %s), credit %d", user, i+1, tl.told[g.ID], g.Entry, from, to, credit)
				}
			}
		}
		book, err := s.PaymentRecords(ctx)
		if err != nil {
			return err
		}
		if len(book) != len(tl.paid) {
			tl.t.Errorf("the book has %d payments, %d were made", len(book), len(tl.paid))
		}
		for _, b := range book {
			if b.Amount != tl.paid[b.ID] || b.Settled.IsZero() || b.Outcome != tangle.Credited && b.Outcome != tangle.Underpaid {
				tl.t.Errorf("the book has %+v, want %d and settled", b, tl.paid[b.ID])
			}
		}
		return nil
	})
	for id := range tl.paid {
		switch n := times[id]; {
		case n == 0:
			lost++
		case n > 1:
			doubled++
		}
	}
	if lost > 0 || doubled > 0 {
		tl.t.Errorf("of %d payments, %d are lost and %d count more than once", len(tl.paid), lost, doubled)
	}
	return lost, doubled
}

// unsettled returns how many of the payments are not settled.
func (tl *till) unsettled(ids []string) (n int) {
	tl.t.Helper()
	tl.with(func(ctx context.Context, s *mongostore.Store) error {
		for _, id := range ids {
			b, err := s.PaymentRecord(ctx, id)
			if err != nil && !errors.Is(err, mongostore.ErrNotFound) {
				return err
			}
			if b.Settled.IsZero() {
				n++
			}
		}
		return nil
	})
	return n
}

// TestKilledAtEveryWrite kills serve, which runs the embedded store, before and
// after each write of a settling, in turn, and starts it again: no payment is
// lost, and none counts twice.
func TestKilledAtEveryWrite(t *testing.T) {
	shapes := []struct {
		name    string
		amounts []int64
		fresh   bool // another account each time
		created bool // the account, once the payment is held
		both    bool // on every ledger: of the others, one shows what all do
		// noted says that the end of the log of changes is noted on the way, and
		// that only those writes are of interest.
		noted bool
	}{
		{name: "first payment", amounts: []int64{1250}, fresh: true},
		{name: "extension", amounts: []int64{777}},
		{name: "underpaid and completed", amounts: []int64{200, 300}, both: true},
		{name: "unmatched until the user is created", amounts: []int64{500}, fresh: true, created: true, both: true},
		{name: "64th change", amounts: []int64{501}, noted: true},
	}
	for i := range len(shapes) * len(tillLedgers) {
		shape, ledger := shapes[i%len(shapes)], tillLedgers[i/len(shapes)]
		if ledger.kind != ledgers.Legacy && !shape.both {
			continue
		}
		t.Run(ledger.kind+"/"+shape.name, func(t *testing.T) {
			t.Parallel()
			tl := newTill(t, ledger, "")
			users := []string{"john"}
			first := tl.serve(tl.config, "")
			first.await("serve to watch the address", func() bool { return first.said("deposit address is watched from now on") > 0 })
			if shape.fresh {
				users = nil
				for i := range 30 {
					users = append(users, fmt.Sprintf("user%d", i))
				}
			}
			if !shape.created {
				tl.addUsers(users...)
			}
			near := func(left int64) bool { return left > 4 }
			if shape.noted {
				// The next serve announces what is for sale, then the payment's change is the 64th.
				near = func(left int64) bool { return left == 2 }
			}
			tl.approach(near)
			first.kill()
			tl.hangUp()

			var matrix strings.Builder
			points, runs, lost, doubled := 0, 0, 0, 0
			// run lets serve settle, and tells whether it was killed.
			run := func(phase string, n int) bool {
				user := users[runs%len(users)]
				runs++
				ids := tl.pay(user, shape.amounts...)
				asked, created := false, !shape.created
				create := func(s *server) {
					if created || !asked && s.said(held) == 0 {
						return
					}
					// It may die while we ask, with or without the user. Then the next
					// one is asked, which may have nothing to hold any more.
					asked = true
					err := tl.open().AddUser(t.Context(), acl.User{Name: user})
					created = err == nil || errors.Is(err, mongostore.ErrExists)
				}
				victim := tl.serve(tl.config, fmt.Sprintf("kill %s %d", phase, n))
				victim.await("serve to die or to settle", func() bool {
					if victim.ended() {
						return true
					}
					create(victim)
					return victim.said(settled...) == len(ids)
				})
				died := victim.ended()
				if died {
					if status := victim.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
						t.Fatalf("serve was not killed, but ended: %v; it said:\n%s", status, victim.out.String())
					}
					fmt.Fprintf(&matrix, "\n  %s", victim.struck())
					points++
				}
				victim.kill()
				tl.hangUp()

				again := tl.serve(tl.config, "")
				again.await("serve to be ready again", func() bool { return again.said("iotoll is ready") > 0 })
				again.await("serve to settle what is left", func() bool {
					create(again)
					return created && tl.unsettled(ids) == 0
				})
				l, d := tl.check(users...)
				lost, doubled = lost+l, doubled+d
				if t.Failed() {
					t.Fatalf("killed %s write %d: %s\nthen serve said:\n%s", phase, n, victim.struck(), again.out.String())
				}
				tl.approach(near)
				again.kill()
				tl.hangUp()
				return died
			}
			from, to := 1, math.MaxInt
			if shape.noted {
				from, to = 6, 11
			}
			for _, phase := range []string{"before", "after"} {
				// Until serve makes no more: sometimes it looks twice at what is pending.
				last := from - 1
				for last < to && run(phase, last+1) {
					last++
				}
				if least := 7 * len(shape.amounts); last < least {
					t.Errorf("killed %s each write: a settling has %d writes, want %d at least", phase, last, least)
				}
			}
			for _, phase := range []string{"before", "after"} {
				if noted := regexp.MustCompile(phase + ` \d+: .* meta`).FindString(matrix.String()); shape.noted && noted == "" {
					t.Errorf("no kill point %s the write that notes the end of the log:%s", phase, &matrix)
				}
			}
			t.Logf("%d kill points, %d runs, %d payments: %d lost, %d doubled%s", points, runs, len(tl.paid), lost, doubled, &matrix)
		})
	}
}

// TestHaltedAtEveryWrite lets two processes watch the same ledger for the same
// store. One is halted before and after each write of settling two payments, in
// turn, and woken when the other has settled them: it adds nothing to that.
func TestHaltedAtEveryWrite(t *testing.T) {
	for _, ledger := range tillLedgers {
		t.Run(ledger.kind, func(t *testing.T) {
			t.Parallel()
			haltAtEveryWrite(t, ledger)
		})
	}
}

func haltAtEveryWrite(t *testing.T, ledger tillLedger) {
	store := newTill(t, ledger, "")
	background := store.serve(store.configure("store.yaml", store.where, ""), "")
	background.await("the store to be ready", func() bool { return background.said("iotoll is ready") > 0 })
	tl := newTill(t, ledger, store.store)
	// The one that is halted has a node of its own, whose requests tell how far
	// it is.
	var looks atomic.Int64
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		looks.Add(1)
		tl.net.ServeHTTP(w, r)
	}))
	t.Cleanup(node.Close)
	config := tl.configure("halted.yaml", tl.where, node.URL)

	other := tl.serve(tl.config, "")
	other.await("serve to watch the address", func() bool { return other.said("deposit address is watched from now on") > 0 })
	tl.addUsers("john")
	var matrix strings.Builder
	runs, lost, doubled := 0, 0, 0
	run := func(phase string, n int) bool {
		runs++
		other.signal(syscall.SIGSTOP)
		ids := tl.pay("john", 200, 300)
		sleeper := tl.serve(config, fmt.Sprintf("stop %s %d", phase, n))
		sleeper.await("serve to halt or to settle", func() bool {
			return stopped(t, sleeper) || sleeper.said(settled...) == len(ids)
		})
		halted := stopped(t, sleeper)
		other.signal(syscall.SIGCONT)
		other.await("the other to settle", func() bool { return tl.unsettled(ids) == 0 })
		if halted {
			fmt.Fprintf(&matrix, "\n  %s", sleeper.struck())
			sleeper.signal(syscall.SIGCONT)
			before := looks.Load()
			sleeper.await("the halted one to go on", func() bool { return looks.Load() >= before+3 })
		}
		sleeper.kill()
		l, d := tl.check("john")
		lost, doubled = lost+l, doubled+d
		if t.Failed() {
			t.Fatalf("halted %s write %d: %s\nit said:\n%s\nthe other:\n%s", phase, n, sleeper.struck(), sleeper.out.String(), other.out.String())
		}
		return halted
	}
	writes := 0
	for run("before", writes+1) {
		writes++
	}
	for n := range writes {
		if !run("after", n+1) {
			t.Errorf("serve was not halted by write %d", n+1)
		}
	}
	if writes < 14 {
		t.Errorf("two settlings have %d writes, want 14 at least", writes)
	}
	t.Logf("%d writes, halted at %d points, %d runs, %d payments: %d lost, %d doubled%s",
		writes, 2*writes, runs, len(tl.paid), lost, doubled, &matrix)

	// And with nobody halted.
	awake := tl.serve(config, "")
	awake.await("the second to be ready", func() bool { return awake.said("iotoll is ready") > 0 })
	var ids []string
	for range 4 {
		ids = append(ids, tl.pay("john", 100, 400, 501, 99, 1000)...)
	}
	other.await("both to settle", func() bool { return tl.unsettled(ids) == 0 })
	tl.check("john")
}

// stopped tells whether a signal halted the process; see proc(5).
func stopped(t *testing.T, s *server) bool {
	t.Helper()
	if s.ended() {
		t.Fatalf("serve ended; it said:\n%s", s.out.String())
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "T")
}

// TestServeTwice: a second serve on the same embedded store is refused, and
// leaves the first alone.
func TestServeTwice(t *testing.T) {
	t.Parallel()
	tl := newTill(t, tillLedgers[0], "")
	first := tl.serve(tl.config, "")
	first.await("serve to be ready", func() bool { return first.said("iotoll is ready") > 0 })
	second := tl.serve(tl.config, "")
	second.await("the second to end", second.ended)
	want := fmt.Sprintf("in use by process %d", first.cmd.Process.Pid)
	if code := second.cmd.ProcessState.ExitCode(); code != 1 || second.said(want) == 0 {
		t.Errorf("a second serve ended with code %d and said %q, want 1 and %q", code, second.out.String(), want)
	}
	tl.addUsers("john")
	id := tl.pay("john", 500)
	first.await("the first to settle", func() bool { return tl.unsettled(id) == 0 })
}
