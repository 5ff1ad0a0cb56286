package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

// logAtMost bounds the queued log lines.
const logAtMost = 1000

// Levels of the broker's log, from mosquitto.h.
const (
	brokerInfo    = 1 << 0
	brokerWarning = 1 << 2
	brokerError   = 1 << 3
	brokerDebug   = 1 << 4
)

// logQueue holds log lines until the broker's thread takes them, the only one that may
// write to the broker's log. It is a logrus.Hook.
type logQueue struct {
	mu      sync.Mutex
	lines   []logLine
	dropped int
	notify  func() // called after each line
}

type logLine struct {
	level int
	text  string
}

// newLogger returns a logger and the queue that its lines go to.
func newLogger(notify func()) (*logrus.Logger, *logQueue) {
	q := &logQueue{notify: notify}
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.DebugLevel)
	l.AddHook(q)
	return l, q
}

// Levels implements logrus.Hook.
func (q *logQueue) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (q *logQueue) Fire(e *logrus.Entry) error {
	line := logLine{brokerError, format(e)}
	switch e.Level {
	case logrus.WarnLevel:
		line.level = brokerWarning
	case logrus.InfoLevel:
		line.level = brokerInfo
	case logrus.DebugLevel, logrus.TraceLevel:
		line.level = brokerDebug
	}
	q.mu.Lock()
	if len(q.lines) < logAtMost {
		q.lines = append(q.lines, line)
	} else {
		q.dropped++
	}
	q.mu.Unlock()
	q.notify()
	return nil
}

// take empties the queue and returns its lines.
func (q *logQueue) take() []logLine {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines := q.lines
	if q.dropped > 0 {
		lines = append(lines, logLine{brokerWarning, fmt.Sprintf("iotoll: log lines dropped lines=%d", q.dropped)})
	}
	q.lines, q.dropped = nil, 0
	return lines
}

// format returns an entry as one line: the message, then its fields as key=value. Only a
// stack keeps its line breaks.
func format(e *logrus.Entry) string {
	var b strings.Builder
	b.WriteString("iotoll: ")
	b.WriteString(e.Message)
	keys := make([]string, 0, len(e.Data))
	for k := range e.Data {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		v := fmt.Sprint(e.Data[k])
		switch {
		case k == "stack":
			fmt.Fprintf(&b, "\n%s", v)
		case v == "" || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || r >= 0x7f }):
			fmt.Fprintf(&b, " %s=%q", k, v)
		default:
			fmt.Fprintf(&b, " %s=%s", k, v)
		}
	}
	return b.String()
}
