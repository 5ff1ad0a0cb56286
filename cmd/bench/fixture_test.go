package bench

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/internal/mosquitto"
	"github.com/iotoll/iotoll/tangle"
)

// The configurations that are compared.
const (
	files  = "files"  // password_file and acl_file
	allow  = "allow"  // a C plugin that permits everything
	thread = "thread" // the same with a thread that sleeps
	iotoll = "iotoll" // ours, every subscriber holding a live grant
)

var configurations = []string{files, allow, thread, iotoll}

// otherRules is how many rules that do not match the topic a user has, before
// the one that does.
const otherRules = 8

func otherFilter(i int) string { return fmt.Sprintf("house/room%d/+/state", i) }

type account struct{ name, password string }

// fixture is the users and rules that all configurations share.
type fixture struct {
	publisher   account           // may write the topic
	subscribers []account         // may read it
	callers     []account         // only log in
	conf        map[string]string // by configuration: its part of mosquitto.conf
}

func newFixture(b *testing.B, subscribers, callers int) *fixture {
	named := func(name string) account { return account{name, rand.Text()} }
	f := &fixture{publisher: named("publisher")}
	for i := range subscribers {
		f.subscribers = append(f.subscribers, named(fmt.Sprintf("reader%04d", i)))
	}
	for i := range callers {
		f.callers = append(f.callers, named(fmt.Sprintf("caller%04d", i)))
	}
	f.conf = map[string]string{
		files:  f.files(b),
		allow:  compileAllow(b, "allow.so"),
		thread: compileAllow(b, "thread.so", "-DTHREAD"),
		iotoll: f.iotoll(b),
	}
	return f
}

// start starts a broker under a configuration.
func (f *fixture) start(b *testing.B, name string) *broker {
	return &broker{mosquitto.Start(b, `listener PORT 127.0.0.1
set_tcp_nodelay true
persistence false
sys_interval 0
max_queued_messages 0
connection_messages false
log_type error
`+f.conf[name])}
}

// files writes password_file and acl_file.
func (f *fixture) files(b *testing.B) string {
	passwords, rules := new(strings.Builder), new(strings.Builder)
	add := func(a account, access string) {
		h := hash(b, a.password, false)
		fmt.Fprintf(passwords, "%s:$7$%d$%s$%s\n", a.name, iterations, h.salt, h.key)
		if access == "" {
			return
		}
		fmt.Fprintf(rules, "user %s\n", a.name)
		for i := range otherRules {
			fmt.Fprintf(rules, "topic %s %s\n", access, otherFilter(i))
		}
		fmt.Fprintf(rules, "topic %s %s\n", access, topic)
	}
	add(f.publisher, "write")
	for _, a := range f.subscribers {
		add(a, "read")
	}
	for _, a := range f.callers {
		add(a, "")
	}
	dir := b.TempDir()
	for name, text := range map[string]string{"passwords": passwords.String(), "rules": rules.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	return fmt.Sprintf("password_file %s/passwords\nacl_file %s/rules\n", dir, dir)
}

// iterations makes checking a PBKDF2 hash take a tenth of a millisecond; it is
// Mosquitto 2.0's own number.
const iterations = 101

type hashed struct{ salt, key string } // base64

// hash hashes with PBKDF2. Mosquitto decodes the salt before it is used,
// mosquitto-auth-plug, whose format iotoll reads, does not.
func hash(b *testing.B, password string, saltAsText bool) hashed {
	salt := make([]byte, 12)
	rand.Read(salt)
	text := base64.StdEncoding.EncodeToString(salt)
	if saltAsText {
		salt = []byte(text)
	}
	key, err := pbkdf2.Key(sha512.New, password, salt, iterations, sha512.Size)
	if err != nil {
		b.Fatal(err)
	}
	return hashed{text, base64.StdEncoding.EncodeToString(key)}
}

// compileAllow compiles the baseline plugin.
func compileAllow(b *testing.B, name string, flags ...string) string {
	plugin := filepath.Join(b.TempDir(), name)
	run(b, "gcc", append([]string{"-O2", "-shared", "-fPIC", "-pthread", "-o", plugin, "testdata/allow.c"}, flags...)...)
	return "plugin " + plugin + "\n"
}

func run(b *testing.B, name string, args ...string) {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// iotoll builds the plugin and runs a store in which every subscriber has paid.
func (f *fixture) iotoll(b *testing.B) string {
	dir := b.TempDir()
	plugin := filepath.Join(dir, "iotoll.so")
	run(b, "go", "build", "-buildmode=c-shared", "-o", plugin, "../../plugin")
	silent := logrus.New()
	silent.SetOutput(io.Discard)
	server, err := embedded.Open(embedded.Config{Directory: filepath.Join(dir, "store")}, silent)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			b.Errorf("run store: %v", err)
		}
	})
	store, err := mongostore.Open(server.URI(), "mosquitto")
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close(ctx)
	if err := f.fill(b, store); err != nil {
		b.Fatalf("fill store: %v", err)
	}
	return fmt.Sprintf("plugin %s\nplugin_opt_store_uri %s\n", plugin, server.URI())
}

// fill adds the users, and settles a payment of each subscriber.
func (f *fixture) fill(b *testing.B, store *mongostore.Store) error {
	ctx := b.Context()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	add := func(a account, hash string, rights ...acl.Right) error {
		return store.AddUser(ctx, acl.User{Name: a.name, Password: hash, Rights: rights})
	}
	// As cheap as the built-in hashes, so that the subscribers are there soon.
	cheap := func(a account) string {
		h := hash(b, a.password, true)
		return fmt.Sprintf("PBKDF2$sha512$%d$%s$%s", iterations, h.salt, h.key)
	}
	var others []acl.Right
	for i := range otherRules {
		others = append(others, acl.Right{Pattern: otherFilter(i), Access: acl.Read})
	}
	for _, a := range f.callers {
		honest, err := password.Hash(a.password) // their logins are timed
		if err == nil {
			err = add(a, honest)
		}
		if err != nil {
			return err
		}
	}
	if err := add(f.publisher, cheap(f.publisher), append(others, acl.Right{Pattern: topic, Access: acl.Write})...); err != nil {
		return err
	}
	filter, err := acl.ParseFilter(topic)
	if err != nil {
		return err
	}
	offer := tangle.Offer{ID: "live", Filters: []acl.Filter{filter}, Price: 500, Period: time.Hour, Address: "DEPOSIT"}
	offers, err := tangle.NewOffers(offer)
	if err != nil {
		return err
	}
	settler := tangle.Settler{Store: store, Offers: offers}
	for _, a := range f.subscribers {
		if err := add(a, cheap(a), others...); err != nil {
			return err
		}
		if _, err := settler.Grant(ctx, a.name, offer.ID, 24*time.Hour, "benchmark", tangle.NewCause()); err != nil {
			return err
		}
	}
	return nil
}
