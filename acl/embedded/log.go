package embedded

import (
	"context"
	"log/slog"
	"strings"

	"github.com/sirupsen/logrus"
)

// newLogger hands FerretDB's log to logrus.
func newLogger(log logrus.FieldLogger) *slog.Logger {
	return slog.New(handler{log})
}

// handler is a [slog.Handler]. FerretDB reports the coming and going of every
// connection, and warns of every command that failed, which its client learns
// anyway: all that is for debugging only. Its own debug messages hold whole
// documents, with password hashes in them, and its other messages hold
// documents after the first line: neither is passed on.
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

// WithAttrs and WithGroup keep the handler: the name of a part of FerretDB
// helps nobody here.
func (h handler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h handler) WithGroup(string) slog.Handler      { return h }
