package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/iotoll/iotoll/cmd/internal/secret"
)

// askNewSecret is askSecret for a secret that does not exist yet: a terminal is
// asked twice.
func (c console) askNewSecret(ctx context.Context, what string) (secret.Text, error) {
	return c.ask(ctx, what, true)
}

// askSecret gets a secret from the terminal, unseen, or from stdin when that is no
// terminal. It returns early when ctx ends.
func (c console) askSecret(ctx context.Context, what string) (secret.Text, error) {
	return c.ask(ctx, what, false)
}

func (c console) ask(ctx context.Context, what string, twice bool) (secret.Text, error) {
	f, ok := c.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		s, err := interruptible(ctx, func() (secret.Text, error) { return secret.Read(c.in) })
		if err != nil {
			return secret.Text{}, fmt.Errorf("read %s from stdin: %w", what, err)
		}
		return s, nil
	}
	state, err := term.GetState(int(f.Fd()))
	if err != nil {
		return secret.Text{}, fmt.Errorf("read %s: %w", what, err)
	}
	ask := func(prompt string) (secret.Text, error) {
		fmt.Fprint(c.err, prompt)
		defer fmt.Fprintln(c.err)
		s, err := interruptible(ctx, func() (secret.Text, error) {
			b, err := term.ReadPassword(int(f.Fd()))
			return secret.New(string(b)), err
		})
		if ctx.Err() != nil {
			term.Restore(int(f.Fd()), state) // it would show nothing that is typed
		}
		return s, err
	}
	first, err := ask(what + ": ")
	if err != nil {
		return secret.Text{}, fmt.Errorf("read %s: %w", what, err)
	}
	if twice {
		again, err := ask(what + " again: ")
		if err != nil {
			return secret.Text{}, fmt.Errorf("read %s: %w", what, err)
		}
		if first != again {
			return secret.Text{}, fmt.Errorf("the two entries of the %s differ", what)
		}
	}
	s, err := secret.Read(strings.NewReader(first.Reveal()))
	if err != nil {
		return secret.Text{}, fmt.Errorf("read %s: %w", what, err)
	}
	return s, nil
}

// interruptible calls read, and returns its result or, if that comes first, that
// ctx ended. Reading from stdin cannot be interrupted: read then goes on until
// the program ends.
func interruptible(ctx context.Context, read func() (secret.Text, error)) (secret.Text, error) {
	type result struct {
		s   secret.Text
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
		return secret.Text{}, ctx.Err()
	}
}
