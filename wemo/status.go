package wemo

import (
	"encoding/json"
	"time"
)

// Status is the payload of a status topic; see the package documentation. It
// says nothing about the power, so it may be public.
type Status struct {
	Online bool `json:"online"`
	// Reason says why Online is false: one of the constants below.
	Reason string `json:"reason,omitempty"`
	// Refused holds, for each topic on which publishing fails, why.
	Refused map[string]string `json:"refused,omitempty"`
	// Since is when Online and Reason became what they are; a last will has none.
	Since *time.Time `json:"since,omitempty"`
	// LastSeen is when the newest reading was taken; nil before the first.
	LastSeen *time.Time `json:"last_seen,omitempty"`
}

// Values of Status.Reason.
const (
	Starting = "starting" // no reading yet
	Stale    = "stale"    // the source brings no readings
	Refused  = "refused"  // it does, and the broker refuses them
	Stopped  = "stopped"  // the publisher was shut down
	Lost     = "lost"     // the publisher's connection broke: the last will
)

// RefusedError is a Publisher's error about a topic on which the broker refuses
// messages, or does not acknowledge them.
type RefusedError struct {
	Reason string // such as "not authorized"
}

func (e *RefusedError) Error() string { return "refused by the broker: " + e.Reason }

// Payload returns the JSON of the status.
func (s Status) Payload() []byte {
	b, err := json.Marshal(s)
	if err != nil { // times beyond the year 9999
		return []byte(`{"online":false}`)
	}
	return b
}
