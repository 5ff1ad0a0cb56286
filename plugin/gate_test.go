package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/acl/mongostore"
)

// fakeStore is a store that says what a test wants.
type fakeStore struct {
	mu      sync.Mutex
	users   []acl.User
	grants  []acl.Grant
	log     []acl.Change
	err     error // of every call
	version error
	reload  bool // the position is lost
	panic   bool
	loads   int
	asked   int
	closed  bool
	atOnce  int                // how many changes it returns at most; 0: all
	loading func(*fakeStore)   // what happens while it is loaded
	tells   chan chan struct{} // what Watch takes tells of news until it is closed; Watch cannot if nil
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
		panic("the store is mad")
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

// newTestGate starts a gate on a fake. It returns the number of times that it
// said that answers have changed.
func newTestGate(t *testing.T, f *fakeStore, options ...option) (*gate, *logQueue, func() int) {
	t.Helper()
	c, err := parseOptions(append(options, option{"store_uri", nowhere}, option{"public", "free"}))
	if err != nil {
		t.Fatal(err)
	}
	log, logs := newLogger(func() {})
	var mu sync.Mutex
	changes := 0
	g, err := newGate(c, f, log, func() { mu.Lock(); changes++; mu.Unlock() })
	if err != nil {
		t.Fatal(err)
	}
	if err := g.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !g.close() {
			t.Error("close: not all has ended")
		}
		if !f.closed {
			t.Error("close: the store is open")
		}
	})
	return g, logs, func() int { mu.Lock(); defer mu.Unlock(); return changes }
}

func read(subject, topic string) acl.Request {
	return acl.Request{Subject: subject, Topic: topic, Access: acl.Read}
}

func TestGateFollows(t *testing.T) {
	t.Parallel()
	f := &fakeStore{users: []acl.User{{Name: "john", Password: hash()}}}
	g, _, changes := newTestGate(t, f)
	r := read("john", "sensor/live")
	if a := g.decide(r); a.code != codeDenied || a.reason != acl.NoRight || !a.keep {
		t.Errorf("decide(%v): got %+v, want denied for no right", r, a)
	}
	if n := changes(); n != 1 {
		t.Errorf("changed: got %d calls after the first load, want 1", n)
	}
	filter, _ := acl.ParseFilter("sensor/live")
	grant := acl.Grant{ID: "g", Subject: "john", Filters: []acl.Filter{filter}, NotBefore: time.Now().Add(-time.Second), NotAfter: time.Now().Add(time.Hour)}
	f.do(func() { f.log = append(f.log, acl.Change{Grant: &grant}) })
	eventually(t, "grant in force", func() bool { return g.decide(r).code == codeSuccess })
	if n := changes(); n != 2 {
		t.Errorf("changed: got %d calls after a change, want 2", n)
	}
	if a := g.decide(r); !a.until.Equal(grant.NotAfter.Truncate(time.Millisecond)) {
		t.Errorf("decide(%v).until: got %v, want the grant's end %v", r, a.until, grant.NotAfter)
	}

	// Asking when nothing is new changes nothing, but keeps the snapshot young.
	before := g.snapshot.Load().AsOf()
	eventually(t, "snapshot renewed", func() bool { return g.snapshot.Load().AsOf().After(before) })
	if n := changes(); n != 2 {
		t.Errorf("changed: got %d calls, want still 2", n)
	}

	// The position is lost: all is read anew.
	f.do(func() { f.reload, f.grants = true, nil })
	eventually(t, "reload", func() bool { return g.decide(r).code == codeDenied })

	// A user is edited by hand, and the operator sends HUP.
	f.do(func() { f.users = nil })
	g.renew()
	eventually(t, "reload on demand", func() bool { return g.decide(r).reason == acl.UnknownUser })
}

// A store that tells when something is new is asked then, and seldom otherwise.
func TestGateIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{users: []acl.User{{Name: "john"}}, tells: make(chan chan struct{})}
		g, _, _ := newTestGate(t, f)
		const length = 5 * time.Second
		// polls counts how often the store is asked in a while.
		polls := func() (n int) {
			synctest.Wait()
			f.do(func() { n = -f.asked })
			time.Sleep(length)
			f.do(func() { n += f.asked })
			return n
		}
		if n, want := polls(), int(length/followEvery); n < want-1 || n > want {
			t.Errorf("a store that does not tell was asked %d times in %v, want %d", n, length, want)
		}
		told := make(chan struct{})
		f.tells <- told
		if n, want := polls(), int(length/followTold); n < want-1 || n > want {
			t.Errorf("a store that tells was asked %d times in %v, want %d", n, length, want)
		}
		f.do(func() { f.log = append(f.log, acl.Change{User: &acl.User{Name: "john", Superuser: true}}) })
		told <- struct{}{}
		synctest.Wait() // no time passes
		if a := g.decide(read("john", "x")); a.code != codeSuccess {
			t.Errorf("decide, once the store has told: got %+v, want success", a)
		}
		g.renew()
		synctest.Wait()
		f.do(func() {
			if f.loads != 2 {
				t.Errorf("the store was loaded %d times, want 2: at the start and when asked to", f.loads)
			}
		})
		close(told)
		if n, want := polls(), int(length/followEvery); n < want-1 || n > want {
			t.Errorf("a store that has ceased to tell was asked %d times in %v, want %d", n, length, want)
		}
	})
}

// The store returns so many changes at once, and no more: the others are asked for
// without delay, and before what was loaded is put in force.
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
		g, _, _ := newTestGate(t, f)
		synctest.Wait()
		f.do(func() { f.log = many() })
		told <- struct{}{}
		synctest.Wait() // no time passes
		if a := g.decide(read("john", "x")); a.reason != acl.Disabled {
			t.Errorf("decide after 101 changes: got %+v, want john disabled", a)
		}

		g.changed = func() {
			if users, _ := g.snapshot.Load().Size(); g.decide(read("john", "x")).code == codeSuccess {
				t.Errorf("john, who is disabled, is let through by what was loaded before, with %d users known", users)
			}
		}
		f.do(func() { f.loading = func(f *fakeStore) { f.log = append(f.log, many()...) } })
		g.renew()
		synctest.Wait()
		if a := g.decide(read("john", "x")); a.reason != acl.Disabled {
			t.Errorf("decide after 101 changes beside a load: got %+v, want john disabled", a)
		}
	})
}

func TestGateOutlivesTheStore(t *testing.T) {
	t.Parallel()
	f := &fakeStore{err: errors.New("away")}
	g, logs, _ := newTestGate(t, f)
	if a := g.decide(read("", "free")); a.code != codeSuccess {
		t.Errorf("public topic without a store: got %+v, want success", a)
	}
	if a := g.decide(read("john", "x")); a.code != codeDenied || a.reason != acl.NoSnapshot {
		t.Errorf("without a store: got %+v, want denied for no snapshot", a)
	}
	if h := g.health.Load(); h.err == nil {
		t.Error("health: got ok, want away")
	}
	f.do(func() { f.err, f.users = nil, []acl.User{{Name: "john", Superuser: true}} })
	eventually(t, "healed", func() bool { return g.decide(read("john", "x")).code == codeSuccess })
	f.do(func() { f.err = errors.New("away again") })
	eventually(t, "noticed", func() bool { return g.health.Load().err != nil })
	if a := g.decide(read("john", "x")); a.code != codeSuccess {
		t.Errorf("away again: got %+v, want success", a)
	}
	// Panics of the store's code are failures like others.
	f.do(func() { f.err, f.panic = nil, true })
	eventually(t, "panics counted", func() bool { return g.panics.count.Load() > 2 })
	f.do(func() { f.panic = false })
	eventually(t, "healed", func() bool { return g.health.Load().err == nil })

	var text strings.Builder
	for _, l := range logs.take() {
		text.WriteString(l.text + "\n")
	}
	for want, n := range map[string]int{"iotoll: cannot follow the store, going on with what is known error=away\n": 1, "away again": 1, "following the store": 2, "panic in the plugin": 1} {
		if got := strings.Count(text.String(), want); got < n || want == "panic in the plugin" && got > n {
			t.Errorf("log holds %q %d times, want %d:\n%s", want, got, n, &text)
		}
	}
}

func TestGateRefusesUnknownVersion(t *testing.T) {
	f := &fakeStore{version: fmt.Errorf("%w: 99", mongostore.ErrVersion)}
	log, _ := newLogger(func() {})
	g, err := newGate(config{settings: settings{maxAge: time.Hour}}, f, log, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	if err := g.start(); !errors.Is(err, mongostore.ErrVersion) {
		t.Errorf("start: got %v, want ErrVersion", err)
	}
}

// An old snapshot refuses, and a young one answers again although nothing else
// has changed: the table of decisions must hear of it.
func TestGateSnapshotTooOld(t *testing.T) {
	t.Parallel()
	f := &fakeStore{users: []acl.User{{Name: "john", Superuser: true}}}
	g, _, changes := newTestGate(t, f, option{"max_age", "1s"})
	f.do(func() { f.err = errors.New("away") })
	eventually(t, "too old", func() bool { return g.decide(read("john", "x")).reason == acl.Stale })
	n := changes()
	f.do(func() { f.err = nil })
	eventually(t, "young again", func() bool { return g.decide(read("john", "x")).code == codeSuccess })
	if changes() == n {
		t.Error("changed: not called when the snapshot was young again")
	}
}

func TestGateDefersTheUnknown(t *testing.T) {
	t.Parallel()
	f := &fakeStore{users: []acl.User{{Name: "john", Password: hash()}}}
	g, _, _ := newTestGate(t, f, option{"unknown_user", "defer"})
	for _, c := range []struct {
		subject, topic string
		want           int
	}{{"", "free", codeSuccess}, {"", "x", codeDenied}, {"carl", "x", codeDefer}, {"john", "x", codeDenied}, {"carl", "x/+", codeDenied}} {
		if a := g.decide(read(c.subject, c.topic)); a.code != c.want {
			t.Errorf("decide(%q reads %q): got %+v, want %d", c.subject, c.topic, a, c.want)
		}
	}
	for name, want := range map[string]int{"carl": codeDefer, "john": codeAuth} {
		c := credentials{username: name, hasUsername: true, password: "wrong", hasPassword: true}
		if got := g.login(c, waits, nil); got != want {
			t.Errorf("login as %s: got %d, want %d", name, got, want)
		}
	}
	// Once the picture is too old, nobody can tell who is unknown.
	if !g.close() {
		t.Fatal("close: not all has ended")
	}
	carl := g.decide(read("carl", "x"))
	g.now = func() time.Time { return time.Now().Add(25 * time.Hour) }
	if a := g.decide(read("carl", "x")); a.code != codeDenied || carl.until.IsZero() || g.now().Before(carl.until) {
		t.Errorf("decide when the picture is too old: got %+v after %+v, want denied, and the first answer over by then", a, carl)
	}
	if got := g.login(as("carl", "x"), waits, nil); got != codeAuth {
		t.Errorf("login when the picture is too old: got %d, want %d", got, codeAuth)
	}
}

func TestParseOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(file, []byte(" mongodb://u:hidden@h/ \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := parseOptions([]option{{"store_uri_file", file}, {"database", "d"}, {"public", "a/+"}, {"public", "b"}, {"max_age", "90m"}, {"unknown_user", "defer"}})
	if err != nil || c.storeURI != "mongodb://u:hidden@h/" || c.database != "d" || len(c.public) != 2 || c.maxAge != 90*time.Minute || !c.deferUnknown {
		t.Errorf("parseOptions: got %+v, %v", c, err)
	}
	c, err = parseOptions([]option{{"store_uri", "x"}})
	if err != nil || c.database != "mosquitto" || c.maxAge != 24*time.Hour || c.deferUnknown || len(c.public) != 0 {
		t.Errorf("parseOptions: got %+v, %v, want the defaults", c, err)
	}
	uri := option{"store_uri", "mongodb://u:hidden@h/"}
	for _, o := range []struct {
		options []option
		want    string
	}{
		{nil, "store_uri"}, {[]option{uri, uri}, "store_uri"}, {[]option{uri, {"store_uri_file", file}}, "store_uri_file"},
		{[]option{{"store_uri_file", empty}}, "store_uri_file"}, {[]option{{"store_uri_file", "/none"}}, "store_uri_file"}, {[]option{{"store_uri", ""}}, "store_uri"},
		{[]option{uri, {"max_age", "0s"}}, "max_age"}, {[]option{uri, {"max_age", "24"}}, "max_age"}, {[]option{uri, {"max_age", "-1h"}}, "max_age"},
		{[]option{uri, {"public", ""}}, "public"}, {[]option{uri, {"public", "$share/g/a"}}, "public"}, {[]option{uri, {"Public", "a"}}, "Public"}, {[]option{uri, {"", "a"}}, ""},
	} {
		if _, err := parseOptions(o.options); err == nil || !strings.Contains(err.Error(), "plugin_opt_"+o.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("parseOptions(%v): got %v, want an error that names %s", o.options, err, o.want)
		}
	}
}

func TestReadSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base := []option{{"store_uri", "x"}, {"public", "a"}, {"max_age", "1h"}, {"settings_file", file}}
	c, err := parseOptions(base)
	if err != nil {
		t.Fatal(err)
	}
	write("# comment\n\npublic b/# \r\n  public a b\nunknown_user defer")
	s, err := c.readSettings()
	if err != nil || fmt.Sprint(s.public) != "[a b/# a b]" || s.maxAge != time.Hour || !s.deferUnknown {
		t.Errorf("readSettings: got %+v, %v", s, err)
	}
	write("max_age 2h\nunknown_user deny\n")
	if s, err = c.readSettings(); err != nil || fmt.Sprint(s.public) != "[a]" || s.maxAge != 2*time.Hour || s.deferUnknown {
		t.Errorf("readSettings again: got %+v, %v", s, err)
	}
	for text, want := range map[string]string{
		"\npubic a": `, line 2: "pubic": unknown setting; there are public, max_age, unknown_user`, "public": `, line 1: "public": has no value; want KEY VALUE`,
		"public a\npublic b#": `, line 2: "public": topic filter "b#": `, "max_age 1h\nmax_age 1h": `, line 2: "max_age": is given twice`,
		"store_uri mongodb://u:hidden@h/": `, line 1: "store_uri": unknown setting`, "max_age 0s": `, line 1: "max_age": got "0s"`, "unknown_user x": `, line 1: "unknown_user": got "x"`,
	} {
		write(text)
		if _, err := c.readSettings(); err == nil || !strings.HasPrefix(err.Error(), file+want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("readSettings of %q: got %v, want %s", text, err, file+want)
		}
	}
	os.Remove(file)
	if _, err := c.readSettings(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("readSettings without a file: got %v", err)
	}
}

func TestLogQueue(t *testing.T) {
	n := 0
	log, q := newLogger(func() { n++ })
	log.WithField("b", "two words").WithField("a", 1).Warn("message")
	log.WithError(errors.New("line\nbreak")).Info("x")
	got := q.take()
	if len(got) != 2 || n != 2 || got[0] != (logLine{brokerWarning, `iotoll: message a=1 b="two words"`}) || got[1] != (logLine{brokerInfo, `iotoll: x error="line\nbreak"`}) {
		t.Errorf("take: got %v after %d calls", got, n)
	}
	for range logAtMost + 5 {
		log.Error("again")
	}
	if got := q.take(); len(got) != logAtMost+1 || got[logAtMost].text != "iotoll: log lines lost lines=5" {
		t.Errorf("take: got %d lines, the last %v", len(got), got[len(got)-1])
	}
	if got := q.take(); len(got) != 0 {
		t.Errorf("take: got %v, want nothing", got)
	}
}
