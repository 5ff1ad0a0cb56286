package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/mongostore"
	"github.com/iotoll/iotoll/plugin/guard"
)

// fakeStore is a store that a test controls.
type fakeStore struct {
	mu      sync.Mutex
	users   []acl.User
	grants  []acl.Grant
	offers  []acl.Offer
	signup  []byte
	log     []acl.Change
	err     error // of every call
	version error
	reload  bool // the position is lost
	panic   bool
	loads   int
	asked   int
	closed  bool
	atOnce  int                // greatest number of changes it returns; 0: no limit
	loading func(*fakeStore)   // is called while the store is loaded
	tells   chan chan struct{} // Watch announces what comes from the channel that it takes; nil: it cannot
}

func (f *fakeStore) do(g func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g()
}

func (f *fakeStore) CheckVersion(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.err, f.version)
}

func (f *fakeStore) Load(context.Context) ([]acl.User, []acl.Grant, mongostore.ResumeToken, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loads++
	f.reload = false
	at := mongostore.ResumeToken{Seq: int64(len(f.log))}
	users := slices.Clone(f.users)
	if f.loading != nil {
		f.loading(f)
	}
	return users, f.grants, at, f.err
}

func (f *fakeStore) ForSale(context.Context) ([]acl.Offer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.offers, f.err
}

func (f *fakeStore) SignupAnnouncement(context.Context) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.signup, f.err
}

func (f *fakeStore) Changes(_ context.Context, since mongostore.ResumeToken) ([]acl.Change, mongostore.ResumeToken, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	end := len(f.log)
	if f.atOnce > 0 {
		end = min(end, int(since.Seq)+f.atOnce)
	}
	switch {
	case f.panic:
		panic("store")
	case f.reload:
		return nil, since, fmt.Errorf("%w: trimmed", mongostore.ErrReload)
	case f.err != nil:
		return nil, since, f.err
	}
	return f.log[since.Seq:end], mongostore.ResumeToken{Seq: int64(end)}, nil
}

func (f *fakeStore) Watch(ctx context.Context, news func()) error {
	if f.tells == nil {
		return errors.New("no change streams")
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case told := <-f.tells:
		news()
		for range told {
			news()
		}
		return errors.New("the stream has ended")
	}
}

func (f *fakeStore) Close(context.Context) error {
	f.do(func() { f.closed = true })
	return nil
}

// testGate is a gate that runs on a fake store.
type testGate struct {
	*Gate
	logs      bytes.Buffer // only while nothing is logged
	changed   atomic.Int64
	woken     atomic.Int64
	stop      func()
	onPublish func()       // called at each change that is in force
	offset    atomic.Int64 // of the wall clock from the monotonic one
}

// step sets the wall clock.
func (g *testGate) step(d time.Duration) { g.offset.Add(int64(d)) }

const nowhere = "mongodb://127.0.0.1:1/"

// newTestGate starts a gate on a fake.
func newTestGate(t *testing.T, f *fakeStore, options ...Option) *testGate {
	t.Helper()
	c, err := ParseOptions(append(options, Option{"store_uri", nowhere}, Option{"public", "free"}))
	if err != nil {
		t.Fatal(err)
	}
	g := &testGate{}
	log := logrus.New()
	log.SetOutput(&g.logs)
	host := Host{
		Changed: func() {
			g.changed.Add(1)
			if g.onPublish != nil {
				g.onPublish()
			}
		},
		Wake: func() { g.woken.Add(1) },
	}
	if g.Gate, err = New(c, f, host, &guard.Guard{Log: log}, log); err != nil {
		t.Fatal(err)
	}
	g.now = func() time.Time { return time.Now().Round(0).Add(time.Duration(g.offset.Load())) }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.Run(ctx)
	}()
	g.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	t.Cleanup(func() {
		g.stop()
		if !f.closed {
			t.Error("Run has ended and left the store open")
		}
	})
	<-g.First()
	return g
}

// settle lets the gate finish what it can without waiting, and then a poll.
func settle() {
	synctest.Wait()
	time.Sleep(pollEvery)
	synctest.Wait()
}

func read(subject, topic string) acl.Request {
	return acl.Request{Subject: subject, Topic: topic, Access: acl.Read}
}

func filter(t *testing.T, text string) acl.Filter {
	t.Helper()
	f, err := acl.ParseFilter(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// minute returns a grant of a filter for a minute from now on.
func minute(t *testing.T, subject, text string) acl.Grant {
	t.Helper()
	now := time.Now()
	return acl.Grant{ID: subject + "/" + text, Subject: subject, Filters: []acl.Filter{filter(t, text)}, NotBefore: now, NotAfter: now.Add(time.Minute)}
}

func TestGateFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{users: []acl.User{{Name: "john"}}}
		g := newTestGate(t, f)
		settle()
		r := read("john", "sensor/live")
		if a := g.Decide(r); a.Verdict != Deny || a.Reason != acl.NoRight || !a.Keep {
			t.Errorf("Decide(%v): got %+v, want denied for no right", r, a)
		}
		if n := g.changed.Load(); n != 1 {
			t.Errorf("Changed: got %d calls after the first load, want 1", n)
		}
		grant := minute(t, "john", "sensor/live")
		f.do(func() { f.log = append(f.log, acl.Change{Grant: &grant}) })
		settle()
		if a := g.Decide(r); a.Verdict != Permit || !a.Until.Equal(grant.NotAfter.Truncate(time.Millisecond)) {
			t.Errorf("Decide(%v): got %+v, want it permitted until %v", r, a, grant.NotAfter)
		}
		if n := g.changed.Load(); n != 2 {
			t.Errorf("Changed: got %d calls after a change, want 2", n)
		}

		// A poll without changes renews the snapshot's age only.
		before := g.snapshot.Load().AsOf()
		settle()
		if after := g.snapshot.Load().AsOf(); !after.After(before) || g.changed.Load() != 2 {
			t.Errorf("after a poll: got a snapshot as of %v, %d changes; want later than %v, 2 changes", after, g.changed.Load(), before)
		}

		// The position is lost.
		f.do(func() { f.reload, f.grants = true, nil })
		settle()
		if a := g.Decide(r); a.Verdict != Deny {
			t.Errorf("Decide after the log was lost: got %+v, want denied", a)
		}

		// The operator removes a user from the database and sends SIGHUP.
		f.do(func() { f.users = nil })
		g.Reload()
		settle()
		if a := g.Decide(r); a.Reason != acl.UnknownUser {
			t.Errorf("Decide after Reload: got %+v, want unknown user", a)
		}
	})
}

// A user may subscribe to what is for sale, as the store says it at the start and
// later, unless the settings refuse that.
func TestGateKnowsWhatIsForSale(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	synctest.Test(t, func(t *testing.T) {
		offer := func(text string) []acl.Offer { return []acl.Offer{{ID: "o", Filters: []acl.Filter{filter(t, text)}}} }
		f := &fakeStore{users: []acl.User{{Name: "john"}}, offers: offer("first")}
		g := newTestGate(t, f, Option{"settings_file", file})
		want := func(when string, permitted string) {
			t.Helper()
			settle()
			for _, topic := range []string{"first", "second"} {
				a := g.Decide(acl.Request{Subject: "john", Topic: topic, Access: acl.Subscribe})
				if (a.Verdict == Permit) != (topic == permitted) {
					t.Errorf("%s: subscribe to %s: got %+v, want only %q permitted", when, topic, a, permitted)
				}
			}
		}
		want("at the start", "first")
		second := offer("second")
		f.do(func() { f.offers, f.log = second, append(f.log, acl.Change{Offers: &second}) })
		want("after a change", "second")
		f.do(func() { f.reload = true })
		want("loaded again", "second")
		write("unpaid_subscribe refuse\n")
		g.Reload()
		want("unpaid_subscribe refuse", "")
		write("unpaid_subscribe allow\n")
		g.Reload()
		want("unpaid_subscribe allow", "second")
		none := []acl.Offer{}
		f.do(func() { f.offers, f.log = none, append(f.log, acl.Change{Offers: &none}) })
		want("nothing for sale", "")
	})
}

// A store that announces changes is asked then, and seldom otherwise.
func TestGateHearsAnnouncements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{users: []acl.User{{Name: "john"}}, tells: make(chan chan struct{})}
		g := newTestGate(t, f)
		const length = 5 * time.Second
		// polls counts how often the store is asked in a while.
		polls := func() (n int) {
			synctest.Wait()
			f.do(func() { n = -f.asked })
			time.Sleep(length)
			f.do(func() { n += f.asked })
			return n
		}
		if n, want := polls(), int(length/pollEvery); n < want-1 || n > want {
			t.Errorf("a store that does not announce was asked %d times in %v, want %d", n, length, want)
		}
		told := make(chan struct{})
		f.tells <- told
		if n, want := polls(), int(length/pollAnnounced); n < want-1 || n > want {
			t.Errorf("a store that announces was asked %d times in %v, want %d", n, length, want)
		}
		f.do(func() { f.log = append(f.log, acl.Change{User: &acl.User{Name: "john", Superuser: true}}) })
		told <- struct{}{}
		synctest.Wait() // no time passes
		if a := g.Decide(read("john", "x")); a.Verdict != Permit {
			t.Errorf("Decide after an announcement: got %+v, want permitted", a)
		}
		g.Reload()
		synctest.Wait()
		f.do(func() {
			if f.loads != 2 {
				t.Errorf("the store was loaded %d times, want 2: at the start and by Reload", f.loads)
			}
		})
		close(told)
		if n, want := polls(), int(length/pollEvery); n < want-1 || n > want {
			t.Errorf("a store that no longer announces was asked %d times in %v, want %d", n, length, want)
		}
	})
}

// If the store returns only some changes at a time, the others are read without a
// pause, and before a load is put in force.
func TestGateManyChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		many := func() (log []acl.Change) {
			for i := range 100 {
				log = append(log, acl.Change{User: &acl.User{Name: fmt.Sprint("u", i)}})
			}
			return append(log, acl.Change{User: &acl.User{Name: "john", Disabled: true}})
		}
		f := &fakeStore{users: []acl.User{{Name: "john", Superuser: true}}, atOnce: 2, tells: make(chan chan struct{}, 1)}
		told := make(chan struct{})
		f.tells <- told
		defer close(told)
		g := newTestGate(t, f)
		synctest.Wait()
		f.do(func() { f.log = many() })
		told <- struct{}{}
		synctest.Wait() // no time passes
		if a := g.Decide(read("john", "x")); a.Reason != acl.Disabled {
			t.Errorf("Decide after 101 changes: got %+v, want john disabled", a)
		}

		g.onPublish = func() {
			if users, _ := g.snapshot.Load().Size(); g.Decide(read("john", "x")).Verdict == Permit {
				t.Errorf("an old load permits john, who is disabled, with %d users known", users)
			}
		}
		f.do(func() { f.loading = func(f *fakeStore) { f.log = append(f.log, many()...) } })
		g.Reload()
		synctest.Wait()
		if a := g.Decide(read("john", "x")); a.Reason != acl.Disabled {
			t.Errorf("Decide after 101 changes during a load: got %+v, want john disabled", a)
		}
	})
}

func TestGateOutlivesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{err: errors.New("away")}
		g := newTestGate(t, f)
		if a := g.Decide(read("", "free")); a.Verdict != Permit {
			t.Errorf("public topic without a store: got %+v, want permitted", a)
		}
		if a := g.Decide(read("john", "x")); a.Verdict != Deny || a.Reason != acl.NoSnapshot {
			t.Errorf("without a store: got %+v, want denied for no snapshot", a)
		}
		if _, known, fresh := g.User("john"); known || fresh {
			t.Errorf("User without a store: got known %t, fresh %t, want neither", known, fresh)
		}
		wait := func(what string, verdict Verdict, healthy bool) {
			t.Helper()
			time.Sleep(2 * retryAtMost)
			synctest.Wait()
			if a := g.Decide(read("john", "x")); a.Verdict != verdict {
				t.Errorf("%s: got %+v, want %v", what, a, verdict)
			}
			if h := g.health.Load(); (h.err == nil) != healthy {
				t.Errorf("%s: got health %v, want healthy %t", what, h.err, healthy)
			}
		}
		wait("store away", Deny, false)
		f.do(func() { f.err, f.users = nil, []acl.User{{Name: "john", Superuser: true}} })
		wait("store there", Permit, true)
		f.do(func() { f.err = errors.New("away again") })
		wait("store away again", Permit, false)
		// A panic of the store's code is one more failure.
		f.do(func() { f.err, f.panic = nil, true })
		wait("store panics", Permit, false)
		if n := g.guard.Panics(); n < 2 {
			t.Errorf("panics: got %d, want 2 and more", n)
		}
		f.do(func() { f.panic = false })
		wait("store there again", Permit, true)
		g.stop()
		for want, n := range map[string]int{`msg="cannot follow the store, users and grants stay as they are" error=away`: 1, `error="read changes: away again"`: 1, "following the store": 2, "panic in the plugin": 1} {
			if got := strings.Count(g.logs.String(), want); got != n {
				t.Errorf("log has %q %d times, want %d:\n%s", want, got, n, &g.logs)
			}
		}
	})
}

func TestGateRefusesUnknownVersion(t *testing.T) {
	f := &fakeStore{version: fmt.Errorf("%w: 99", mongostore.ErrVersion)}
	log, ctx := logrus.New(), t.Context()
	log.SetOutput(new(bytes.Buffer))
	g, err := New(Config{settings: settings{maxAge: time.Hour}}, f, Host{}, &guard.Guard{Log: log}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var run sync.WaitGroup
	run.Go(func() { g.Run(ctx) })
	if err := <-g.First(); !errors.Is(err, mongostore.ErrVersion) {
		t.Errorf("First: got %v, want ErrVersion", err)
	}
	cancel()
	run.Wait()
}

// A snapshot that is too old denies. When the store is back, the decision cache must
// hear of it although neither users nor grants have changed.
func TestGateSnapshotTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{users: []acl.User{{Name: "john", Superuser: true}}}
		g := newTestGate(t, f, Option{"max_age", "1m"})
		f.do(func() { f.err = errors.New("away") })
		time.Sleep(59 * time.Second)
		if a := g.Decide(read("john", "x")); a.Verdict != Permit {
			t.Errorf("Decide after 59 s without the store: got %+v, want permitted", a)
		}
		time.Sleep(2 * time.Second)
		if a := g.Decide(read("john", "x")); a.Reason != acl.Stale {
			t.Errorf("Decide after 61 s: got %+v, want stale", a)
		}
		if _, known, fresh := g.User("john"); known || fresh {
			t.Errorf("User after 61 s: got known %t, fresh %t, want neither", known, fresh)
		}
		n := g.changed.Load()
		f.do(func() { f.err = nil })
		time.Sleep(retryAtMost + pollEvery)
		if a := g.Decide(read("john", "x")); a.Verdict != Permit || g.changed.Load() == n {
			t.Errorf("Decide with the store back: got %+v after %d changes, want permitted after a change", a, g.changed.Load()-n)
		}
	})
}

func TestGateDefersTheUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{users: []acl.User{{Name: "john"}}}
		g := newTestGate(t, f, Option{"unknown_user", "defer"})
		settle()
		for _, c := range []struct {
			subject, topic string
			want           Verdict
		}{{"", "free", Permit}, {"", "x", Deny}, {"carl", "x", DeferToNext}, {"john", "x", Deny}, {"carl", "x/+", Deny}} {
			if a := g.Decide(read(c.subject, c.topic)); a.Verdict != c.want {
				t.Errorf("Decide(%q reads %q): got %+v, want %v", c.subject, c.topic, a, c.want)
			}
		}
		// A snapshot that is too old cannot tell who is unknown.
		g.stop()
		carl := g.Decide(read("carl", "x"))
		g.step(25 * time.Hour)
		if a := g.Decide(read("carl", "x")); a.Verdict != Deny || carl.Until.IsZero() || g.now().Before(carl.Until) {
			t.Errorf("Decide with an old snapshot: got %+v after %+v, want denied, and the first answer ended by then", a, carl)
		}
	})
}

// The wall clock is ahead while the plugin loads, and is then set right: a buyer may read
// at once, and the broker forgets the answers of the wrong time.
func TestGateSurvivesClockSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		grant := minute(t, "john", "sensor/live")
		f := &fakeStore{users: []acl.User{{Name: "john"}}}
		// The store leaves out grants that ended long ago by its own clock.
		ahead := true
		f.loading = func(f *fakeStore) {
			if f.grants = nil; !ahead {
				f.grants = []acl.Grant{grant}
			}
		}
		g := newTestGate(t, f)
		g.step(100 * 24 * time.Hour)
		settle()
		r := read("john", "sensor/live")
		if a := g.Decide(r); a.Verdict == Permit {
			t.Errorf("Decide with the clock ahead: got %+v, want denied", a)
		}
		n, loads := g.changed.Load(), f.loads
		f.do(func() { ahead = false })
		g.step(-100 * 24 * time.Hour)
		settle()
		if a := g.Decide(r); a.Verdict != Permit || !a.Until.Equal(grant.NotAfter.Truncate(time.Millisecond)) {
			t.Errorf("Decide once the clock is right: got %+v, want permitted until %v", a, grant.NotAfter)
		}
		if g.changed.Load() == n || f.loads == loads {
			t.Errorf("after the clock was set: %d changes and %d loads, want both", g.changed.Load()-n, f.loads-loads)
		}
		if !strings.Contains(g.logs.String(), "wall clock was set") {
			t.Errorf("the log does not tell of the clock:\n%s", &g.logs)
		}

		// A slow correction, as by NTP, changes nothing.
		n = g.changed.Load()
		for range 100 {
			g.step(20 * time.Millisecond)
			settle()
		}
		if g.changed.Load() != n {
			t.Errorf("Changed: got %d calls during a slow correction, want none", g.changed.Load()-n)
		}
	})
}

// While the store is away, a step of the wall clock moves neither the age of the
// snapshot nor the end of its answers.
func TestGateAgeIgnoresClockSteps(t *testing.T) {
	for _, step := range []time.Duration{-75 * time.Minute, 75 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeStore{users: []acl.User{{Name: "john", Superuser: true}}}
			g := newTestGate(t, f, Option{"max_age", "60m"})
			f.do(func() { f.err = errors.New("away") })
			time.Sleep(25 * time.Minute)
			g.step(step)
			time.Sleep(2 * retryAtMost)
			a := g.Decide(read("john", "x"))
			if left := a.Until.Sub(g.now()); a.Verdict != Permit || left < 34*time.Minute || left > 35*time.Minute+time.Second {
				t.Errorf("clock set by %v: got %+v, which ends in %v, want permitted for another 35 min", step, a, left)
			}
			time.Sleep(36 * time.Minute)
			if a := g.Decide(read("john", "x")); a.Reason != acl.Stale {
				t.Errorf("clock set by %v, 61 min without the store: got %+v, want stale", step, a)
			}
		})
	}
}
