package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// secret is a text that must not be printed: a password, a seed, a URI that
// may hold a password. Only reveal gives it away.
type secret struct{ text string }

const redacted = "[redacted]"

// String returns "[redacted]".
func (secret) String() string { return redacted }

// Format writes "[redacted]" for every verb, also those that would look into
// the struct.
func (secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText writes "[redacted]", in JSON and YAML as well.
func (secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func (s secret) reveal() string { return s.text }

// maxSecret bounds what is read for a secret, in bytes. An MQTT password has
// at most 65,535.
const maxSecret = 65535

// readSecretFile reads the secret that a file holds: its whole content but for
// one line end at its end.
func readSecretFile(path string) (secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return secret{}, err
	}
	defer f.Close()
	s, err := readSecret(f)
	if err != nil {
		return secret{}, fmt.Errorf("read %s: %w", path, err)
	}
	return s, nil
}

// readSecret reads r to its end; one line end at its end does not count.
func readSecret(r io.Reader) (secret, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSecret+3))
	if err != nil {
		return secret{}, err
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	switch {
	case len(b) == 0:
		return secret{}, errors.New("it is empty: must hold the secret on one line")
	case len(b) > maxSecret:
		return secret{}, fmt.Errorf("it is too long: must be at most %d bytes", maxSecret)
	case bytes.ContainsAny(b, "\n\r\x00"):
		return secret{}, errors.New("it holds several lines or a NUL: must hold the secret on one line")
	}
	return secret{string(b)}, nil
}

// askSecret gets a secret from the terminal, twice and unseen, or from stdin
// when that is no terminal. It returns early when ctx ends.
func (c console) askSecret(ctx context.Context, what string) (secret, error) {
	f, ok := c.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		s, err := interruptible(ctx, func() (secret, error) { return readSecret(c.in) })
		if err != nil {
			return secret{}, fmt.Errorf("read %s from stdin: %w", what, err)
		}
		return s, nil
	}
	state, err := term.GetState(int(f.Fd()))
	if err != nil {
		return secret{}, fmt.Errorf("read %s: %w", what, err)
	}
	ask := func(prompt string) (secret, error) {
		fmt.Fprint(c.err, prompt)
		defer fmt.Fprintln(c.err)
		s, err := interruptible(ctx, func() (secret, error) {
			b, err := term.ReadPassword(int(f.Fd()))
			return secret{string(b)}, err
		})
		if ctx.Err() != nil {
			term.Restore(int(f.Fd()), state) // it would show nothing that is typed
		}
		return s, err
	}
	first, err := ask(what + ": ")
	if err != nil {
		return secret{}, fmt.Errorf("read %s: %w", what, err)
	}
	again, err := ask(what + " again: ")
	if err != nil {
		return secret{}, fmt.Errorf("read %s: %w", what, err)
	}
	if first != again {
		return secret{}, fmt.Errorf("the two entries of the %s differ", what)
	}
	s, err := readSecret(strings.NewReader(first.reveal()))
	if err != nil {
		return secret{}, fmt.Errorf("read %s: %w", what, err)
	}
	return s, nil
}

// interruptible calls read, and returns its result or, if that comes first, that
// ctx ended. Reading from stdin cannot be interrupted: read then goes on until
// the program ends.
func interruptible(ctx context.Context, read func() (secret, error)) (secret, error) {
	type result struct {
		s   secret
		err error
	}
	done := make(chan result, 1)
	go func() {
		s, err := read()
		done <- result{s, err}
	}()
	select {
	case r := <-done:
		return r.s, r.err
	case <-ctx.Done():
		return secret{}, ctx.Err()
	}
}
