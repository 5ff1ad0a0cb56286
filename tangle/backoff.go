package tangle

import "time"

// BackOff returns how long to wait after a number of failures in a row: first
// after none, twice as long after each, and never longer than most.
func BackOff(first, most time.Duration, fails int) time.Duration {
	for ; fails > 0 && first < most; fails-- {
		first *= 2
	}
	return min(first, most)
}
