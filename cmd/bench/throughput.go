package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	payloadSize = 64                     // bytes of a message
	window      = 1000                   // messages that may be ahead of the slowest subscriber
	batch       = 50                     // messages written at once
	pause       = 5 * time.Millisecond   // between two reads of a subscriber
	warmUp      = 300 * time.Millisecond // before the measurement
	patience    = 20 * time.Second       // for what is still under way at the end
)

// throughput is what a broker achieved while it was given as much as it takes.
type throughput struct {
	deliveries float64 // per second
	cpu        float64 // seconds of the broker's CPU per million deliveries
}

// measureThroughput has one publisher send QoS 0 messages, in order and each
// with its number, to some subscribers of one topic. A lost message is an error.
func measureThroughput(ctx context.Context, b *broker, f *fixture, subscribers int, d time.Duration) (throughput, error) {
	pub, subs, err := connectAll(ctx, b.address, f, subscribers)
	defer closeAll(append(subs, pub))
	if err != nil {
		return throughput{}, err
	}
	var s sweep
	defer func() { s.close() }()
	frame := len(appendPublish(nil, topic, make([]byte, payloadSize)))
	for _, c := range subs {
		r, err := newSink(c.(*net.TCPConn), frame)
		if err != nil {
			return throughput{}, err
		}
		s = append(s, r)
	}
	p := &source{conn: pub, room: make(chan struct{}, 1), stop: make(chan struct{})}
	sent := make(chan error, 1)
	go func() { sent <- p.run() }()
	result, err := s.measure(ctx, b, p, d)
	close(p.stop)
	if err != nil {
		pub.Close() // ends a write that the broker does not take
		return throughput{}, errors.Join(err, <-sent)
	}
	if err := <-sent; err != nil {
		return throughput{}, fmt.Errorf("publish: %w", err)
	}
	return result, s.drain(ctx, p)
}

// source is the publisher.
type source struct {
	conn      net.Conn
	sent      atomic.Int64  // messages written
	delivered atomic.Int64  // messages that the slowest subscriber has
	room      chan struct{} // told when delivered has grown
	stop      chan struct{}
}

// run publishes until stop is closed.
func (p *source) run() error {
	var payload [payloadSize]byte
	buf := make([]byte, 0, 2*batch*payloadSize)
	next := int64(0)
	for {
		select {
		case <-p.stop:
			return nil
		default:
		}
		n := min(batch, p.delivered.Load()+window-next)
		if n <= 0 {
			select {
			case <-p.stop:
				return nil
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
		if _, err := p.conn.Write(buf); err != nil {
			return err
		}
		p.sent.Store(next)
	}
}

// sink is a subscriber.
type sink struct {
	file  *os.File
	frame int    // bytes of a PUBLISH on the wire
	buf   []byte // what was read of a frame that is not yet whole is at the front
	fill  int    // how much that is
	count int64  // messages received
}

// newSink takes a connection over. The Go runtime must not watch it: each
// message would wake the runtime up, at the expense of the broker that sends it,
// and at times only.
func newSink(c *net.TCPConn, frame int) (*sink, error) {
	file, err := c.File()
	if err != nil {
		return nil, err
	}
	c.Close() // file is another descriptor of the connection, which stays
	return &sink{file: file, frame: frame, buf: make([]byte, 64<<10)}, nil
}

// read takes what has arrived, and does not wait for more.
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
	whole := n / s.frame
	s.fill = n % s.frame
	if whole == 0 {
		return nil
	}
	last := s.buf[(whole-1)*s.frame : whole*s.frame]
	s.count += int64(whole)
	number := int64(binary.BigEndian.Uint64(last[s.frame-payloadSize:]))
	if last[0] != packetPublish || number != s.count-1 {
		return fmt.Errorf("message %d begins with %#x and has number %d: something was lost", s.count-1, last[0], number)
	}
	copy(s.buf, s.buf[whole*s.frame:n])
	return nil
}

// sweep is all the subscribers. One goroutine reads from them in turn, which
// costs a fraction of what a goroutine for each of them costs.
type sweep []*sink

func (s sweep) close() {
	for _, r := range s {
		r.file.Close()
	}
}

// read reads from every subscriber, tells the source, and returns how many
// messages all of them, and the slowest, have received so far.
func (s sweep) read(p *source) (all, slowest int64, err error) {
	for i, r := range s {
		if err := r.read(); err != nil {
			return 0, 0, fmt.Errorf("read from subscriber %d: %w", i, err)
		}
		all += r.count
		if i == 0 || r.count < slowest {
			slowest = r.count
		}
	}
	p.delivered.Store(slowest)
	select {
	case p.room <- struct{}{}:
	default:
	}
	return all, slowest, nil
}

// measure reads for a while, then measures for d.
func (s sweep) measure(ctx context.Context, b *broker, p *source, d time.Duration) (throughput, error) {
	var from mark
	begin := time.Now()
	for {
		time.Sleep(pause)
		if err := ctx.Err(); err != nil {
			return throughput{}, err
		}
		all, _, err := s.read(p)
		if err != nil {
			return throughput{}, err
		}
		now := time.Now()
		switch {
		case from.at.IsZero() && now.Sub(begin) >= warmUp:
			if from, err = newMark(b, now, all); err != nil {
				return throughput{}, err
			}
		case !from.at.IsZero() && now.Sub(from.at) >= d:
			to, err := newMark(b, now, all)
			if err != nil {
				return throughput{}, err
			}
			return from.until(to)
		}
	}
}

// drain waits until every subscriber has all that was sent.
func (s sweep) drain(ctx context.Context, p *source) error {
	sent := p.sent.Load()
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		_, slowest, err := s.read(p)
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

// mark is a moment of a measurement.
type mark struct {
	at         time.Time
	deliveries int64
	cpu        time.Duration
}

func newMark(b *broker, at time.Time, deliveries int64) (mark, error) {
	cpu, err := b.cpu()
	return mark{at, deliveries, cpu}, err
}

// until returns what was achieved between two marks.
func (m mark) until(n mark) (throughput, error) {
	deliveries := float64(n.deliveries - m.deliveries)
	if deliveries == 0 {
		return throughput{}, errors.New("nothing was delivered")
	}
	return throughput{
		deliveries: deliveries / n.at.Sub(m.at).Seconds(),
		cpu:        (n.cpu - m.cpu).Seconds() / deliveries * 1e6,
	}, nil
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
