package embedded

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

const (
	// maxMessage is the longest message that MongoDB's protocol allows, in bytes.
	maxMessage = 48_000_000
	// maxDepth is how deeply documents may be nested; MongoDB allows 100 too.
	maxDepth = 100
)

// guard passes connections on to FerretDB and checks each message first. A
// document that is nested a million times ends a process that decodes it with
// FerretDB's wire library, which recurses: Go cannot recover from a stack
// overflow.
type guard struct {
	listener *net.UnixListener
	backend  string // FerretDB's socket
	log      logrus.FieldLogger
}

// run accepts connections until accepting ends, and passes them on until
// passing ends.
func (g *guard) run(accepting, passing context.Context) {
	var conns sync.WaitGroup
	defer conns.Wait()
	defer context.AfterFunc(accepting, func() { g.listener.Close() })()
	for {
		client, err := g.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no free file descriptor, for instance
			g.log.WithError(err).Warn("embedded store cannot accept a connection")
			select {
			case <-accepting.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		conns.Go(func() {
			if err := g.pass(passing, client); err != nil {
				g.log.WithError(err).Warn("embedded store ended a connection")
			}
		})
	}
}

// pass serves a client until one of the two sides closes the connection.
func (g *guard) pass(ctx context.Context, client *net.UnixConn) error {
	defer client.Close()
	server, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: g.backend, Net: "unix"})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	var answers sync.WaitGroup
	answers.Go(func() {
		io.Copy(client, server) // its errors mean that the connection has ended
		client.Close()
	})
	err = forward(server, bufio.NewReader(client))
	server.Close()
	answers.Wait()
	return err
}

// forward copies messages until one is refused, which the error tells, or the
// connection ends.
func forward(w io.Writer, r io.Reader) error {
	var message bytes.Buffer
	for {
		message.Reset()
		if message.Cap() > 1<<20 {
			message = bytes.Buffer{} // what one large message needed
		}
		if _, err := io.CopyN(&message, r, 4); err != nil {
			return nil
		}
		length := int64(int32(binary.LittleEndian.Uint32(message.Bytes())))
		if length < 16 || length > maxMessage {
			return fmt.Errorf("message of %d bytes: want 16 to %d", length, maxMessage)
		}
		if _, err := io.CopyN(&message, r, length-4); err != nil {
			return nil
		}
		if err := checkMessage(message.Bytes()); err != nil {
			return err
		}
		if _, err := w.Write(message.Bytes()); err != nil {
			return nil
		}
	}
}

// The messages that clients send, of MongoDB's wire protocol: OP_QUERY opens
// connections of old drivers, and all else is OP_MSG.
const (
	opQuery = 2004
	opMsg   = 2013
)

var errMalformed = errors.New("message: malformed")

// checkMessage returns an error unless every document of a message can be
// decoded within maxDepth.
func checkMessage(m []byte) error {
	code, body := binary.LittleEndian.Uint32(m[12:]), m[16:]
	if len(body) < 5 {
		return errMalformed
	}
	flags, body := binary.LittleEndian.Uint32(body), body[4:]
	switch code {
	case opQuery: // flags, name of the collection, two numbers, one or two documents
		end := bytes.IndexByte(body, 0)
		if end < 0 || len(body) < end+9 {
			return errMalformed
		}
		return checkDocuments(body[end+9:])
	case opMsg: // flags, sections, perhaps a checksum
		if flags&1 != 0 {
			if len(body) < 4 {
				return errMalformed
			}
			body = body[:len(body)-4]
		}
		return checkSections(body)
	}
	return fmt.Errorf("message: operation %d, want %d or %d", code, opMsg, opQuery)
}

// checkSections checks the sections of an OP_MSG: 0 and a document, or 1, a
// length, a name and documents.
func checkSections(b []byte) error {
	for len(b) > 0 {
		if len(b) < 5 {
			return errMalformed
		}
		kind := b[0]
		b = b[1:]
		length := int64(int32(binary.LittleEndian.Uint32(b)))
		if length < 5 || length > int64(len(b)) {
			return errMalformed
		}
		documents := b[:length]
		b = b[length:]
		switch kind {
		case 0:
		case 1:
			end := bytes.IndexByte(documents[4:], 0)
			if end < 0 {
				return errMalformed
			}
			documents = documents[4+end+1:]
		default:
			return fmt.Errorf("message: section of kind %d, want 0 or 1", kind)
		}
		if err := checkDocuments(documents); err != nil {
			return err
		}
	}
	return nil
}

// checkDocuments checks documents that follow one another.
func checkDocuments(b []byte) error {
	for len(b) > 0 {
		document, rest, ok := bsoncore.ReadDocument(b)
		if !ok {
			return errMalformed
		}
		if err := checkDepth(document, maxDepth); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

func checkDepth(document []byte, left int) error {
	if left == 0 {
		return fmt.Errorf("message: document nested more than %d times", maxDepth)
	}
	if len(document) < 5 {
		return errMalformed
	}
	elements := document[4 : len(document)-1]
	for len(elements) > 0 {
		element, rest, ok := bsoncore.ReadElement(elements)
		if !ok {
			return errMalformed
		}
		elements = rest
		value, err := element.ValueErr()
		if err != nil {
			return errMalformed
		}
		switch bson.Type(value.Type) {
		case bson.TypeEmbeddedDocument, bson.TypeArray:
			if err := checkDepth(value.Data, left-1); err != nil {
				return err
			}
		case bson.TypeCodeWithScope:
			return errors.New("message: JavaScript with scope is not supported")
		}
	}
	return nil
}
