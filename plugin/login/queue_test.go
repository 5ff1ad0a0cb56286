package login

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// Networks take turns, and within a network the order is kept.
func TestQueueTakesTurns(t *testing.T) {
	var q queue
	for _, a := range []string{"192.0.2.1", "192.0.2.200", "192.0.2.1", "198.51.100.1", "2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:2::1", "::ffff:192.0.2.9", "", ""} {
		q.push(&attempt{Credentials: Credentials{Address: a}})
	}
	var got []string
	for a := q.pop(); a != nil; a = q.pop() {
		got = append(got, a.Address)
	}
	want := "192.0.2.1 198.51.100.1 2001:db8:1:1::1 2001:db8:2::1  192.0.2.200 2001:db8:1:2::1  192.0.2.1 ::ffff:192.0.2.9"
	if text := strings.Join(got, " "); text != want {
		t.Errorf("order: got %s, want %s", text, want)
	}
	if q.bytes != 0 || len(q.lines) != 0 {
		t.Errorf("an empty queue holds %d bytes, %d lines", q.bytes, len(q.lines))
	}
}

// The queue stays within its bounds, returns every attempt that it drops, and makes room
// for a network that holds less than another.
func TestQueueIsBounded(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var q queue
	held, long := make(map[*attempt]bool), strings.Repeat("x", 100_000)
	for i := range 10_000 {
		if random.IntN(10) == 0 {
			if a := q.pop(); a != nil {
				if !held[a] {
					t.Fatal("pop returned what was not in the queue")
				}
				delete(held, a)
			}
			continue
		}
		// One network sends most, and long.
		network, name := random.IntN(50), long[:100]
		if random.IntN(2) == 0 {
			network, name = 77, long
		}
		a := &attempt{Credentials: Credentials{Username: name, Address: fmt.Sprintf("10.0.%d.%d", network, random.IntN(256))}}
		dropped, ok := q.push(a)
		for _, d := range dropped {
			if !held[d] || queueNetwork(d.Address) != "10.0.77.0/24" {
				t.Fatalf("push %d dropped an attempt from %s, want one of the heaviest network", i, d.Address)
			}
			delete(held, d)
		}
		if ok {
			held[a] = true
		} else if network != 77 {
			t.Fatalf("push %d from network %d: no room", i, network)
		}
		bytes := 0
		if i%100 == 0 {
			for h := range held {
				bytes += weight(h)
			}
			if bytes != q.bytes || bytes > queueBytes || len(q.turns) != len(q.lines) {
				t.Fatalf("after %d: the queue counts %d bytes in %d turns of %d lines, holds %d", i, q.bytes, len(q.turns), len(q.lines), bytes)
			}
		}
	}
	for q.pop() != nil {
		held = nil
	}
	if q.bytes != 0 || len(q.lines) != 0 || len(q.turns) != 0 {
		t.Errorf("an empty queue holds %d bytes, %d lines, %d turns", q.bytes, len(q.lines), len(q.turns))
	}
}
