package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl/embedded"
)

// TestMain lets the test binary be the program, so that tests can kill it.
func TestMain(m *testing.M) {
	if os.Getenv("IOTOLL_TEST_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is this program in a process of its own.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  logBuffer
	done chan struct{}
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0], args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "IOTOLL_TEST_MAIN=1")
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.end(syscall.SIGKILL)
		if strings.Contains(p.out.String(), "hunter") {
			t.Errorf("iotoll %s printed a password:\n%s", strings.Join(args, " "), p.out.String())
		}
	})
	return p
}

// end sends a signal, waits, and returns the exit code; -1 if a signal ended it.
func (p *process) end(s syscall.Signal) int {
	p.t.Helper()
	p.cmd.Process.Signal(s)
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		p.t.Fatalf("%v did not end the process in 15 s; it printed:\n%s", s, p.out.String())
	}
	return p.cmd.ProcessState.ExitCode()
}

// await waits until the process has printed a text.
func (p *process) await(text string) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(p.out.String(), text); time.Sleep(20 * time.Millisecond) {
		ended := false
		select {
		case <-p.done:
			ended = true
		default:
		}
		if ended || time.Now().After(deadline) {
			p.t.Fatalf("waited in vain for %q (ended: %t); it printed:\n%s", text, ended, p.out.String())
		}
	}
}

// TestKilled kills serve again and again, at any moment, while somebody pays:
// nothing is lost and nothing is counted twice.
func TestKilled(t *testing.T) {
	t.Parallel()
	node, seed := startTangle(t)
	s := newSite(t, node, "")
	s.must("hunter2", "user", "add", "john")
	serve := func() *process { return startProcess(t, "--config", s.config, "serve") }
	// Until serve has seen the address once, what is on it is history.
	p := serve()
	p.await("deposit address is watched from now on")

	paid := make(chan error, 1)
	amounts := []int64{501, 99, 1003, 250, 777}
	go func() {
		for _, amount := range amounts {
			err := run(t.Context(), []string{"pay", "--node", node, "--seed-file", seed, "--mwm", "1", "--address", depositAddress,
				"--amount", strconv.FormatInt(amount, 10), "--message", `{"username": "john"}`, "--wait"},
				strings.NewReader(""), new(logBuffer), new(logBuffer))
			if err != nil {
				paid <- fmt.Errorf("pay %d: %w", amount, err)
				return
			}
		}
		paid <- nil
	}()
	kills, paying := 0, true
	for paying {
		select {
		case err := <-paid:
			if err != nil {
				t.Fatal(err)
			}
			paying = false
		case <-time.After(time.Duration(rand.Int64N(int64(1500 * time.Millisecond)))):
		}
		p.end(syscall.SIGKILL)
		kills++
		p = serve()
	}
	p.await("is ready")

	total := int64(0)
	for _, amount := range amounts {
		total += amount
	}
	book := s.payments()
	unsettled := func(b paymentJSON) bool { return b.Settled == nil }
	for deadline := time.Now().Add(20 * time.Second); len(book) < len(amounts) || slices.ContainsFunc(book, unsettled); book = s.payments() {
		if time.Now().After(deadline) {
			t.Fatalf("not everything is settled: %+v; serve printed:\n%s", book, p.out.String())
		}
		time.Sleep(100 * time.Millisecond)
	}
	if len(book) != len(amounts) {
		t.Errorf("the book has %d payments, want %d: %+v", len(book), len(amounts), book)
	}
	var bought time.Duration
	var last paymentJSON // the one that was settled last, whenever it was seen
	for _, b := range book {
		if b.User != "john" || b.Outcome != "credited" && b.Outcome != "underpaid" {
			t.Errorf("payment of %s: got outcome %s for %q", b.Amount, b.Outcome, b.User)
		}
		if b.Until != nil {
			bought += b.Until.Sub(*b.From)
		}
		if b.Grant > last.Grant {
			last = b
		}
	}
	credit, err := strconv.ParseInt(last.Credit, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Duration(total-credit) * time.Hour / 500; bought.Truncate(time.Millisecond) != want.Truncate(time.Millisecond) {
		t.Errorf("%d iotas, %d of them still credit, bought %s, want %s", total, credit, bought, want)
	}
	t.Logf("killed %d times during %d payments", kills, len(amounts))
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit code %d, want 0; it printed:\n%s", code, p.out.String())
	}
}

// TestServeTwice: a second serve on the same store is refused at once.
func TestServeTwice(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://127.0.0.1:1", "")
	background(t, "", "--config", s.config, "serve")
	s.refuses(1, "in use by process "+strconv.Itoa(os.Getpid())+"\nhint: \"iotoll serve\" seems to run already\n", "", "serve")
}

// TestServeNodeAway: serve is ready whether or not the ledger can be read, and
// stops when told to.
func TestServeNodeAway(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://127.0.0.1:1", "")
	p := startProcess(t, "--config", s.config, "serve")
	p.await("is ready")
	p.await("ledger cannot be read, payments wait")
	if code := p.end(syscall.SIGINT); code != 0 {
		t.Errorf("SIGINT: exit code %d, want 0; it printed:\n%s", code, p.out.String())
	}
}

// TestServeStoreAway: with a server of its own, serve waits for it. The password
// in its URI is printed by nothing.
func TestServeStoreAway(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://127.0.0.1:1", "")
	uri := filepath.Join(filepath.Dir(s.config), "uri")
	config, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	config = []byte(strings.Replace(string(config), "embedded: {directory: store, socket: \""+s.socket+"\"}", "uri_file: uri", 1))
	if err := os.WriteFile(s.config, config, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(uri, []byte("mongodb://jane:hunter2@"+url.PathEscape(s.socket)+"/?serverSelectionTimeoutMS=300\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, "--config", s.config, "serve")
	p.await("store cannot be prepared")
	r := s.run("hunter3", "user", "add", "john")
	if r.code != 1 || !strings.Contains(r.errOut, "hint: the store is at the URI in "+uri) {
		t.Errorf("user add without a store: got %+v, want exit code 1 and where the store is", r)
	}
	if strings.Contains(p.out.String(), "is ready") {
		t.Error("serve is ready without a store")
	}
	for _, text := range []string{p.out.String(), r.out, r.errOut} {
		if strings.Contains(text, "hunter") {
			t.Errorf("a password was printed:\n%s", text)
		}
	}

	// FerretDB asks for no password, so that the URI has none from here on.
	if err := os.WriteFile(uri, []byte(embedded.URI(s.socket)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.end(syscall.SIGTERM)
	p = startProcess(t, "--config", s.config, "serve")
	p.await("store cannot be prepared")
	server, err := embedded.Open(embedded.Config{Directory: filepath.Join(t.TempDir(), "store"), Socket: s.socket}, logrus.New())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	p.await("is ready")
	s.must("hunter3", "user", "add", "john")
	s.answers("deny: no right", "john", "read", "sensor/live")
	if code := p.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit code %d, want 0; it printed:\n%s", code, p.out.String())
	}
}

// TestInterrupted: a command that waits for a password can be interrupted.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://127.0.0.1:1", "")
	ctx, cancel := context.WithCancel(t.Context())
	stdin, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	defer w.Close()
	time.AfterFunc(100*time.Millisecond, cancel)
	var out logBuffer
	err = run(ctx, []string{"--config", s.config, "user", "add", "john"}, stdin, &out, &out)
	if code := report(&out, err); code != 1 || out.String() != "iotoll: interrupted\n" {
		t.Errorf("got exit code %d and %q", code, out.String())
	}
}

// TestReload: a second offer and a second plug added to a running serve are in
// force after a SIGHUP, with the rights that they need. A faulty configuration is
// refused. What needs a restart is named.
func TestReload(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://127.0.0.1:1", fmt.Sprintf(`broker: {url: "mqtt://127.0.0.1:%s", username: iotoll, password_file: broker-password}
plugs:
  - {address: "127.0.0.1:1", live: sensor/live, average: sensor/1m}
metrics: {listen: %q}
`, startMosquitto(t), freeAddress(t)))
	if err := os.WriteFile(filepath.Join(filepath.Dir(s.config), "broker-password"), []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, "--config", s.config, "serve")
	p.await("iotoll is ready: 1 offer, 1 plug")
	hup := func(want string) {
		t.Helper()
		before := strings.Count(p.out.String(), want)
		p.cmd.Process.Signal(syscall.SIGHUP)
		eventually(t, want, func() bool { return strings.Count(p.out.String(), want) > before })
	}
	s.edit("price: 500", "price: lots")
	hup("configuration not reloaded, the old one stays in force")
	s.edit("price: lots", "price: 600")
	s.edit("plugs:\n", "plugs:\n  - {address: \"127.0.0.1:1\", live: other/live, average: other/1m}\n")
	s.edit("offers:\n", "offers:\n  - {id: other, topics: [other/live], price: 1, period: 1h, address: "+depositAddress+"}\n")
	s.edit("metrics: {listen", "metrics: {listen: \"127.0.0.1:1\"} # {")
	hup("configuration reloaded")
	if out := s.must("", "config", "check"); !strings.HasPrefix(out, "note: offers other, live share the address "+depositAddress+": a payment whose message names no offer is for other\nok: 2 offers, 2 plugs, ") {
		t.Errorf("config check: got %q", out)
	}
	out := p.out.String()
	if !strings.Contains(out, `"msg":"a changed setting needs a restart","setting":"metrics"`) || strings.Contains(out, `"setting":"store"`) {
		t.Errorf("serve logged\n%s\nwant that metrics need a restart, and nothing else", out)
	}
	if list := s.must("", "user", "list"); !strings.Contains(list, "other/live=w") {
		t.Errorf("user list: got\n%s\nwant the right to publish to other/live", list)
	}
	s.must("hunter3\n", "user", "add", "john")
	s.answers("permit: for sale", "john", "subscribe", "other/live")
	eventually(t, "the second plug to be polled", func() bool { return strings.Contains(p.out.String(), `"plug":"other/live"`) })
	if n := strings.Count(p.out.String(), `"plug":"sensor/live","reason":"stopped"`); n > 0 {
		t.Error("the plug whose settings stayed the same was stopped")
	}
	start := time.Now()
	p.cmd.Process.Signal(os.Interrupt)
	p.await(`"msg":"stopping"`)
	if took := time.Since(start); took > time.Second {
		t.Errorf("serve answered SIGINT after %s, want at most 1s", took)
	}
	if code := p.end(syscall.SIGINT); code > 0 {
		t.Errorf("SIGINT: exit code %d", code)
	}
}
