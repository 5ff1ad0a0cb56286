package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/term"
)

// newLog returns a log for people if w is a terminal, and one JSON object a
// line otherwise.
func newLog(w io.Writer) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(w)
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true})
	} else {
		log.SetFormatter(units{&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano}})
	}
	return log
}

// units writes durations with their units: JSON has only numbers for them.
type units struct{ logrus.Formatter }

func (u units) Format(e *logrus.Entry) ([]byte, error) {
	for name, value := range e.Data {
		if d, ok := value.(time.Duration); ok {
			e.Data[name] = d.String()
		}
	}
	return u.Formatter.Format(e)
}

// count returns a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
