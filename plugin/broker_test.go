package main

import (
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
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/internal/mosquitto"
	"github.com/iotoll/iotoll/tangle"
)

// The TestBroker functions of this package load the plugin into a real Mosquitto. They
// need mosquitto, cc and the headers, and fail without them.

// scratch is the directory of the built plugins. TestMain removes it.
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

// written adds a user as another program may have written it, whatever its name.
func (s *testStore) written(name string, topics bson.A) {
	s.t.Helper()
	ctx := context.Background()
	client, err := mongo.Connect(options.Client().ApplyURI(s.uri))
	if err == nil {
		defer client.Disconnect(ctx)
		_, err = client.Database("mosquitto").Collection("users").InsertOne(ctx, bson.M{"username": name, "password": hash(), "topics": topics})
	}
	if err != nil {
		s.t.Fatalf("write user %q: %v", name, err)
	}
}

// grant gives a user the topics of a filter during [from, to), counted from now.
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

// revoke ends a grant now.
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

// broker is a real Mosquitto.
type broker struct {
	*mosquitto.Broker
	t testing.TB
}

// launch starts a broker without waiting for it. In the configuration, PORT stands
// for a free port and PLUGIN for the plugin.
func launch(t testing.TB, conf, plugin string, env ...string) *broker {
	t.Helper()
	return &broker{mosquitto.Launch(t, strings.ReplaceAll(conf, "PLUGIN", plugin), env...), t}
}

// startBroker starts a broker and waits until it listens.
func startBroker(t testing.TB, conf string) *broker {
	t.Helper()
	b := launch(t, conf, build(t, ""))
	b.WaitListening(b.Port)
	return b
}

// connect connects over TCP and fails the test unless the broker accepts it.
func (b *broker) connect(o connect) *client {
	b.t.Helper()
	c, code := b.retryConnect(o)
	if code != 0 {
		b.t.Fatalf("connect as %q: got code %d, want 0", o.user, code)
	}
	return c
}

// retryConnect connects, again and again while the broker closes the connection
// without a CONNACK, as Mosquitto 2.0 does when the plugin defers a login. It returns
// the code of the CONNACK.
func (b *broker) retryConnect(o connect) (*client, int) {
	b.t.Helper()
	c, code := b.tryConnect(o)
	for range 100 {
		if code != -1 {
			break
		}
		time.Sleep(100 * time.Millisecond)
		c, code = b.tryConnect(o)
	}
	return c, code
}

// tryConnect connects once. It returns the code of the CONNACK, -1 if there is none.
func (b *broker) tryConnect(o connect) (*client, int) {
	b.t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.Port))
	if err != nil {
		b.t.Fatalf("the broker is gone: %v\n%s", err, b.Log())
	}
	return dialClient(b.t, conn, o)
}

// rss is the broker's memory in KiB.
func (b *broker) rss() int {
	b.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.PID()))
	if err != nil {
		b.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib int
	fmt.Sscan(rest, &kib)
	return kib
}

// waitLog waits until the broker's log contains a text.
func (b *broker) waitLog(want string) {
	b.t.Helper()
	for range 500 {
		if strings.Contains(b.Log(), want) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.t.Fatalf("the log does not say %q", want)
}

// conf returns a mosquitto.conf with the plugin and more lines.
func conf(storeURI string, more ...string) string {
	return strings.Join(append([]string{
		"set_tcp_nodelay true", "listener PORT 127.0.0.1", "allow_anonymous true", "plugin PLUGIN", "plugin_opt_store_uri " + storeURI,
		"plugin_opt_public sensor/1m", "plugin_opt_public free/#",
	}, more...), "\n") + "\n"
}

// eventually waits until f returns true.
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

// A wrong option stops the broker's start with one line that names it.
func TestBrokerRefusesOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, want string }{
		{"plugin_opt_stroe_uri x", "Error: iotoll: plugin_opt_stroe_uri: unknown option; the options are store_uri, store_uri_file, database, public, max_age, unknown_user, unpaid_subscribe, settings_file"},
		{"plugin_opt_public a#", `Error: iotoll: plugin_opt_public: topic filter "a#": # must be the whole last level, as in a/#`},
		{"plugin_opt_max_age soon", `Error: iotoll: plugin_opt_max_age: got "soon", want a duration of a second or more, such as 90m or 24h`},
		{"plugin_opt_unknown_user maybe", `Error: iotoll: plugin_opt_unknown_user: got "maybe", want deny or defer`},
		{"plugin_opt_settings_file /none", "Error: iotoll: plugin_opt_settings_file: open /none: no such file or directory (Mosquitto reads it as the user that it runs as)"},
		{"plugin_opt_database a/b", "Error: iotoll: plugin_opt_store_uri and plugin_opt_database: open store: "},
	} {
		b := launch(t, "listener PORT 127.0.0.1\nplugin PLUGIN\nplugin_opt_store_uri "+nowhere+"\n"+c.line+"\n", build(t, ""))
		select {
		case <-b.Done():
			if log := b.Log(); !strings.Contains(log, c.want) {
				t.Errorf("%s: got log\n%s\nwant %q", c.line, log, c.want)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the broker started", c.line)
		}
	}
}

// SIGHUP puts the public filters of the settings file in force without closing a
// connection. If the file has an error, the old settings stay.
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
		b.Signal(syscall.SIGHUP)
		if strings.Contains(c.text, "pubilc") {
			b.waitLog("iotoll: settings not changed error=\"" + file + ", line 2: \\\"pubilc\\\": unknown setting; the settings are public, max_age, unknown_user, unpaid_subscribe\"")
		}
		eventually(t, "settings "+c.text, func() bool { return received() == c.want })
	}
	select {
	case <-anyone.closed:
		t.Error("the broker closed the connection of a client")
	default:
	}
}

// Without its store the broker starts and serves what is public. It recovers by itself
// when the store is there.
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
	for _, version := range []byte{4, 5} {
		if _, code := b.tryConnect(connect{user: "jane", pass: "secret", id: "jane", version: version}); code != -1 {
			t.Errorf("connect as jane with the store away: got %d, want the connection closed without an answer", code)
		}
	}
	b.waitLog("cannot follow the store")
	s.start()
	b.waitLog("following the store")
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	jane.publish("sensor/1m", "1", 1, false)
	anyone.want("sensor/1m", "1")

	// When the store is away again, what was loaded stays in force, for logins too.
	s.stop()
	eventually(t, "store away again", func() bool { return strings.Count(b.Log(), "cannot follow the store") == 2 })
	jane.publish("sensor/1m", "2", 1, false)
	anyone.want("sensor/1m", "2")
	b.connect(connect{user: "jane", pass: "secret", id: "again"})
	if strings.Contains(b.Log(), "secret") {
		t.Error("the log holds a password")
	}
}

// A grant begins, ends and is revoked while its user stays connected.
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

	// He pays again, and the seller revokes it.
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
