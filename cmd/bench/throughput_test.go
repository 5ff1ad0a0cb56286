package main

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

// messages returns the messages numbered from up to but not including to.
func messages(from, to int64) []byte {
	var b []byte
	for n := from; n < to; n++ {
		var payload [payloadSize]byte
		binary.BigEndian.PutUint64(payload[:], uint64(n))
		b = appendPublish(b, topic, payload[:])
	}
	return b
}

// However the stream is cut up, every message is counted once.
func TestSinkTake(t *testing.T) {
	stream := messages(0, 40)
	for cut := 1; cut < 3*frame; cut++ {
		s := &sink{buf: make([]byte, 4*frame)}
		for rest := stream; len(rest) > 0; {
			n := copy(s.buf[s.fill:], rest[:min(cut, len(rest))])
			rest = rest[n:]
			if err := s.take(s.fill + n); err != nil {
				t.Fatalf("take in pieces of %d bytes: %v", cut, err)
			}
		}
		if s.count != 40 || s.fill != 0 {
			t.Fatalf("take in pieces of %d bytes: got %d messages and %d bytes, want 40 and 0", cut, s.count, s.fill)
		}
	}
}

func TestSinkTakeNoticesLoss(t *testing.T) {
	stream := append(messages(0, 3), messages(4, 6)...)
	s := &sink{buf: stream}
	if err := s.take(len(stream)); err == nil || !strings.Contains(err.Error(), "lost") {
		t.Errorf("take without message 3: got error %v, want one that it was lost", err)
	}
	s = &sink{buf: []byte(strings.Repeat("x", len(stream)))}
	if err := s.take(len(stream)); err == nil {
		t.Error("take of no PUBLISH: got no error")
	}
}

func TestUntil(t *testing.T) {
	begin := time.Now()
	from := mark{at: begin, deliveries: 1000, cpu: time.Second}
	got, err := from.until(mark{at: begin.Add(2 * time.Second), deliveries: 401_000, cpu: 3 * time.Second})
	if err != nil || got.perSecond() != 200_000 || got.cpuPerMillion() != 5 {
		t.Errorf("until: got %v (%v/s, %v s per million), error %v, want 200,000/s and 5 s", got, got.perSecond(), got.cpuPerMillion(), err)
	}
	if _, err := from.until(mark{at: begin.Add(time.Second), deliveries: 1000}); err == nil {
		t.Error("until with no deliveries: got no error")
	}
}
