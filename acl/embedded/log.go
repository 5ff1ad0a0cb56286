package embedded

import (
	"context"
	"log/slog"
	"strings"

	"github.com/sirupsen/logrus"
)

// newLogger returns a logger that passes FerretDB's messages to logrus.
func newLogger(log logrus.FieldLogger) *slog.Logger {
	return slog.New(handler{log})
}

// handler is a [slog.Handler]. FerretDB logs the start and end of every connection
// and warns of every failed command, which its client is told anyway: both become
// debug messages. FerretDB's own debug messages contain whole documents with
// password hashes, as do its other messages after their first line: neither is
// passed on.
type handler struct{ log logrus.FieldLogger }

func (h handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (h handler) Handle(_ context.Context, r slog.Record) error {
	message, _, _ := strings.Cut(r.Message, "\n")
	log := h.log.WithField("ferretdb", message)
	r.Attrs(func(a slog.Attr) bool {
		text, _, _ := strings.Cut(a.Value.String(), "\n")
		log = log.WithField(a.Key, text)
		return true
	})
	if r.Level >= slog.LevelError {
		log.Error("embedded store reported an error")
	} else {
		log.Debug("embedded store reported")
	}
	return nil
}

// WithAttrs and WithGroup return the handler: the name of FerretDB's component is
// of no use in our log.
func (h handler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h handler) WithGroup(string) slog.Handler      { return h }
