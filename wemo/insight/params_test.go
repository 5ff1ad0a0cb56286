package insight

import (
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/wemo"
)

func TestParseParamsRecorded(t *testing.T) {
	b, err := os.ReadFile("testdata/insight-params.json")
	if err != nil {
		t.Fatal(err)
	}
	var recorded []struct {
		Value  string
		Fields int
		Note   string
	}
	if err := json.Unmarshal(b, &recorded); err != nil || len(recorded) != 33 {
		t.Fatalf("recordings: got %d, %v, want 33", len(recorded), err)
	}
	for _, r := range recorded {
		p, err := ParseParams(r.Value)
		if err != nil {
			t.Errorf("ParseParams(%q): %v", r.Value, err)
			continue
		}
		f := strings.Split(r.Value, "|")
		power, _ := strconv.ParseInt(f[7], 10, 64)
		if f[0] == "0" {
			power = 0
		}
		if p.MilliWatts() != power {
			t.Errorf("ParseParams(%q): got %d mW, want %d", r.Value, p.MilliWatts(), power)
		}
		if got := strconv.Itoa(int(p.State)); got != f[0] {
			t.Errorf("ParseParams(%q): got state %s, want %s", r.Value, got, f[0])
		}
		if got := strconv.FormatInt(p.LastChange.Unix(), 10); got != f[1] {
			t.Errorf("ParseParams(%q): got last change %s, want %s", r.Value, got, f[1])
		}
		for i, d := range map[int]time.Duration{2: p.OnFor, 3: p.OnToday, 4: p.OnTotal, 5: p.Period} {
			if got := strconv.Itoa(int(d / time.Second)); got != f[i] {
				t.Errorf("ParseParams(%q): got field %d %s, want %s", r.Value, i, got, f[i])
			}
		}
		if got := strconv.FormatFloat(p.EnergyTotal, 'f', 0, 64); got != strings.TrimSuffix(f[9], ".000000") {
			t.Errorf("ParseParams(%q): got total %s, want %s", r.Value, got, f[9])
		}
		if len(f) == 10 && p.Threshold != 0 {
			t.Errorf("ParseParams(%q): got threshold %g, want 0", r.Value, p.Threshold)
		}
	}
}

func TestParseParams(t *testing.T) {
	for in, want := range map[string]int64{
		"1|0|0|0|0|0|0|1500":                        1500,
		" 1|0|0|0|0|0|0| 1500 |0|0|0|more|and more": 1500,
		"1|0|0|0|0|0|0|1500.6|0|0.000000":           1501,
		"8|0|0|0|0|0|0|0|0|0|8000":                  0,
		"0|0|0|0|0|0|0|18120":                       0,
	} {
		p, err := ParseParams(in)
		if err != nil || p.MilliWatts() != want {
			t.Errorf("ParseParams(%q): got %d mW, %v, want %d", in, p.MilliWatts(), err, want)
		}
	}
	for in, want := range map[string]string{
		"":                          "1 fields",
		"8":                         "1 fields",
		"Error":                     "1 fields",
		"1|0|0|0|0|0|0":             "7 fields",
		"1|0|0|0|0|0|0|":            `power is ""`,
		"1|0|0|0|0|0|0|NaN":         `power is "NaN"`,
		"1|0|0|0|0|0|0|Inf":         `power is "Inf"`,
		"1|0|0|0|0|0|0|-5":          `power is "-5"`,
		"1|0|0|0|0|0|0|100000001":   `power is "100000001" mW, want at most`,
		"x|0|0|0|0|0|0|1":           `state is "x"`,
		"0.5|0|0|0|0|0|0|1":         `state is "0.5"`,
		"1|0|9e15|0|0|0|0|1":        `on for is "9e15"`,
		"1|0|0|0|0|0|0|1|1e300":     `energy today is "1e300"`,
		strings.Repeat("1|", 5000):  `power is`,
		"1|0|0|0|0|0|0|1 W":         `power is "1 W"`,
		strings.Repeat("é", 100000): "1 fields",
	} {
		if strings.HasPrefix(in, "1|1|") {
			continue // it is valid: what follows the eleventh field is ignored
		}
		_, err := ParseParams(in)
		if !errors.Is(err, ErrParams) || !strings.Contains(err.Error(), want) || len(err.Error()) > 400 {
			t.Errorf("ParseParams(%.40q): got %v, want ErrParams and %q", in, err, want)
		}
	}
}

func FuzzParseParams(f *testing.F) {
	f.Add("8|1611530424|231|300|183183|1209600|8|1190|1164707|99830512.000000|8000")
	f.Add("0|1|2|3|4|5|6|7")
	f.Add("1|0|0|0|0|0|0|0x1p-2")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseParams(s)
		if err != nil {
			if p != (Params{}) {
				t.Errorf("ParseParams(%q): got %+v with an error", s, p)
			}
			return
		}
		if mw := p.MilliWatts(); mw < 0 || mw > wemo.MaxMilliWatts || p.State == Off && mw != 0 {
			t.Errorf("ParseParams(%q): got %d mW in state %d", s, mw, p.State)
		}
		if p.OnFor < 0 || p.OnToday < 0 || p.OnTotal < 0 || p.Period < 0 || p.LastChange.Unix() < 0 {
			t.Errorf("ParseParams(%q): got %+v", s, p)
		}
	})
}
