package e2e

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/cmd/internal/rig"
)

// TestBadInput: names and filters that no honest client sends get a refusal, and
// nobody else notices.
func TestBadInput(t *testing.T) {
	r := newRig(t, rig.Options{})
	c := client(t, r, "john", "john", "-t", "sensor/#")
	pay(t, r, r.Price, john)
	receives(t, c, "sensor/live", 2)
	password := r.Password("john")
	huge := strings.Repeat("x", 65_535) // the longest that MQTT has

	for _, name := range []string{"john+", "+", "#", "john/", "a/b", "john\x00", "\x00", "\xff\xfe", "j\xf6hn", "\xed\xa0\x80", "%u", "$SYS", huge, "john" + huge[4:]} {
		if code := connect(t, r, name, password); code == 0 {
			t.Errorf("username %.20q of %d bytes was let in", name, len(name))
		}
	}
	// A broker hands passwords over as C strings: what follows a NUL is lost.
	for _, wrong := range []string{"", "\x00", "\x00" + password, password + " ", huge} {
		if code := connect(t, r, "john", wrong); code == 0 {
			t.Errorf("john was let in with a password of %d bytes", len(wrong))
		}
	}
	if code := connect(t, r, "john", password); code != 0 {
		t.Errorf("john with his password: got code %d, want 0", code)
	}
	for _, filter := range []string{"", "sensor/#/live", "sensor+", "sensor/\x00", "\xff", huge[1:] + "#", strings.Repeat("/", 65_535), "$share/g/" + huge[9:], "$share//sensor/live", "$share/g/"} {
		if answer := subscribe(t, r, password, filter); answer != -1 && answer != 0x80 {
			t.Errorf("subscription to %.20q of %d bytes: got %#x, want a refusal", filter, len(filter), answer)
		}
	}
	receives(t, c, "sensor/live", 2)
}

// packet is an MQTT 3.1.1 control packet.
func packet(kind byte, body ...[]byte) []byte {
	var all []byte
	for _, b := range body {
		all = append(all, b...)
	}
	return append(binary.AppendUvarint([]byte{kind}, uint64(len(all))), all...)
}

// field is a text with its length before it.
func field(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// dial connects with a name and a password, whatever is in them. It returns the
// code of the answer, -1 if there is none.
func dial(t *testing.T, r *rig.Rig, name, password string) (conn net.Conn, code int) {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.BrokerPort))
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	conn.Write(packet(0x10, field("MQTT"), []byte{4, 0xc2, 0, 60}, field(""), field(name), field(password)))
	answer := make([]byte, 4)
	if _, err := io.ReadFull(conn, answer); err != nil {
		if e, ok := err.(net.Error); ok && e.Timeout() {
			t.Errorf("name %.20q: no answer in ten seconds", name)
		}
		return conn, -1
	}
	return conn, int(answer[3])
}

func connect(t *testing.T, r *rig.Rig, name, password string) (code int) {
	t.Helper()
	conn, code := dial(t, r, name, password)
	conn.Close()
	return code
}

// subscribe returns what the broker answers to John's subscription, -1 if it ends
// the connection.
func subscribe(t *testing.T, r *rig.Rig, password, filter string) int {
	t.Helper()
	conn, code := dial(t, r, "john", password)
	defer conn.Close()
	if code != 0 {
		t.Fatalf("john is not let in: code %d", code)
	}
	conn.Write(packet(0x82, []byte{0, 1}, field(filter), []byte{0}))
	answer := make([]byte, 5)
	if _, err := io.ReadFull(conn, answer); err != nil {
		if e, ok := err.(net.Error); ok && e.Timeout() {
			t.Errorf("subscription to %.20q: no answer in ten seconds", filter)
		}
		return -1
	}
	return int(answer[4])
}
