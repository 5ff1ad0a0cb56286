package daemon

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/iotoll/iotoll/wemo"
	"github.com/iotoll/iotoll/wemo/mqtt"
)

// TestMeterRuns: what counts the readings runs the source beside them.
func TestMeterRuns(t *testing.T) {
	errRan := errors.New("it ran")
	m := &plugMeter{source: running{err: errRan}}
	if err := m.Run(t.Context()); !errors.Is(err, errRan) {
		t.Errorf("Run: got %v, want %v", err, errRan)
	}
}

// running is a source that runs beside its reads.
type running struct {
	wemo.Source
	err error
}

func (r running) Run(context.Context) error { return r.err }

// /readyz fails while the broker refuses a topic, and says which, why and since when.
func TestBrokerDependency(t *testing.T) {
	now := time.Date(2026, 11, 22, 17, 0, 10, 0, time.UTC)
	h := mqtt.Health{Connected: true, Acknowledged: now.Add(-2 * time.Second)}
	if d := brokerDependency("broker", h, now); !d.Ready || d.Error != "" || d.Age == nil || *d.Age != 2 {
		t.Errorf("connected: got %+v, want ready", d)
	}
	h.Refused = []mqtt.Refusal{{Topic: "sensor/live", Since: now.Add(-10 * time.Second), Reason: "not authorized"}}
	if d := brokerDependency("broker", h, now); d.Ready || d.Error != "topic sensor/live since 2026-11-22T17:00:00Z: not authorized" {
		t.Errorf("refused topic: got %+v, want which, since when and why", d)
	}
	h = mqtt.Health{Err: errors.New("connect to mqtt://h: connection refused")}
	if d := brokerDependency("broker", h, now); d.Ready || d.Error != h.Err.Error() || d.Age != nil {
		t.Errorf("no connection: got %+v, want why", d)
	}
}
