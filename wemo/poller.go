package wemo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// Poller reads a Source at a fixed interval and publishes the readings, their
// averages and the status of the stream.
type Poller struct {
	Source    Source
	Publisher Publisher
	Live      string        // topic of the readings
	Average   string        // topic of the averages, one a window
	Status    string        // topic of the status; empty is StatusTopic(Live)
	Format    Format        // of readings and averages; empty is MilliWatts
	Interval  time.Duration // between readings; 0 is 500 ms
	Window    time.Duration // length of an average; 0 is a minute, and a short one gives the readings away
	// Hold is how long a reading stands for the power if no other follows. After
	// it the status is stale, and the average does not cover the time. 0 is 5 s,
	// or three intervals if that is longer. A source that reports seldom needs
	// more.
	Hold time.Duration
	Log  logrus.FieldLogger
	Now  func() time.Time // nil is time.Now
}

// StatusTopic returns the topic of the status that goes with a live topic:
// sensor/status for sensor/live.
func StatusTopic(live string) string {
	if i := strings.LastIndexByte(live, '/'); i >= 0 {
		return live[:i+1] + "status"
	}
	return "status"
}

// Validate returns every reason why the poller cannot run.
func (p *Poller) Validate() error {
	var errs []error
	names := map[string]string{}
	for _, t := range []struct{ name, topic string }{{"live", p.Live}, {"average", p.Average}, {"status", p.statusTopic()}} {
		if err := ValidateTopic(t.topic); err != nil {
			errs = append(errs, fmt.Errorf("%s topic %.80q: %w", t.name, t.topic, err))
		}
		if other, taken := names[t.topic]; taken {
			errs = append(errs, fmt.Errorf("%s topic %.80q: want another than the %s topic", t.name, t.topic, other))
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

// ValidateTopic returns an error unless messages can be published to t (MQTT
// 5.0, section 4.7). Topics that begin with $ are the broker's own.
func ValidateTopic(t string) error {
	switch {
	case t == "":
		return errors.New("want a topic, not an empty one")
	case len(t) > 65535:
		return errors.New("want at most 65535 bytes")
	case strings.ContainsAny(t, "+#\x00"):
		return errors.New("want a topic without + # and NUL")
	case strings.HasPrefix(t, "$"):
		return errors.New("want a topic that does not begin with $")
	}
	return nil
}

// Run polls until ctx ends. Then it publishes the status stopped and returns
// nil. Failures of the source or the publisher do not end it.
//
// Readings begin at start, start + Interval, and so on. While one takes longer,
// its successors are left out. A reading is published when it arrives, so there
// is never more than one in an interval.
func (p *Poller) Run(ctx context.Context) error {
	if err := p.Validate(); err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	r := &polling{Poller: p, interval: p.Interval, window: p.Window, mean: mean{hold: p.Hold}, refused: map[string]string{}}
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
	interval time.Duration
	mean     mean
	window   time.Duration
	boundary time.Time         // end of the current window
	status   Status            // published last
	refused  map[string]string // why the broker refuses a topic
	failing  string            // why the last read failed; empty if it did not
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
	requests := make(chan struct{})
	results := make(chan result, 1)
	ended := make(chan struct{})
	go func() { // the only caller of Read
		defer close(ended)
		for range requests {
			reading, err := r.Source.Read(ctx)
			results <- result{reading, err}
		}
	}()
	defer func() {
		close(requests)
		<-ended
		r.setStatus(false, Stopped)
	}()

	r.setStatus(false, Starting)
	r.boundary = r.now().Truncate(r.window).Add(r.window)
	windowEnd := time.NewTimer(r.boundary.Sub(r.now()))
	defer windowEnd.Stop()
	start := time.Now() // the grid is on the monotonic clock, which is never set
	tick := time.NewTimer(0)
	defer tick.Stop()
	reading := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !reading {
				reading = true
				requests <- struct{}{}
			}
			if (r.status.Online || r.status.Reason == Refused) && r.now().Sub(r.mean.last.At).Abs() > r.mean.hold { // the clock may be set
				r.setStatus(false, Stale)
			}
			since := time.Since(start)
			tick.Reset(since.Truncate(r.interval) + r.interval - since)
		case result := <-results:
			reading = false
			if ctx.Err() != nil {
				return
			}
			r.take(result)
		case <-windowEnd.C:
			select { // a reading of this window may be waiting
			case result := <-results:
				reading = false
				r.take(result)
			default:
			}
			r.endWindow()
			windowEnd.Reset(r.boundary.Sub(r.now()))
		}
	}
}

// take publishes a reading, or logs a failure.
func (r *polling) take(a result) {
	if a.err != nil {
		if text := a.err.Error(); text != r.failing {
			r.log().WithError(a.err).Warn("reading failed")
			r.failing = text
		}
		return
	}
	if r.failing != "" {
		r.failing = ""
		r.log().Info("readings are back")
	}
	now := r.now()
	if now.Sub(a.reading.At) > r.mean.hold {
		return // too old to be live
	}
	if !a.reading.At.Before(r.boundary) || r.boundary.Sub(a.reading.At) > r.window {
		r.endWindow() // its timer is late, or the clock was set back
	}
	r.mean.add(a.reading)
	at := a.reading.At.UTC().Round(0).Truncate(time.Millisecond)
	r.status.LastSeen = &at
	r.publish(r.Live, r.Format.payload(a.reading.At, a.reading.MilliWatts), false)
	if _, refused := r.refused[r.Live]; refused {
		r.setStatus(false, Refused)
	} else {
		r.setStatus(true, "")
	}
}

// endWindow publishes the average of the window that ended, and the status
// again, with the time of the last reading.
func (r *polling) endWindow() {
	now := r.now().Round(0)
	if now.Before(r.boundary) {
		// The timer is early, or the clock was set back.
		if r.boundary.Sub(now) > r.window {
			r.boundary = now.Truncate(r.window).Add(r.window)
		}
		return
	}
	mw, covered := r.mean.close(r.boundary)
	end := r.boundary
	if now.Sub(r.boundary) >= r.window {
		// The clock was set forward, or this machine slept: the readings belong
		// to an earlier window than the one just past.
		covered = 0
		end = now.Truncate(r.window)
	}
	r.boundary = now.Truncate(r.window).Add(r.window)
	if covered < r.window/2 {
		r.publish(r.Average, r.Format.null(end), true)
	} else {
		r.publish(r.Average, r.Format.payload(end, mw), true)
	}
	r.status.Refused = maps.Clone(r.refused)
	r.publish(r.statusTopic(), r.status.Payload(), true)
}

// setStatus publishes the status if it changes.
func (r *polling) setStatus(online bool, reason string) {
	same := r.status.Since != nil && r.status.Online == online && r.status.Reason == reason
	if same && maps.Equal(r.status.Refused, r.refused) {
		return
	}
	if !same {
		now := r.now().UTC().Round(0).Truncate(time.Millisecond)
		r.status.Since = &now
		r.log().WithFields(logrus.Fields{"online": online, "reason": reason}).Info("stream status")
	}
	r.status.Online, r.status.Reason, r.status.Refused = online, reason, maps.Clone(r.refused)
	r.publish(r.statusTopic(), r.status.Payload(), true)
}

// publish publishes a message and notes whether the broker refuses the topic.
// The Publisher logs failures.
func (r *polling) publish(topic string, payload []byte, retained bool) {
	err := r.Publisher.Publish(topic, payload, retained)
	if refused := (*RefusedError)(nil); errors.As(err, &refused) {
		r.refused[topic] = refused.Reason
	} else if err == nil {
		delete(r.refused, topic)
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
