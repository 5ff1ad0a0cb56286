package main

import (
	"errors"
	"testing"
)

func TestLogQueue(t *testing.T) {
	n := 0
	log, q := newLogger(func() { n++ })
	log.WithField("b", "two words").WithField("a", 1).Warn("message")
	log.WithError(errors.New("line\nbreak")).Info("x")
	got := q.take()
	if len(got) != 2 || n != 2 || got[0] != (logLine{brokerWarning, `iotoll: message a=1 b="two words"`}) || got[1] != (logLine{brokerInfo, `iotoll: x error="line\nbreak"`}) {
		t.Errorf("take: got %v after %d calls", got, n)
	}
	for range logAtMost + 5 {
		log.Error("again")
	}
	if got := q.take(); len(got) != logAtMost+1 || got[logAtMost].text != "iotoll: log lines dropped lines=5" {
		t.Errorf("take: got %d lines, the last %v", len(got), got[len(got)-1])
	}
	if got := q.take(); len(got) != 0 {
		t.Errorf("take: got %v, want nothing", got)
	}
}
