package tangle

import (
	"fmt"
	"time"
)

// clockTolerance is how far our clock may be from what it is compared with.
// Checkpoints and milestones come late by seconds, and nodes lag behind.
const clockTolerance = 5 * time.Minute

// ClockError says that our clock is wrong, or else what it was compared with.
// Settling waits, because a grant that is dated wrong is over before it begins,
// or begins days later.
type ClockError struct {
	Against string        // what it was compared with
	Ahead   time.Duration // how far our clock is ahead; below zero if it is behind
}

// Error says by how much our clock is off, and in which direction.
func (e *ClockError) Error() string {
	off, way := e.Ahead, "ahead of"
	if off < 0 {
		off, way = -off, "behind"
	}
	return fmt.Sprintf("our clock is %s %s %s", off.Round(time.Second), way, e.Against)
}

// CheckClock compares our clock with the ledger's time and with the date of the
// newest entry in the store; either may be zero. It returns a [ClockError] if they
// are more than 5 minutes apart. Where the ledger's time is known, it decides: an
// entry may have been dated by a clock that was wrong at the time.
func CheckClock(now, ledger, newest time.Time) error {
	if !ledger.IsZero() {
		if ahead := now.Sub(ledger); ahead.Abs() > clockTolerance {
			return &ClockError{Against: "the ledger's time", Ahead: ahead}
		}
		return nil
	}
	if ahead := now.Sub(newest); !newest.IsZero() && ahead < -clockTolerance {
		return &ClockError{Against: "the newest entry in the store", Ahead: ahead}
	}
	return nil
}

// ledgerClock is the ledger's time as of the last scan that told it.
type ledgerClock struct {
	said time.Time // what the ledger said
	at   time.Time // when, with the monotonic clock, which nobody can set
}

// now returns what the ledger's time should be by now; zero if it never said any.
func (c ledgerClock) now() time.Time {
	if c.said.IsZero() {
		return time.Time{}
	}
	return c.said.Add(time.Since(c.at))
}
