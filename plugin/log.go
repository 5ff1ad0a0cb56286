package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

// logAtMost bounds the lines that wait for the broker's thread.
const logAtMost = 1000

// Levels of the broker's log, from mosquitto.h.
const (
	brokerInfo    = 1 << 0
	brokerWarning = 1 << 2
	brokerError   = 1 << 3
	brokerDebug   = 1 << 4
)

// logQueue keeps log lines until the broker's thread fetches them: no other may
// write to the broker's log. It is a hook of the logger that newLogger makes.
type logQueue struct {
	mu      sync.Mutex
	lines   []logLine
	dropped int
	notify  func() // there is a line
}

type logLine struct {
	level int
	text  string
}

// newLogger returns a logger whose lines go to a queue.
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

// take returns the lines that wait.
func (q *logQueue) take() []logLine {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines := q.lines
	if q.dropped > 0 {
		lines = append(lines, logLine{brokerWarning, fmt.Sprintf("iotoll: log lines lost lines=%d", q.dropped)})
	}
	q.lines, q.dropped = nil, 0
	return lines
}

// format makes one line of an entry: the message, then its data. Only a stack
// keeps its line breaks.
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
