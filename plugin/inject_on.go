//go:build injectpanics

package main

import (
	"os"
	"strings"
)

// inject panics if the file that IOTOLL_PANIC names holds op. Only a build with
// the tag injectpanics has it, for the tests.
func inject(op string) {
	text, err := os.ReadFile(os.Getenv("IOTOLL_PANIC"))
	if err == nil && strings.Contains(string(text), op) {
		panic("injected into " + op)
	}
}
