package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	payloadSize = 64                    // bytes of a message
	window      = 1000                  // messages that may be ahead of the slowest subscriber
	batch       = 50                    // messages written at once
	pause       = 5 * time.Millisecond  // between two reads of a subscriber
	getGoing    = 40 * time.Millisecond // of full speed before a measurement
	patience    = 20 * time.Second      // for what is still under way at the end
)

// frame is the size of a message on the wire, a PUBLISH.
var frame = len(appendPublish(nil, topic, make([]byte, payloadSize)))

// throughput is what a broker achieved while it was given as much as it takes.
type throughput struct {
	deliveries int64
	elapsed    time.Duration
	cpu        time.Duration // of the broker
}

// plus returns the sum of two measurements.
func (t throughput) plus(u throughput) throughput {
	return throughput{t.deliveries + u.deliveries, t.elapsed + u.elapsed, t.cpu + u.cpu}
}

// perSecond returns the deliveries per second.
func (t throughput) perSecond() float64 { return float64(t.deliveries) / t.elapsed.Seconds() }

// cpuPerMillion returns the broker's CPU seconds per million deliveries.
func (t throughput) cpuPerMillion() float64 { return t.cpu.Seconds() / float64(t.deliveries) * 1e6 }

// flow is a publisher of QoS 0 messages and the subscribers of their topic.
type flow struct {
	broker *broker
	source *source
	sinks  []*sink
}

// newFlow connects a publisher and some subscribers, and begins to publish.
func newFlow(ctx context.Context, b *broker, f *fixture, subscribers int) (*flow, error) {
	pub, subs, err := connectAll(ctx, b.address, f, subscribers)
	if err != nil {
		closeAll(append(subs, pub))
		return nil, err
	}
	w := &flow{broker: b, source: newSource(pub)}
	for _, c := range subs {
		r, err := newSink(c.(*net.TCPConn))
		if err != nil {
			closeAll(append(subs, pub))
			return nil, err
		}
		w.sinks = append(w.sinks, r)
	}
	go w.source.run()
	return w, nil
}

// close ends the publishing and all connections.
func (w *flow) close() {
	w.source.end()
	w.source.conn.Close() // ends a write that the broker does not take
	<-w.source.done
	for _, r := range w.sinks {
		r.file.Close()
	}
}

// finish ends the publishing and waits until every subscriber has all that was
// sent; a lost message is an error.
func (w *flow) finish(ctx context.Context) error {
	w.source.end()
	<-w.source.done
	if err := w.source.err; err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	sent := w.source.sent.Load()
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		_, slowest, err := w.read()
		switch {
		case err != nil:
			return err
		case slowest == sent:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("the slowest subscriber has %d of %d messages after %s", slowest, sent, patience)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// read reads from every subscriber in turn, which costs a fraction of what a
// goroutine for each of them would. It tells the source, and returns how many
// messages all of them, and the slowest, have received so far.
func (w *flow) read() (all, slowest int64, err error) {
	for i, r := range w.sinks {
		if err := r.read(); err != nil {
			return 0, 0, fmt.Errorf("read from subscriber %d: %w", i, err)
		}
		all += r.count
		if i == 0 || r.count < slowest {
			slowest = r.count
		}
	}
	w.source.delivered.Store(slowest)
	select {
	case w.source.room <- struct{}{}:
	default:
	}
	return all, slowest, nil
}

// measure reads for a while to get going, then measures for d. Afterwards there
// are messages under way that the next measurement finds.
func (w *flow) measure(ctx context.Context, d time.Duration) (throughput, error) {
	var from, now mark
	begin := time.Now()
	for {
		time.Sleep(pause)
		if err := ctx.Err(); err != nil {
			return throughput{}, err
		}
		all, _, err := w.read()
		if err != nil {
			return throughput{}, err
		}
		now.at, now.deliveries = time.Now(), all
		started := !from.at.IsZero()
		switch {
		case !started && now.at.Sub(begin) < getGoing, started && now.at.Sub(from.at) < d:
			continue
		}
		if now.cpu, err = w.broker.cpu(); err != nil {
			return throughput{}, err
		}
		if started {
			return from.until(now)
		}
		from = now
	}
}

// mark is a moment of a measurement.
type mark struct {
	at         time.Time
	deliveries int64
	cpu        time.Duration
}

// until returns what was achieved between two marks.
func (m mark) until(n mark) (throughput, error) {
	if n.deliveries == m.deliveries {
		return throughput{}, errors.New("nothing was delivered")
	}
	return throughput{n.deliveries - m.deliveries, n.at.Sub(m.at), n.cpu - m.cpu}, nil
}

// source is the publisher. It is always a window ahead of the subscribers.
type source struct {
	conn      net.Conn
	sent      atomic.Int64  // messages written
	delivered atomic.Int64  // messages that the slowest subscriber has
	room      chan struct{} // told when delivered may have grown
	stop      chan struct{} // closed to end run
	end       func()        // closes stop
	done      chan struct{} // closed when run has ended
	err       error         // why; read it after done is closed
}

func newSource(c net.Conn) *source {
	stop := make(chan struct{})
	return &source{
		conn: c, room: make(chan struct{}, 1),
		stop: stop, end: sync.OnceFunc(func() { close(stop) }), done: make(chan struct{}),
	}
}

// run publishes until stop is closed. Each message carries its number.
func (p *source) run() {
	defer close(p.done)
	var payload [payloadSize]byte
	buf := make([]byte, 0, 2*batch*payloadSize)
	for next := int64(0); ; {
		n := min(batch, p.delivered.Load()+window-next)
		if n <= 0 {
			select {
			case <-p.stop:
				return
			case <-p.room:
			}
			continue
		}
		buf = buf[:0]
		for range n {
			binary.BigEndian.PutUint64(payload[:], uint64(next))
			buf = appendPublish(buf, topic, payload[:])
			next++
		}
		if _, p.err = p.conn.Write(buf); p.err != nil {
			return
		}
		p.sent.Store(next)
	}
}

// sink is a subscriber.
type sink struct {
	file  *os.File
	buf   []byte // what was read of a frame that is not yet whole is at the front
	fill  int    // how much that is
	count int64  // messages received
}

// newSink takes a connection over. The Go runtime must not watch it: each
// message would wake the runtime up, at the expense of the broker that sends it,
// and at times only.
func newSink(c *net.TCPConn) (*sink, error) {
	file, err := c.File()
	if err != nil {
		return nil, err
	}
	c.Close() // file is another descriptor of the connection, which stays
	return &sink{file: file, buf: make([]byte, 64<<10)}, nil
}

// read takes what has arrived and does not wait for more.
func (s *sink) read() error {
	for {
		n, _, err := unix.Recvfrom(int(s.file.Fd()), s.buf[s.fill:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case n == 0:
			return errors.New("the broker closed the connection")
		}
		full := s.fill+n == len(s.buf)
		if err := s.take(s.fill + n); err != nil {
			return err
		}
		if !full {
			return nil
		}
	}
}

// take counts the whole frames in the first n bytes of the buffer. The number
// in the last one tells whether all the messages before it came.
func (s *sink) take(n int) error {
	whole := n / frame
	s.fill = n % frame
	if whole == 0 {
		return nil
	}
	last := s.buf[(whole-1)*frame : whole*frame]
	s.count += int64(whole)
	number := int64(binary.BigEndian.Uint64(last[frame-payloadSize:]))
	if last[0] != packetPublish || number != s.count-1 {
		return fmt.Errorf("message %d begins with %#x and has number %d: something was lost", s.count-1, last[0], number)
	}
	copy(s.buf, s.buf[whole*frame:n])
	return nil
}

// connectAll connects the publisher and some subscribers. What it returns must
// be closed also if there is an error.
func connectAll(ctx context.Context, address string, f *fixture, subscribers int) (pub net.Conn, subs []net.Conn, err error) {
	for _, a := range f.subscribers[:subscribers] {
		c, err := dial(ctx, address, a)
		if err != nil {
			return nil, subs, err
		}
		subs = append(subs, c)
		if err := subscribe(c, topic); err != nil {
			return nil, subs, err
		}
	}
	pub, err = dial(ctx, address, f.publisher)
	return pub, subs, err
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}
