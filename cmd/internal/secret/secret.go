// Package secret holds texts that must not be printed.
package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// Text must not be printed: it is a password, a seed, or a URI that may hold a
// password. Only Reveal returns it.
type Text struct{ text string }

// New returns a text as a secret.
func New(text string) Text { return Text{text} }

const redacted = "[redacted]"

// String returns "[redacted]".
func (Text) String() string { return redacted }

// Format writes "[redacted]" for every verb, also those that would look into
// the struct.
func (Text) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText writes "[redacted]", in JSON and YAML as well.
func (Text) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Reveal returns the text.
func (s Text) Reveal() string { return s.text }

// maxSecret bounds what is read for a secret, in bytes. An MQTT password has
// at most 65,535.
const maxSecret = 65535

// ReadFile reads the secret that a file holds on one line. The error names the
// file and never holds the secret.
func ReadFile(path string) (Text, error) {
	f, err := os.Open(path)
	if err != nil {
		return Text{}, err
	}
	defer f.Close()
	s, err := Read(f)
	if err != nil {
		return Text{}, fmt.Errorf("read %s: %w", path, err)
	}
	return s, nil
}

// Read reads a secret on one line from r, which it reads to its end.
func Read(r io.Reader) (Text, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSecret+3))
	if err != nil {
		return Text{}, err
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	switch {
	case len(b) == 0:
		return Text{}, errors.New("it is empty: must hold the secret on one line")
	case len(b) > maxSecret:
		return Text{}, fmt.Errorf("it is too long: must be at most %d bytes", maxSecret)
	case bytes.ContainsAny(b, "\n\r\x00"):
		return Text{}, errors.New("it holds several lines or a NUL: must hold the secret on one line")
	}
	return Text{string(b)}, nil
}
