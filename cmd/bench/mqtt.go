package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// The packet types of MQTT 3.1.1 that we send or receive, as the first byte
// of a packet (section 2.2 of the specification); PUBLISH is QoS 0.
const (
	packetConnect    = 0x10
	packetConnack    = 0x20
	packetPublish    = 0x30
	packetSubscribe  = 0x82
	packetSuback     = 0x90
	packetDisconnect = 0xe0
)

// maxPacket bounds what we read into memory; the broker sends us far less.
const maxPacket = 64 << 10

// appendString appends a string as MQTT writes it, after its length.
func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// appendLength appends a remaining length (section 2.2.3).
func appendLength(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// appendPacket appends a whole packet.
func appendPacket(b []byte, kind byte, body []byte) []byte {
	return append(appendLength(append(b, kind), len(body)), body...)
}

// appendConnect appends a CONNECT with a clean session and no keep alive.
func appendConnect(b []byte, clientID, user, password string) []byte {
	const userName, passWord, cleanSession = 0x80, 0x40, 0x02
	body := appendString(nil, "MQTT")
	body = append(body, 4, userName|passWord|cleanSession, 0, 0)
	body = appendString(body, clientID)
	body = appendString(body, user)
	return appendPacket(b, packetConnect, appendString(body, password))
}

// appendSubscribe appends a SUBSCRIBE to one filter with QoS 0.
func appendSubscribe(b []byte, filter string) []byte {
	body := appendString([]byte{0, 1}, filter) // the packet identifier is 1
	return appendPacket(b, packetSubscribe, append(body, 0))
}

// appendPublish appends a PUBLISH with QoS 0.
func appendPublish(b []byte, topic string, payload []byte) []byte {
	return appendPacket(b, packetPublish, append(appendString(nil, topic), payload...))
}

// readPacket reads one packet and not a byte more.
func readPacket(r io.Reader) (kind byte, body []byte, err error) {
	var b [1]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, nil, err
	}
	kind = b[0]
	length, shift := 0, 0
	for more := true; more; shift += 7 {
		if shift > 21 {
			return 0, nil, errors.New("remaining length has more than 4 bytes")
		}
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return 0, nil, err
		}
		length |= int(b[0]&0x7f) << shift
		more = b[0]&0x80 != 0
	}
	if length > maxPacket {
		return 0, nil, fmt.Errorf("packet has %d bytes, want at most %d", length, maxPacket)
	}
	body = make([]byte, length)
	_, err = io.ReadFull(r, body)
	return kind, body, err
}

// handshakeTimeout bounds what must be answered at once; it leaves room for
// many expensive log-ins before ours.
const handshakeTimeout = 30 * time.Second

// account is a user of the broker.
type account struct{ name, password string }

// dial connects and logs in, and tries again when the connection is closed without
// an answer, as iotoll has Mosquitto 2.0 do when many log in at once. The client
// ID is the user's name.
func dial(ctx context.Context, address string, a account) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	for {
		c, err := dialOnce(ctx, address, a)
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func dialOnce(ctx context.Context, address string, a account) (net.Conn, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if err := exchange(c, appendConnect(nil, a.name, a.name, a.password), packetConnack, 1); err != nil {
		c.Close()
		return nil, fmt.Errorf("log in as %s: %w", a.name, err)
	}
	return c, nil
}

// subscribe subscribes to a filter.
func subscribe(c net.Conn, filter string) error {
	if err := exchange(c, appendSubscribe(nil, filter), packetSuback, 2); err != nil {
		return fmt.Errorf("subscribe to %s: %w", filter, err)
	}
	return nil
}

// exchange sends a packet and reads the answer, which must be of a kind and
// hold 0 (success) at an index.
func exchange(c net.Conn, packet []byte, want byte, code int) error {
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	if _, err := c.Write(packet); err != nil {
		return err
	}
	kind, body, err := readPacket(c)
	if err != nil {
		return err
	}
	if kind != want || len(body) <= code {
		return fmt.Errorf("the broker answered with packet %#x of %d bytes, want %#x", kind, len(body), want)
	}
	if body[code] != 0 {
		return fmt.Errorf("the broker refused with code %#x", body[code])
	}
	return c.SetDeadline(time.Time{})
}

// hangUp takes leave of the broker.
func hangUp(c net.Conn) {
	c.Write(appendPacket(nil, packetDisconnect, nil)) // closing says the same, less politely
	c.Close()
}
