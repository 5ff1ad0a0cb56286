//go:build soak

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
)

const (
	soakUsers  = 10
	soakTopics = 3
	// soakWindow is how long a change may take from the store to the broker. Some 50 ms
	// is usual; but here ten write at once, on two cores perhaps.
	soakWindow = 2 * time.Second
	soakHUP    = 3 * time.Second // between two SIGHUP
)

// verdict is what the model knows of a right at an instant: surely if it is certainly in
// force, perhaps if it may be.
type verdict struct{ surely, perhaps bool }

// edge is a change of the store: it may be in force from start on, and is from known on.
type edge struct{ start, known time.Time }

func (e edge) surely(t time.Time) bool  { return !e.known.IsZero() && !t.Before(e.known) }
func (e edge) perhaps(t time.Time) bool { return !e.start.IsZero() && !t.Before(e.start) }

var always = edge{time.Unix(1, 0), time.Unix(1, 0)}

// sold is a grant in the model.
type sold struct {
	written  edge
	from, to time.Time
	revoked  edge
	cut      time.Time // where the revocation ends it
}

// model predicts what each user may read.
type model struct {
	mu       sync.Mutex
	grants   [soakUsers][soakTopics][]*sold
	disabled [soakUsers]struct {
		is     bool
		change edge
		barred time.Time // the last time that it became true
	}
}

// may returns whether a user may read a topic at an instant between t0 and t1.
func (m *model) may(user, topic int, t0, t1 time.Time) (v verdict) {
	if topic == soakTopics {
		return verdict{true, true} // the public one
	}
	if user < 0 {
		return verdict{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	const tick = time.Millisecond // the broker reads the clock in these
	t0, t1 = t0.Add(-tick), t1.Add(tick)
	for _, g := range m.grants[user][topic] {
		least, most := g.to, g.to
		if g.revoked.perhaps(t1) && g.cut.Before(least) {
			least = g.cut
		}
		if g.revoked.surely(t0) && g.cut.Before(most) {
			most = g.cut
		}
		v.surely = v.surely || g.written.surely(t0) && !t0.Before(g.from) && t1.Before(least)
		v.perhaps = v.perhaps || g.written.perhaps(t1) && !t1.Before(g.from) && t0.Before(most)
	}
	d := m.disabled[user]
	switch {
	case d.change.surely(t0) && d.is:
		return verdict{}
	case d.change.perhaps(t1) && !d.change.surely(t0), d.is:
		v.surely = false
	}
	return v
}

// buyer pays, is revoked, disabled and enabled at random until ctx ends. There is one
// for each user.
func (m *model) buyer(ctx context.Context, s *testStore, user int, random *rand.Rand) error {
	name := fmt.Sprint("u", user)
	// write does it, between the two ends of an edge.
	write := func(set func(edge), do func() error) error {
		start := time.Now()
		m.mu.Lock()
		set(edge{start: start})
		m.mu.Unlock()
		if err := do(); err != nil {
			return err
		}
		m.mu.Lock()
		set(edge{start, time.Now().Add(soakWindow)})
		m.mu.Unlock()
		return nil
	}
	for ctx.Err() == nil {
		topic := random.IntN(soakTopics)
		offer := fmt.Sprint("o", topic)
		grants := &m.grants[user][topic]
		var err error
		switch n := random.IntN(10); {
		case n < 6:
			now := time.Now().UTC().Truncate(time.Millisecond)
			from := now.Add(time.Duration(random.IntN(600)-300) * time.Millisecond)
			if end := s.account(name, offer).NotAfter; end.After(from) {
				from = end
			}
			to := from.Add(time.Duration(50+random.IntN(7000)) * time.Millisecond)
			if to.Sub(now) > 10*time.Second {
				break // enough for now
			}
			g := &sold{from: from, to: to}
			m.mu.Lock()
			*grants = slices.DeleteFunc(*grants, func(g *sold) bool { return time.Since(g.to) > 30*time.Second })
			*grants = append(*grants, g)
			m.mu.Unlock()
			err = write(func(e edge) { g.written = e }, func() error {
				return s.grantFrom(name, offer, "soak/live/"+strconv.Itoa(topic), from, to)
			})
		case n < 8:
			cut := time.Now().UTC().Truncate(time.Millisecond)
			m.mu.Lock()
			live := slices.DeleteFunc(slices.Clone(*grants), func(g *sold) bool { return !g.to.After(cut) || !g.revoked.start.IsZero() })
			for _, g := range live {
				g.cut = cut
			}
			m.mu.Unlock()
			err = write(func(e edge) {
				for _, g := range live {
					g.revoked = e
				}
			}, func() error { return s.revokeAt(name, offer, cut) })
		default:
			d := &m.disabled[user]
			// Not users with persistent sessions: their logins are throttled for a while,
			// and more messages would wait than a client of this test takes.
			bar := !d.is && n == 8 && user%3 != 0
			if bar == d.is {
				break
			}
			err = write(func(e edge) {
				if d.is, d.change = bar, e; bar {
					d.barred = time.Now()
				}
			}, func() error { return s.SetDisabled(context.Background(), name, bar) })
			// Two changes in a row, and the model would not know which of them is in
			// force.
			sleep(ctx, soakWindow)
		}
		if err != nil {
			return fmt.Errorf("buyer %s: %w", name, err)
		}
		sleep(ctx, time.Duration(random.IntN(1500))*time.Millisecond)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// listener is a client in the model.
type listener struct {
	*client
	user   int // -1: anonymous
	id     string
	keeps  bool // its session stays
	filter string
	online bool
	since  time.Time // when it connected
	queued []waiting // for when it comes back
	marks  int       // how often it came back
}

type waiting struct {
	topic   string
	index   int
	payload string
	at      verdict
}

// soak compares a broker with the model.
type soak struct {
	t         *testing.T
	store     *testStore
	model     *model
	broker    *broker
	publisher *client
	random    *rand.Rand
	listeners []*listener
	counts    struct{ published, delivered, withheld, unsure, connects, kicked, hups int }
}

func topicName(index int) string {
	if index == soakTopics {
		return "soak/free"
	}
	return "soak/live/" + strconv.Itoa(index)
}

func covers(filter string, index int) bool {
	return filter == "soak/#" || filter == topicName(index) || filter == "soak/live/+" && index < soakTopics
}

// check compares what a listener got with what it had to get, in order.
func (s *soak) check(l *listener, expected []waiting) {
	s.t.Helper()
	if l.sync(); s.kicked(l) {
		return
	}
	for len(l.inbox) > 0 {
		d := <-l.inbox
		for len(expected) > 0 && expected[0].payload != d.payload {
			if expected[0].at.surely {
				s.t.Errorf("%s (u%d, %s): did not get %v", l.id, l.user, l.filter, expected[0])
			}
			s.counts.withheld++
			expected = expected[1:]
		}
		if len(expected) == 0 || expected[0].topic != d.topic || !expected[0].at.perhaps {
			s.t.Errorf("%s (u%d, %s): got %v, to which it has no right", l.id, l.user, l.filter, d)
			if len(expected) > 0 {
				s.explain(l.user, expected[0].index)
			}
			return
		}
		s.counts.delivered++
		expected = expected[1:]
	}
	for _, w := range expected {
		if w.at.surely {
			s.t.Errorf("%s (u%d, %s): did not get %v", l.id, l.user, l.filter, w)
			s.explain(l.user, w.index)
		}
		s.counts.withheld++
	}
}

// kicked reports whether the broker has closed a listener's connection, which it may
// do only if its user was disabled.
func (s *soak) kicked(l *listener) bool {
	s.t.Helper()
	select {
	case <-l.closed:
	default:
		return false
	}
	s.counts.kicked++
	s.model.mu.Lock()
	d := s.model.disabled[max(0, l.user)]
	s.model.mu.Unlock()
	if l.user < 0 || d.barred.Add(soakWindow).Before(l.since) {
		s.t.Errorf("%s (u%d) was kicked; it connected at %v, its user was last disabled at %v", l.id, l.user, l.since, d.barred)
	}
	l.online, l.filter = false, "" // its session does not stay
	return true
}

// explain logs what the model and the store know of a right.
func (s *soak) explain(user, topic int) {
	f := func(t time.Time) string { return t.UTC().Format("05.000") }
	s.model.mu.Lock()
	d := s.model.disabled[max(0, user)]
	s.t.Logf("now %s; disabled %t since %s..%s", f(time.Now()), d.is, f(d.change.start), f(d.change.known))
	for _, g := range s.model.grants[max(0, user)][topic%soakTopics] {
		s.t.Logf("model: %s..%s, written %s..%s, cut at %s, written %s..%s", f(g.from), f(g.to), f(g.written.start), f(g.written.known), f(g.cut), f(g.revoked.start), f(g.revoked.known))
	}
	s.model.mu.Unlock()
	_, grants, _, err := s.store.Load(context.Background())
	for _, g := range grants {
		if g.Subject == fmt.Sprint("u", user) {
			s.t.Logf("store: %s %s..%s %v", g.ID, f(g.NotBefore), f(g.NotAfter), err)
		}
	}
}

func (s *soak) publish() {
	s.t.Helper()
	index := s.random.IntN(soakTopics + 1)
	payload := strconv.Itoa(s.counts.published)
	s.counts.published++
	t0 := time.Now()
	s.publisher.publish(topicName(index), payload, 1, false)
	t1 := time.Now()
	for _, l := range s.listeners {
		if !covers(l.filter, index) {
			continue
		}
		w := waiting{topicName(index), index, payload, s.model.may(l.user, index, t0, t1)}
		if w.at.surely != w.at.perhaps {
			s.counts.unsure++
		}
		switch {
		case l.online:
			s.check(l, []waiting{w})
		case l.keeps:
			l.queued = append(l.queued, w)
		}
	}
}

func (s *soak) connect(l *listener) {
	s.t.Helper()
	o := connect{id: l.id, keepSession: l.keeps, anonymous: l.user < 0}
	if l.user >= 0 {
		o.user, o.pass = fmt.Sprint("u", l.user), "secret"
	}
	s.counts.connects++
	t0 := time.Now()
	c, code := s.broker.tryConnect(o)
	if code == -1 {
		return // deferred
	}
	if code != 0 {
		s.model.mu.Lock()
		d := s.model.disabled[l.user]
		s.model.mu.Unlock()
		// The tries of a user who was disabled count as wrong ones for a while.
		if d.change == always {
			s.t.Errorf("%s: connect: got %d", l.id, code)
		}
		return
	}
	l.client, l.online, l.since = c, true, t0
	c.mayClose = l.user >= 0
	l.sync()
	t1 := time.Now()
	for i, w := range l.queued {
		now := s.model.may(l.user, w.index, t0, t1)
		l.queued[i].at = verdict{w.at.surely && now.surely, w.at.perhaps && now.perhaps}
	}
	if l.keeps {
		s.mark(l)
	}
	s.check(l, l.queued)
	l.queued = nil
	if !l.keeps {
		l.filter = ""
	}
}

// mark waits until a listener that reconnected has everything that was queued for it:
// a message that is published now comes after that.
func (s *soak) mark(l *listener) {
	s.t.Helper()
	topic := "mark/" + l.id
	if l.marks++; l.marks == 1 {
		l.client.subscribe(topic, 1)
	}
	s.publisher.publish(topic, strconv.Itoa(l.marks), 1, false)
	var before []delivery
	for {
		select {
		case d := <-l.inbox:
			if d.topic != topic {
				before = append(before, d)
				continue
			}
			for _, d := range before { // for check to read
				l.inbox <- d
			}
			if d.payload != strconv.Itoa(l.marks) {
				s.t.Errorf("%s: got mark %s, want %d", l.id, d.payload, l.marks)
			}
			return
		case <-time.After(30 * time.Second):
			s.t.Fatalf("%s came back and got %d messages, but not what was published after them", l.id, len(before))
		}
	}
}

func (s *soak) disconnect(l *listener) {
	if s.random.IntN(2) == 0 {
		l.client.disconnect()
	} else {
		l.sync() // or an acknowledgement is lost, and a message comes twice
		l.drop()
		s.publisher.sync()
		time.Sleep(5 * time.Millisecond) // until the broker has noticed
		s.publisher.sync()
	}
	l.online = false
}

func (s *soak) subscribe(l *listener) {
	s.t.Helper()
	if l.filter != "" {
		l.unsubscribe(l.filter)
		l.filter = ""
		s.kicked(l)
		return
	}
	filter := []string{"soak/#", "soak/live/+", "soak/live/0", "soak/live/1"}[s.random.IntN(4)]
	t0 := time.Now()
	code := l.client.subscribe(filter, 1)
	t1 := time.Now()
	if s.kicked(l) {
		return
	}
	var may verdict
	for index := range soakTopics + 1 {
		if covers(filter, index) {
			v := s.model.may(l.user, index, t0, t1)
			may.surely, may.perhaps = may.surely || v.surely, may.perhaps || v.perhaps
		}
	}
	if code == 1 && !may.perhaps || code != 1 && may.surely {
		s.t.Errorf("%s (u%d) subscribes to %s: got %#x, the model says %+v", l.id, l.user, filter, code, may)
	}
	if code == 1 {
		l.filter = filter
	}
}

// hup makes the broker ask for every password again.
func (s *soak) hup() {
	s.t.Helper()
	s.counts.hups++
	s.broker.Signal(syscall.SIGHUP)
	eventually(s.t, "HUP", func() bool { return strings.Count(s.broker.Log(), "Reloading config.") >= s.counts.hups })
	s.publisher.sync()
	time.Sleep(10 * time.Millisecond)
	s.publisher.sync()
	for _, l := range s.listeners {
		if !l.online {
			continue
		}
		s.kicked(l)
	}
}

// TestSoak connects, subscribes, pays, revokes, disables and reloads at random, for the
// duration IOTOLL_SOAK (such as 10m). The broker agrees with the model on every delivery
// and does not use more and more memory and goroutines.
func TestSoak(t *testing.T) {
	t.Parallel()
	length := 12 * time.Second
	if text := os.Getenv("IOTOLL_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("IOTOLL_SOAK: %v", err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	store := startStore(t)
	store.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}, {Pattern: "$SYS/#", Access: acl.Read}}})
	m := &model{}
	for i := range soakUsers {
		store.user(acl.User{Name: fmt.Sprint("u", i)})
		m.disabled[i].change = always
	}
	// No limit on what is in flight, for the reason that mosquitto.conf gives.
	b := startBroker(t, conf(store.uri, "max_inflight_messages 0", "plugin_opt_public soak/free", "plugin_opt_public mark/+", "max_queued_messages 100000", "log_type error", "log_type warning", "log_type notice", "log_type information"))
	b.waitLog("following the store")
	s := &soak{t: t, store: store, model: m, broker: b, publisher: b.connect(connect{user: "jane", pass: "secret", id: "publisher"}), random: rand.New(rand.NewPCG(seed, 0))}
	for i := range soakUsers + 2 {
		l := &listener{user: i, id: fmt.Sprint("c", i), keeps: i%3 == 0}
		if i >= soakUsers {
			l.user, l.keeps = -1, false
		}
		s.listeners = append(s.listeners, l)
	}

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var wg sync.WaitGroup
	for i := range soakUsers {
		random := rand.New(rand.NewPCG(seed, uint64(i+1)))
		wg.Go(func() {
			if err := m.buyer(ctx, store, i, random); err != nil {
				t.Error(err)
			}
		})
	}
	goroutines := make(chan string, 1000)
	watcher := b.connect(connect{user: "jane", pass: "secret", id: "watcher"})
	watcher.subscribe("$SYS/broker/iotoll/goroutines", 0)
	var done atomic.Bool
	wg.Go(func() {
		for !done.Load() {
			select {
			case d := <-watcher.inbox:
				goroutines <- d.payload
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	var rss []int
	next, hup := time.Now(), time.Now().Add(soakHUP)
	for ctx.Err() == nil && !t.Failed() {
		if time.Now().After(next) {
			rss = append(rss, b.rss())
			next = next.Add(length / 40)
		}
		if time.Now().After(hup) {
			s.hup()
			hup = time.Now().Add(soakHUP)
		}
		l := s.listeners[s.random.IntN(len(s.listeners))]
		switch n := s.random.IntN(300); {
		case n < 15 && !l.online:
			s.connect(l)
		case n < 9:
			s.disconnect(l)
		case n < 40 && l.online:
			s.subscribe(l)
		default:
			s.publish()
		}
	}
	cancel()
	done.Store(true)
	wg.Wait()
	close(goroutines)
	var g []int
	for text := range goroutines {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Errorf("goroutines: got %q, want a number", text)
		}
		g = append(g, n)
	}
	t.Logf("in %v: %+v; goroutines %v; memory in KiB %v", length, s.counts, g, rss)
	if s.counts.delivered < 100 || s.counts.withheld < 100 {
		t.Errorf("counts: got %+v, want more of everything", s.counts)
	}
	if length < time.Minute || t.Failed() {
		return // too short to tell about memory
	}
	// What a hash takes, 19 MiB, comes and goes.
	before, after := slices.Max(rss[len(rss)/4:len(rss)/2]), slices.Min(rss[len(rss)*3/4:])
	if after > before+8<<10 {
		t.Errorf("memory: at least %d KiB in the last quarter, at most %d in the second", after, before)
	}
	// A hash and the driver's own come and go as well.
	if len(g) < 4 || slices.Min(g[len(g)/2:]) > slices.Max(g[:len(g)/2]) {
		t.Errorf("goroutines: got %v, want no more in the second half than in the first", g)
	}
}
