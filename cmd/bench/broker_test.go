package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"golang.org/x/sys/unix"

	"github.com/iotoll/iotoll/internal/mosquitto"
)

// topic is what everybody publishes and reads.
const topic = "sensor/live"

// broker is a Mosquitto under one of the configurations.
type broker struct{ *mosquitto.Broker }

// pause stops the broker, so that it costs nothing while another is measured.
func (k *broker) pause(b *testing.B) { k.signal(b, syscall.SIGSTOP) }

// resume lets the broker carry on.
func (k *broker) resume(b *testing.B) { k.signal(b, syscall.SIGCONT) }

func (k *broker) signal(b *testing.B, s syscall.Signal) {
	if err := k.Signal(s); err != nil {
		b.Fatalf("signal the broker: %v", err)
	}
}

// cpu returns the CPU time that the broker has used so far, in nanoseconds
// rather than the hundredths of a second of /proc.
func (k *broker) cpu(b *testing.B) time.Duration {
	// clock_getcpuclockid(3): the process's CPU clock of kind "sched".
	clock := int32(^k.PID()<<3 | 2)
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		b.Fatalf("read the CPU time of process %d: %v", k.PID(), err)
	}
	return time.Duration(t.Nano())
}

// connect opens a connection and logs in, with the username as client ID.
func connect(k *broker, a account) (net.Conn, error) {
	c, err := net.Dial("tcp", k.Addr())
	if err != nil {
		return nil, err
	}
	answer, err := exchange(c, packets.CONNECT, func(content any) {
		p := content.(*packets.Connect)
		p.CleanStart, p.ClientID = true, a.name
		p.UsernameFlag, p.Username, p.PasswordFlag, p.Password = true, a.name, true, []byte(a.password)
	})
	if err == nil {
		if ack, ok := answer.(*packets.Connack); !ok || ack.ReasonCode != 0 {
			err = fmt.Errorf("the broker answered %v", answer)
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// dial is connect for those that get in.
func dial(b *testing.B, k *broker, a account) net.Conn {
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		c, err := connect(k, a)
		if err == nil {
			b.Cleanup(func() { c.Close() })
			return c
		}
		deferred := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
		if !deferred || time.Since(begin) > patience {
			b.Fatalf("log in as %s: %v", a.name, err)
		}
	}
}

// subscribe subscribes to the topic with QoS 0.
func subscribe(b *testing.B, c net.Conn) {
	answer, err := exchange(c, packets.SUBSCRIBE, func(content any) {
		p := content.(*packets.Subscribe)
		p.PacketID, p.Subscriptions = 1, []packets.SubOptions{{Topic: topic}}
	})
	if ack, ok := answer.(*packets.Suback); err != nil || !ok || ack.Reasons[0] != 0 {
		b.Fatalf("subscribe to %s: the broker answered %v, error %v", topic, answer, err)
	}
}

// exchange sends a packet and reads the content of the answer.
func exchange(c net.Conn, kind byte, fill func(content any)) (any, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	defer c.SetDeadline(time.Time{})
	p := packets.NewControlPacket(kind)
	fill(p.Content)
	if _, err := p.WriteTo(c); err != nil {
		return nil, err
	}
	answer, err := packets.ReadPacket(c)
	if err != nil {
		return nil, err
	}
	return answer.Content, nil
}

// publishFrame returns a PUBLISH of QoS 0 as it is on the wire.
func publishFrame(payload ...[]byte) []byte {
	p := packets.NewControlPacket(packets.PUBLISH)
	content := p.Content.(*packets.Publish)
	content.Topic, content.Payload = topic, bytes.Join(payload, nil)
	var frame bytes.Buffer
	p.WriteTo(&frame) // to memory, which does not fail
	return frame.Bytes()
}

// readMessage returns the payload of the next message.
func readMessage(r io.Reader) ([]byte, error) {
	p, err := packets.ReadPacket(r)
	if err != nil {
		return nil, err
	}
	m, ok := p.Content.(*packets.Publish)
	if !ok || len(m.Payload) < payloadSize {
		return nil, fmt.Errorf("received %v, want a message", p)
	}
	return m.Payload, nil
}
