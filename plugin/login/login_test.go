package login

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/password"
	"github.com/iotoll/iotoll/plugin/guard"
)

// fakeUsers are users that a test controls.
type fakeUsers struct {
	mu     sync.Mutex
	users  map[string]acl.User
	stale  bool
	defers bool
}

func (f *fakeUsers) User(name string) (acl.User, bool, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, known := f.users[name]
	return u, known && !f.stale, !f.stale
}

func (f *fakeUsers) DeferUnknown() bool { return f.defers }

// set adds or changes a user.
func (f *fakeUsers) set(u acl.User) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users[u.Name] = u
}

func (f *fakeUsers) setStale(stale bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stale = stale
}

func (f *fakeUsers) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.users, name)
}

// hash is the stored hash of "secret".
var hash = sync.OnceValue(func() string {
	h, err := password.Hash("secret")
	if err != nil {
		panic(err)
	}
	return h
})

// hashTime is how long a hash takes in these tests.
const hashTime = 25 * time.Millisecond

// testLogins are Logins that run. Verifying a hash takes hashTime, and only compares
// the password with "secret"; a hash that is not argon2id is verified for real.
type testLogins struct {
	*Logins
	users  *fakeUsers
	logs   bytes.Buffer
	woken  int
	hashes []string   // what was verified
	rec    sync.Mutex // guards woken and hashes
}

func newTestLogins(t *testing.T, users ...acl.User) *testLogins {
	t.Helper()
	l := &testLogins{users: &fakeUsers{users: make(map[string]acl.User)}}
	for _, u := range users {
		l.users.set(u)
	}
	log := logrus.New()
	log.SetOutput(&l.logs)
	var err error
	wake := func() { l.rec.Lock(); l.woken++; l.rec.Unlock() }
	if l.Logins, err = New(l.users, &guard.Guard{Log: log}, wake, log); err != nil {
		t.Fatal(err)
	}
	decoy := l.decoy
	l.verify = func(stored, pass string) (bool, error) {
		l.rec.Lock()
		l.hashes = append(l.hashes, stored)
		l.rec.Unlock()
		if !strings.HasPrefix(stored, "$argon2id$v=19$m=") {
			return password.Verify(stored, pass)
		}
		time.Sleep(hashTime)
		return pass == "secret" && stored != decoy, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return l
}

func as(name, pass string) Credentials {
	return Credentials{Username: name, HasUsername: true, Password: pass, HasPassword: true, ClientID: "id-" + name, Address: "192.0.2.1"}
}

// legacyHash returns a hash of "secret" as mosquitto-auth-plug made it.
func legacyHash() string {
	key, _ := pbkdf2.Key(sha256.New, "secret", []byte("c2FsdA=="), 901, 24)
	return "PBKDF2$sha256$901$c2FsdA==$" + base64.StdEncoding.EncodeToString(key)
}

func TestLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLogins(t, acl.User{Name: "john", Password: hash()}, acl.User{Name: "off", Password: hash(), Disabled: true},
			acl.User{Name: "old", Password: legacyHash()}, acl.User{Name: "none"}, acl.User{Name: "bad", Password: "plaintext"})
		for _, c := range []struct {
			Credentials
			want Answer
		}{
			{Credentials{}, Defer},
			{Credentials{HasUsername: true}, Refuse},
			{Credentials{HasUsername: true, Username: "john"}, Refuse},
			{as("john", "secret"), Accept}, {as("john", "secret"), Accept}, {as("john", "Secret"), Refuse}, {as("john", ""), Refuse},
			{as("John", "secret"), Refuse}, {as("nobody", "secret"), Refuse}, {as("off", "secret"), Refuse},
			{as("old", "secret"), Accept}, {as("old", "wrong"), Refuse}, {as("none", ""), Refuse}, {as("none", "x"), Refuse},
			{as("bad", "plaintext"), Refuse},
		} {
			if got := l.Login(c.Credentials, MustAnswer); got != c.want {
				t.Errorf("Login(%q, %q): got %d, want %d", c.Username, c.Password, got, c.want)
			}
		}
		if got := l.Login(as("john", "secret"), Async); got != Accept {
			t.Errorf("login with a remembered password: got %d, want an answer at once", got)
		}
		if n := strings.Count(l.logs.String(), "user cannot log in"); n != 2 {
			t.Errorf("the log names %d users with an unusable hash, want none and bad:\n%s", n, &l.logs)
		}

		// A new password ends what was remembered of the old one.
		other, err := password.Hash("other")
		if err != nil {
			t.Fatal(err)
		}
		l.users.set(acl.User{Name: "john", Password: other})
		l.verify = password.Verify
		if old, fresh := l.Login(as("john", "secret"), MustAnswer), l.Login(as("john", "other"), MustAnswer); old != Refuse || fresh != Accept {
			t.Errorf("after a change of password: got %d for the old one, %d for the new one", old, fresh)
		}
		l.users.remove("john")
		if got := l.Login(as("john", "other"), MustAnswer); got != Refuse {
			t.Errorf("login of a removed user: got %d, want %d", got, Refuse)
		}
	})
}

// Before the first snapshot, and with one that is too old, a login is neither accepted nor
// refused: the client retries. allow_anonymous decides about anonymous clients as always.
func TestLoginWithoutASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLogins(t, acl.User{Name: "john", Password: hash()})
		if got := l.Login(as("john", "secret"), Blocking); got != Accept {
			t.Fatalf("login: got %d, want %d", got, Accept)
		}
		for _, defers := range []bool{false, true} {
			l.users.stale, l.users.defers = true, defers
			for _, p := range []Patience{Blocking, MustAnswer, Async} {
				for _, c := range []Credentials{as("john", "secret"), as("john", "wrong"), as("nobody", "x"), {Username: "john", HasUsername: true}} {
					if got := l.Login(c, p); got != Unavailable {
						t.Errorf("login as %s with patience %d, defer %t: got %d, want %d", c.Username, p, defers, got, Unavailable)
					}
				}
				if got := l.Login(Credentials{}, p); got != Defer {
					t.Errorf("anonymous login with patience %d: got %d, want %d", p, got, Defer)
				}
			}
		}
		l.users.stale = false
		if known, unknown := l.Login(as("john", "wrong"), MustAnswer), l.Login(as("carl", "x"), MustAnswer); known != Refuse || unknown != Defer {
			t.Errorf("with unknown_user defer: got %d for john, %d for carl, want %d and %d", known, unknown, Refuse, Defer)
		}
	})
}

// The parts of a remembered login cannot be mistaken for one another.
func TestRememberedLoginIsUnambiguous(t *testing.T) {
	l, again := newTestLogins(t), newTestLogins(t)
	seen := make(map[[32]byte]string)
	for _, name := range []string{"", "a", "ab", "a-b", "\x01a"} {
		for _, pass := range []string{"", "b", "-b", "b-c", "ab"} {
			for _, stored := range []string{"", "b", "c"} {
				sum := l.mac(as(name, pass), stored)
				text := fmt.Sprintf("%q %q %q", name, stored, pass)
				if other, ok := seen[sum]; ok {
					t.Errorf("%s and %s have the same mac", text, other)
				}
				seen[sum] = text
			}
		}
	}
	if again.mac(as("a", "b"), "c") == l.mac(as("a", "b"), "c") {
		t.Error("two processes have the same key")
	}
}

// Every refusal costs one argon2id hash: its time must not reveal whether the user
// exists.
func TestRefusalCostsOneHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLogins(t, acl.User{Name: "john", Password: hash()}, acl.User{Name: "old", Password: legacyHash()},
			acl.User{Name: "off", Password: hash(), Disabled: true}, acl.User{Name: "bad", Password: "$argon2id$v=19$"}, acl.User{Name: "none"})
		for _, name := range []string{"john", "old", "off", "bad", "none", "nobody"} {
			start := time.Now()
			if got := l.Login(as(name, "wrong"), MustAnswer); got != Refuse {
				t.Fatalf("login as %s: got %d, want %d", name, got, Refuse)
			}
			if took := time.Since(start); took != hashTime {
				t.Errorf("a refusal of %s verified %q in %v, want one hash of argon2id in %v", name, l.hashes, took, hashTime)
			}
			l.hashes = nil
		}
	})
}

func TestAsyncLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLogins(t, acl.User{Name: "john", Password: hash()}, acl.User{Name: "jane", Password: hash()})
		login := func(id, name, pass string) {
			t.Helper()
			c := as(name, pass)
			c.ClientID = id
			if got := l.Login(c, Async); got != Later {
				t.Fatalf("login as %s: got %d, want %d", name, got, Later)
			}
		}
		outcomes := func() string {
			time.Sleep(10 * hashTime)
			var out []string
			for _, o := range l.Outcomes() {
				out = append(out, fmt.Sprint(o.ClientID, "=", o.Answer == Accept))
			}
			slices.Sort(out)
			return strings.Join(out, " ")
		}
		login("a", "john", "secret")
		login("b", "john", "wrong")
		login("c", "nobody", "secret")
		if got := outcomes(); got != "a=true b=false c=false" {
			t.Errorf("outcomes: got %s", got)
		}
		l.rec.Lock()
		if l.woken < 10 {
			t.Errorf("the broker was woken %d times before it took the outcomes, want more", l.woken)
		}
		l.rec.Unlock()

		// A client goes, and a stranger comes under its ID with another password.
		login("x", "jane", "secret")
		login("x", "jane", "guess")
		if got := outcomes(); got != "x=false" {
			t.Errorf("outcomes of two attempts under one client ID: got %s, want that of the second", got)
		}

		// The user changes while the password is verified, or the outcome waits.
		for what, change := range map[string]func(){
			"removed":      func() { l.users.remove("mary") },
			"disabled":     func() { l.users.set(acl.User{Name: "mary", Password: hash(), Disabled: true}) },
			"new password": func() { l.users.set(acl.User{Name: "mary", Password: hash() + "x"}) },
			"stale":        func() { l.users.setStale(true) },
		} {
			for _, after := range []time.Duration{hashTime / 2, 2 * hashTime} {
				l.users.setStale(false)
				l.users.set(acl.User{Name: "mary", Password: hash()})
				l.mu.Lock()
				clear(l.remembered)
				l.mu.Unlock()
				login("y", "mary", "secret")
				time.Sleep(after)
				synctest.Wait()
				change()
				if got := outcomes(); got != "y=false" {
					t.Errorf("outcome for a user who is %s after %v: got %s, want a refusal", what, after, got)
				}
			}
		}
	})
}

// Waiting logins hold a bounded number of bytes, and a stranger's do not keep other
// networks out.
func TestWaitingLoginsHoldLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTestLogins(t, acl.User{Name: "john", Password: hash()})
		long := strings.Repeat("x", 1<<16-10)
		waiting := 0
		for i := range 1000 {
			c := as(fmt.Sprint(long, i), long)
			c.ClientID = fmt.Sprint(i)
			switch l.Login(c, Async) {
			case Later:
				waiting++
			case Unavailable: // so that the client retries
			default:
				t.Fatalf("login %d: refused, want it to wait or to be retried", i)
			}
		}
		if most := queueBytes/(2*len(long)) + 1; waiting < 100 || waiting > most {
			t.Errorf("waiting: got %d logins of 128 KiB, want 100 to %d", waiting, most)
		}
		c := as("john", "secret")
		c.Address = "198.51.100.7"
		if got := l.Login(c, Async); got != Later {
			t.Errorf("login from another network: got %d, want %d", got, Later)
		}
		time.Sleep(4 * hashTime)
		outcomes := l.Outcomes()
		if i := slices.IndexFunc(outcomes, func(o Outcome) bool { return o.Username == "john" }); i < 0 || outcomes[i].Answer != Accept {
			t.Errorf("outcomes after four hashes: got %d, john's at %d, want his to be accepted", len(outcomes), i)
		}
	})
}

// 300 logins from 10 addresses hardly delay the first login of another network.
func TestLoginsAreFairByNetwork(t *testing.T) {
	for name, patience := range map[string]Patience{"2.0": Blocking, "2.1": Async} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newTestLogins(t, acl.User{Name: "john", Password: hash()})
				l.countBlocked(time.Now(), time.Hour) // 2.0 defers from now on
				for i := range 300 {
					u := acl.User{Name: fmt.Sprint("u", i), Password: hash()}
					l.users.set(u)
					c := as(u.Name, "secret")
					c.Address = fmt.Sprintf("192.0.%d.%d", i%10, i/10)
					if got := l.Login(c, patience); got != Later && got != Unavailable {
						t.Fatalf("login %d: got %d", i, got)
					}
				}
				john := as("john", "secret")
				john.Address = "203.0.113.5"
				l.Login(john, patience)
				start := time.Now()
				for l.Login(john, patience) != Accept && time.Since(start) < time.Minute {
					time.Sleep(hashTime)
				}
				if took := time.Since(start); took > 15*hashTime {
					t.Errorf("first login from another network took %v behind 300 logins from 10 networks, want at most 15 hashes", took)
				}
				// And the others get their turn.
				time.Sleep(400 * hashTime)
				for i := range 300 {
					c := as(fmt.Sprint("u", i), "secret")
					if got := l.Login(c, patience); got != Accept {
						t.Fatalf("login %d, later: got %d, want %d", i, got, Accept)
					}
				}
			})
		})
	}
}

// On 2.0 logins block the broker, but never for long. Later ones are deferred: the
// client retries, and is not treated like one with a wrong password.
func TestDeferredLogin(t *testing.T) {
	pw := password.Generate()
	generated, err := password.Hash(pw)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		l := newTestLogins(t, acl.User{Name: "meter", Password: generated}, acl.User{Name: "off", Password: hash(), Disabled: true})
		const n = 40
		for i := range n {
			l.users.set(acl.User{Name: fmt.Sprint("u", i), Password: hash()})
		}
		start := time.Now()
		at := func(i int, p Patience) Answer { return l.Login(as(fmt.Sprint("u", i), "secret"), p) }
		deferred := 0
		for i := range n {
			switch got := at(i, Blocking); {
			case got == Unavailable:
				deferred++
			case got != Accept || deferred > 0:
				t.Errorf("login %d: got %d after %d were deferred", i, got, deferred)
			}
		}
		if blocked := time.Since(start); blocked < blockAtMost || blocked > blockAtMost+hashTime {
			t.Errorf("%d logins blocked the broker for %v, want %v and at most one hash more", n-deferred, blocked, blockAtMost)
		}
		if got := l.Deferred(); got != uint64(deferred) {
			t.Errorf("Deferred: got %d, want %d", got, deferred)
		}
		for _, name := range []string{"nobody", "off", "u0", "meter"} {
			if got := l.Login(as(name, "wrong"), Blocking); got != Unavailable {
				t.Errorf("login as %s with a wrong password: got %d, want %d", name, got, Unavailable)
			}
		}
		if got := l.Login(as("meter", pw), Blocking); got != Accept {
			t.Errorf("login with a generated password: got %d, want %d", got, Accept)
		}
		if got := at(0, Blocking); got != Accept {
			t.Errorf("login with a remembered password: got %d, want %d", got, Accept)
		}
		// A client that is connected at SIGHUP stays connected.
		if got := at(n-1, MustAnswer); got != Accept {
			t.Errorf("login at SIGHUP: got %d, want %d", got, Accept)
		}
		// Everybody gets in by a retry, although all have one address.
		time.Sleep(2 * n * hashTime)
		for i := range n {
			if got := at(i, Blocking); got != Accept {
				t.Errorf("retry of u%d: got %d, want %d", i, got, Accept)
			}
		}
		synctest.Wait()
		if len(l.retries) != 0 {
			t.Errorf("retries: got %d, want none", len(l.retries))
		}
		if got := strings.Count(l.logs.String(), "many first logins"); got != 1 {
			t.Errorf("the log tells %d times of deferred logins, want once:\n%s", got, &l.logs)
		}
		// A wrong password is refused in the end: the throttle has counted it.
		for i := 0; ; i++ {
			if l.Login(as("nobody", "wrong"), Blocking) == Refuse {
				break
			}
			if time.Sleep(hashTime); i > 10*n {
				t.Error("a wrong password is never refused")
				break
			}
		}
		if l.mayBlock(time.Now()) || !l.mayBlock(time.Now().Add(time.Hour)) {
			t.Error("mayBlock: want false now and true in an hour")
		}
	})
}
