package wemo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// Poller reads a Source on a steady grid and publishes what it reads.
type Poller struct {
	Source    Source
	Publisher Publisher
	Live      string        // topic of the readings
	Average   string        // topic of the means, one a window
	Status    string        // topic of the status; empty is StatusTopic(Live)
	Format    Format        // of readings and means; empty is MilliWatts
	Interval  time.Duration // between readings; 0 is 500 ms
	Window    time.Duration // what a mean is taken of; 0 is a minute, and a short one gives the readings away
	// Hold is how long a reading stands for the power when no other follows:
	// after it the status is stale and the minute has a gap. 0 is 5 s, or three
	// intervals where that is longer. A source that reports seldom needs more.
	Hold time.Duration
	Log  logrus.FieldLogger
	Now  func() time.Time // nil is time.Now
}

// StatusTopic is the topic of the status that goes with a live topic:
// sensor/status for sensor/live.
func StatusTopic(live string) string {
	if i := strings.LastIndexByte(live, '/'); i >= 0 {
		return live[:i+1] + "status"
	}
	return "status"
}

// Validate reports everything that keeps the poller from running.
func (p *Poller) Validate() error {
	var errs []error
	names := map[string]string{}
	for _, t := range []struct{ name, topic string }{{"live", p.Live}, {"average", p.Average}, {"status", p.statusTopic()}} {
		if err := validTopic(t.topic); err != nil {
			errs = append(errs, fmt.Errorf("%s topic %q: %w", t.name, clip(t.topic), err))
		}
		if other, taken := names[t.topic]; taken {
			errs = append(errs, fmt.Errorf("%s topic %q: want another than the %s topic", t.name, clip(t.topic), other))
		}
		names[t.topic] = t.name
	}
	if p.Interval < 0 || p.Interval > time.Minute {
		errs = append(errs, fmt.Errorf("interval %s: want at most 1m", p.Interval))
	}
	if p.Window < 0 || p.Window > 24*time.Hour || p.Window%time.Second != 0 {
		errs = append(errs, fmt.Errorf("window %s: want whole seconds, at most 24h", p.Window))
	}
	if p.Hold < 0 {
		errs = append(errs, fmt.Errorf("hold %s: want more than 0", p.Hold))
	}
	errs = append(errs, p.Format.Validate())
	return errors.Join(errs...)
}

// validTopic checks a topic to publish to (MQTT 3.1.1, section 4.7).
func validTopic(t string) error {
	switch {
	case t == "":
		return errors.New("want a topic, not an empty one")
	case len(t) > 65535:
		return errors.New("want at most 65535 bytes")
	case strings.ContainsAny(t, "+#\x00"):
		return errors.New("want a topic without + # and NUL")
	case strings.HasPrefix(t, "$"):
		return errors.New("want a topic that does not begin with $, which is the broker's own")
	}
	return nil
}

// Run polls until ctx ends. Then it publishes that it stopped, and returns
// nil. A source or a publisher that fails does not end it.
//
// Readings begin on the grid: start, start + Interval, and so on, however long
// they take; while one is under way, its grid points pass. A reading goes out
// when it arrives, so there is never more than one in an interval.
func (p *Poller) Run(ctx context.Context) error {
	if err := p.Validate(); err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	r := &polling{Poller: p, interval: p.Interval, window: p.Window, mean: mean{hold: p.Hold}}
	if r.interval == 0 {
		r.interval = 500 * time.Millisecond
	}
	if r.window == 0 {
		r.window = time.Minute
	}
	if r.mean.hold == 0 {
		r.mean.hold = max(5*time.Second, 3*r.interval)
	}
	r.run(ctx)
	return nil
}

// polling is the state of one Run.
type polling struct {
	*Poller
	interval   time.Duration
	mean       mean
	window     time.Duration
	boundary   time.Time // end of the window under way
	status     Status
	failing    bool // the last read failed
	unheard    bool // the last publication failed
	lastFailed string
}

type result struct {
	reading Reading
	err     error
}

func (r *polling) run(ctx context.Context) {
	if s, ok := r.Source.(Runner); ok {
		ran := make(chan struct{})
		go func() {
			defer close(ran)
			if err := s.Run(ctx); err != nil {
				r.log().WithError(err).Warn("source stopped running")
			}
		}()
		defer func() { <-ran }()
	}
	ask := make(chan struct{})
	answers := make(chan result, 1)
	ended := make(chan struct{})
	go func() { // the only one that calls the source
		defer close(ended)
		for range ask {
			reading, err := r.Source.Read(ctx)
			answers <- result{reading, err}
		}
	}()
	defer func() {
		close(ask)
		<-ended
		r.setStatus(Status{Reason: stopped, LastSeen: r.status.LastSeen})
	}()

	r.setStatus(Status{Reason: starting})
	r.boundary = r.now().Truncate(r.window).Add(r.window)
	windowEnd := time.NewTimer(r.boundary.Sub(r.now()))
	defer windowEnd.Stop()
	start := time.Now() // the grid is on the monotonic clock, which nobody sets
	tick := time.NewTimer(0)
	defer tick.Stop()
	busy := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !busy {
				busy = true
				ask <- struct{}{}
			}
			if r.status.Online && r.now().Sub(r.mean.last.At).Abs() > r.mean.hold { // the clock may be set
				r.setStatus(Status{Reason: stale, LastSeen: r.status.LastSeen})
			}
			since := time.Since(start)
			tick.Reset(since.Truncate(r.interval) + r.interval - since)
		case a := <-answers:
			busy = false
			if ctx.Err() != nil {
				return
			}
			r.take(a)
		case <-windowEnd.C:
			select { // a reading of this window may be waiting
			case a := <-answers:
				busy = false
				r.take(a)
			default:
			}
			r.endWindow()
			windowEnd.Reset(r.boundary.Sub(r.now()))
		}
	}
}

// take publishes a reading, or notes a failure.
func (r *polling) take(a result) {
	if a.err != nil {
		if text := a.err.Error(); !r.failing || text != r.lastFailed {
			r.log().WithError(a.err).Warn("reading failed")
			r.lastFailed = text
		}
		r.failing = true
		return
	}
	if r.failing {
		r.failing = false
		r.log().Info("readings are back")
	}
	now := r.now()
	if now.Sub(a.reading.At) > r.mean.hold {
		return // too old to be called live
	}
	if !a.reading.At.Before(r.boundary) || r.boundary.Sub(a.reading.At) > r.window {
		r.endWindow() // its timer is late, or the clock was set back
	}
	r.mean.add(a.reading)
	at := a.reading.At.UTC().Round(0).Truncate(time.Millisecond)
	r.status.LastSeen = &at
	r.publish(r.Live, r.Format.payload(a.reading.At, a.reading.MilliWatts), false)
	if !r.status.Online {
		r.setStatus(Status{Online: true, LastSeen: &at})
	}
}

// endWindow publishes the mean of the window that ended, and refreshes the
// status with the time of the last reading.
func (r *polling) endWindow() {
	now := r.now().Round(0)
	if now.Before(r.boundary) {
		// A timer is a little early, or the clock was set back.
		if r.boundary.Sub(now) > r.window {
			r.boundary = now.Truncate(r.window).Add(r.window)
		}
		return
	}
	mw, covered := r.mean.close(r.boundary)
	end := r.boundary
	if now.Sub(r.boundary) >= r.window {
		// The clock was set forward, or this machine slept: what was measured
		// belongs to an earlier window than the one just past.
		covered = 0
		end = now.Truncate(r.window)
	}
	r.boundary = now.Truncate(r.window).Add(r.window)
	if covered < r.window/2 {
		r.publish(r.Average, r.Format.nothing(end), true)
	} else {
		r.publish(r.Average, r.Format.payload(end, mw), true)
	}
	r.publish(r.statusTopic(), r.status.payload(), true)
}

func (r *polling) setStatus(s Status) {
	now := r.now().UTC().Round(0).Truncate(time.Millisecond)
	s.Since = &now
	r.status = s
	r.log().WithFields(logrus.Fields{"online": s.Online, "reason": s.Reason}).Info("plug status")
	r.publish(r.statusTopic(), s.payload(), true)
}

func (r *polling) publish(topic string, payload []byte, retained bool) {
	err := r.Publisher.Publish(topic, payload, retained)
	if err == nil && retained {
		return // it may wait for a connection
	}
	if (err != nil) == r.unheard {
		return
	}
	r.unheard = err != nil
	if err != nil {
		r.log().WithError(err).Warn("publishing failed")
	} else {
		r.log().Info("publishing works again")
	}
}

func (p *Poller) statusTopic() string {
	if p.Status != "" {
		return p.Status
	}
	return StatusTopic(p.Live)
}

func (p *Poller) log() logrus.FieldLogger { return p.Log.WithField("live", p.Live) }

func (p *Poller) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}
