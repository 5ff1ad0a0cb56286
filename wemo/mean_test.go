package wemo

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Adding a reading again, even after the end of its window, changes nothing.
func TestMeanOfRepeats(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	once, often := mean{hold: 5 * time.Second}, mean{hold: 5 * time.Second}
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	boundary := now.Add(10 * time.Second)
	var last Reading
	for range 20_000 {
		now = now.Add(time.Duration(r.IntN(700)) * time.Millisecond)
		for !now.Before(boundary) {
			a, aCovered := once.close(boundary)
			b, bCovered := often.close(boundary)
			if a != b || aCovered != bCovered || aCovered > 10*time.Second {
				t.Fatalf("window until %s: got %d mW over %s, want %d over %s", boundary, b, bCovered, a, aCovered)
			}
			boundary = boundary.Add(10 * time.Second)
		}
		if last.At.IsZero() || r.IntN(4) == 0 {
			last = Reading{now, r.Int64N(100_000)}
			once.add(last)
		}
		often.add(last)
	}
}
