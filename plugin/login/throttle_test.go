package login

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestThrottle(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	var th throttle
	try := func(name, address string, n int) (taken int) {
		for range n {
			if th.take(name, address, now) {
				taken++
			}
		}
		return taken
	}
	if got := try("john", "192.0.2.1", 100); got != 5 {
		t.Errorf("one address guesses one password: got %d tries, want 5", got)
	}
	if got := try("jane", "192.0.2.1", 3); got != 3 {
		t.Errorf("the same address as another user: got %d tries, want 3", got)
	}
	if got := try("john", "192.0.2.2", 3); got != 3 {
		t.Errorf("john from another address: got %d tries, want 3", got)
	}
	now = now.Add(31 * time.Second)
	if got := try("john", "192.0.2.1", 100); got != 1 {
		t.Errorf("half a minute later: got %d tries, want 1", got)
	}

	// Strangers everywhere guess john's password. Another address still has tries.
	total := 0
	for i := range 200 {
		total += try("john", fmt.Sprintf("198.51.100.%d", i), 100)
	}
	if total < 200*pairReserve || total > 200*pairReserve+20*5 {
		t.Errorf("200 addresses: got %d tries, want little more than %d", total, 200*pairReserve)
	}
	if got := try("john", "203.0.113.7", 100); got != pairReserve {
		t.Errorf("john meanwhile: got %d tries, want %d", got, pairReserve)
	}

	// One address tries many usernames.
	total = 0
	for i := range 1000 {
		total += try(fmt.Sprint("u", i), "192.0.2.9", 1)
	}
	if total != 30 {
		t.Errorf("one address guesses for 1000 usernames: got %d tries, want 30", total)
	}
	// An IPv6 network is one address.
	total = 0
	for i := range 1000 {
		total += try("v6", fmt.Sprintf("2001:db8::%x", i), 1)
	}
	if total != 5 {
		t.Errorf("one IPv6 network: got %d tries, want 5", total)
	}

	// Right passwords are not counted.
	for i := range 1000 {
		if !th.take(fmt.Sprint("good", i), "192.0.2.77", now) {
			t.Fatalf("login %d behind one address: refused", i)
		}
		th.giveBack(fmt.Sprint("good", i), "192.0.2.77", now)
	}
	// It forgets, and never grows beyond its bound.
	for i := range throttleAtMost {
		th.take(fmt.Sprint("x", i), fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), now)
	}
	if n := len(th.buckets); n > throttleAtMost+3 {
		t.Errorf("buckets: got %d, want at most %d", n, throttleAtMost)
	}
	now = now.Add(time.Hour)
	if got := try("john", "192.0.2.1", 100); got != 5 {
		t.Errorf("an hour later: got %d tries, want 5", got)
	}
}

// A stranger's username may be as long as MQTT allows.
func TestThrottleKeepsNoLongNames(t *testing.T) {
	var th throttle
	long := strings.Repeat("x", 1<<16-10)
	for i := range perAddress.tries {
		if !th.take(fmt.Sprint(long, i), "192.0.2.1", time.Unix(0, 0)) {
			t.Fatalf("try %d: refused, want allowed: they are different names", i+1)
		}
	}
	kept := 0
	for k := range th.buckets {
		kept += len(k.name)
	}
	if want := 2 * perAddress.tries * sha256.Size; kept > want {
		t.Errorf("bytes of names kept: got %d, want at most %d", kept, want)
	}
}
