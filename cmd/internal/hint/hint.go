// Package hint attaches to an error what its reader can do next.
package hint

import (
	"errors"
	"fmt"
)

type hinted struct {
	error
	text string
}

func (h *hinted) Unwrap() error { return h.error }

// Add returns err with a hint, which [Of] finds. The error's text stays as it is.
func Add(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// Of returns the outermost hint of err, empty if it has none.
func Of(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.text
	}
	return ""
}
