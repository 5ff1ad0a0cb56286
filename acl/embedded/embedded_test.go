package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/iotoll/iotoll/acl/embedded"
)

// childDirectory tells the test binary to be the process that
// TestKilled kills.
const childDirectory = "EMBEDDED_TEST_DIRECTORY"

func TestMain(m *testing.M) {
	if directory := os.Getenv(childDirectory); directory != "" {
		fmt.Fprintln(os.Stderr, insertForever(directory))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func quiet() logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// run runs a server until the test, or stop, ends it.
func run(t *testing.T, s *embedded.Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func openStore(t *testing.T, directory string) *embedded.Server {
	t.Helper()
	s, err := embedded.Open(embedded.Config{Directory: directory}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func connect(uri string) (*mongo.Client, error) {
	return mongo.Connect(options.Client().ApplyURI(uri).SetServerSelectionTimeout(5 * time.Second))
}

func TestKeepsWhatWasWritten(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "a", "store")
	for i := range 2 {
		s := openStore(t, directory)
		stop := run(t, s)
		client, err := connect(s.URI())
		if err != nil {
			t.Fatal(err)
		}
		c := client.Database("test").Collection("documents")
		if _, err := c.InsertOne(t.Context(), bson.M{"_id": fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
		n, err := c.CountDocuments(t.Context(), bson.M{})
		if err != nil || n != int64(i+1) {
			t.Errorf("round %d: got %d documents, error %v, want %d", i, n, err, i+1)
		}
		if err := client.Disconnect(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop()
	}
	info, err := os.Stat(directory)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o700 {
		t.Errorf("mode of the directory: got %#o, want 0700", got)
	}
}

// TestKilled kills a process with SIGKILL in the middle of its writing, and
// looks for every document that the store had acknowledged.
func TestKilled(t *testing.T) {
	const acknowledged = 100
	directory := filepath.Join(t.TempDir(), "store")
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDirectory+"="+directory)
	child.Stderr = os.Stderr
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { child.Process.Kill(); child.Wait() })
	var ids []string
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if ids = append(ids, lines.Text()); len(ids) == acknowledged {
			if _, err := embedded.Open(embedded.Config{Directory: directory}, quiet()); !errors.Is(err, embedded.ErrInUse) ||
				!strings.Contains(err.Error(), fmt.Sprintf("process %d", child.Process.Pid)) {
				t.Errorf("Open of another process's directory: got error %v, want ErrInUse and the process", err)
			}
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(ids) < acknowledged {
		t.Fatalf("the child stopped after %d documents, want at least %d", len(ids), acknowledged)
	}
	child.Wait()

	s := openStore(t, directory)
	run(t, s)
	client, err := connect(s.URI())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(context.Background())
	for _, id := range ids {
		if err := client.Database("test").Collection("documents").FindOne(t.Context(), bson.M{"_id": id}).Err(); err != nil {
			t.Errorf("document %s, which was acknowledged: %v", id, err)
		}
	}
}

// insertForever inserts documents and prints the ID of each that was acknowledged.
func insertForever(directory string) error {
	s, err := embedded.Open(embedded.Config{Directory: directory}, quiet())
	if err != nil {
		return err
	}
	go s.Run(context.Background())
	client, err := connect(s.URI())
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		id := fmt.Sprint(i)
		if _, err := client.Database("test").Collection("documents").InsertOne(context.Background(), bson.M{"_id": id}); err != nil {
			return err
		}
		fmt.Println(id)
	}
}

func TestOpenRefuses(t *testing.T) {
	sockets := t.TempDir()
	taken, err := net.Listen("unix", filepath.Join(sockets, "taken.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	document := filepath.Join(sockets, "document.sock")
	if err := os.WriteFile(document, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(sockets, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(sockets, strings.Repeat("x", 107-len(sockets)-len("/.sock")+1)+".sock")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	shared := filepath.Join(t.TempDir(), "shared")
	if err := os.Mkdir(shared, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, directory, socket, group, want string
	}{
		{"relative socket", "store", "store.sock", "", "not an absolute path"},
		{"name of a host", "store", "/run/store", "", "does not end in .sock"},
		{"long socket", "store", long, "", "has 108 bytes, want at most 107"},
		{"socket in use", "store", taken.Addr().String(), "", "another process listens on"},
		{"socket is a document", "store", document, "", "exists and is not a socket"},
		{"socket for everybody to replace", "store", filepath.Join(open, "store.sock"), "", "has mode 0777"},
		{"no such group", "store", filepath.Join(sockets, "run", "store.sock"), "no-such-group", "no-such-group"},
		{"no directory", "", "", "", "directory of the embedded store is not set"},
		{"a file", file, "", "", "not a directory"},
		{"below a file", filepath.Join(file, "store"), "", "", "not a directory"},
		{"odd name", "store?mode=memory", "", "", "contains one of ? # %"},
		{"a pattern", "store[1]", "", "", "contains one of ? # %"},
		{"others may read", shared, "", "", "has mode 0750"},
		{"not writable", "/proc/self/fd", "", "", "embedded store"},
	} {
		t.Run(test.name, func(t *testing.T) {
			directory := test.directory
			if directory != "" && !filepath.IsAbs(directory) {
				directory = filepath.Join(t.TempDir(), directory)
			}
			s, err := embedded.Open(embedded.Config{Directory: directory, Socket: test.socket, Group: test.group}, quiet())
			if err == nil {
				run(t, s)
				t.Fatalf("Open(%q, %q): got no error, want one with %q", directory, test.socket, test.want)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("Open(%q, %q): got error %q, want one with %q", directory, test.socket, err, test.want)
			}
			if directory != test.directory { // what failed must not keep the directory
				run(t, openStore(t, filepath.Join(t.TempDir(), "store")))
			}
		})
	}
}

func TestInUseByThisProcess(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "store")
	first := openStore(t, directory)
	stop := run(t, first)
	if _, err := embedded.Open(embedded.Config{Directory: directory}, quiet()); !errors.Is(err, embedded.ErrInUse) {
		t.Errorf("second Open: got error %v, want ErrInUse", err)
	}
	stop()
	run(t, openStore(t, directory)) // free again
}

// TestReleasedWithoutServing checks that Run with a context that has ended releases
// what Open took.
func TestReleasedWithoutServing(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "store")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if err := openStore(t, directory).Run(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLogKeepsSecrets checks that the log contains no document at any level.
func TestLogKeepsSecrets(t *testing.T) {
	var text strings.Builder
	log := logrus.New()
	log.SetOutput(&text)
	log.SetLevel(logrus.TraceLevel)
	s, err := embedded.Open(embedded.Config{Directory: filepath.Join(t.TempDir(), "store")}, log)
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, s)
	client, err := connect(s.URI())
	if err != nil {
		t.Fatal(err)
	}
	users := client.Database("test").Collection("users")
	document := bson.M{"_id": "john", "password": "hunter2"}
	for range 2 {
		users.InsertOne(t.Context(), document)
	}
	users.FindOne(t.Context(), document)
	users.FindOne(t.Context(), bson.M{"$hunter2": "hunter2"})
	if err := client.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	if text.Len() == 0 {
		t.Error("the log is empty, want FerretDB's messages in it")
	}
	if strings.Contains(text.String(), "hunter2") {
		t.Errorf("the log holds the password:\n%s", text.String())
	}
}

func ExampleOpen() {
	directory, err := os.MkdirTemp("", "iotoll")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(directory)
	store, err := embedded.Open(embedded.Config{Directory: directory}, logrus.StandardLogger())
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- store.Run(ctx) }()

	client, err := connect(store.URI())
	if err != nil {
		panic(err)
	}
	fmt.Println("ping:", client.Ping(ctx, nil))

	client.Disconnect(ctx)
	stop()
	fmt.Println("stopped:", <-stopped)
	// Output:
	// ping: <nil>
	// stopped: <nil>
}

// TestLooksUpByIndex checks that a document is found by its _id without reading the others,
// in collections old and new.
func TestLooksUpByIndex(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "store"))
	stop := run(t, s)
	defer stop()
	client, err := connect(s.URI())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(context.Background())
	for _, name := range []string{"one", "another"} {
		c := client.Database("test").Collection(name)
		if _, err := c.InsertOne(t.Context(), bson.M{"_id": "a"}); err != nil {
			t.Fatal(err)
		}
		explain := bson.D{{Key: "explain", Value: bson.D{{Key: "find", Value: name}, {Key: "filter", Value: bson.D{{Key: "_id", Value: "a"}}}}}}
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			// SQLite notices a new index when it reads, not when it explains.
			if err := c.FindOne(t.Context(), bson.M{"_id": "a"}).Err(); err != nil {
				t.Fatal(err)
			}
			plan, err := client.Database("test").RunCommand(t.Context(), explain).Raw()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(plan.String(), "USING INDEX iotoll_") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("plan for finding an _id: got %s, want one that uses our index", plan)
			}
		}
	}
}
