package simulator

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// Values holds the fields of InsightParams, in their order and units.
type Values struct {
	State      int64 // 0 off, 1 on, 8 on with a load below the threshold
	LastChange int64 // Unix seconds
	OnFor      int64 // seconds
	OnToday    int64 // seconds
	OnTotal    int64 // seconds within Period
	Period     int64 // seconds, at most 14 days
	Average    int64 // watts while on
	Power      int64 // milliwatts
	Today      int64 // milliwatt minutes
	Total      int64 // milliwatt minutes within Period
	Threshold  int64 // milliwatts
}

// binaryState returns v as in SetBinaryState and the event BinaryState: without the
// threshold.
func (v Values) binaryState() string {
	return fmt.Sprintf("%d|%d|%d|%d|%d|%d|%d|%d|%d|%d",
		v.State, v.LastChange, v.OnFor, v.OnToday, v.OnTotal, v.Period, v.Average, v.Power, v.Today, v.Total)
}

// event returns v as in the event InsightParams.
func (v Values) event() string { return fmt.Sprintf("%s|%d", v.binaryState(), v.Threshold) }

// params returns v as in GetInsightParams: with the total as a float.
func (v Values) params() string {
	return fmt.Sprintf("%d|%d|%d|%d|%d|%d|%d|%d|%d|%d.000000|%d",
		v.State, v.LastChange, v.OnFor, v.OnToday, v.OnTotal, v.Period, v.Average, v.Power, v.Today, v.Total, v.Threshold)
}

// meter measures a load, second by second.
type meter struct {
	mu     sync.Mutex
	load   func(time.Time) float64
	frozen bool
	v      Values
	at     time.Time // measured until here, in whole seconds
	today  float64   // mW·min, shown once a minute
	total  float64
}

const fortnight = 14 * 24 * 3600

func newMeter(load func(time.Time) float64, now time.Time) *meter {
	now = now.Truncate(time.Second)
	m := &meter{load: load, at: now.Add(-time.Second)}
	m.v = Values{State: 8, LastChange: now.Unix(), Period: fortnight, Threshold: 8000}
	return m
}

// values measures until now and returns the result.
func (m *meter) values(now time.Time) Values {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance(now)
	return m.v
}

func (m *meter) advance(now time.Time) {
	if m.frozen {
		return
	}
	if now.Sub(m.at) > time.Hour { // limit the work
		m.at = now.Truncate(time.Second).Add(-time.Hour)
	}
	for next := m.at.Add(time.Second); !next.After(now); next = next.Add(time.Second) {
		m.at = next
		m.second(next)
	}
}

// second measures one second.
func (m *meter) second(t time.Time) {
	v := &m.v
	if t.Hour() == 0 && t.Minute() == 0 && t.Second() == 0 {
		m.today, v.OnToday = 0, 0
	}
	if v.State == 0 {
		v.Power = 0
		return
	}
	mw := math.Max(0, m.load(t))
	m.today += mw / 60
	m.total += mw / 60
	// A new value each second or two, in steps of 5 mW.
	if v.Power == 0 || noise(t.Unix()) > -0.5 {
		v.Power = int64(math.Round(mw/5)) * 5
	}
	state := int64(8)
	if v.Power >= v.Threshold {
		state = 1
	}
	if state != v.State {
		v.State = state
		if state == 1 {
			v.LastChange, v.OnFor = t.Unix(), 0
		}
	}
	if state == 1 {
		v.OnFor++
		v.OnToday++
		v.OnTotal = min(v.OnTotal+1, fortnight)
	}
	if v.OnTotal > 0 {
		v.Average = int64(m.total * 60 / 1000 / float64(v.OnTotal))
	}
	if t.Second() == 0 { // energies change once a minute
		v.Today, v.Total = int64(m.today), int64(m.total)
	}
}

// set switches the relay. The reported power stays the same until the next second,
// as on a real plug.
func (m *meter) set(on bool, now time.Time) Values {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.advance(now)
	if on != (m.v.State != 0) {
		m.v.State, m.v.LastChange = 0, now.Unix()
		if on {
			m.v.State = 8
		}
	}
	return m.v
}

func (m *meter) freeze(v Values) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.frozen, m.v = true, v
}

// Household returns a load in milliwatts at t: a refrigerator, devices in standby, a
// lamp in the evening. It is a pure function of t.
func Household(t time.Time) float64 {
	mw := 2400.0
	const cycle, on = 47 * 60, 17 * 60
	if s := t.Unix() % cycle; s < on {
		mw += 85_000 + 60_000*math.Exp(-float64(s)/2) - 6_000*float64(s)/on
	}
	if h := t.UTC().Hour(); h >= 18 && h < 23 {
		mw += 40_000
	}
	return mw * (1 + 0.012*noise(t.Unix()) + 0.02*math.Sin(float64(t.Unix())/97))
}

// noise returns a pseudo-random number from -1 to 1 for n.
func noise(n int64) float64 {
	x := uint64(n) * 0x9E3779B97F4A7C15 // splitmix64
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return float64(int64(x^x>>31)) / math.MaxInt64
}
