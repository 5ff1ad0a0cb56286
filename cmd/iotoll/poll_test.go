package main

import (
	"context"
	"errors"
	"testing"

	"github.com/iotoll/iotoll/wemo"
	"github.com/iotoll/iotoll/wemo/insight"
	"github.com/iotoll/iotoll/wemo/mqtt"
)

func TestPlugEvents(t *testing.T) {
	for _, events := range []bool{false, true} {
		c := PlugConfig{Address: "192.0.2.1", Events: events}
		p, ok := c.source(mqtt.Broker{}, silence()).(*insight.Plug)
		if !ok || p.Eventing != events {
			t.Errorf("source with events: %t: got %+v", events, p)
		}
	}
	// What counts the readings lets the source run beside them.
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
