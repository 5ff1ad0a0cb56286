package wemo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// published is a message and the time of Publish.
type published struct {
	at       time.Time
	topic    string
	payload  string
	retained bool
}

// memory is a Publisher that records messages.
type memory struct {
	mu  sync.Mutex
	all []published
}

func (m *memory) Publish(topic string, payload []byte, retained bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, published{time.Now(), topic, string(payload), retained})
	return nil
}

func (m *memory) on(topic string) []published {
	m.mu.Lock()
	defer m.mu.Unlock()
	var l []published
	for _, p := range m.all {
		if p.topic == topic {
			l = append(l, p)
		}
	}
	return l
}

// sourceFunc makes a Source of a function.
type sourceFunc func(ctx context.Context) (Reading, error)

func (f sourceFunc) Read(ctx context.Context) (Reading, error) { return f(ctx) }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// poll runs a poller for d of virtual time.
func poll(t *testing.T, d time.Duration, p *Poller) *memory {
	t.Helper()
	m := &memory{}
	if p.Publisher == nil {
		p.Publisher = m
	}
	p.Live, p.Average, p.Log = "sensor/live", "sensor/1m", quiet()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := p.Run(ctx); err != nil {
		t.Errorf("Run: got %v", err)
	}
	return m
}

func TestPollerGrid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var begun []time.Duration
		n := 0
		m := poll(t, 10*time.Second, &Poller{Source: sourceFunc(func(ctx context.Context) (Reading, error) {
			begun = append(begun, time.Since(start))
			n++
			took := 30 * time.Millisecond
			switch n {
			case 3:
				took = 2100 * time.Millisecond // a stall over four grid points
			case 5:
				took = 500 * time.Millisecond // exactly until the next
			}
			if err := sleep(ctx, took); err != nil {
				return Reading{}, err
			}
			return Reading{time.Now(), int64(n)}, nil
		})})
		var at []time.Duration
		for _, p := range m.on("sensor/live") {
			if p.retained {
				t.Errorf("live message retained: %+v", p)
			}
			at = append(at, p.at.Sub(start))
		}
		if got, want := fmt.Sprint(begun[:7]), "[0s 500ms 1s 3.5s 4s 4.5s 5s]"; got != want && got != "[0s 500ms 1s 3.5s 4s 5s 5.5s]" {
			t.Errorf("reads began at %s, want %s", got, want)
		}
		if got, want := fmt.Sprint(at[:5]), "[30ms 530ms 3.1s 3.53s 4.5s]"; got != want {
			t.Errorf("readings went out at %s, want %s", got, want)
		}
		for i := 1; i < len(at); i++ {
			if at[i]/(500*time.Millisecond) == at[i-1]/(500*time.Millisecond) {
				t.Errorf("two readings in the interval of %s", at[i])
			}
		}
	})
}

func TestPollerStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		down := func() bool {
			d := time.Since(start)
			return d < 2*time.Second || d > 20*time.Second && d < 40*time.Second
		}
		m := poll(t, 50200*time.Millisecond, &Poller{Source: sourceFunc(func(ctx context.Context) (Reading, error) {
			if down() {
				return Reading{}, errors.New("no answer")
			}
			return Reading{time.Now(), 5}, nil
		})})
		var got []string
		for _, p := range m.on("sensor/status") {
			var s Status
			if err := json.Unmarshal([]byte(p.payload), &s); err != nil || !p.retained || s.Since == nil {
				t.Fatalf("status %+v: %v", p, err)
			}
			seen := "never"
			if s.LastSeen != nil {
				seen = s.LastSeen.Sub(start).String()
			}
			got = append(got, fmt.Sprintf("%t %s since %s seen %s", s.Online, s.Reason, s.Since.Sub(start), seen))
		}
		want := []string{
			"false starting since 0s seen never",
			"true  since 2s seen 2s",
			"false stale since 25.5s seen 20s",
			"true  since 40s seen 40s",
			"false stopped since 50.2s seen 50s",
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("statuses:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// The status tells a broker that refuses readings from a plug that brings none, and
// says which topics are refused.
func TestPollerStatusRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		within := func(from, to time.Duration) bool {
			d := time.Since(start)
			return d >= from && d < to
		}
		m := &memory{}
		broker := &refuser{m, func(topic string) error {
			switch {
			case topic == "sensor/live" && within(10*time.Second, 40*time.Second), topic == "sensor/1m" && within(50*time.Second, 100*time.Second):
				return &RefusedError{Reason: "not authorized"}
			case topic == "sensor/live" && within(200*time.Second, 210*time.Second):
				return errors.New("not connected")
			}
			return nil
		}}
		poll(t, 4*time.Minute, &Poller{Publisher: broker, Source: sourceFunc(func(context.Context) (Reading, error) {
			if within(20*time.Second, 30*time.Second) {
				return Reading{}, errors.New("no answer")
			}
			return Reading{time.Now(), 5}, nil
		})})
		var got []string
		last := ""
		for _, p := range m.on("sensor/status") {
			s := statusOf(t, p)
			s.LastSeen = nil
			if text := string(s.Payload()); text != last {
				got = append(got, fmt.Sprintf("%s %s", p.at.Sub(start), text))
				last = text
			}
		}
		const since = `"since":"2000-01-01T00:0`
		want := []string{
			`0s {"online":false,"reason":"starting",` + since + `0:00Z"}`,
			`0s {"online":true,` + since + `0:00Z"}`,
			`10s {"online":false,"reason":"refused","refused":{"sensor/live":"not authorized"},` + since + `0:10Z"}`,
			`25s {"online":false,"reason":"stale","refused":{"sensor/live":"not authorized"},` + since + `0:25Z"}`,
			`30s {"online":false,"reason":"refused","refused":{"sensor/live":"not authorized"},` + since + `0:30Z"}`,
			`40s {"online":true,` + since + `0:40Z"}`,
			`1m0s {"online":true,"refused":{"sensor/1m":"not authorized"},` + since + `0:40Z"}`,
			`2m0s {"online":true,` + since + `0:40Z"}`,
			`4m0s {"online":false,"reason":"stopped",` + since + `4:00Z"}`,
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("statuses:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// refuser is a memory whose broker refuses some messages.
type refuser struct {
	*memory
	err func(topic string) error
}

func (r *refuser) Publish(topic string, payload []byte, retained bool) error {
	r.memory.Publish(topic, payload, retained)
	return r.err(topic)
}

func TestPollerMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight UTC 2000-01-01
		time.Sleep(40 * time.Second)
		start := time.Now().Truncate(time.Minute)
		m := poll(t, 5*time.Minute, &Poller{Format: JSON, Source: sourceFunc(func(ctx context.Context) (Reading, error) {
			switch d := time.Since(start); {
			case d < 2*time.Minute:
				return Reading{time.Now(), 1000}, nil
			case d < 2*time.Minute+29*time.Second:
				return Reading{time.Now(), 3000}, nil
			case d < 3*time.Minute+15*time.Second:
				return Reading{}, errors.New("no answer")
			default:
				return Reading{time.Now(), -501}, nil
			}
		})})
		var got []string
		for _, p := range m.on("sensor/1m") {
			if !p.retained {
				t.Errorf("mean not retained: %+v", p)
			}
			got = append(got, p.at.Sub(start).String()+" "+p.payload)
		}
		want := []string{
			`1m0s {"t":"2000-01-01T00:01:00Z","mW":null}`, // 20 s are too little
			`2m0s {"t":"2000-01-01T00:02:00Z","mW":1000}`,
			`3m0s {"t":"2000-01-01T00:03:00Z","mW":3000}`, // 33.5 s: the last reading counts for 5 s
			`4m0s {"t":"2000-01-01T00:04:00Z","mW":-501}`,
			`5m0s {"t":"2000-01-01T00:05:00Z","mW":-501}`,
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("means:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// No average is invented when the clock is set forward or back.
func TestPollerClockIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		now := func() time.Time {
			switch d := time.Since(start); {
			case d < 150*time.Second:
				return time.Now()
			case d < 10*time.Minute:
				return time.Now().Add(time.Hour)
			default:
				return time.Now().Add(-time.Hour)
			}
		}
		m := poll(t, 15*time.Minute+time.Second, &Poller{Now: now, Source: sourceFunc(func(ctx context.Context) (Reading, error) {
			return Reading{now(), 7000}, nil
		})})
		nulls := 0
		var got []string
		for _, p := range m.on("sensor/1m") {
			got = append(got, p.at.Sub(start).String()+" "+p.payload)
			if p.payload == "null" {
				nulls++
			} else if p.payload != "7000" {
				t.Errorf("mean %s, want 7000 or null", p.payload)
			}
		}
		if len(got) < 14 || nulls > 2 {
			t.Errorf("means: got %v, want one a minute and at most a null for each setting", got)
		}
		if n := len(m.on("sensor/live")); n < 1795 {
			t.Errorf("readings: got %d, want 1802", n)
		}
	})
}

// An average covers one window, also that in which the clock was set back.
func TestPollerClockIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		set := 2*time.Minute + 20*time.Second
		now := func() time.Time {
			if time.Since(start) < set {
				return time.Now()
			}
			return time.Now().Add(30*time.Second - time.Hour) // ten seconds to the full minute
		}
		m := poll(t, 5*time.Minute, &Poller{Now: now, Format: JSON, Source: sourceFunc(func(ctx context.Context) (Reading, error) {
			if time.Since(start) < set+10*time.Second {
				return Reading{now(), 1000}, nil
			}
			return Reading{now(), 2000}, nil
		})})
		var got []string
		for _, p := range m.on("sensor/1m") {
			got = append(got, p.at.Sub(start).String()+" "+p.payload)
		}
		want := []string{
			`1m0s {"t":"2000-01-01T00:01:00Z","mW":1000}`,
			`2m0s {"t":"2000-01-01T00:02:00Z","mW":1000}`,
			`2m30s {"t":"1999-12-31T23:03:00Z","mW":null}`,
			`3m30s {"t":"1999-12-31T23:04:00Z","mW":2000}`,
			`4m30s {"t":"1999-12-31T23:05:00Z","mW":2000}`,
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("means:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// A source that fails when the clock is set back becomes stale in time, not when the
// clock has caught up.
func TestPollerStaleClockIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		m := poll(t, 10*time.Minute, &Poller{
			Now: func() time.Time {
				if time.Since(start) < time.Minute {
					return time.Now()
				}
				return time.Now().Add(-time.Hour)
			},
			Source: sourceFunc(func(ctx context.Context) (Reading, error) {
				if time.Since(start) < time.Minute {
					return Reading{time.Now(), 1}, nil
				}
				return Reading{}, errors.New("no answer")
			}),
		})
		for _, p := range m.on("sensor/status") {
			if statusOf(t, p).Reason == Stale {
				if after := p.at.Sub(start); after > 70*time.Second {
					t.Errorf("the status was stale after %s, want a minute and the hold of 5s", after)
				}
				return
			}
		}
		t.Error("the status was never stale")
	})
}

func TestPollerValidate(t *testing.T) {
	for want, p := range map[string]Poller{
		`live topic "": want a topic`:                               {Average: "a"},
		`average topic "a/#": want a topic without`:                 {Live: "l", Average: "a/#"},
		`average topic "l": want another than the live topic`:       {Live: "l", Average: "l"},
		`status topic "x/status": want another than the live topic`: {Live: "x/status", Average: "a"},
		`live topic "$SYS/x": want`:                                 {Live: "$SYS/x", Average: "a"},
		`interval -1s`:                                              {Live: "l", Average: "a", Interval: -time.Second},
		`hold -1s`:                                                  {Live: "l", Average: "a", Hold: -time.Second},
		`format "kW"`:                                               {Live: "l", Average: "a", Format: "kW"},
	} {
		if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run: got %v, want %q", err, want)
		}
	}
}

// chaos is a source that fails at random. All its times are whole milliseconds.
type chaos struct {
	rand     *rand.Rand
	begun    []time.Time
	readings []Reading
	outage   time.Time // until then nothing answers
	off      time.Time // until then the relay is open
	failed   int
}

// power returns 0 while the relay is open, otherwise 1 to 3 W.
func (c *chaos) power() int64 {
	if time.Now().Before(c.off) {
		return 0
	}
	return 1000 + c.rand.Int64N(2000)
}

func (c *chaos) millis(from, to int64) time.Duration {
	return time.Duration(from+c.rand.Int64N(to-from)) * time.Millisecond
}

func (c *chaos) Read(ctx context.Context) (Reading, error) {
	c.begun = append(c.begun, time.Now())
	took := c.millis(5, 120)
	switch n := c.rand.IntN(10_000); {
	case n < 100:
		took = c.millis(400, 3000) // slow
	case n < 103:
		c.outage = time.Now().Add(c.millis(1000, 600_000))
	case n < 106:
		c.off = time.Now().Add(c.millis(1000, 600_000))
	}
	if err := sleep(ctx, took); err != nil {
		return Reading{}, err
	}
	if time.Now().Before(c.outage) || c.rand.IntN(1000) == 0 {
		c.failed++
		sleep(ctx, c.millis(0, 8000)) // it waits before it fails again
		return Reading{}, errors.New("no answer")
	}
	r := Reading{time.Now(), c.power()}
	c.readings = append(c.readings, r)
	return r, nil
}

// A day of random faults: the grid does not drift, no zero is invented, and every
// average equals one computed millisecond by millisecond.
func TestPollerADayOfFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		time.Sleep(23*time.Second + 217*time.Millisecond)
		start := time.Now()
		c := &chaos{rand: rand.New(rand.NewPCG(1, 2))}
		m := poll(t, day, &Poller{Source: c})

		for _, b := range c.begun {
			if d := b.Sub(start); d%(500*time.Millisecond) != 0 {
				t.Fatalf("a read began %s after the start, not on the grid", d)
			}
		}
		live := m.on("sensor/live")
		if len(live) != len(c.readings) && len(live) != len(c.readings)-1 {
			t.Fatalf("published %d readings of %d", len(live), len(c.readings))
		}
		slot := time.Duration(-1)
		for i, p := range live {
			if r := c.readings[i]; !p.at.Equal(r.At) || p.payload != strconv.FormatInt(r.MilliWatts, 10) {
				t.Fatalf("reading %d: published %+v, want %+v", i, p, r)
			}
			if s := p.at.Sub(start) / (500 * time.Millisecond); s == slot {
				t.Fatalf("two readings in the interval at %s", p.at.Sub(start))
			} else {
				slot = s
			}
		}

		means := m.on("sensor/1m")
		if len(means) != 24*60 {
			t.Fatalf("got %d means, want one a minute", len(means))
		}
		at := make([]int64, len(c.readings)) // milliseconds
		for i, r := range c.readings {
			at[i] = r.At.UnixMilli()
		}
		next, nulls := 0, 0
		for _, p := range means {
			end := p.at
			if !end.Equal(end.Truncate(time.Minute)) {
				t.Fatalf("mean at %s, want it on the minute", end)
			}
			var sum, n int64
			i := next // the first reading after ms
			for ms := end.UnixMilli() - 60_000; ms < end.UnixMilli(); ms++ {
				for i < len(at) && at[i] <= ms {
					i++
				}
				if i > 0 && ms-at[i-1] < 5000 {
					sum += c.readings[i-1].MilliWatts
					n++
				}
			}
			next = i
			want := "null"
			if n >= 30_000 {
				want = strconv.FormatInt((sum+n/2)/n, 10)
			} else {
				nulls++
			}
			if p.payload != want {
				t.Errorf("mean at %s: got %s, want %s (%d ms known)", end, p.payload, want, n)
			}
		}
		t.Logf("%d reads, %d failed, %d published, %d of 1440 minutes without enough", len(c.begun), c.failed, len(live), nulls)
		if c.failed < 500 || nulls < 10 || nulls > 700 || len(live) < 80_000 {
			t.Errorf("the day was not what it should be")
		}
	})
}

func quiet() logrus.FieldLogger {
	l, _ := logtest.NewNullLogger()
	return l
}

func statusOf(t *testing.T, p published) Status {
	t.Helper()
	var s Status
	if err := json.Unmarshal([]byte(p.payload), &s); err != nil {
		t.Fatalf("status %s: %v", p.payload, err)
	}
	return s
}
