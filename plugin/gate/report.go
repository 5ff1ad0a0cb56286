package gate

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/iotoll/iotoll/acl"
)

// Counters are counted outside the gate.
type Counters struct {
	Checks                  [acl.Reasons]uint64 // answers by reason
	Hits, Misses, Evictions uint64              // of the decision cache
	Deferred                uint64              // logins whose client had to retry
}

// Message is a retained message for the broker to publish.
type Message struct{ Topic, Payload string }

// Report returns the state of the plugin, one message for each figure, below
// $SYS/broker/iotoll/. The second instance in a process reports below
// $SYS/broker/iotoll/2/, and so on. Topics have - where reasons have a space.
func (g *Gate) Report(c Counters, instance int) []Message {
	root := "$SYS/broker/iotoll/"
	if instance > 1 {
		root += fmt.Sprint(instance, "/")
	}
	var out []Message
	say := func(topic string, value any) { out = append(out, Message{root + topic, fmt.Sprint(value)}) }

	s, now := g.snapshot.Load(), g.now()
	age := "none"
	if !s.AsOf().IsZero() {
		age = fmt.Sprintf("%.1f", now.Sub(s.AsOf()).Seconds())
	}
	users, grants := s.Size()
	say("snapshot/age", age) // seconds
	say("snapshot/users", users)
	say("snapshot/grants", grants)

	h := g.health.Load()
	state := "ok"
	if h.err != nil {
		state = "away"
	}
	say("store/state", state)
	say("store/since", h.since.UTC().Format(time.RFC3339))

	for r, n := range c.Checks {
		say("checks/"+topicOf(acl.Reason(r)), n)
	}
	say("cache/hits", c.Hits)
	say("cache/misses", c.Misses)
	say("cache/evictions", c.Evictions)
	say("logins/deferred", c.Deferred)
	g.sessions.mu.Lock()
	ended := g.sessions.ended
	g.sessions.mu.Unlock()
	say("sessions/ended", ended)
	say("panics", g.guard.Panics())
	say("goroutines", runtime.NumGoroutine())
	return out
}

// topicOf returns the topic level that stands for a reason.
func topicOf(r acl.Reason) string { return strings.ReplaceAll(r.String(), " ", "-") }
