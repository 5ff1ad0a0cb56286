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
	sum     int64     // mW·ns
	covered time.Duration
}

// add counts what was known before r, and goes on with r.
func (m *mean) add(r Reading) {
	r.At = r.At.Round(0) // wall clock only
	if m.any && r.At.Before(m.last.At) {
		// The clock was set back. What this window has seen so far has no
		// place on the new scale.
		m.sum, m.covered = 0, 0
	} else {
		m.count(r.At)
	}
	m.last, m.any, m.counted = r, true, r.At
}

// count counts the last reading until t.
func (m *mean) count(t time.Time) {
	if !m.any {
		return
	}
	if end := m.last.At.Add(m.hold); end.Before(t) {
		t = end
	}
	if d := t.Sub(m.counted); d > 0 {
		m.sum += m.last.MilliWatts * int64(d)
		m.covered += d
		m.counted = t
	}
}

// close ends a window at end and begins the next. It returns the mean of the
// part of the window that was covered, rounded to whole milliwatts, and how
// long that part is. With nothing covered the mean is 0 and means nothing.
func (m *mean) close(end time.Time) (mw int64, covered time.Duration) {
	end = end.Round(0)
	m.count(end)
	sum, covered := m.sum, m.covered
	m.sum, m.covered = 0, 0
	if covered == 0 {
		return 0, 0
	}
	half := int64(covered) / 2
	if sum < 0 {
		half = -half
	}
	return (sum + half) / int64(covered), covered
}
