//go:build injectpanics

package guard

import (
	"os"
	"strings"
)

// inject panics if op is in the file that IOTOLL_PANIC names. Only test builds, with
// the tag injectpanics, contain it.
func inject(op string) {
	text, err := os.ReadFile(os.Getenv("IOTOLL_PANIC"))
	if err == nil && strings.Contains(string(text), op) {
		panic("injected into " + op)
	}
}
