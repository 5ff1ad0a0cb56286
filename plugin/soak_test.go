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
	"syscall"
	"testing"
	"time"

	"github.com/iotoll/iotoll/acl"
)

const (
	soakHUP  = 3 * time.Second // between two SIGHUP
	soakStep = 9 * time.Second // from one step of the wall clock to the next, without stepQuiet
)

// passwords are what a user's password changes between.
var passwords = [2]string{"secret", "other"}

// keepsSession reports whether the sessions of a user's own client stay.
func keepsSession(user int) bool { return user%3 == 0 && user < soakUsers }

// listener is a client in the model.
type listener struct {
	*client
	user   int
	pass   int // index in passwords
	id     string
	keeps  bool // its session stays
	filter string
	online bool
	since  time.Time // when it began to connect
	in     time.Time // when it was connected
	queued []waiting // for when it comes back
	last   []waiting // the last ones that it may have to get again if it was kicked
	// unsure is set if its session was ended by the broker, so that it may still have a
	// subscription, or not.
	unsure bool
	marks  int // how often it came back

	group     *group    // nil: it does not share
	joined    time.Time // when it subscribed
	seen      time.Time // when it was last seen to be connected
	swallowed int       // messages that it kept from its group after the end of its right
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
	clock     *wallClock
	broker    *broker
	publisher *client
	random    *rand.Rand
	listeners []*listener
	groups    []*group
	counts    struct {
		published, delivered, withheld, unsure, connects, refused, kicked, hups, steps int
		shared, swallowed, swallowedMost, left                                         int
	}
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
	now := time.Now()
	l.sync()
	if s.kicked(l, now) {
		if l.keeps { // it gets again what it has not acknowledged
			l.queued = nil
			for _, w := range append(l.last, expected...) {
				w.at.surely = false
				l.queued = append(l.queued, w)
			}
		}
		return
	}
	l.last = append(l.last, expected...)
	l.last = slices.Clone(l.last[max(0, len(l.last)-3):])
	for len(l.inbox) > 0 {
		d := <-l.inbox
		for len(expected) > 0 && expected[0].payload != d.payload {
			if expected[0].at.surely {
				s.t.Errorf("%s (u%d, %s): did not get %v", l.id, l.user, l.filter, expected[0])
				s.explain(l.user, expected[0].index)
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

// kicked reports whether the broker has closed a listener's connection, and compares
// that with the model: it must have done so by now, or may have. The listener must have
// called sync after that.
func (s *soak) kicked(l *listener, now time.Time) bool {
	s.t.Helper()
	joined := l.group != nil && l.filter != ""
	select {
	case <-l.closed:
	default:
		if s.model.mustEnd(l.user, l.pass, l.in, now) {
			s.t.Errorf("%s (u%d) is still connected, since %v", l.id, l.user, l.in)
			s.explain(l.user, 0)
		}
		if joined && l.group.mustLeave(s.model, l, now) {
			s.t.Errorf("%s (u%d) still shares %s since %v; seen at %v", l.id, l.user, l.filter, l.joined, l.seen)
			s.history(l.id)
			s.explain(l.user, l.group.topics[0])
		}
		l.seen = now
		return false
	}
	left := l.group != nil && l.group.mayLeave(s.model, l)
	switch ends := s.model.mayEnd(l.user, l.since); {
	case ends:
		s.counts.kicked++
	case left:
		s.counts.left++
	default:
		s.t.Errorf("%s (u%d, %s) was kicked; it connected at %v", l.id, l.user, l.filter, l.since)
		s.explain(l.user, 0)
	}
	l.online, l.filter = false, ""
	if l.keeps { // it may have any subscription
		l.unsure, l.filter = true, "soak/#"
	}
	return true
}

// explain logs what the model and the store know of a right.
func (s *soak) explain(user, topic int) {
	f := func(t time.Time) string { return t.UTC().Format("02 15:04:05.000") }
	span := func(e edge) string { return f(e.start) + ".." + f(e.known) }
	m := s.model
	m.mu.Lock()
	s.t.Logf("now %s, wall clock off by %v, before by %v, set %s", f(time.Now()), m.after, m.before, span(m.step))
	if user >= 0 {
		u := m.users[user]
		s.t.Logf("user: %s, barred %t, gone %t, changed %s; sessions ended %s; refused %s", u.kind, u.barred, u.gone, span(u.change), span(u.ended), f(u.refused))
	}
	if user >= 0 && user < rich {
		grants := m.grants[user][topic%soakTopics]
		for _, g := range grants[max(0, len(grants)-10):] {
			s.t.Logf("model: %s..%s, written %s", f(g.from), f(g.to), span(g.written))
			for _, c := range g.cuts {
				s.t.Logf("  cut at %s, written %s", f(c.at), span(c.written))
			}
		}
	}
	m.mu.Unlock()
	_, grants, _, err := s.store.Load(context.Background())
	if err != nil {
		s.t.Logf("load: %v", err)
	}
	slices.SortFunc(grants, func(a, b acl.Grant) int { return strings.Compare(a.ID, b.ID) })
	var lines []string
	for _, g := range grants {
		if g.Subject == fmt.Sprint("u", user) && g.Offer == fmt.Sprint("o", topic%soakTopics) {
			lines = append(lines, fmt.Sprintf("store: %s %s..%s", g.ID, f(g.NotBefore), f(g.NotAfter)))
		}
	}
	for _, line := range lines[max(0, len(lines)-10):] {
		s.t.Log(line)
	}
}

// history logs what the broker said of a client last, and of the clock.
func (s *soak) history(id string) {
	var lines []string
	for line := range strings.Lines(s.broker.Log()) {
		if strings.Contains(line, " "+id+" ") || strings.Contains(line, "iotoll") || strings.Contains(line, "Reloading") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	for _, line := range lines[max(0, len(lines)-20):] {
		s.t.Log(line)
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
		if l.group != nil || !covers(l.filter, index) {
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
			w.at.surely = w.at.surely && !l.unsure
			l.queued = append(l.queued, w)
		}
	}
	for _, g := range s.groups {
		if slices.Contains(g.topics, index) {
			s.handedOut(g, index, payload, t0, t1)
		}
	}
}

func (s *soak) connect(l *listener) {
	s.t.Helper()
	o := connect{id: l.id, keepSession: l.keeps, anonymous: l.user == anonymous}
	may, certain := true, true
	if !o.anonymous {
		l.pass, may, certain = s.model.login(l.user)
		try := s.model.mayTry(l.user)
		switch wrong := s.random.IntN(100) == 0 && l.user != rich; {
		case (wrong || !may || !certain) && !try:
			return
		case wrong:
			l.pass, may = 1-l.pass, false
		}
		o.user, o.pass = name(l.user), passwords[l.pass]
	}
	s.counts.connects++
	t0 := time.Now()
	c, code := s.broker.tryConnect(o)
	if !o.anonymous {
		_, _, still := s.model.login(l.user)
		certain = certain && still
	}
	if code != 0 && (!certain || !may) {
		s.model.tried(l.user)
	}
	switch {
	case code == -1: // deferred
		return
	case certain && (code == 0) != may:
		s.t.Errorf("%s (u%d) connects with password %d: got %d, the model says %t", l.id, l.user, l.pass, code, may)
		s.explain(l.user, 0)
		for range 5 { // was the broker late?
			time.Sleep(200 * time.Millisecond)
			_, code := s.broker.tryConnect(o)
			s.t.Logf("another try: %d", code)
		}
	}
	if code != 0 {
		s.counts.refused++
		return
	}
	l.client, l.online, l.since, l.in = c, true, t0, time.Now()
	l.seen, l.swallowed = l.in, 0
	if !l.keeps {
		l.filter = ""
	}
	c.mayClose = l.user >= 0
	l.sync()
	t1 := time.Now()
	for i, w := range l.queued {
		now := s.model.may(l.user, w.index, t0, t1)
		l.queued[i].at = verdict{w.at.surely && now.surely, w.at.perhaps && now.perhaps}
	}
	queued := l.queued
	l.queued = nil
	if l.keeps {
		s.mark(l)
	}
	s.check(l, queued)
	if l.unsure && l.online {
		for _, filter := range filters {
			l.unsubscribe(filter)
		}
		if now := time.Now(); !s.kicked(l, now) {
			l.unsure, l.filter = false, ""
		}
	}
}

// mark waits until a listener that reconnected has everything that was queued for it:
// a message that is published now comes after that.
func (s *soak) mark(l *listener) {
	s.t.Helper()
	topic := "mark/" + l.id
	l.marks++
	l.client.subscribe(topic, 1)
	s.publisher.publish(topic, strconv.Itoa(l.marks), 1, false)
	var before []delivery
	for {
		select {
		case <-l.closed: // check notices
			return
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
	if l.user >= 0 {
		if _, _, certain := s.model.login(l.user); !certain {
			return // or it would not know whether it was kicked
		}
		now := time.Now()
		if l.sync(); s.kicked(l, now) {
			return
		}
	}
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

var filters = []string{"soak/#", "soak/live/+", "soak/live/0", "soak/live/1"}

func (s *soak) subscribe(l *listener) {
	s.t.Helper()
	now := time.Now()
	if l.filter != "" {
		filter := l.filter
		l.unsubscribe(filter)
		if !s.kicked(l, now) {
			l.filter = ""
		}
		return
	}
	filter := filters[s.random.IntN(len(filters))]
	if l.group != nil {
		filter = l.group.filter
	}
	t0 := time.Now()
	code := l.client.subscribe(filter, 1)
	t1 := time.Now()
	if s.kicked(l, now) {
		return
	}
	if may := s.maySubscribe(l, filter, t0, t1); code == 1 && !may.perhaps || code != 1 && may.surely {
		s.t.Errorf("%s (u%d) subscribes to %s: got %#x, the model says %+v", l.id, l.user, filter, code, may)
		s.explain(l.user, 0)
	}
	if code == 1 {
		l.filter, l.joined = filter, t1
	}
}

// maySubscribe returns whether the broker accepts a subscription: one topic of the
// filter is enough, but one right must cover a shared one.
func (s *soak) maySubscribe(l *listener, filter string, t0, t1 time.Time) (may verdict) {
	if g := l.group; g != nil && len(g.topics) > 1 {
		return verdict{l.user == rich, l.user == rich}
	} else if g != nil {
		return s.model.may(l.user, g.topics[0], t0, t1)
	}
	for index := range soakTopics + 1 {
		if covers(filter, index) {
			v := s.model.may(l.user, index, t0, t1)
			may.surely, may.perhaps = may.surely || v.surely, may.perhaps || v.perhaps
		}
	}
	return may
}

func name(user int) string {
	if user == rich {
		return "rich"
	}
	return fmt.Sprint("u", user)
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
		now := time.Now()
		l.sync()
		s.kicked(l, now)
	}
}

// reports are the figures that the plugin publishes.
type reports struct {
	last       map[string]int // by topic below $SYS/broker/iotoll/
	goroutines []int
}

// follow reads the reports that a client receives until done is closed.
func (r *reports) follow(c *client, done <-chan struct{}) {
	r.last = make(map[string]int)
	for {
		select {
		case d := <-c.inbox:
			n, err := strconv.Atoi(d.payload)
			if err != nil {
				continue // a state or a time
			}
			topic := strings.TrimPrefix(d.topic, "$SYS/broker/iotoll/")
			if r.last[topic] = n; topic == "goroutines" {
				r.goroutines = append(r.goroutines, n)
			}
		case <-time.After(time.Second):
			c.sync() // or the broker misses it
		case <-done:
			return
		}
	}
}

// sum adds the last values of the topics that begin with a prefix.
func (r *reports) sum(prefix string) (sum int) {
	for topic, n := range r.last {
		if strings.HasPrefix(topic, prefix) {
			sum += n
		}
	}
	return sum
}

// TestSoak connects, subscribes, pays, revokes, changes passwords, disables, removes, sets
// the wall clock and reloads at random, for the duration IOTOLL_SOAK (such as 10m). The
// broker agrees with the model on every delivery, login and end of a session, and does not
// use more and more memory and goroutines.
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
	store, clock := startStore(t), newWallClock(t)
	readAll := []acl.Right{{Pattern: "#", Access: acl.Read}}
	store.user(acl.User{Name: "jane", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}, {Pattern: "$SYS/#", Access: acl.Read}}})
	store.user(acl.User{Name: name(rich), Rights: readAll})
	m := &model{step: always, kicks: make(map[string]int)}
	for i := range m.users {
		if m.users[i].change = always; i != rich {
			store.user(acl.User{Name: name(i)})
		}
	}
	begin := time.Now().UTC().Truncate(time.Millisecond).Add(-time.Hour)
	for topic := range soakTopics {
		g := &sold{written: always, from: begin, to: begin.Add(3 * time.Hour)}
		if err := store.grantFrom(name(hourly), fmt.Sprint("o", topic), topicName(topic), g.from, g.to); err != nil {
			t.Fatal(err)
		}
		m.grants[hourly][topic] = []*sold{g}
	}
	var hashes [2][]string
	for n, pass := range passwords {
		for range 8 {
			hashes[n] = append(hashes[n], otherHash(t, pass))
		}
	}
	// No limit on what is in flight, for the reason that mosquitto.conf gives.
	b := launch(t, conf(store.uri, "max_inflight_messages 0", "plugin_opt_public soak/free", "plugin_opt_public mark/+", "max_queued_messages 100000", "log_type error", "log_type warning", "log_type notice", "log_type information"), build(t, ""), clock.env...)
	b.WaitListening(b.Port)
	b.waitLog("following the store")
	s := &soak{t: t, store: store, model: m, clock: clock, broker: b, publisher: b.connect(connect{user: "jane", pass: "secret", id: "publisher"}), random: rand.New(rand.NewPCG(seed, 0))}
	for i := range soakUsers + 4 {
		l := &listener{user: i, id: fmt.Sprint("c", i), keeps: keepsSession(i)}
		switch {
		case i > soakUsers+1:
			l.user = anonymous
		case i >= soakUsers:
			l.user = hourly
		}
		s.listeners = append(s.listeners, l)
	}
	for i, g := range []struct {
		group
		users []int
	}{
		{group{filter: "$share/g/soak/live/0", topics: []int{0}}, []int{rich, hourly, 1, 2, 3, anonymous}},
		{group{filter: "$share/g/soak/live/1", topics: []int{1}}, []int{4, 5, 6}},
		{group{filter: "$share/g/soak/live/+", topics: []int{0, 1, 2}}, []int{rich, rich, 7, anonymous}},
		{group{filter: "$share/g/soak/free", topics: []int{soakTopics}}, []int{rich, 8, 9, anonymous}},
	} {
		for k, user := range g.users {
			l := &listener{user: user, id: fmt.Sprintf("s%d-%d", i, k), group: &g.group}
			g.members = append(g.members, l)
			s.listeners = append(s.listeners, l)
		}
		s.groups = append(s.groups, &g.group)
	}

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var wg sync.WaitGroup
	for i := range soakUsers {
		buyer := buyer{model: m, store: store, clock: clock, hashes: hashes, user: i, name: name(i), random: rand.New(rand.NewPCG(seed, uint64(i+1)))}
		wg.Go(func() {
			if err := buyer.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	store.user(acl.User{Name: "probe"})
	var slowest time.Duration
	probe := b.connectNew(connect{user: "probe", pass: "secret", id: "probe"})
	wg.Go(func() {
		var err error
		if slowest, err = m.probe(ctx, store, probe); err != nil {
			t.Error(err)
		}
	})
	watcher := b.connect(connect{user: "jane", pass: "secret", id: "watcher"})
	watcher.subscribe("$SYS/broker/iotoll/#", 0)
	var reports reports
	watching := make(chan struct{})
	wg.Go(func() { reports.follow(watcher, watching) })
	var rss []int
	next, hup, step := time.Now(), time.Now().Add(soakHUP), time.Now().Add(soakStep)
	var resume func()
	for ctx.Err() == nil && !t.Failed() {
		if time.Now().After(next) {
			rss = append(rss, b.rss())
			next = next.Add(length / 40)
		}
		if resume == nil && time.Now().After(hup) {
			s.hup()
			hup = time.Now().Add(soakHUP)
		}
		switch {
		case time.Now().Before(step):
		case resume == nil:
			resume = m.quiet(ctx)
			s.counts.steps++
			m.set(clock, m.nextOffset(s.random))
			step = time.Now().Add(stepQuiet)
		default:
			resume()
			resume, step = nil, time.Now().Add(soakStep)
		}
		l := s.listeners[s.random.IntN(len(s.listeners))]
		n := s.random.IntN(300)
		if l.group != nil && l.filter != "" && s.random.IntN(500) != 0 {
			n = 300 // members rather stay until the broker ends their session
		}
		switch {
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
	if resume != nil {
		resume()
	}
	close(watching)
	wg.Wait()
	g := reports.goroutines
	t.Logf("in %v: %+v; changes that end sessions %v; slowest change %v; decisions %d, logins deferred %d; goroutines %v; memory in KiB %v",
		length, s.counts, m.kicks, slowest, reports.sum("checks/"), reports.sum("logins/deferred"), g, rss)
	if n := reports.sum("panics"); n != 0 {
		t.Errorf("the plugin reports %d panics", n)
	}
	eventually(t, "the plugin notices each step", func() bool { return strings.Count(b.Log(), "wall clock was set") == s.counts.steps })
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
