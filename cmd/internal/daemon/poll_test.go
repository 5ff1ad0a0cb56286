package daemon

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/iotoll/iotoll/tangle"
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

// A transaction that cannot be read for long fails /readyz, which names it.
func TestUnreadDependency(t *testing.T) {
	now := time.Date(2026, 11, 22, 17, 0, 10, 0, time.UTC)
	recent := tangle.Unread{Digest: "A", Since: now.Add(-time.Second), Err: errors.New("x")}
	if d, ok := unreadDependency([]tangle.Unread{recent}, now); ok {
		t.Errorf("a second old: got %+v, want none", d)
	}
	old := tangle.Unread{Digest: "B", Since: now.Add(-2 * time.Minute), Err: errors.New("no effects")}
	const want = "1 transaction cannot be read, so that a payment may wait: B since 2026-11-22T16:58:10Z: no effects"
	if d, ok := unreadDependency([]tangle.Unread{recent, old}, now); !ok || d.Ready || d.Spare || d.Error != want {
		t.Errorf("two minutes old: got %+v, want %s", d, want)
	}
}

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
