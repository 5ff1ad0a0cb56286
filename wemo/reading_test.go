package wemo

import (
	"encoding/json"
	"testing"
	"time"
)

func TestFormat(t *testing.T) {
	at := time.Date(2026, 11, 22, 17, 0, 0, 500e6, time.FixedZone("", 3600))
	for _, tt := range []struct {
		format Format
		mw     int64
		want   string
		null   string
	}{
		{"", 12345, "12345", "null"},
		{MilliWatts, 0, "0", "null"},
		{MilliWatts, -7, "-7", "null"},
		{Watts, 12345, "12.345", "null"},
		{Watts, -50, "-0.050", "null"},
		{JSON, 12345, `{"t":"2026-11-22T16:00:00.5Z","mW":12345}`, `{"t":"2026-11-22T16:00:00.5Z","mW":null}`},
	} {
		if got := string(tt.format.payload(at, tt.mw)); got != tt.want {
			t.Errorf("%q.payload(%d): got %s, want %s", tt.format, tt.mw, got, tt.want)
		}
		got := string(tt.format.null(at))
		if got != tt.null || !json.Valid([]byte(got)) {
			t.Errorf("%q.null(): got %s, want %s", tt.format, got, tt.null)
		}
	}
	if err := Format("kW").Validate(); err == nil {
		t.Error(`Format("kW").Validate(): got nil`)
	}
}
