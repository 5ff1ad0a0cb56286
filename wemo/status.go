package wemo

import (
	"encoding/json"
	"time"
)

// Status is the payload of a status topic. It says nothing about the power, so
// it may be public.
type Status struct {
	Online bool `json:"online"`
	// Reason says why not, if not: starting, stale, stopped or lost.
	Reason string `json:"reason,omitempty"`
	// Since is when it became so. A last will does not know.
	Since *time.Time `json:"since,omitempty"`
	// LastSeen is when the newest reading was taken, if there has been one.
	LastSeen *time.Time `json:"last_seen,omitempty"`
}

// Why there are no readings.
const (
	starting = "starting" // no reading yet
	stale    = "stale"    // the source brings none; Since says from when
	stopped  = "stopped"  // shut down in good order
	lost     = "lost"     // the broker heard no more from us: the last will
)

func (s Status) payload() []byte {
	b, err := json.Marshal(s)
	if err != nil { // times beyond the year 9999
		return []byte(`{"online":false}`)
	}
	return b
}
