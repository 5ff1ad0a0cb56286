package wemo

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// ErrParams is wrapped by every error about an InsightParams string that does
// not read as one.
var ErrParams = errors.New("malformed InsightParams")

// State is what the relay and the load do.
type State int

// The states of an Insight.
const (
	Off     State = 0 // the relay is open
	On      State = 1 // the load draws at least the threshold
	Standby State = 8 // the relay is closed, the load draws less
)

// String is the state in a word, or its number where it is none of ours.
func (s State) String() string {
	switch s {
	case Off:
		return "off"
	case On:
		return "on"
	case Standby:
		return "standby"
	}
	return strconv.Itoa(int(s))
}

// Params is what an Insight says of itself: the fields of InsightParams, in
// their order. Energies are in milliwatt minutes; 60,000 of them are 1 Wh.
type Params struct {
	State        State
	LastChange   time.Time     // when State changed, by the device's clock
	OnFor        time.Duration // how long the load has been, or last was, on
	OnToday      time.Duration
	OnTotal      time.Duration // within Period
	Period       time.Duration // what the totals are about; at most 14 days
	AverageWatts float64       // while on
	Reported     float64       // mW, as the device says it; see MilliWatts
	EnergyToday  float64       // mW·min; resets at the device's midnight
	EnergyTotal  float64       // mW·min within Period
	Threshold    float64       // mW from which a load is on; 0 if not told
}

// MilliWatts is the power at this moment. With the relay open it is 0: for a
// second or two after switching off, the device still reports the last power.
func (p Params) MilliWatts() int64 {
	if p.State == Off {
		return 0
	}
	mw, err := milliWatts(p.Reported)
	if err != nil { // ParseParams has refused it
		return 0
	}
	return mw
}

// ParseParams reads the fields of InsightParams or of an Insight's
// BinaryState: 8 or more numbers, separated by "|", written as integers or
// with decimals depending on firmware and action. What follows the eleventh is
// ignored. Errors wrap ErrParams.
func ParseParams(s string) (Params, error) {
	names := [...]string{"state", "last change", "on for", "on today", "on total", "period",
		"average power", "power", "energy today", "energy total", "threshold"}
	fields := strings.Split(strings.TrimSpace(s), "|")
	if len(fields) < 8 {
		return Params{}, fmt.Errorf("%w: %d fields in %q, want at least 8", ErrParams, len(fields), clip(s))
	}
	var v [len(names)]float64
	for i, f := range fields[:min(len(fields), len(names))] {
		n, err := strconv.ParseFloat(strings.TrimSpace(f), 64)
		// 2^53 milliwatt minutes are 18,000 years of 1 kW; beyond, a float has gaps.
		if err != nil || !(n >= 0 && n <= 1<<53) {
			return Params{}, fmt.Errorf("%w: %s is %q, want a number from 0", ErrParams, names[i], clip(f))
		}
		v[i] = n
	}
	if v[0] != math.Trunc(v[0]) || v[0] > 255 {
		return Params{}, fmt.Errorf("%w: state is %q, want 0, 1 or 8", ErrParams, clip(fields[0]))
	}
	if v[7] > maxMilliWatts {
		return Params{}, fmt.Errorf("%w: power is %q mW, want at most %d", ErrParams, clip(fields[7]), maxMilliWatts)
	}
	// 292 years in seconds is what a Duration holds.
	for i := 1; i <= 5; i++ {
		if v[i] > math.MaxInt64/1e9 {
			return Params{}, fmt.Errorf("%w: %s is %q seconds, want at most %d", ErrParams, names[i], clip(fields[i]), math.MaxInt64/int64(1e9))
		}
	}
	seconds := func(f float64) time.Duration { return time.Duration(f) * time.Second }
	return Params{
		State:        State(v[0]),
		LastChange:   time.Unix(int64(v[1]), 0).UTC(),
		OnFor:        seconds(v[2]),
		OnToday:      seconds(v[3]),
		OnTotal:      seconds(v[4]),
		Period:       seconds(v[5]),
		AverageWatts: v[6],
		Reported:     v[7],
		EnergyToday:  v[8],
		EnergyTotal:  v[9],
		Threshold:    v[10],
	}, nil
}

// clip keeps what a device sent from filling a log.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// plain is what a device says of itself, clipped and without what would steer
// the terminal or forge lines of the log on which it ends up unquoted.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, clip(strings.TrimSpace(s)))
}
