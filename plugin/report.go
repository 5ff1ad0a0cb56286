package main

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/iotoll/iotoll/acl"
)

// reportEvery is how often the plugin publishes its state.
const reportEvery = 10 * time.Second

// counters are what bridge.c counts.
type counters struct {
	checks                  [acl.Reasons]uint64 // answers by reason
	hits, misses, evictions uint64              // of the table of decisions
}

// message is a retained message that the plugin publishes by itself.
type message struct{ topic, payload string }

// report is the state of the plugin: one message for each figure, below
// $SYS/broker/iotoll/. The second instance of a process, and so on, reports below
// $SYS/broker/iotoll/2/. Reasons have - for a space in topics.
func (g *gate) report(c counters, instance int) []message {
	root := "$SYS/broker/iotoll/"
	if instance > 1 {
		root += fmt.Sprint(instance, "/")
	}
	var out []message
	say := func(topic string, value any) { out = append(out, message{root + topic, fmt.Sprint(value)}) }

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

	for r, n := range c.checks {
		say("checks/"+topicOf(acl.Reason(r)), n)
	}
	say("cache/hits", c.hits)
	say("cache/misses", c.misses)
	say("cache/evictions", c.evictions)
	say("logins/put-off", g.logins.putOffs.Load())
	say("panics", g.panics.count.Load())
	say("goroutines", runtime.NumGoroutine())
	return out
}

// topicOf is the level of a topic that stands for a reason.
func topicOf(r acl.Reason) string { return strings.ReplaceAll(r.String(), " ", "-") }
