package wemo

import "time"

// mean is the time-weighted mean of readings over one window after another.
// A reading counts from when it was taken until the next one, and at most for
// hold: what happened in a longer gap is not known. It reads wall clock times
// only, so it is exact across windows and survives a clock that is set.
type mean struct {
	hold    time.Duration
	last    Reading
	any     bool      // there is a last
	counted time.Time // last has been counted until here
	sum     int64     // mW·µs: a day of the largest reading is just within it
	covered time.Duration
}

// add counts what was known before r, and goes on with r. It may be the last
// reading once more.
func (m *mean) add(r Reading) {
	r.At = wall(r.At)
	switch {
	case !m.any:
		m.counted = r.At
	case r.At.Before(m.last.At):
		// The clock was set back. What this window has seen so far has no
		// place on the new scale.
		m.sum, m.covered = 0, 0
		m.counted = r.At
	default:
		m.count(r.At)
		if m.counted.Before(r.At) { // a gap; otherwise a window may have ended since r
			m.counted = r.At
		}
	}
	m.last, m.any = r, true
}

// count counts the last reading until t.
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

// close ends a window at end and begins the next. It returns the mean of the
// part of the window that was covered, rounded to whole milliwatts, and how
// long that part is. With nothing covered the mean is 0 and means nothing.
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

// wall is t by the wall clock alone, in whole microseconds.
func wall(t time.Time) time.Time { return t.Round(0).Truncate(time.Microsecond) }
