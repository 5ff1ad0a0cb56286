package wemo

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestShelly(t *testing.T) {
	t.Parallel()
	var well atomic.Bool
	well.Store(true)
	addr := serve(t, func(req *http.Request, _ string) string {
		if req.Method != "GET" || req.RequestURI != "/rpc/Switch.GetStatus?id=1" {
			t.Errorf("got request %s %s", req.Method, req.RequestURI)
		}
		if !well.Load() {
			return "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
		}
		return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + recording(t, "shelly-switch.json")
	})
	s := &Shelly{Address: addr.String(), Switch: 1}
	if r, err := s.Read(t.Context()); err != nil || r.MilliWatts != 193_500 || time.Since(r.At) > time.Second {
		t.Errorf("Read: got %+v, %v, want 193500 mW just now", r, err)
	}
	well.Store(false)
	if r, err := s.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "HTTP status 401") || r != (Reading{}) {
		t.Errorf("Read with a password set: got %+v, %v, want HTTP status 401", r, err)
	}
	well.Store(true)
	start := time.Now()
	if r, err := s.Read(t.Context()); err != nil || r.MilliWatts != 193_500 || time.Since(start) < 900*time.Millisecond {
		t.Errorf("Read afterwards: got %+v, %v after %s, want 193500 mW after 1 s", r, err, time.Since(start))
	}
	for want, s := range map[string]*Shelly{
		`plug address ""`: {}, "switch -1": {Address: "192.0.2.1", Switch: -1},
	} {
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate: got %v, want %q", err, want)
		}
	}
}
