package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/cmd/internal/rig"
)

// bin holds iotoll, the same with the race detector, and iotoll.so.
var bin string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "iotoll-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	for _, args := range [][]string{
		{"build", "-o", filepath.Join(dir, "iotoll"), "../iotoll"},
		{"build", "-race", "-o", filepath.Join(dir, "iotoll-race"), "../iotoll"},
		{"build", "-buildmode=c-shared", "-o", filepath.Join(dir, "iotoll.so"), "../../plugin"},
	} {
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go %s: %v\n%s", strings.Join(args, " "), err, out)
			return 1
		}
	}
	return m.Run()
}

// newRig starts the system for one test, which runs beside others. A data race in one of its programs
// fails the test.
func newRig(t *testing.T, o rig.Options) *rig.Rig {
	t.Helper()
	t.Parallel()
	o.Bin, o.Dir, o.Server = bin, t.TempDir(), "iotoll-race"
	if o.Finality == 0 {
		o.Finality = 200 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := rig.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.AddUser(ctx, "jane", "--right", "sensor/#=r"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		for _, p := range []*rig.Process{r.Broker, r.Serve, r.Plug, r.Node} {
			if strings.Contains(p.Output(), "DATA RACE") || strings.Contains(p.Output(), "panic") {
				t.Errorf("%s:\n%s", p.Name, p.Output())
			} else if t.Failed() {
				t.Logf("%s said:\n%s", p.Name, p.Output())
			}
		}
	})
	return r
}

// eventually fails the test unless happened becomes true within ten seconds.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !happened(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited ten seconds in vain for: %s", what)
		}
	}
}

// client starts mosquitto_sub.
func client(t *testing.T, r *rig.Rig, name, user string, args ...string) *rig.Process {
	t.Helper()
	p, err := r.Client(name, user, args...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// iotoll runs a command that must succeed.
func iotoll(t testing.TB, r *rig.Rig, args ...string) string {
	t.Helper()
	out, err := r.Iotoll(t.Context(), args...)
	if err != nil {
		t.Fatalf("iotoll %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// pay pays from the buyer's key and waits until the payment is final.
func pay(t *testing.T, r *rig.Rig, amount, message string) string {
	t.Helper()
	out, err := r.Pay(t.Context(), amount, message, "--wait")
	if err != nil {
		t.Fatalf("pay %s: %v\n%s", amount, err, out)
	}
	return out
}

// paidClient starts John's client, on all that he may read, and pays: when it
// returns, the client receives the live readings.
func paidClient(t *testing.T, r *rig.Rig) *rig.Process {
	t.Helper()
	c := client(t, r, "john", "john", "-t", "sensor/#")
	pay(t, r, r.Price, john)
	receives(t, c, "sensor/live", 2)
	return c
}

const john = `{"username": "john"}`

// publish sends one message as the account that publishes readings.
func publish(t *testing.T, r *rig.Rig, topic, payload string) {
	t.Helper()
	out, err := exec.Command("mosquitto_pub", "-h", "127.0.0.1", "-p", strconv.Itoa(r.BrokerPort), "-u", rig.Publisher,
		"-P", r.Password(rig.Publisher), "-q", "1", "-t", topic, "-m", payload).CombinedOutput()
	if err != nil {
		t.Fatalf("publish to %s: %v\n%s", topic, err, out)
	}
}

// count returns how many messages of a topic a client has printed.
func count(p *rig.Process, topic string) int {
	n := 0
	for line := range strings.Lines(p.Output()) {
		if strings.HasPrefix(line, topic+" ") {
			n++
		}
	}
	return n
}

// receives waits until the client prints n more messages of a topic.
func receives(t *testing.T, p *rig.Process, topic string, n int) {
	t.Helper()
	before := count(p, topic)
	eventually(t, fmt.Sprintf("%s to receive %d more messages of %s", p.Name, n, topic), func() bool {
		return count(p, topic) >= before+n
	})
}

// silent fails the test if the client prints a message of a topic while a
// client of Jane, who may read everything, prints four.
func silent(t *testing.T, r *rig.Rig, p *rig.Process, topic string) {
	t.Helper()
	witness := client(t, r, "witness", "jane", "-t", topic)
	receives(t, witness, topic, 1)
	before := count(p, topic)
	receives(t, witness, topic, 4)
	if got := count(p, topic) - before; got != 0 {
		t.Errorf("%s received %d messages of %s, want none", p.Name, got, topic)
	}
	witness.Stop()
}
