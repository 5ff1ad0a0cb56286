package mongostore

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/embedded"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/tangle"
)

// server is the embedded store that the tests share. Each test has a database of
// its own.
var server string

var databases atomic.Int64

func TestMain(m *testing.M) {
	// In memory where Linux has it, since the tests are about documents: whether
	// they survive is tested in package embedded. Benchmarks use the disk, as
	// users do.
	flag.Parse()
	place := "/dev/shm"
	if _, err := os.Stat(place); err != nil || flag.Lookup("test.bench").Value.String() != "" {
		place = ""
	}
	directory, err := os.MkdirTemp(place, "mongostore")
	if err != nil {
		panic(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := embedded.Open(embedded.Config{Directory: filepath.Join(directory, "store")}, log)
	if err != nil {
		panic(err)
	}
	server = s.URI()
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- s.Run(ctx) }()
	code := m.Run()
	stop()
	<-stopped
	os.RemoveAll(directory)
	os.Exit(code)
}

// newDatabase returns the name of an empty database.
func newDatabase() string { return fmt.Sprintf("test%d", databases.Add(1)) }

// openDatabase returns a Store on a database, as another process would have it.
func openDatabase(t testing.TB, database string) *Store {
	t.Helper()
	return openAt(t, server, database)
}

// openAt returns a Store on a database of a server.
func openAt(t testing.TB, uri, database string) *Store {
	t.Helper()
	s, err := Open(uri, database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// newStore returns a Store on an empty database with the current schema.
func newStore(t testing.TB) *Store {
	t.Helper()
	s := openDatabase(t, newDatabase())
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // what is left costs those that follow
		if err := s.meta.Database().Drop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func logTo(s *Store) *strings.Builder {
	text := new(strings.Builder)
	log := logrus.New()
	log.SetOutput(text)
	log.SetLevel(logrus.TraceLevel)
	s.Log = log
	return text
}

func put(t testing.TB, s *Store, documents ...any) {
	t.Helper()
	for _, d := range documents {
		if _, err := s.users.InsertOne(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
}

func hash(t testing.TB, plain string) string {
	t.Helper()
	h, err := password.Hash(plain)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func filters(t testing.TB, texts ...string) []acl.Filter {
	t.Helper()
	f, err := parseFilters(texts)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// paid returns the entry seq of john's account for the offer live: an hour that
// the payment of that name bought.
func paid(t testing.TB, seq int64, payment string) tangle.Entry {
	from := epoch.Add(time.Duration(seq-1) * time.Hour)
	return tangle.Entry{
		Subject: "john", Offer: "live", Seq: seq, Kind: tangle.Paid, Cause: payment, Payment: payment, Amount: 500,
		Filters: filters(t, "sensor/live"), NotBefore: from, NotAfter: from.Add(time.Hour), End: from.Add(time.Hour), At: epoch,
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, test := range []struct{ uri, database, want string }{
		{"", "mosquitto", "store URI is not usable"},
		{"http://127.0.0.1", "mosquitto", "store URI is not usable"},
		{"mongodb://", "mosquitto", "store URI is not usable"},
		{"mongodb://127.0.0.1:x", "mosquitto", "store URI is not usable"},
		{"mongodb://127.0.0.1/?w=x&readPreference=none", "mosquitto", "store URI is not usable"},
		{"mongodb://127.0.0.1/?unknownauth", "mosquitto", "store URI is not usable"},
		{server, "", `database name ""`},
		{server, "a/b", `database name "a/b"`},
		{server, "a.b", `database name "a.b"`},
		{server, strings.Repeat("a", 64), "up to 63 letters"},
	} {
		s, err := Open(test.uri, test.database)
		if err == nil {
			s.Close(t.Context())
			t.Errorf("Open(%q, %q): got no error, want one with %q", test.uri, test.database, test.want)
		} else if !strings.Contains(err.Error(), test.want) {
			t.Errorf("Open(%q, %q): got error %q, want one with %q", test.uri, test.database, err, test.want)
		}
	}
}

func TestOpenKeepsThePassword(t *testing.T) {
	for _, uri := range []string{
		"mongodb://jane:sesame%zz@127.0.0.1",
		"mongodb://jane:sesame@secret@127.0.0.1",
		"mongodb://jane:sesame/secret@127.0.0.1",
		"mongodb://jane:sesame:secret@127.0.0.1",
		"mongodb://jane:sesame#secret@127.0.0.1:x",
		"mongodb://jane:sesame?secret@127.0.0.1",
		"mongodb://jane:sesame%20secret@127.0.0.1:99999999",
		"mongodb://jane:sesame@127.0.0.1/?authMechanism=MONGODB-OIDC",
		"mongodb://jane:sesame@127.0.0.1/%zz",
		"http://jane:sesame@127.0.0.1",
		"jane:sesame@127.0.0.1",
	} {
		s, err := Open(uri, "mosquitto")
		if err == nil {
			s.Close(t.Context())
			continue // the driver can use it
		}
		for _, secret := range []string{"sesame", "secret"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("Open(%q): the error %q holds %q", uri, err, secret)
			}
		}
	}
}

// TestServerAway checks that calls end within their deadline, or their own.
func TestServerAway(t *testing.T) {
	s, err := Open("mongodb://jane:sesame@127.0.0.1:1/?authSource=admin", "mosquitto")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, _, err = s.Changes(ctx, ResumeToken{})
	if took := time.Since(begin); err == nil || took > 2*time.Second {
		t.Errorf("Changes with a deadline: got error %v after %s, want one at 0.3 s", err, took)
	}
	begin = time.Now()
	_, _, _, err = s.Load(t.Context())
	if took := time.Since(begin); err == nil || took > selectTimeout+2*time.Second {
		t.Errorf("Load without a deadline: got error %v after %s, want one at %s", err, took, selectTimeout)
	}
	if err != nil && strings.Contains(err.Error(), "sesame") {
		t.Errorf("the error %q holds the password", err)
	}
}

func TestMigrate(t *testing.T) {
	s := openDatabase(t, newDatabase())
	if err := s.CheckVersion(t.Context()); !errors.Is(err, ErrNotMigrated) {
		t.Errorf("CheckVersion of an empty database: got %v, want ErrNotMigrated", err)
	}
	for range 2 {
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.CheckVersion(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := set(t.Context(), s.meta, "schema", bson.D{{Key: "version", Value: Version + 1}}); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckVersion(t.Context()); !errors.Is(err, ErrVersion) {
		t.Errorf("CheckVersion of a newer database: got %v, want ErrVersion", err)
	}
	if err := s.Migrate(t.Context()); !errors.Is(err, ErrVersion) {
		t.Errorf("Migrate of a newer database: got %v, want ErrVersion", err)
	}
}

// TestMigrateTogether migrates from two processes at once.
func TestMigrateTogether(t *testing.T) {
	database := newDatabase()
	var wait sync.WaitGroup
	for range 2 {
		s := openDatabase(t, database)
		wait.Go(func() {
			if err := s.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}

// TestMigrateOldDatabase checks that duplicate usernames affect nobody else.
func TestMigrateOldDatabase(t *testing.T) {
	s := openDatabase(t, newDatabase())
	text := logTo(s)
	put(t, s,
		bson.M{"username": "twin", "superuser": true},
		bson.M{"username": "twin"},
		bson.M{"username": "john"},
	)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	users, _, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(users) != 1 || users[0].Name != "john" {
		t.Errorf("users: got %v, want john alone", users)
	}
	for name, want := range map[string]tangle.UserState{"twin": tangle.UserUnusable, "john": tangle.UserReady} {
		if got, err := s.UserState(t.Context(), name); got != want || err != nil {
			t.Errorf("UserState(%s): got %s, error %v, want %s", name, got, err, want)
		}
	}
	// Without an index, too, nobody is added beside another.
	if err := s.AddUser(t.Context(), acl.User{Name: "john"}); !errors.Is(err, ErrExists) {
		t.Errorf("AddUser: got error %v, want ErrExists", err)
	}
	// Both can be removed.
	for range 2 {
		if err := s.RemoveUser(t.Context(), "twin"); err != nil {
			t.Error(err)
		}
	}
	if got, err := s.User(t.Context(), "twin"); !errors.Is(err, ErrNotFound) {
		t.Errorf("User after both were removed: got %+v, error %v, want ErrNotFound", got, err)
	}
	if !strings.Contains(text.String(), "are not kept unique") || !strings.Contains(text.String(), "username=twin") {
		t.Errorf("log: got %s, want a word about twin", text)
	}
}
