package main

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/password"
)

func as(name, pass string) credentials {
	return credentials{username: name, hasUsername: true, password: pass, hasPassword: true, clientID: "id-" + name, address: "192.0.2.1"}
}

// legacyHash is a hash of mosquitto-auth-plug for "secret".
func legacyHash() string {
	key, _ := pbkdf2.Key(sha256.New, "secret", []byte("c2FsdA=="), 901, 24)
	return "PBKDF2$sha256$901$c2FsdA==$" + base64.StdEncoding.EncodeToString(key)
}

func TestLogin(t *testing.T) {
	t.Parallel()
	f := &fakeStore{users: []acl.User{
		{Name: "john", Password: hash()}, {Name: "off", Password: hash(), Disabled: true}, {Name: "old", Password: legacyHash()},
		{Name: "none"}, {Name: "bad", Password: "plaintext"},
	}}
	g, _, _ := newTestGate(t, f)
	for _, c := range []struct {
		credentials
		want int
	}{
		{credentials{}, codeDefer},
		{credentials{hasUsername: true}, codeAuth},
		{credentials{hasUsername: true, username: "john"}, codeAuth},
		{as("john", "secret"), codeSuccess}, {as("john", "secret"), codeSuccess}, {as("john", "Secret"), codeAuth}, {as("john", ""), codeAuth},
		{as("John", "secret"), codeAuth}, {as("nobody", "secret"), codeAuth}, {as("off", "secret"), codeAuth},
		{as("old", "secret"), codeSuccess}, {as("old", "wrong"), codeAuth}, {as("none", ""), codeAuth}, {as("none", "x"), codeAuth},
		{as("bad", "plaintext"), codeAuth},
	} {
		if got := g.login(c.credentials, waitsLong, nil); got != c.want {
			t.Errorf("login(%q, %q): got %d, want %d", c.username, c.password, got, c.want)
		}
	}
	if got := g.login(as("john", "secret"), delays, nil); got != codeSuccess {
		t.Errorf("login of one who is remembered: got %d, want an answer at once", got)
	}

	// A new password ends what was remembered of the old one.
	other, err := password.Hash("other")
	if err != nil {
		t.Fatal(err)
	}
	f.do(func() { f.log = append(f.log, acl.Change{User: &acl.User{Name: "john", Password: other}}) })
	eventually(t, "new password", func() bool { return g.login(as("john", "other"), waitsLong, nil) == codeSuccess })
	if got := g.login(as("john", "secret"), waitsLong, nil); got != codeAuth {
		t.Errorf("login with the old password: got %d, want %d", got, codeAuth)
	}
	f.do(func() { f.log = append(f.log, acl.Change{RemovedUser: "john"}) })
	eventually(t, "removed", func() bool { return g.login(as("john", "other"), waitsLong, nil) == codeAuth })
}

// The parts of a remembered login cannot be taken for one another.
func TestRememberedLoginIsUnambiguous(t *testing.T) {
	t.Parallel()
	g, _, _ := newTestGate(t, &fakeStore{})
	seen := make(map[[32]byte]string)
	for _, name := range []string{"", "a", "ab", "a-b", "\x01a"} {
		for _, pass := range []string{"", "b", "-b", "b-c", "ab"} {
			for _, stored := range []string{"", "b", "c"} {
				sum := g.logins.mac(as(name, pass), stored)
				text := fmt.Sprintf("%q %q %q", name, stored, pass)
				if other, ok := seen[sum]; ok {
					t.Errorf("%s and %s are remembered alike", text, other)
				}
				seen[sum] = text
			}
		}
	}
	again, _, _ := newTestGate(t, &fakeStore{})
	if again.logins.mac(as("a", "b"), "c") == g.logins.mac(as("a", "b"), "c") {
		t.Error("two processes remember a login alike")
	}
}

// cpu is the processor time that this process has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Medians of processor time, since the machine is shared. A hash takes 20 ms and
// more.
func TestLoginTakesAsLongForTheUnknown(t *testing.T) {
	f := &fakeStore{users: []acl.User{{Name: "john", Password: hash()}, {Name: "old", Password: legacyHash()}, {Name: "off", Password: hash(), Disabled: true}, {Name: "bad", Password: "$argon2id$v=19$"}}}
	g, _, _ := newTestGate(t, f)
	took := make(map[string][]time.Duration)
	for i := range 7 {
		for _, name := range []string{"john", "old", "off", "bad", "nobody"} {
			c := as(name, "wrong")
			c.address = fmt.Sprintf("192.0.2.%d", i)
			start := cpu(t)
			if got := g.login(c, waitsLong, nil); got != codeAuth {
				t.Fatalf("login(%s): got %d, want %d", name, got, codeAuth)
			}
			took[name] = append(took[name], cpu(t)-start)
		}
	}
	median := func(name string) float64 {
		slices.Sort(took[name])
		return took[name][len(took[name])/2].Seconds()
	}
	for _, name := range []string{"john", "old", "off", "bad"} {
		ratio := median(name) / median("nobody")
		t.Logf("%s takes %.2f times as long as a user who does not exist (%v)", name, ratio, took["nobody"][3])
		if ratio < 0.6 || ratio > 1.6 {
			t.Errorf("login as %s takes %.2f times as long as one of a user who does not exist", name, ratio)
		}
	}
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	var th throttle
	try := func(name, address string, n int) (taken int) {
		for range n {
			if th.take(name, address, now) {
				taken++
			}
		}
		return taken
	}
	if got := try("john", "192.0.2.1", 100); got != 5 {
		t.Errorf("one address guesses one password: got %d tries, want 5", got)
	}
	if got := try("jane", "192.0.2.1", 3); got != 3 {
		t.Errorf("the same address as another user: got %d tries, want 3", got)
	}
	if got := try("john", "192.0.2.2", 3); got != 3 {
		t.Errorf("john from another address: got %d tries, want 3", got)
	}
	now = now.Add(31 * time.Second)
	if got := try("john", "192.0.2.1", 100); got != 1 {
		t.Errorf("half a minute later: got %d tries, want 1", got)
	}

	// Strangers everywhere guess john's password. He still has tries of his own.
	total := 0
	for i := range 200 {
		total += try("john", fmt.Sprintf("198.51.100.%d", i), 100)
	}
	if total < 200*pairReserve || total > 200*pairReserve+20*5 {
		t.Errorf("200 addresses: got %d tries, want little more than %d", total, 200*pairReserve)
	}
	if got := try("john", "203.0.113.7", 100); got != pairReserve {
		t.Errorf("john meanwhile: got %d tries, want %d", got, pairReserve)
	}

	// One address tries many usernames.
	total = 0
	for i := range 1000 {
		total += try(fmt.Sprint("u", i), "192.0.2.9", 1)
	}
	if total != 30 {
		t.Errorf("one address guesses for 1000 usernames: got %d tries, want 30", total)
	}
	// An IPv6 network is one address.
	total = 0
	for i := range 1000 {
		total += try("v6", fmt.Sprintf("2001:db8::%x", i), 1)
	}
	if total != 5 {
		t.Errorf("one IPv6 network: got %d tries, want 5", total)
	}

	// Right passwords are not counted.
	for i := range 1000 {
		if !th.take(fmt.Sprint("good", i), "192.0.2.77", now) {
			t.Fatalf("login %d behind one address: refused", i)
		}
		th.giveBack(fmt.Sprint("good", i), "192.0.2.77", now)
	}
	// It forgets, and never grows beyond its bound.
	for i := range throttleAtMost {
		th.take(fmt.Sprint("x", i), fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), now)
	}
	if n := len(th.buckets); n > throttleAtMost+3 {
		t.Errorf("buckets: got %d, want at most %d", n, throttleAtMost)
	}
	now = now.Add(time.Hour)
	if got := try("john", "192.0.2.1", 100); got != 5 {
		t.Errorf("an hour later: got %d tries, want 5", got)
	}
}

// What a stranger sends as a username may be as long as MQTT allows.
func TestThrottleKeepsNoLongNames(t *testing.T) {
	var th throttle
	long := strings.Repeat("x", 1<<16-10)
	for i := range perAddress.tries {
		if !th.take(fmt.Sprint(long, i), "192.0.2.1", time.Unix(0, 0)) {
			t.Fatalf("try %d: refused, want allowed: they are different names", i+1)
		}
	}
	kept := 0
	for k := range th.buckets {
		kept += len(k.name)
	}
	if want := 2 * perAddress.tries * sha256.Size; kept > want {
		t.Errorf("bytes of names kept: got %d, want at most %d", kept, want)
	}
}

// Nor may what waits for its turn hold more than so many bytes, or anybody be kept
// out once it has had it.
func TestWaitingLoginsHoldLittle(t *testing.T) {
	t.Parallel()
	g, _, _ := newTestGate(t, &fakeStore{users: []acl.User{{Name: "john", Password: hash()}}})
	long := strings.Repeat("x", 1<<16-10)
	waiting := 0
	for i := range 1000 {
		c := as(fmt.Sprint(long, i), long)
		c.clientID = fmt.Sprint(i)
		if g.login(c, delays, func() {}) == codeDelayed {
			waiting++
		}
	}
	if most := waitBytes/(2*len(long)) + perAddress.tries; waiting < 100 || waiting > most {
		t.Errorf("waiting: got %d log-ins of 128 KiB each, want 100 to %d", waiting, most)
	}
	eventually(t, "john's turn", func() bool {
		g.takeAnswers()
		c := as("john", "secret")
		c.clientID, c.address = "john", "192.0.2.7"
		return g.login(c, delays, func() {}) != codeAuth
	})
	eventually(t, "john's answer", func() bool {
		for _, o := range g.takeAnswers() {
			if o.clientID == "john" {
				return o.code == codeSuccess
			}
		}
		return false
	})
}

func TestDelayedLogin(t *testing.T) {
	t.Parallel()
	f := &fakeStore{users: []acl.User{{Name: "john", Password: hash()}, {Name: "jane", Password: hash()}}}
	g, _, _ := newTestGate(t, f)
	var woken atomic.Int64
	wake := func() { woken.Add(1) }
	later := func(id, name, pass string) int {
		c := as(name, pass)
		c.clientID = id
		return g.login(c, delays, wake)
	}
	collect := func(n int) map[string]int {
		t.Helper()
		got := make(map[string]int)
		eventually(t, "answers", func() bool {
			for _, o := range g.takeAnswers() {
				if _, twice := got[o.clientID]; twice {
					t.Errorf("two answers for client %s", o.clientID)
				}
				got[o.clientID] = o.code
			}
			return len(got) >= n
		})
		return got
	}
	for _, c := range []struct{ id, name, pass string }{{"a", "john", "secret"}, {"b", "john", "wrong"}, {"c", "nobody", "secret"}} {
		if got := later(c.id, c.name, c.pass); got != codeDelayed {
			t.Fatalf("login(%v): got %d, want %d", c, got, codeDelayed)
		}
	}
	if got := collect(3); got["a"] != codeSuccess || got["b"] != codeAuth || got["c"] != codeAuth {
		t.Errorf("answers: got %v", got)
	}
	if woken.Load() == 0 {
		t.Error("the broker was not woken")
	}

	// A client goes, and a stranger comes under its ID with another password:
	// the first one's answer must not let it in.
	later("x", "jane", "secret")
	later("x", "jane", "guess")
	time.Sleep(300 * time.Millisecond)
	if got := collect(1); got["x"] != codeAuth {
		t.Errorf("answer to the second attempt: got %v, want %d", got, codeAuth)
	}

	// The user is removed while the answer waits.
	if later("y", "jane", "secret") == codeDelayed {
		time.Sleep(200 * time.Millisecond)
	}
	f.do(func() { f.log = append(f.log, acl.Change{RemovedUser: "john"}, acl.Change{RemovedUser: "jane"}) })
	eventually(t, "removed", func() bool { _, ok := g.snapshot.Load().User("jane", time.Now()); return !ok })
	for _, o := range g.takeAnswers() {
		if o.code == codeSuccess {
			t.Errorf("answer for a user who is gone: got %v", o)
		}
	}
}

// On 2.0 the broker stands still for a log-in, but never for long: who comes then
// tries again, and is not taken for one with a wrong password.
func TestLoginPutOff(t *testing.T) {
	t.Parallel()
	pw := password.Generate()
	generated, err := password.Hash(pw)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeStore{users: []acl.User{{Name: "meter", Password: generated}, {Name: "off", Password: hash(), Disabled: true}}}
	for i := range 40 {
		f.users = append(f.users, acl.User{Name: fmt.Sprint("u", i), Password: hash()})
	}
	began := time.Now()
	g, logs, _ := newTestGate(t, f)
	var stood time.Duration
	at := func(i int) int {
		start := time.Now()
		code := g.login(as(fmt.Sprint("u", i), "secret"), waits, nil)
		stood += time.Since(start)
		return code
	}
	off := 0
	for i := range 40 {
		switch code := at(i); {
		case code == codeUnavailable:
			off++
		case code != codeSuccess || off > 0:
			t.Errorf("log-in %d: got %d after %d were put off", i, code, off)
		}
		if i == 2 { // the machine may be fast
			g.logins.stand(time.Now(), standAtMost)
		}
	}
	t.Logf("%d of 40 put off, the broker stood still for %v", off, stood)
	if off < 37 || off == 40 {
		t.Errorf("put off: got %d of 40, want 37 and more, but not the first", off)
	}
	for name, want := range map[string]int{"nobody": codeUnavailable, "off": codeUnavailable, "u0": codeUnavailable, "meter": codeUnavailable} {
		if got := g.login(as(name, "wrong"), waits, nil); got != want {
			t.Errorf("login as %s with a wrong password: got %d, want %d", name, got, want)
		}
	}
	if got := g.login(as("meter", pw), waits, nil); got != codeSuccess {
		t.Errorf("login with a generated password: got %d, want %d", got, codeSuccess)
	}
	if got := g.login(as("u0", "secret"), waits, nil); got != codeSuccess {
		t.Errorf("login of one who is remembered: got %d, want %d", got, codeSuccess)
	}
	// A client that is connected, at a HUP, is not thrown out.
	if got := g.login(as("u39", "secret"), waitsLong, nil); got != codeSuccess {
		t.Errorf("login at a HUP: got %d, want %d", got, codeSuccess)
	}
	// They all get in when they try again, although from one address.
	for i := range 40 {
		eventually(t, "log-in of one who was put off", func() bool { return at(i) == codeSuccess })
	}
	eventually(t, "queue", func() bool { g.logins.mu.Lock(); defer g.logins.mu.Unlock(); return len(g.logins.putOff) == 0 })
	// And who has a wrong password is told so in the end.
	eventually(t, "refusal", func() bool { return g.login(as("nobody", "wrong"), waits, nil) == codeAuth })
	wantReminders(t, fmt.Sprint(logs.take()), time.Since(began))
	// Later the broker may stand still again.
	if !g.logins.mayStand(time.Now().Add(time.Hour)) {
		t.Error("the broker may never stand still again")
	}
}

// wantReminders checks that a log says that log-ins are put off: once, and again
// if that takes long.
func wantReminders(t *testing.T, log string, length time.Duration) {
	t.Helper()
	n := strings.Count(log, "many first log-ins at once")
	if most := 1 + int(length/remindEvery); n < 1 || n > most {
		t.Errorf("the log says %d times in %v that log-ins are put off, want 1 to %d:\n%s", n, length, most, log)
	}
}
