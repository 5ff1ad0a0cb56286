package wemo

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// Reading is one measurement of power.
type Reading struct {
	At         time.Time // when the answer arrived, or the device reported it
	MilliWatts int64
}

// MaxMilliWatts bounds a reading to 100 kW in either direction (a solar
// inverter feeds in). It keeps the sum of a day, in mW·µs, within an int64.
const MaxMilliWatts = 100_000_000

// Source is where readings come from.
type Source interface {
	// Read returns a reading: a new measurement, the next one that the device
	// sends, or the last one again, with its time, if the device reports only
	// changes. A failed measurement is an error, never 0.
	//
	// Read may take long: after a failure the source waits before it asks
	// again. A Poller makes one call at a time. Read returns early, with any
	// error, when ctx ends.
	Read(ctx context.Context) (Reading, error)
}

// Runner is a Source with background work, which a Poller runs for as long as
// it reads.
type Runner interface {
	Source
	// Run returns when ctx ends, or when there is nothing to run, and leaves
	// nothing behind. Reading goes on after an error.
	Run(ctx context.Context) error
}

// Publisher takes what a Poller publishes.
type Publisher interface {
	// Publish sends payload to topic without waiting for the network. With
	// retained false the message is sent now or never; with retained true the
	// newest message of each topic is sent as soon as possible.
	//
	// A *RefusedError says that the broker refused the previous message on this
	// topic; this one is sent nevertheless. After any other error the message is
	// lost.
	Publish(topic string, payload []byte, retained bool) error
}

// Format is the payload format of readings and averages.
type Format string

// The formats. An average that does not exist is null in each of them.
const (
	MilliWatts Format = "mW"   // 12345, as in the original demo
	Watts      Format = "W"    // 12.345
	JSON       Format = "json" // {"t":"2026-11-22T17:00:00.5Z","mW":12345}
)

// Validate returns an error unless f is empty, which means MilliWatts, or one
// of the formats above.
func (f Format) Validate() error {
	switch f {
	case "", MilliWatts, Watts, JSON:
		return nil
	}
	return fmt.Errorf("format %q: want mW, W or json", string(f))
}

// payload returns the payload for mw milliwatts measured at t.
func (f Format) payload(t time.Time, mw int64) []byte {
	switch f {
	case Watts:
		return appendWatts(nil, mw)
	case JSON:
		return append(strconv.AppendInt(appendTime(nil, t), mw, 10), '}')
	}
	return strconv.AppendInt(nil, mw, 10)
}

// null returns the payload for an average that does not exist.
func (f Format) null(t time.Time) []byte {
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
