package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// client is an MQTT 3.1.1 and 5 client that shows what a library would hide, such as the
// code of each acknowledgement.
type client struct {
	t       testing.TB
	conn    net.Conn
	r       *bufio.Reader
	version byte // 4 is MQTT 3.1.1, 5 is MQTT 5
	packet  uint16
	writing sync.Mutex
	inbox   chan delivery
	acks    chan []byte // packet type, then the body, of all but PUBLISH
	closed  chan struct{}
	err     error // why closed
	// mayClose is set if the broker may close the connection at any time: then
	// sync does not fail, and subscribe and unsubscribe return -1.
	mayClose bool
	deaf     atomic.Bool // reads nothing more
	mute     atomic.Bool // acknowledges nothing more
}

type delivery struct {
	topic, payload string
	retained       bool
}

// connect is what a client sends in CONNECT.
type connect struct {
	version       byte // 4 if it is 0
	user, pass    string
	anonymous     bool
	id            string
	keepSession   bool // and the session outlives the connection
	will, willMsg string
}

var errRefused = errors.New("connection refused")

// dialClient connects. It returns the code of the CONNACK, -1 if the broker closed the
// connection without one.
func dialClient(t testing.TB, conn net.Conn, o connect) (*client, int) {
	t.Helper()
	if o.version == 0 {
		o.version = 4
	}
	c := &client{t: t, conn: conn, r: bufio.NewReader(conn), version: o.version, inbox: make(chan delivery, 10000), acks: make(chan []byte, 100), closed: make(chan struct{})}
	t.Cleanup(func() {
		conn.Close()
		c.deaf.Store(false)
	})
	flags := byte(0)
	if !o.keepSession {
		flags |= 2
	}
	if o.will != "" {
		flags |= 4
	}
	if !o.anonymous {
		flags |= 0x80
		if o.pass != "" {
			flags |= 0x40
		}
	}
	body := append(str("MQTT"), o.version, flags, 0, 60)
	if o.version == 5 {
		if o.keepSession {
			body = append(body, 5, 17, 0, 0, 1, 0) // session expiry
		} else {
			body = append(body, 0)
		}
	}
	body = append(body, str(o.id)...)
	if o.will != "" {
		if o.version == 5 {
			body = append(body, 0)
		}
		body = append(append(body, str(o.will)...), str(o.willMsg)...)
	}
	if !o.anonymous {
		body = append(body, str(o.user)...)
		if o.pass != "" {
			body = append(body, str(o.pass)...)
		}
	}
	c.send(0x10, body)
	go c.read()
	ack, err := c.ack(0x20)
	if err != nil {
		return c, -1
	}
	return c, int(ack[1])
}

func str(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

func (c *client) send(kind byte, body []byte) {
	c.t.Helper()
	p := []byte{kind}
	for n := len(body); ; {
		b := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			p = append(p, b|0x80)
			continue
		}
		p = append(p, b)
		break
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	c.conn.Write(append(p, body...)) // an error shows as no answer
}

func (c *client) read() {
	defer close(c.closed)
	for {
		for c.deaf.Load() {
			time.Sleep(10 * time.Millisecond)
		}
		kind, err := c.r.ReadByte()
		var n uint64
		if err == nil {
			n, err = binary.ReadUvarint(c.r)
		}
		body := make([]byte, n)
		if err == nil {
			_, err = io.ReadFull(c.r, body)
		}
		if err != nil {
			c.err = err
			return
		}
		if kind>>4 != 3 {
			c.acks <- append([]byte{kind & 0xf0}, body...)
			continue
		}
		n = uint64(binary.BigEndian.Uint16(body))
		d := delivery{topic: string(body[2 : 2+n]), retained: kind&1 != 0}
		body = body[2+n:]
		if qos := kind >> 1 & 3; qos > 0 {
			if !c.mute.Load() {
				c.send(0x40, body[:2])
			}
			body = body[2:]
		}
		if c.version == 5 {
			body = body[1+body[0]:]
		}
		d.payload = string(body)
		select {
		case c.inbox <- d:
		default:
		}
	}
}

// ack waits for an acknowledgement of a packet type and returns its body.
func (c *client) ack(kind byte) ([]byte, error) {
	for {
		select {
		case a := <-c.acks:
			if a[0] == kind {
				return a[1:], nil
			}
		case <-c.closed:
			select {
			case a := <-c.acks:
				if a[0] == kind {
					return a[1:], nil
				}
			default:
			}
			return nil, fmt.Errorf("%w: %v", errRefused, c.err)
		case <-time.After(10 * time.Second):
			return nil, errors.New("no answer in 10 s")
		}
	}
}

func (c *client) properties() []byte {
	if c.version == 5 {
		return []byte{0}
	}
	return nil
}

func (c *client) id() []byte {
	if c.packet++; c.packet == 0 {
		c.packet = 1 // 0 is none
	}
	return binary.BigEndian.AppendUint16(nil, c.packet)
}

// subscribe returns the SUBACK's code.
func (c *client) subscribe(filter string, qos byte) int {
	c.t.Helper()
	body := append(c.id(), c.properties()...)
	c.send(0x82, append(append(body, str(filter)...), qos))
	a, err := c.ack(0x90)
	if c.mayClose && errors.Is(err, errRefused) {
		return -1
	}
	if err != nil {
		c.t.Fatalf("subscribe to %s: %v", filter, err)
	}
	return int(a[len(a)-1])
}

// unsubscribe returns the UNSUBACK's code; 0 in MQTT 3.1.1, which has none.
func (c *client) unsubscribe(filter string) int {
	c.t.Helper()
	body := append(c.id(), c.properties()...)
	c.send(0xa2, append(body, str(filter)...))
	a, err := c.ack(0xb0)
	if c.mayClose && errors.Is(err, errRefused) {
		return -1
	}
	if err != nil {
		c.t.Fatalf("unsubscribe from %s: %v", filter, err)
	}
	if c.version == 5 {
		return int(a[len(a)-1])
	}
	return 0
}

// publish returns the PUBACK's code for QoS 1; 0 in MQTT 3.1.1, which has none.
func (c *client) publish(topic, payload string, qos byte, retain bool) int {
	c.t.Helper()
	kind := byte(0x30) | qos<<1
	if retain {
		kind |= 1
	}
	body := str(topic)
	if qos > 0 {
		body = append(body, c.id()...)
	}
	body = append(body, c.properties()...)
	c.send(kind, append(body, payload...))
	if qos == 0 {
		return 0
	}
	a, err := c.ack(0x40)
	if err != nil {
		c.t.Fatalf("publish to %s: %v", topic, err)
	}
	if len(a) > 2 && a[2] != 0x10 { // no subscribers, which is no failure
		return int(a[2])
	}
	return 0
}

// sync waits until the broker has handled all packets of this client.
func (c *client) sync() {
	c.t.Helper()
	c.send(0xc0, nil)
	if _, err := c.ack(0xd0); err != nil && !(c.mayClose && errors.Is(err, errRefused)) {
		c.t.Fatalf("ping: %v", err)
	}
}

// want fails the test unless the next delivery is this one.
func (c *client) want(topic, payload string) delivery {
	c.t.Helper()
	select {
	case d := <-c.inbox:
		if d.topic != topic || d.payload != payload {
			c.t.Errorf("delivered: got %s %q, want %s %q", d.topic, d.payload, topic, payload)
		}
		return d
	case <-time.After(5 * time.Second):
		c.t.Errorf("delivered: got nothing, want %s %q", topic, payload)
	}
	return delivery{}
}

// wantNothing fails the test if a delivery is waiting.
func (c *client) wantNothing() {
	c.t.Helper()
	c.sync()
	select {
	case d := <-c.inbox:
		c.t.Errorf("delivered: got %s %q, want nothing", d.topic, d.payload)
	default:
	}
}

// disconnect sends DISCONNECT. drop only closes the connection, so the broker sends the
// will.
func (c *client) disconnect() {
	c.send(0xe0, nil)
	select {
	case <-c.closed:
	case <-time.After(5 * time.Second):
		c.t.Error("broker does not close the connection")
	}
	c.conn.Close()
}

func (c *client) drop() { c.conn.Close() }
