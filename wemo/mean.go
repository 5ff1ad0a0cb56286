package wemo

import "time"

// mean computes the time-weighted mean of readings, one window after another. A
// reading counts from its time until the next reading, but at most for hold; the rest
// of a longer gap is not covered. It uses wall clock times only, so it is exact across
// windows and survives a clock that is set.
type mean struct {
	hold    time.Duration
	last    Reading
	any     bool      // last is valid
	counted time.Time // last is counted until here
	sum     int64     // mW·µs; holds a day of MaxMilliWatts
	covered time.Duration
}

// add counts the last reading until r, which then takes its place. r may be the last
// reading again.
func (m *mean) add(r Reading) {
	r.At = wall(r.At)
	switch {
	case !m.any:
		m.counted = r.At
	case r.At.Before(m.last.At):
		// The clock was set back: the sum so far belongs to another time.
		m.sum, m.covered = 0, 0
		m.counted = r.At
	default:
		m.count(r.At)
		if m.counted.Before(r.At) { // after a gap; otherwise a window may have ended since r
			m.counted = r.At
		}
	}
	m.last, m.any = r, true
}

// count adds the last reading until t to the sum.
func (m *mean) count(t time.Time) {
	if !m.any {
		return
	}
	if end := m.last.At.Add(m.hold.Truncate(time.Microsecond)); end.Before(t) {
		t = end
	}
	if d := t.Sub(m.counted); d > 0 {
		m.sum += m.last.MilliWatts * d.Microseconds()
		m.covered += d
		m.counted = t
	}
}

// close ends a window at end and begins the next. It returns the mean over the covered
// part of the window, rounded to whole milliwatts, and the length of that part. If
// nothing was covered, both are 0.
func (m *mean) close(end time.Time) (mw int64, covered time.Duration) {
	m.count(wall(end))
	sum, covered := m.sum, m.covered
	m.sum, m.covered = 0, 0
	if covered == 0 {
		return 0, 0
	}
	n := covered.Microseconds()
	half := n / 2
	if sum < 0 {
		half = -half
	}
	return (sum + half) / n, covered
}

// wall returns t without its monotonic clock, in whole microseconds.
func wall(t time.Time) time.Time { return t.Round(0).Truncate(time.Microsecond) }
