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

// CheckClock compares our clock with what else tells the time: the ledger, the
// clock of its node, and the date of the newest entry in the store. Each may be
// zero. It returns a [ClockError] if they are more than 5 minutes apart. Where the
// ledger's own time is known, the newest entry says nothing: it may have been dated
// by a clock that was wrong. A node's clock cannot overrule it, because the node
// may run on our machine.
func CheckClock(now, ledger, node, newest time.Time) error {
	for _, other := range []struct {
		name string
		time time.Time
	}{{"the ledger's time", ledger}, {"the node's clock", node}} {
		if ahead := now.Sub(other.time); !other.time.IsZero() && ahead.Abs() > clockTolerance {
			return &ClockError{Against: other.name, Ahead: ahead}
		}
	}
	if !ledger.IsZero() {
		return nil
	}
	if ahead := now.Sub(newest); !newest.IsZero() && ahead < -clockTolerance {
		return &ClockError{Against: "the newest entry in the store", Ahead: ahead}
	}
	return nil
}

// remoteClock is the time that the ledger or a node told in the last scan that did.
type remoteClock struct {
	said time.Time // what it said
	at   time.Time // when, with the monotonic clock, which nobody can set
}

// set notes what was said just now; nothing if that is zero.
func (c *remoteClock) set(said time.Time) {
	if !said.IsZero() {
		*c = remoteClock{said: said, at: time.Now()}
	}
}

// now returns what the time should be there by now; zero if it was never told.
func (c remoteClock) now() time.Time {
	if c.said.IsZero() {
		return time.Time{}
	}
	return c.said.Add(time.Since(c.at))
}
