package login

import (
	"net/netip"
	"slices"
)

const (
	// queueBytes bounds what all queued attempts hold: a stranger may send three
	// times 64 KiB with each.
	queueBytes = 16 << 20
	// attemptBytes is what an attempt takes besides its strings.
	attemptBytes = 512
)

// queue holds attempts until their passwords are verified. It takes them from
// each network in turn. If it is full, it drops the newest attempts of the network
// that holds the most. The zero queue is ready for use.
type queue struct {
	lines map[string]*line
	turns []string // the networks that have a line, the next one first
	bytes int
}

// line is the queue of one network.
type line struct {
	attempts []*attempt
	bytes    int
}

func weight(a *attempt) int { return a.size() + attemptBytes }

// push adds an attempt. It returns the attempts that it dropped for it; ok is false
// if there is no room, because no other network holds more than the attempt's.
func (q *queue) push(a *attempt) (dropped []*attempt, ok bool) {
	network, need := queueNetwork(a.Address), weight(a)
	own := q.lines[network]
	if own == nil {
		own = new(line)
	}
	for q.bytes+need > queueBytes {
		most, in := own, network
		for n, l := range q.lines {
			if l.bytes > most.bytes {
				most, in = l, n
			}
		}
		if most.bytes <= own.bytes+need {
			return dropped, false
		}
		last := len(most.attempts) - 1
		dropped = append(dropped, most.attempts[last])
		if q.take(in, last); len(most.attempts) == 0 {
			q.turns = slices.DeleteFunc(q.turns, func(n string) bool { return n == in })
		}
	}
	if q.lines[network] == nil {
		if q.lines == nil {
			q.lines = make(map[string]*line)
		}
		q.lines[network] = own
		q.turns = append(q.turns, network)
	}
	own.attempts = append(own.attempts, a)
	own.bytes += need
	q.bytes += need
	return dropped, true
}

// pop removes and returns the next attempt, nil if there is none.
func (q *queue) pop() *attempt {
	if len(q.turns) == 0 {
		return nil
	}
	network := q.turns[0]
	q.turns = slices.Delete(q.turns, 0, 1)
	l := q.lines[network]
	a := l.attempts[0]
	if q.take(network, 0); len(l.attempts) > 0 {
		q.turns = append(q.turns, network)
	}
	return a
}

// take removes an attempt from the line of a network, and the line if it is empty.
func (q *queue) take(network string, i int) {
	l := q.lines[network]
	n := weight(l.attempts[i])
	l.attempts = slices.Delete(l.attempts, i, i+1)
	l.bytes -= n
	q.bytes -= n
	if len(l.attempts) == 0 {
		delete(q.lines, network)
	}
}

// queueNetwork returns the network in which an address shares its turns: a /24 of
// IPv4 or a /48 of IPv6. Other addresses stand for themselves.
func queueNetwork(address string) string { return network(address, 24, 48) }

// network returns the network of an IP address, and other texts as they are.
func network(address string, bits4, bits6 int) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	ip = ip.Unmap().WithZone("")
	bits := bits6
	if ip.Is4() {
		bits = bits4
	}
	p, _ := ip.Prefix(bits) // fails only for more bits than the address has
	return p.String()
}
