package insight

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/iotoll/iotoll/wemo"
)

// ErrParams is wrapped by every error of ParseParams.
var ErrParams = errors.New("malformed InsightParams")

// State is what the relay and the load do.
type State int

// The states of an Insight.
const (
	Off     State = 0 // the relay is open
	On      State = 1 // the load draws at least the threshold
	Standby State = 8 // the relay is closed, the load draws less
)

// Params holds the fields of InsightParams, in their order. Energies are in
// milliwatt minutes; 60,000 of them are 1 Wh.
type Params struct {
	State        State
	LastChange   time.Time     // when State changed, by the device's clock
	OnFor        time.Duration // since the load was switched on, or for how long it last was
	OnToday      time.Duration
	OnTotal      time.Duration // within Period
	Period       time.Duration // of the totals; at most 14 days
	AverageWatts float64       // while on
	Reported     float64       // mW, as reported; see MilliWatts
	EnergyToday  float64       // mW·min; resets at the device's midnight
	EnergyTotal  float64       // mW·min within Period
	Threshold    float64       // mW from which a load is on; 0 if not reported
}

// MilliWatts returns the present power. With the relay open it is 0, although the
// device reports the last power for a second or two after switching off.
func (p Params) MilliWatts() int64 {
	if p.State == Off {
		return 0
	}
	return int64(p.Reported + 0.5)
}

// ParseParams parses InsightParams, or the BinaryState of an Insight: 8 or more
// numbers, separated by "|", integers or decimals depending on firmware and
// action. It ignores fields after the eleventh. Its errors wrap ErrParams.
func ParseParams(s string) (Params, error) {
	names := [...]string{"state", "last change", "on for", "on today", "on total", "period",
		"average power", "power", "energy today", "energy total", "threshold"}
	fields := strings.Split(strings.TrimSpace(s), "|")
	if len(fields) < 8 {
		return Params{}, fmt.Errorf("%w: %d fields in %.80q, want at least 8", ErrParams, len(fields), s)
	}
	var v [len(names)]float64
	for i, f := range fields[:min(len(fields), len(names))] {
		n, err := strconv.ParseFloat(strings.TrimSpace(f), 64)
		// 2^53 milliwatt minutes are 18,000 years of 1 kW; above that, floats have gaps.
		if err != nil || !(n >= 0 && n <= 1<<53) {
			return Params{}, fmt.Errorf("%w: %s is %.80q, want a number from 0", ErrParams, names[i], f)
		}
		v[i] = n
	}
	if v[0] != math.Trunc(v[0]) || v[0] > 255 {
		return Params{}, fmt.Errorf("%w: state is %.80q, want 0, 1 or 8", ErrParams, fields[0])
	}
	if v[7] > wemo.MaxMilliWatts {
		return Params{}, fmt.Errorf("%w: power is %.80q mW, want at most %d", ErrParams, fields[7], wemo.MaxMilliWatts)
	}
	// A Duration holds 292 years.
	for i := 1; i <= 5; i++ {
		if v[i] > math.MaxInt64/1e9 {
			return Params{}, fmt.Errorf("%w: %s is %.80q seconds, want at most %d", ErrParams, names[i], fields[i], math.MaxInt64/int64(1e9))
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

// plain returns a text that a device sent, truncated and without characters that
// control a terminal or forge log lines.
func plain(s string) string {
	if s = strings.TrimSpace(s); len(s) > 80 {
		s = s[:80] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
