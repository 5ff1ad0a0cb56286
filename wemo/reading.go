package wemo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Reading is one measurement of power.
type Reading struct {
	At         time.Time // when the answer arrived, or the device reported it
	MilliWatts int64
}

// maxMilliWatts bounds a reading to 100 kW either way (a solar inverter feeds
// in). It keeps the sum of a day, in mW·µs, within an int64.
const maxMilliWatts = 100_000_000

// Source is where readings come from. A new one is a file and a fixture.
type Source interface {
	// Read measures once, or waits for the next measurement that the source
	// brings of itself, or returns the last one again, with its time, where
	// the source says when that changes. It may take long: a source that fails
	// waits before it asks again. A Poller calls it once at a time. It returns
	// early, with any error, when ctx ends. What could not be measured is an
	// error, never 0.
	Read(ctx context.Context) (Reading, error)
}

// Runner is a Source that needs something to run beside its reads. A Poller
// runs it for as long as it reads.
type Runner interface {
	Source
	// Run returns when ctx ends, or when there is nothing to run, and leaves
	// nothing behind. That it fails is no reason to stop reading.
	Run(ctx context.Context) error
}

// Publisher takes what a Poller has to say.
type Publisher interface {
	// Publish sends payload to topic. It does not wait for the network. With
	// retained false the message is sent now or never; with retained true the
	// newest message of each topic is sent as soon as it can be.
	Publish(topic string, payload []byte, retained bool) error
}

// Format renders readings and means.
type Format string

// The formats. A mean that does not exist is null in each of them.
const (
	MilliWatts Format = "mW"   // 12345, as in the original demo
	Watts      Format = "W"    // 12.345
	JSON       Format = "json" // {"t":"2026-11-22T17:00:00.5Z","mW":12345}
)

// Validate reports a format that is none of the above. The empty format is
// MilliWatts.
func (f Format) Validate() error {
	switch f {
	case "", MilliWatts, Watts, JSON:
		return nil
	}
	return fmt.Errorf("format %q: want mW, W or json", string(f))
}

// payload renders mw as measured at t.
func (f Format) payload(t time.Time, mw int64) []byte {
	switch f {
	case Watts:
		return appendWatts(nil, mw)
	case JSON:
		return append(strconv.AppendInt(appendTime(nil, t), mw, 10), '}')
	}
	return strconv.AppendInt(nil, mw, 10)
}

// nothing renders that there is no mean at t.
func (f Format) nothing(t time.Time) []byte {
	if f == JSON {
		return append(appendTime(nil, t), "null}"...)
	}
	return []byte("null")
}

func appendTime(b []byte, t time.Time) []byte {
	b = append(b, `{"t":"`...)
	b = t.UTC().AppendFormat(b, "2006-01-02T15:04:05.999Z07:00")
	return append(b, `","mW":`...)
}

// appendWatts writes all three decimals, so that no reading is rounded.
func appendWatts(b []byte, mw int64) []byte {
	if mw < 0 {
		b, mw = append(b, '-'), -mw
	}
	b = append(strconv.AppendInt(b, mw/1000, 10), '.')
	return append(b, byte('0'+mw/100%10), byte('0'+mw/10%10), byte('0'+mw%10))
}

// milliWatts rounds to whole milliwatts. It refuses what is not a number and
// what no plug can measure.
func milliWatts(mw float64) (int64, error) {
	if !(mw >= -maxMilliWatts && mw <= maxMilliWatts) { // also false for NaN
		return 0, fmt.Errorf("power %g mW: want a number within ±100 kW", mw)
	}
	if mw < 0 {
		return int64(mw - 0.5), nil
	}
	return int64(mw + 0.5), nil
}

// backoff keeps a source from hammering a device that struggles: 1, 2, 5, 15
// and then 60 s between attempts.
type backoff struct {
	failures int // in a row
	until    time.Time
}

// wait blocks until the next attempt is due, or until something comes by wake.
func (b *backoff) wait(ctx context.Context, now time.Time, wake <-chan struct{}) error {
	d := b.until.Sub(now)
	if d <= 0 || b.failures == 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
	case <-wake:
	}
	return nil
}

// done records how an attempt ended. One that was called off is no failure of
// the device.
func (b *backoff) done(err error, now time.Time) {
	if err == nil {
		b.failures = 0
		return
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	steps := [...]time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, time.Minute}
	b.until = now.Add(steps[min(b.failures, len(steps)-1)])
	b.failures++
}
