package main

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
)

// The packets by hand, after MQTT 3.1.1, sections 3.1, 3.3 and 3.8.
func TestPackets(t *testing.T) {
	for _, test := range []struct {
		name string
		got  []byte
		want string
	}{
		{"CONNECT", appendConnect(nil, "id", "john", "pw"), "\x10\x18\x00\x04MQTT\x04\xc2\x00\x00\x00\x02id\x00\x04john\x00\x02pw"},
		{"SUBSCRIBE", appendSubscribe(nil, "a/#"), "\x82\x08\x00\x01\x00\x03a/#\x00"},
		{"PUBLISH", appendPublish(nil, "a", []byte("xy")), "\x30\x05\x00\x01axy"},
		{"DISCONNECT", appendPacket(nil, packetDisconnect, nil), "\xe0\x00"},
		{"PUBLISH after another", appendPublish([]byte("before"), "a", nil), "before\x30\x03\x00\x01a"},
	} {
		if string(test.got) != test.want {
			t.Errorf("%s: got %q, want %q", test.name, test.got, test.want)
		}
	}
}

func TestReadPacket(t *testing.T) {
	// Lengths around the limits of the first, second and third byte.
	for _, n := range []int{0, 1, 127, 128, 16383, 16384, maxPacket} {
		body := bytes.Repeat([]byte{7}, n)
		r := bytes.NewReader(append(appendPacket(nil, packetPublish, body), "rest"...))
		kind, got, err := readPacket(r)
		if err != nil || kind != packetPublish || !bytes.Equal(got, body) {
			t.Errorf("readPacket of %d bytes: got packet %#x of %d bytes, error %v", n, kind, len(got), err)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "rest" {
			t.Errorf("after readPacket of %d bytes: got %q, want the rest", n, rest)
		}
	}
	for _, test := range []struct{ name, in, want string }{
		{"nothing", "", "EOF"},
		{"no length", "\x30", "EOF"},
		{"cut off", "\x30\x05abc", "unexpected EOF"},
		{"length of 5 bytes", "\x30\x80\x80\x80\x80\x01", "more than 4 bytes"},
		{"too large", "\x30\xff\xff\xff\x7f", "at most 65536"},
	} {
		_, _, err := readPacket(strings.NewReader(test.in))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("readPacket of %s: got error %v, want one with %q", test.name, err, test.want)
		}
	}
}

func TestExchange(t *testing.T) {
	for _, test := range []struct{ name, answer, want string }{
		{"accepted", "\x20\x02\x00\x00", ""},
		{"refused", "\x20\x02\x00\x05", "refused with code 0x5"},
		{"another packet", "\x90\x02\x00\x00", "answered with packet 0x90"},
		{"too short", "\x20\x01\x00", "of 1 bytes"},
	} {
		us, them := net.Pipe()
		go func() {
			readPacket(them)
			them.Write([]byte(test.answer))
		}()
		err := exchange(us, appendConnect(nil, "id", "john", "pw"), packetConnack, 1)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("exchange, %s: got error %v, want %q", test.name, err, test.want)
		}
		us.Close()
	}
}
