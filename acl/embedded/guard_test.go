package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// message makes a message of MongoDB's wire protocol.
func message(code uint32, body ...[]byte) []byte {
	m := make([]byte, 16)
	binary.LittleEndian.PutUint32(m[12:], code)
	m = append(m, bytes.Join(body, nil)...)
	binary.LittleEndian.PutUint32(m, uint32(len(m)))
	return m
}

// nested makes a document of so many levels.
func nested(depth int) []byte {
	document := []byte{5, 0, 0, 0, 0}
	for range depth - 1 {
		length := 4 + 1 + 2 + len(document) + 1
		outer := binary.LittleEndian.AppendUint32(nil, uint32(length))
		outer = append(outer, 3, 'a', 0)
		document = append(append(outer, document...), 0)
	}
	return document
}

// deep makes a document of many levels in time that is linear in them.
func deep(depth int) []byte {
	const each = 4 + 1 + 2 + 1
	b := make([]byte, 0, each*depth+5)
	for i := range depth {
		b = binary.LittleEndian.AppendUint32(b, uint32(each*(depth-i)+5))
		b = append(b, 3, 'a', 0)
	}
	b = append(b, 5, 0, 0, 0, 0)
	return append(b, make([]byte, depth)...)
}

func TestCheckMessage(t *testing.T) {
	flags := []byte{0, 0, 0, 0}
	sequence := func(documents ...[]byte) []byte {
		body := append([]byte("documents\x00"), bytes.Join(documents, nil)...)
		return append(binary.LittleEndian.AppendUint32([]byte{1}, uint32(len(body)+4)), body...)
	}
	scoped, err := bson.Marshal(bson.M{"a": bson.CodeWithScope{Code: "x", Scope: bson.M{}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		m    []byte
		want string // in the error; empty: none
	}{
		{"command", message(opMsg, flags, []byte{0}, nested(2)), ""},
		{"command and documents", message(opMsg, flags, []byte{0}, nested(2), sequence(nested(1), nested(100))), ""},
		{"checksum", message(opMsg, []byte{1, 0, 0, 0}, []byte{0}, nested(2), flags), ""},
		{"query", message(opQuery, flags, []byte("admin.$cmd\x00"), flags, flags, nested(3)), ""},
		{"as deep as allowed", message(opMsg, flags, []byte{0}, nested(100)), ""},
		{"too deep", message(opMsg, flags, []byte{0}, nested(101)), "nested more than 100 times"},
		{"too deep among documents", message(opMsg, flags, []byte{0}, nested(1), sequence(nested(1), nested(101))), "nested more than 100 times"},
		{"too deep query", message(opQuery, flags, []byte("a\x00"), flags, flags, nested(101)), "nested more than 100 times"},
		{"four million levels", message(opMsg, flags, []byte{0}, deep(4_000_000)), "nested more than 100 times"},
		{"no body", message(opMsg), "malformed"},
		{"compressed", message(2012, flags, flags), "operation 2012"},
		{"unknown section", message(opMsg, flags, []byte{2}, nested(1)), "section of kind 2"},
		{"section too long", message(opMsg, flags, []byte{0, 200, 0, 0, 0}), "malformed"},
		{"document too long", message(opMsg, flags, []byte{0, 9, 0, 0, 0, 3, 'a', 0, 100}), "malformed"},
		{"code with scope", message(opMsg, flags, []byte{0}, scoped), "not supported"},
	} {
		err := checkMessage(test.m)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got error %v, want one with %q", test.name, err, test.want)
		}
	}
}

// FuzzCheckMessage checks that no message makes the check panic.
func FuzzCheckMessage(f *testing.F) {
	f.Add(message(opMsg, []byte{0, 0, 0, 0, 0}, nested(3))[12:])
	f.Add(message(opQuery, []byte("\x00\x00\x00\x00a\x00\x00\x00\x00\x00\x00\x00\x00\x00"), nested(3))[12:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if m := append(make([]byte, 12), b...); len(m) >= 16 {
			checkMessage(m)
		}
	})
}

// TestDeepDocument sends a document of four million levels to a running store,
// which must go on serving others.
func TestDeepDocument(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "store")
	with(t, directory, func(c *mongo.Client) {
		once(t, c.Database("d").Collection("a"), "before")
		conn, err := net.Dial("unix", filepath.Join(directory, "private.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		conn.Write(message(opMsg, []byte{0, 0, 0, 0, 0}, deep(4_000_000)))
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("the store answered with %d bytes, want it to end the connection", n)
		}
		once(t, c.Database("d").Collection("a"), "after")
	})
}

// TestClientThatDoesNotRead checks that such a client cannot keep a store from
// closing.
func TestClientThatDoesNotRead(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "store")
	log := logrus.New()
	log.SetOutput(bytes.NewBuffer(nil))
	s, err := Open(Config{Directory: directory}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	conn, err := net.Dial("unix", filepath.Join(directory, "private.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	command, err := bson.Marshal(bson.D{{Key: "buildInfo", Value: 1}, {Key: "$db", Value: "admin"}})
	if err != nil {
		t.Fatal(err)
	}
	question := message(opMsg, []byte{0, 0, 0, 0, 0}, command)
	conn.SetWriteDeadline(time.Now().Add(2 * time.Second))
	for {
		if _, err := conn.Write(question); err != nil {
			break // everything on the way is full
		}
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Run does not return")
	}
}
