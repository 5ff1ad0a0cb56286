package wemo

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Backoff
		var waits []time.Duration
		for range 7 {
			start := time.Now()
			b.Wait(t.Context(), start, nil)
			waits = append(waits, time.Since(start))
			b.Done(errors.New("no"), time.Now())
		}
		if got := fmt.Sprint(waits); got != "[0s 1s 2s 5s 15s 1m0s 1m0s]" {
			t.Errorf("waits: got %s, want [0s 1s 2s 5s 15s 1m0s 1m0s]", got)
		}
		b.Done(nil, time.Now())
		start := time.Now()
		if b.Wait(t.Context(), start, nil); time.Since(start) != 0 {
			t.Errorf("wait after a success: got %s, want 0s", time.Since(start))
		}
	})
}

func recording(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParsePower(t *testing.T) {
	for _, tt := range []struct {
		doc, pointer string
		scale        float64
		want         int64
	}{
		{recording(t, "mqtt/testdata/tasmota-sensor.json"), "/ENERGY/Power", 1000, 9000},
		{recording(t, "shelly/testdata/switch.json"), "/apower", 1000, 193500},
		{recording(t, "shelly/testdata/switch.json"), "/aenergy/by_minute/2", 1, 3191},
		{`{"power":12.3456}`, "/power", 1000, 12346},
		{"4155", "", 1, 4155},
		{" 8.9\n", "", 1000, 8900},
		{`"8.9"`, "", 1000, 8900},
		{`{"a/b":{"m~n":"-7.5"}}`, "/a~1b/m~0n", 1000, -7500},
		{`[0,{"":-1.5e-3}]`, "/1/", -1000, 2},
	} {
		got, err := ParsePower([]byte(tt.doc), tt.pointer, tt.scale)
		if err != nil || got != tt.want {
			t.Errorf("ParsePower(%.40q, %q, %g): got %d, %v, want %d", tt.doc, tt.pointer, tt.scale, got, err, tt.want)
		}
	}
	for _, tt := range []struct{ doc, pointer, want string }{
		{recording(t, "mqtt/testdata/shelly-notify.json"), "/params/switch:0/apower", "no such value: /params/switch:0/apower"},
		{"unavailable", "", `power is "unavailable", want a number`},
		{"", "", `power is ""`},
		{"NaN", "", "want a number within"},
		{"1e300", "", "want a number within"},
		{"{", "/a", "parse JSON"},
		{`{"a":1} 2`, "/a", "trailing data"},
		{`{"a":null}`, "/a", "/a is not a number"},
		{`{"a":true}`, "/a", "/a is not a number"},
		{`{"a":[1]}`, "/a/1", "no such value"},
		{`{"a":[1]}`, "/a/00", "no such value"},
		{`{"a":[1]}`, "/a/-", "no such value"},
		{strings.Repeat("[", 60000), "/0", "parse JSON"},
		{strings.Repeat(" ", MaxDocument+1), "", "want at most 65536"},
	} {
		if got, err := ParsePower([]byte(tt.doc), tt.pointer, 1000); err == nil || !strings.Contains(err.Error(), tt.want) || got != 0 {
			t.Errorf("ParsePower(%.40q, %q): got %d, %v, want %q", tt.doc, tt.pointer, got, err, tt.want)
		}
	}
}

func FuzzParsePower(f *testing.F) {
	f.Add([]byte(recording(f, "mqtt/testdata/tasmota-sensor.json")), "/ENERGY/Power")
	f.Add([]byte(`{"a/b":["~"]}`), "/a~1b/0")
	f.Add([]byte("1"), "")
	f.Fuzz(func(t *testing.T, doc []byte, pointer string) {
		mw, err := ParsePower(doc, pointer, 1000)
		if err != nil && mw != 0 || mw > MaxMilliWatts || mw < -MaxMilliWatts {
			t.Errorf("ParsePower(%q, %q): got %d, %v", doc, pointer, mw, err)
		}
	})
}
