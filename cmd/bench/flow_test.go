package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	payloadSize = 64                    // bytes of a message
	window      = 1000                  // messages that may be ahead of the slowest subscriber
	batch       = 50                    // messages written at once
	readEvery   = 5 * time.Millisecond  // of every subscriber
	getGoing    = 40 * time.Millisecond // of full speed before a measurement
	patience    = 20 * time.Second      // for what is under way
)

// throughput is what a broker achieved while it was given as much as it takes.
type throughput struct {
	deliveries int64
	elapsed    time.Duration
	cpu        time.Duration // of the broker
}

func (t throughput) plus(u throughput) throughput {
	return throughput{t.deliveries + u.deliveries, t.elapsed + u.elapsed, t.cpu + u.cpu}
}

// flow is a publisher of QoS 0 messages and the subscribers of their topic.
type flow struct {
	broker    *broker
	sinks     []*sink
	publisher net.Conn
	delivered atomic.Int64  // messages that the slowest subscriber has
	sent      atomic.Int64  // messages written
	room      chan struct{} // told when delivered may have grown
	stop      chan struct{} // closed to end publish
	done      chan error    // what publish returned
}

// newFlow connects a publisher and some subscribers, and begins to publish.
func newFlow(b *testing.B, broker *broker, f *fixture, subscribers int) *flow {
	w := &flow{broker: broker, room: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan error, 1)}
	for _, a := range f.subscribers[:subscribers] {
		c := dial(b, broker, a)
		subscribe(b, c)
		// The Go runtime must not watch the connection: each message would wake it
		// up, at the expense of the broker that sends it.
		file, err := c.(*net.TCPConn).File()
		if err != nil {
			b.Fatal(err)
		}
		c.Close() // file is another descriptor of the connection
		b.Cleanup(func() { file.Close() })
		w.sinks = append(w.sinks, &sink{file: file, buf: make([]byte, 64<<10)})
	}
	w.publisher = dial(b, broker, f.publisher)
	go func() { w.done <- w.publish() }()
	return w
}

// publish stays a window ahead of the subscribers. Each message carries its number.
func (w *flow) publish() error {
	message := publishFrame(make([]byte, payloadSize))
	buf := make([]byte, 0, batch*len(message))
	for next := int64(0); ; {
		n := min(batch, w.delivered.Load()+window-next)
		if n <= 0 {
			select {
			case <-w.stop:
				return nil
			case <-w.room:
			}
			continue
		}
		buf = buf[:0]
		for range n {
			buf = append(buf, message...)
			binary.BigEndian.PutUint64(buf[len(buf)-payloadSize:], uint64(next))
			next++
		}
		if _, err := w.publisher.Write(buf); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		w.sent.Store(next)
	}
}

// finish ends the publishing and waits until every subscriber has all that was
// sent; a lost message fails the benchmark.
func (w *flow) finish(b *testing.B) {
	close(w.stop)
	if err := <-w.done; err != nil {
		b.Fatal(err)
	}
	sent := w.sent.Load()
	for end := time.Now().Add(patience); ; time.Sleep(readEvery) {
		_, slowest := w.read(b)
		if slowest == sent {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("the slowest subscriber has %d of %d messages after %s", slowest, sent, patience)
		}
	}
}

// read reads from every subscriber in turn, which costs a fraction of what a
// goroutine for each would, and returns how many messages all of them, and the
// slowest, have received so far.
func (w *flow) read(b *testing.B) (all, slowest int64) {
	for i, s := range w.sinks {
		if err := s.read(); err != nil {
			b.Fatalf("read from subscriber %d: %v", i, err)
		}
		all += s.count
		if i == 0 || s.count < slowest {
			slowest = s.count
		}
	}
	w.delivered.Store(slowest)
	select {
	case w.room <- struct{}{}:
	default:
	}
	return all, slowest
}

// measure gets going, then measures for d. Messages under way at its end are
// found by the next measurement.
func (w *flow) measure(b *testing.B, d time.Duration) throughput {
	var from throughput // its elapsed is unused
	var started time.Time
	for begin := time.Now(); ; {
		time.Sleep(readEvery)
		all, _ := w.read(b)
		now := throughput{deliveries: all, cpu: w.broker.cpu(b)}
		if started.IsZero() {
			if time.Since(begin) >= getGoing {
				from, started = now, time.Now()
			}
			continue
		}
		if elapsed := time.Since(started); elapsed >= d {
			if now.deliveries == from.deliveries {
				b.Fatal("nothing was delivered")
			}
			return throughput{now.deliveries - from.deliveries, elapsed, now.cpu - from.cpu}
		}
	}
}

// sink is a subscriber.
type sink struct {
	file  *os.File
	buf   []byte // begins with what was read of an incomplete frame
	fill  int    // how much that is
	count int64  // messages received
}

// frame is the size of a message on the wire.
var frame = len(publishFrame(make([]byte, payloadSize)))

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
		if err := s.take(s.fill + n); err != nil || !full {
			return err
		}
	}
}

// take counts the complete frames in the first n bytes of the buffer. The number
// in the last one tells whether all the messages before it arrived.
func (s *sink) take(n int) error {
	complete := n / frame
	s.fill = n % frame
	if complete == 0 {
		return nil
	}
	last := s.buf[(complete-1)*frame : complete*frame]
	s.count += int64(complete)
	if number := int64(binary.BigEndian.Uint64(last[frame-payloadSize:])); number != s.count-1 {
		return fmt.Errorf("message %d has number %d: a message was lost", s.count-1, number)
	}
	copy(s.buf, s.buf[complete*frame:n])
	return nil
}

// TestSinkTake: however the stream is cut up, every message is counted once, and
// a lost one is noticed.
func TestSinkTake(t *testing.T) {
	stream := func(numbers ...uint64) (b []byte) {
		for _, n := range numbers {
			b = append(b, publishFrame(binary.BigEndian.AppendUint64(nil, n), make([]byte, payloadSize-8))...)
		}
		return b
	}
	for cut := 1; cut < 3*frame; cut++ {
		s := &sink{buf: make([]byte, 4*frame)}
		for rest := stream(0, 1, 2, 3, 4, 5, 6, 7); len(rest) > 0; {
			n := copy(s.buf[s.fill:], rest[:min(cut, len(rest))])
			rest = rest[n:]
			if err := s.take(s.fill + n); err != nil {
				t.Fatalf("take in pieces of %d bytes: %v", cut, err)
			}
		}
		if s.count != 8 || s.fill != 0 {
			t.Fatalf("take in pieces of %d bytes: got %d messages and %d bytes, want 8 and 0", cut, s.count, s.fill)
		}
	}
	lost := stream(0, 1, 3)
	if err := (&sink{buf: lost}).take(len(lost)); err == nil {
		t.Error("take without message 2: got no error")
	}
}
