package login

import (
	"crypto/sha256"
	"sync"
	"time"
)

// Limits of the throttle on wrong passwords: a burst, and then one try per interval.
// Right passwords are not counted.
var (
	perPair    = limit{5, 30 * time.Second}  // of one username from one address
	perName    = limit{20, 30 * time.Second} // of one username from everywhere
	perAddress = limit{30, time.Second}      // of all usernames from one address
)

// pairReserve is how many tries an address keeps for a username when other addresses
// have used up those of the username.
const pairReserve = 2

// throttleAtMost bounds the usernames, addresses and pairs that are counted.
const throttleAtMost = 1 << 16

// limit is the size of a bucket of tries that refills by one per interval.
type limit struct {
	tries int
	every time.Duration
}

// throttle slows the guessing of passwords by username and by address. It cannot be
// used to keep a user out: a remembered password is accepted without it, and an
// address without recent failures keeps tries for each username. The zero throttle
// is ready for use.
type throttle struct {
	mu      sync.Mutex
	buckets map[throttleKey]bucket
}

// throttleKey is a username, an address or, if both are set, a pair.
type throttleKey struct {
	name, address string
	kind          *limit
}

// bucket holds tries; full is the time from which it is full.
type bucket struct{ full time.Time }

// tries returns how many tries are left at now.
func (b bucket) tries(l *limit, now time.Time) int {
	missing := max(0, b.full.Sub(now))
	return l.tries - int((missing+l.every-1)/l.every)
}

func keys(name, address string) [3]throttleKey {
	address = network(address, 32, 64) // the owner of an IPv6 address has 2^64 of them
	if len(name) > sha256.Size {
		// A stranger may send 64 KiB, which the throttle would keep.
		sum := sha256.Sum256([]byte(name))
		name = string(sum[:])
	}
	return [3]throttleKey{{name, address, &perPair}, {name, "", &perName}, {"", address, &perAddress}}
}

// allows reports whether a password may be tried now.
func (t *throttle) allows(name, address string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.left(keys(name, address), now)
}

// take reports whether a password may be tried, and counts the try.
func (t *throttle) take(name, address string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := keys(name, address)
	if !t.left(k, now) {
		return false
	}
	for i := range k {
		t.add(k[i], 1, now)
	}
	return true
}

// left reports whether a try is left. Call it with the lock held.
func (t *throttle) left(k [3]throttleKey, now time.Time) bool {
	var left [3]int
	for i := range k {
		left[i] = t.buckets[k[i]].tries(k[i].kind, now)
	}
	pair, byName, byAddress := left[0], left[1], left[2]
	return pair >= 1 && byAddress >= 1 && (byName >= 1 || pair > perPair.tries-pairReserve)
}

// giveBack returns a try because the password was right.
func (t *throttle) giveBack(name, address string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys(name, address) {
		t.add(k, -1, now)
	}
}

// add counts n tries. Call it with the lock held.
func (t *throttle) add(k throttleKey, n int, now time.Time) {
	b, ok := t.buckets[k]
	if !ok && len(t.buckets) >= throttleAtMost {
		t.makeRoom(now)
	}
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(time.Duration(n) * k.kind.every)
	if most := now.Add(time.Duration(k.kind.tries) * k.kind.every); b.full.After(most) {
		b.full = most
	}
	if !b.full.After(now) {
		delete(t.buckets, k)
		return
	}
	if t.buckets == nil {
		t.buckets = make(map[throttleKey]bucket)
	}
	t.buckets[k] = b
}

// makeRoom removes the full buckets and, if that is not enough, random others.
func (t *throttle) makeRoom(now time.Time) {
	for k, b := range t.buckets {
		if !b.full.After(now) {
			delete(t.buckets, k)
		}
	}
	for k := range t.buckets {
		if len(t.buckets) < throttleAtMost*7/8 {
			break
		}
		delete(t.buckets, k)
	}
}
