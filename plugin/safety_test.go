package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
)

// A panic in a callback denies that request, and the broker goes on. A build with the tag
// injectpanics panics in the operations that a file names.
func TestBrokerOutlivesPanics(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}}})
	file := filepath.Join(t.TempDir(), "panic")
	b := launch(t, conf(s.uri), build(t, "injectpanics"), "IOTOLL_PANIC="+file)
	b.WaitListening(b.Port)
	b.waitLog("following the store")
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane", version: 5})
	if code := jane.subscribe("a/#", 0); code != 0 {
		t.Fatalf("subscribe: got %#x, want 0", code)
	}

	inject := func(where string) {
		if err := os.WriteFile(file, []byte(where), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	inject("decide login reload refresh")
	for i := range 50 {
		if code := jane.publish(fmt.Sprint("a/", i), "x", 1, false); code != 0x87 {
			t.Fatalf("publish while decisions panic: got %#x, want 0x87", code)
		}
		if code := jane.subscribe("b/#", 0); code != 0x87 {
			t.Fatalf("subscribe while decisions panic: got %#x, want 0x87", code)
		}
		if _, code := b.tryConnect(connect{user: "jane", pass: "secret", id: fmt.Sprint("jane", i)}); code != 5 {
			t.Fatalf("connect while logins panic: got %d, want 5", code)
		}
	}
	jane.wantNothing()
	inject("service")
	time.Sleep(200 * time.Millisecond)
	inject("refresh")
	time.Sleep(300 * time.Millisecond)
	inject("reload")
	b.Signal(syscall.SIGHUP)
	time.Sleep(200 * time.Millisecond)

	inject("")
	if code := jane.publish("a/b", "x", 1, false); code != 0 {
		t.Errorf("publish afterwards: got %#x, want 0", code)
	}
	jane.want("a/b", "x")
	b.connect(connect{user: "jane", pass: "secret", id: "afterwards"})
	for _, op := range []string{"decide", "login", "refresh", "reload"} {
		b.waitLog(`panic="injected into ` + op)
		if n := strings.Count(b.Log(), `panic="injected into `+op); n != 1 {
			t.Errorf("panics of %s in the log: got %d, want 1", op, n)
		}
	}
}

// Other builds do not contain that hook.
func TestNoInjectionInProduction(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("grep", "-c", "IOTOLL_PANIC", build(t, "")).CombinedOutput()
	if strings.TrimSpace(string(out)) != "0" {
		t.Errorf("the plugin holds the hook for panics: %s, %v", out, err)
	}
}

// The broker survives many signals while Go's threads are at work. Without the signal
// mask of bridge.c, a few thousand kill it.
func TestBrokerSignals(t *testing.T) {
	t.Parallel()
	n := 20_000
	if os.Getenv("IOTOLL_SOAK") != "" {
		n = 100_000
	}
	s := startStore(t)
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}}})
	b := startBroker(t, conf(s.uri))
	b.waitLog("following the store")
	var stop atomic.Bool
	var wg sync.WaitGroup
	var published atomic.Int64
	for i := range 2 {
		c := b.connect(connect{user: "jane", pass: "secret", id: fmt.Sprint("load", i)})
		c.subscribe("load/#", 0)
		wg.Go(func() {
			for j := 0; !stop.Load(); j++ { // each a new topic, so Go is entered
				c.publish(fmt.Sprint("load/", i, "/", j), "x", 1, false)
				published.Add(1)
			}
		})
	}
	for i := range n {
		if err := b.Signal(syscall.SIGUSR1); err != nil {
			t.Fatalf("signal %d: %v\n%s", i, err, b.Log())
		}
		if i%4 == 0 {
			time.Sleep(100 * time.Microsecond) // or too many become one
		}
	}
	stop.Store(true)
	wg.Wait()
	if !b.Running() {
		t.Fatalf("the broker died:\n%s", b.Log())
	}
	t.Logf("%d SIGUSR1 sent, %d messages published meanwhile", n, published.Load())

	// SIGPIPE is ignored, as without us; HUP reads the configuration; TERM ends.
	b.Signal(syscall.SIGPIPE)
	b.Signal(syscall.SIGHUP)
	b.waitLog("Reloading config.")
	c := b.connect(connect{user: "jane", pass: "secret", id: "after"})
	c.sync()
	// Go's threads block the broker's signals.
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", b.PID()))
	if err != nil || len(tasks) < 3 {
		t.Fatalf("threads: got %v, %v", tasks, err)
	}
	for _, task := range tasks {
		if strings.Contains(task, fmt.Sprintf("task/%d/", b.PID())) {
			continue
		}
		status, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		var mask uint64
		for _, line := range strings.Split(string(status), "\n") {
			fmt.Sscanf(line, "SigBlk: %x", &mask)
		}
		for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2} {
			if mask&(1<<(sig-1)) == 0 {
				t.Errorf("%s: %v is not blocked", task, sig)
			}
		}
	}
}

// is21 reports whether the broker is Mosquitto 2.1, which accepts the answer to a login
// later.
func (b *broker) is21() bool {
	b.waitLog("mosquitto version ")
	return strings.Contains(b.Log(), "mosquitto version 2.1")
}

// More clients log in for the first time than may block the broker. Mosquitto 2.0 defers
// logins, and the clients retry, as mosquitto_sub does by itself.
func TestBrokerManyFirstLogins(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	const n = 60
	for i := range n {
		s.user(acl.User{Name: fmt.Sprint("u", i)})
	}
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}}})
	s.user(acl.User{Name: "sub", Rights: []acl.Right{{Pattern: "#", Access: acl.Read}}})
	began := time.Now()
	b := startBroker(t, conf(s.uri))
	b.waitLog("following the store")
	jane := b.connect(connect{user: "jane", pass: "secret", id: "jane"})
	var deferred []int
	for i := range n {
		switch _, code := b.tryConnect(connect{user: fmt.Sprint("u", i), pass: "secret", id: fmt.Sprint("u", i)}); code {
		case 0:
		case -1:
			deferred = append(deferred, i)
		default:
			t.Errorf("connect as u%d: got %d, want 0 or no answer", i, code)
		}
	}
	t.Logf("%d of %d deferred", len(deferred), n)
	if b.is21() != (len(deferred) == 0) {
		t.Errorf("deferred: got %d of %d logins, want some on Mosquitto 2.0 and none on 2.1", len(deferred), n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	sub := exec.CommandContext(ctx, "mosquitto_sub", "-p", fmt.Sprint(b.Port), "-u", "sub", "-P", "secret", "-t", "a", "-C", "1")
	received := make(chan string, 1)
	go func() {
		out, err := sub.CombinedOutput()
		received <- fmt.Sprint(strings.TrimSpace(string(out)), " ", err)
	}()
	for _, i := range deferred {
		b.connect(connect{user: fmt.Sprint("u", i), pass: "secret", id: fmt.Sprint("u", i)})
	}
	for done := false; !done; {
		jane.publish("a", "x", 1, false)
		select {
		case got := <-received:
			done = true
			if !strings.HasSuffix(got, "x <nil>") {
				t.Errorf("mosquitto_sub: got %s, want x", got)
			}
		case <-time.After(100 * time.Millisecond):
		}
	}
	if n := strings.Count(b.Log(), "many first logins"); len(deferred) > 0 && (n < 1 || n > 1+int(time.Since(began)/time.Minute)) {
		t.Errorf("the log tells %d times of deferred logins, want once, and once a minute if it takes long", n)
	}
}

// At SIGHUP the broker asks for the passwords of a thousand clients again.
func TestBrokerHUPWithAThousandClients(t *testing.T) {
	s := startStore(t)
	const n = 1000
	s.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}}})
	b := startBroker(t, conf(s.uri, "max_connections -1"))
	b.waitLog("following the store")
	clients := make([]*client, n)
	for i := range clients {
		o := connect{user: "jane", pass: "secret", id: fmt.Sprint("c", i)}
		if i%10 == 0 {
			o = connect{anonymous: true, id: o.id}
		}
		clients[i] = b.connect(o)
	}
	s.stop() // and with the store away
	b.Signal(syscall.SIGHUP)
	time.Sleep(5 * time.Millisecond)
	start := time.Now()
	clients[1].publish("x", "y", 1, false)
	stall := time.Since(start)
	b.waitLog("Reloading config.")
	for i, c := range clients {
		select {
		case <-c.closed:
			t.Fatalf("client %d: connection closed", i)
		default:
		}
	}
	clients[n-1].sync()
	t.Logf("a message published at the HUP took %v", stall)
	if stall > 10*time.Second { // verifying them takes 20 s and more, not a hundredth of that
		t.Errorf("the HUP stalled the broker for %v", stall)
	}
}
