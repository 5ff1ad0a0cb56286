package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/tangle"
)

// The tests of this file and of its neighbours load the plugin into the real
// broker. They need mosquitto, cc and the headers, and fail without them.

// scratch is where the plugins are built; TestMain removes it.
var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "iotoll-plugin"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

// build builds the plugin, once for each set of tags.
func build(t testing.TB, tags string) string {
	t.Helper()
	buildOnce.Lock()
	defer buildOnce.Unlock()
	out := filepath.Join(scratch, "iotoll"+tags+".so")
	if _, err := os.Stat(out); err == nil {
		return out
	}
	if text, err := exec.Command("go", "build", "-buildmode=c-shared", "-tags="+tags, "-o", out, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	return out
}

var buildOnce sync.Mutex

// freePort returns a TCP port that was free a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// testStore is the embedded store in this process.
type testStore struct {
	*mongostore.Store
	t    testing.TB
	uri  string
	dir  string
	stop func()

	mu       sync.Mutex
	accounts map[string]tangle.Entry // the last entry of each
}

func quiet() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// startStore starts an empty store.
func startStore(t testing.TB) *testStore {
	t.Helper()
	s := &testStore{t: t, dir: filepath.Join(t.TempDir(), "store"), accounts: make(map[string]tangle.Entry)}
	s.start()
	t.Cleanup(func() { s.stop() })
	var err error
	if s.Store, err = mongostore.Open(s.uri, "mosquitto"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Store.Close(context.Background()) })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	return s
}

// start serves the store; stop ends that until the next start.
func (s *testStore) start() {
	s.t.Helper()
	server, err := embedded.Open(embedded.Config{Directory: s.dir}, quiet())
	if err != nil {
		s.t.Fatalf("open the embedded store: %v", err)
	}
	s.uri = server.URI()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
}

// hash is the stored hash of the password "secret".
var hash = sync.OnceValue(func() string {
	h, err := password.Hash("secret")
	if err != nil {
		panic(err)
	}
	return h
})

// user adds a user whose password is "secret".
func (s *testStore) user(u acl.User) {
	s.t.Helper()
	u.Password = hash()
	if err := s.AddUser(context.Background(), u); err != nil {
		s.t.Fatalf("add user %s: %v", u.Name, err)
	}
}

// grant gives a user a filter from one instant to another, counted from now.
func (s *testStore) grant(subject, offer, filter string, from, to time.Duration) {
	s.t.Helper()
	now := time.Now().UTC().Truncate(time.Millisecond)
	if err := s.grantFrom(subject, offer, filter, now.Add(from), now.Add(to)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *testStore) grantFrom(subject, offer, filter string, from, to time.Time) error {
	f, err := acl.ParseFilter(filter)
	if err != nil {
		return err
	}
	last := s.account(subject, offer)
	return s.write(tangle.Entry{Subject: subject, Offer: offer, Seq: last.Seq + 1, Kind: tangle.Manual, Cause: fmt.Sprintf("manual/%s/%s/%d", offer, subject, last.Seq+1),
		Filters: []acl.Filter{f}, NotBefore: from, NotAfter: to, End: to, At: time.Now().UTC().Truncate(time.Millisecond)})
}

// revoke takes back what is left of a grant.
func (s *testStore) revoke(subject, offer string) {
	s.t.Helper()
	if err := s.revokeAt(subject, offer, time.Now().UTC().Truncate(time.Millisecond)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *testStore) revokeAt(subject, offer string, at time.Time) error {
	last := s.account(subject, offer)
	return s.write(tangle.Entry{Subject: subject, Offer: offer, Seq: last.Seq + 1, Kind: tangle.Revoked, Cause: fmt.Sprintf("manual/%s/%s/%d", offer, subject, last.Seq+1),
		Filters: last.Filters, NotBefore: at, NotAfter: at, End: at, At: at})
}

func (s *testStore) write(g tangle.Entry) error {
	if err := s.Append(context.Background(), g); err != nil {
		return fmt.Errorf("append: %w", err)
	}
	if err := s.Complete(context.Background(), g); err != nil {
		return fmt.Errorf("complete: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[g.Subject+"/"+g.Offer] = g
	return nil
}

// account returns the last entry of an account.
func (s *testStore) account(subject, offer string) tangle.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accounts[subject+"/"+offer]
}

// broker is a Mosquitto of our own.
type broker struct {
	t    testing.TB
	cmd  *exec.Cmd
	port int
	log  *lines
	done chan struct{}
	conf string
}

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// launch starts a broker without waiting for it. In the configuration, PORT
// stands for a free port and PLUGIN for the plugin.
func launch(t testing.TB, conf, plugin string, env ...string) *broker {
	t.Helper()
	b := &broker{t: t, port: freePort(t), log: new(lines), done: make(chan struct{})}
	b.conf = filepath.Join(t.TempDir(), "mosquitto.conf")
	conf = strings.NewReplacer("PORT", fmt.Sprint(b.port), "PLUGIN", plugin).Replace(conf)
	if os.Geteuid() == 0 {
		conf = "user root\n" + conf // the plugin lies where only root can read
	}
	if !strings.Contains(conf, "log_type ") {
		conf = "log_type all\n" + conf
	}
	if err := os.WriteFile(b.conf, []byte("log_dest stderr\n"+conf), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	b.cmd = exec.Command(path, "-c", b.conf)
	b.cmd.Env = append(os.Environ(), env...)
	b.cmd.Stdout, b.cmd.Stderr = b.log, b.log
	if err := b.cmd.Start(); err != nil {
		t.Fatalf("start the broker: %v", err)
	}
	go func() {
		b.cmd.Wait()
		close(b.done)
	}()
	t.Cleanup(func() {
		b.stop()
		if t.Failed() {
			text := b.log.String()
			t.Logf("the broker's log ends:\n%s", text[max(0, len(text)-4000):])
		}
	})
	return b
}

// startBroker starts a broker and waits until it listens.
func startBroker(t testing.TB, conf string) *broker {
	t.Helper()
	b := launch(t, conf, build(t, ""))
	b.ready()
	return b
}

func (b *broker) ready() { b.readyAt(b.port) }

// readyAt waits until the broker listens on a port.
func (b *broker) readyAt(port int) {
	b.t.Helper()
	for range 1000 {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-b.done:
			b.t.Fatalf("the broker ended at start:\n%s", b.log)
		case <-time.After(10 * time.Millisecond):
		}
	}
	b.t.Fatalf("the broker does not listen:\n%s", b.log)
}

// stop ends the broker as an operator does, and checks that it obeys.
func (b *broker) stop() {
	b.t.Helper()
	select {
	case <-b.done:
		return
	default:
	}
	b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.done:
		if b.cmd.ProcessState.ExitCode() != 0 {
			b.t.Errorf("the broker ended with %v", b.cmd.ProcessState)
		}
	case <-time.After(10 * time.Second):
		b.cmd.Process.Kill()
		b.t.Error("the broker does not end on SIGTERM")
	}
}

func (b *broker) running() bool {
	select {
	case <-b.done:
		return false
	default:
		return true
	}
}

// connect connects over TCP, and wants to be let in.
func (b *broker) connect(o connect) *client {
	b.t.Helper()
	c, code := b.tryConnect(o)
	for range 50 { // 2.0 may put off a log-in
		if code != -1 {
			break
		}
		time.Sleep(100 * time.Millisecond)
		c, code = b.tryConnect(o)
	}
	if code != 0 {
		b.t.Fatalf("connect as %q: got code %d, want 0", o.user, code)
	}
	return c
}

func (b *broker) tryConnect(o connect) (*client, int) {
	b.t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.port))
	if err != nil {
		b.t.Fatalf("the broker is gone: %v\n%s", err, b.log)
	}
	return dialClient(b.t, conn, o)
}

// waitLog waits for a text in the broker's log.
func (b *broker) waitLog(want string) {
	b.t.Helper()
	for range 500 {
		if strings.Contains(b.log.String(), want) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.t.Fatalf("the log does not say %q", want)
}

// conf is the usual configuration.
func conf(storeURI string, more ...string) string {
	return strings.Join(append([]string{
		"set_tcp_nodelay true", "listener PORT 127.0.0.1", "allow_anonymous true", "plugin PLUGIN", "plugin_opt_store_uri " + storeURI,
		"plugin_opt_public sensor/1m", "plugin_opt_public free/#",
	}, more...), "\n") + "\n"
}

// eventually waits until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for range 500 {
		if f() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%s: not within 10 s", what)
}

const nowhere = "mongodb://127.0.0.1:1/"

// An option that is wrong stops the broker's start with one line that names it.
func TestBrokerRefusesOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, want string }{
		{"plugin_opt_stroe_uri x", "Error: iotoll: plugin_opt_stroe_uri: unknown option; there are store_uri, store_uri_file, database, public, max_age, unknown_user, settings_file"},
		{"plugin_opt_public a#", `Error: iotoll: plugin_opt_public: topic filter "a#": # must be the whole last level, as in a/#`},
		{"plugin_opt_max_age soon", `Error: iotoll: plugin_opt_max_age: got "soon", want a duration of a second or more, such as 90m or 24h`},
		{"plugin_opt_unknown_user maybe", `Error: iotoll: plugin_opt_unknown_user: got "maybe", want deny or defer`},
		{"plugin_opt_settings_file /none", "Error: iotoll: plugin_opt_settings_file: open /none: no such file or directory (the broker reads it as the user that it runs as)"},
		{"plugin_opt_database a/b", "Error: iotoll: open the store that plugin_opt_store_uri and plugin_opt_database name: "},
	} {
		b := launch(t, "listener PORT 127.0.0.1\nplugin PLUGIN\nplugin_opt_store_uri "+nowhere+"\n"+c.line+"\n", build(t, ""))
		select {
		case <-b.done:
			if log := b.log.String(); !strings.Contains(log, c.want) || b.cmd.ProcessState.ExitCode() == 0 {
				t.Errorf("%s: got exit %v and log\n%s\nwant %q", c.line, b.cmd.ProcessState, log, c.want)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the broker started", c.line)
		}
	}
}

// What is public can be changed while everybody is connected: the settings file is
// read at HUP. If there is a mistake in it, the old settings stay.
func TestBrokerSettingsFile(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Write}}})
	file := filepath.Join(t.TempDir(), "settings")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("public old\n")
	b := startBroker(t, conf(s.uri, "plugin_opt_settings_file "+file))
	b.waitLog("following the store")
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	anyone := b.connect(connect{anonymous: true, id: "anyone"})
	anyone.subscribe("#", 0)
	received := func() string {
		for _, topic := range []string{"old", "new", "sensor/1m"} {
			jane.publish(topic, "x", 1, false)
		}
		var topics []string
		for anyone.sync(); len(anyone.inbox) > 0; {
			topics = append(topics, (<-anyone.inbox).topic)
		}
		return strings.Join(topics, " ")
	}
	if got := received(); got != "old sensor/1m" {
		t.Errorf("anyone received %s, want old sensor/1m", got)
	}
	for _, c := range []struct{ text, want string }{{"public new\n", "new sensor/1m"}, {"public old\npubilc new\n", "new sensor/1m"}, {"", "sensor/1m"}} {
		write(c.text)
		b.cmd.Process.Signal(syscall.SIGHUP)
		if strings.Contains(c.text, "pubilc") {
			b.waitLog("iotoll: settings not changed error=\"" + file + ", line 2: \\\"pubilc\\\": unknown setting; there are public, max_age, unknown_user\"")
		}
		eventually(t, "settings "+c.text, func() bool { return received() == c.want })
	}
	select {
	case <-anyone.closed:
		t.Error("a client was thrown out")
	default:
	}
}

// Without its store the broker starts: what is public works, the rest is denied;
// and it heals by itself.
func TestBrokerStoreAway(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}}})
	s.stop()
	b := startBroker(t, conf(s.uri))
	anyone := b.connect(connect{anonymous: true, id: "anyone"})
	if code := anyone.subscribe("sensor/1m", 0); code != 0 {
		t.Errorf("subscribe to sensor/1m with the store away: got %#x, want 0", code)
	}
	if code := anyone.subscribe("sensor/live", 0); code != 0x80 {
		t.Errorf("subscribe to sensor/live with the store away: got %#x, want 0x80", code)
	}
	if _, code := b.tryConnect(connect{user: "jane", pass: "secret", id: "jane"}); code != 5 {
		t.Errorf("connect as jane with the store away: got %d, want 5", code)
	}
	b.waitLog("cannot follow the store")
	s.start()
	b.waitLog("following the store")
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	jane.publish("sensor/1m", "1", 1, false)
	anyone.want("sensor/1m", "1")

	// It goes away again: what is known stays in force, for logins too.
	s.stop()
	eventually(t, "store away again", func() bool { return strings.Count(b.log.String(), "cannot follow the store") == 2 })
	jane.publish("sensor/1m", "2", 1, false)
	anyone.want("sensor/1m", "2")
	b.connect(connect{user: "jane", pass: "secret", id: "again"})
	if strings.Contains(b.log.String(), "secret") {
		t.Error("the log holds a password")
	}
}

// The whole way of a grant, on connections that are already there.
func TestBrokerGrantComesAndGoes(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "sensor/#", Access: acl.Write}}})
	s.user(acl.User{Name: "john"})
	b := startBroker(t, conf(s.uri))
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	john := b.connect(connect{user: "john", pass: "secret", id: "john"})
	if code := john.subscribe("sensor/live", 0); code != 0x80 {
		t.Errorf("john subscribes to sensor/live: got %#x, want 0x80", code)
	}
	if code := john.subscribe("sensor/#", 0); code != 0 {
		t.Errorf("john subscribes to sensor/#: got %#x, want 0", code)
	}
	both := func(n string) {
		jane.publish("sensor/live", n, 1, false)
		jane.publish("sensor/1m", n, 1, false)
	}
	both("1")
	john.want("sensor/1m", "1")
	john.wantNothing()

	s.grant("john", "live", "sensor/live", 0, 2*time.Second)
	granted := time.Now()
	ends := s.account("john", "live").NotAfter
	for i := 0; ; i++ {
		jane.publish("sensor/live", "paid", 1, false)
		john.sync()
		if len(john.inbox) > 0 {
			break
		}
		if time.Since(granted) > time.Second {
			t.Fatal("the grant is not in force after 1 s")
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Logf("the grant was in force %v after its write returned", time.Since(granted))
	john.want("sensor/live", "paid")

	// To the millisecond.
	var last time.Time
	for time.Now().Before(ends.Add(200 * time.Millisecond)) {
		sent := time.Now()
		jane.publish("sensor/live", sent.Format(time.RFC3339Nano), 1, false)
		john.sync()
		select {
		case <-john.inbox:
			last = sent
		default:
		}
	}
	if over := last.Sub(ends); over >= 0 || over < -100*time.Millisecond {
		t.Errorf("the last delivery was published %v after the grant's end, want just before", over)
	}
	both("2")
	john.want("sensor/1m", "2")

	// He pays again, and the seller takes it back.
	s.grant("john", "live", "sensor/live", 0, time.Hour)
	eventually(t, "second grant", func() bool {
		jane.publish("sensor/live", "again", 1, false)
		john.sync()
		return len(john.inbox) > 0
	})
	s.revoke("john", "live")
	revoked := time.Now()
	eventually(t, "revocation", func() bool {
		for len(john.inbox) > 0 {
			<-john.inbox
		}
		jane.publish("sensor/live", "still", 1, false)
		john.sync()
		return len(john.inbox) == 0
	})
	t.Logf("the revocation was in force %v after its write returned", time.Since(revoked))
}
