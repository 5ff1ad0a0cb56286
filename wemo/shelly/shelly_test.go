package shelly

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iotoll/iotoll/wemo"
)

func TestSwitch(t *testing.T) {
	t.Parallel()
	var healthy atomic.Bool
	healthy.Store(true)
	device := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != "GET" || req.RequestURI != "/rpc/Switch.GetStatus?id=1" {
			t.Errorf("got request %s %s", req.Method, req.RequestURI)
		}
		if !healthy.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.ServeFile(w, req, "testdata/switch.json")
	}))
	defer device.Close()
	now := time.Now()
	s := &Switch{Address: device.Listener.Addr().String(), ID: 1, Now: func() time.Time { return now }}
	want := wemo.Reading{At: now, MilliWatts: 193_500}
	if r, err := s.Read(t.Context()); err != nil || r != want {
		t.Errorf("Read: got %+v, %v, want %+v", r, err, want)
	}
	healthy.Store(false)
	if r, err := s.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "HTTP status 401") || r != (wemo.Reading{}) {
		t.Errorf("Read with a password set: got %+v, %v, want HTTP status 401", r, err)
	}
	healthy.Store(true)
	now = now.Add(time.Second) // the backoff is over
	want.At = now
	if r, err := s.Read(t.Context()); err != nil || r != want {
		t.Errorf("Read afterwards: got %+v, %v, want %+v", r, err, want)
	}
	for want, s := range map[string]*Switch{
		`plug address ""`: {}, "switch -1": {Address: "192.0.2.1", ID: -1},
	} {
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate: got %v, want %q", err, want)
		}
	}
}
