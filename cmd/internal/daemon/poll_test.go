package daemon

import (
	"context"
	"errors"
	"testing"

	"github.com/iotoll/iotoll/wemo"
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
