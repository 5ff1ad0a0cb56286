package tangle_test

import (
	"fmt"
	"testing"

	"github.com/iotoll/iotoll/tangle"
)

// BenchmarkSettle is the settling of one payment, on a store in memory.
func BenchmarkSettle(b *testing.B) {
	s := newTill(b)
	for i := 0; b.Loop(); i++ {
		p := payment(fmt.Sprint("p", i), fromJohn, 1)
		if _, err := s.store.Record(b.Context(), p, tangle.Settling); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Settle(b.Context(), p); err != nil {
			b.Fatal(err)
		}
	}
}
