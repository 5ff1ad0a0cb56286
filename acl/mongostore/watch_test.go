package mongostore

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/iotoll/iotoll/acl"
)

// TestWatchNeedsChangeStreams checks that Watch fails on FerretDB, which has none.
func TestWatchNeedsChangeStreams(t *testing.T) {
	s := newStore(t)
	if err := s.Watch(t.Context(), func() { t.Error("news came") }); err == nil {
		t.Error("Watch: got no error, want one")
	}
}

func TestWatch(t *testing.T) {
	streams := newStreams(t, newDatabase())
	s := openAt(t, streams.uri, streams.database)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	news, ended := make(chan struct{}, 10), make(chan error, 1)
	go func() { ended <- s.Watch(ctx, func() { news <- struct{}{} }) }()
	await := func(what string) {
		t.Helper()
		select {
		case <-news:
		case err := <-ended:
			t.Fatalf("%s: Watch ended: %v", what, err)
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: no news came", what)
		}
	}
	await("at the beginning")
	at := load(t, s)
	for _, name := range []string{"john", "jane"} {
		if err := s.AddUser(t.Context(), acl.User{Name: name}); err != nil {
			t.Fatal(err)
		}
		await(name)
		changes, next, err := s.Changes(t.Context(), at)
		if err != nil || len(changes) != 1 || changes[0].User == nil || changes[0].User.Name != name {
			t.Errorf("Changes after the news: got %+v, error %v, want %s alone", changes, err, name)
		}
		at = next
	}
	// Quiet for longer than the server waits.
	streams.awaitEmpty(t)
	select {
	case <-news:
		t.Error("news came when nothing was new")
	default:
	}
	// The server forgets the cursor: the driver makes another one.
	streams.forget()
	announceUser(t, s, "john")
	await("with another cursor")

	streams.end()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("Watch: got %v when the server ended the stream", err)
	}
	for len(news) > 0 { // of changes that both cursors told of
		<-news
	}
	go func() { ended <- s.Watch(ctx, func() { news <- struct{}{} }) }()
	await("at the beginning again")
	cancel()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("Watch: got no error when its context ended")
		}
	case <-time.After(30 * time.Second):
		t.Error("Watch goes on when its context has ended")
	}
}

// streams is a server with change streams of the log of changes, as MongoDB has
// them in replica sets: it answers for them by itself, and passes all else on to
// the server of the other tests. See "Change Streams" in MongoDB's manual.
type streams struct {
	database, uri string
	server        string // where the rest goes

	mu      sync.Mutex
	changed chan struct{} // closed and made anew at each change
	events  int64         // changes so far
	seen    map[int64]int64
	cursor  int64 // the last one that was made
	ended   bool
	empty   int // answers without an event
}

// socketOf returns the path of the socket in a URI.
func socketOf(t *testing.T, uri string) string {
	t.Helper()
	path, err := url.PathUnescape(strings.Trim(strings.TrimPrefix(uri, "mongodb://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func newStreams(t *testing.T, database string) *streams {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &streams{
		database: database, uri: "mongodb://" + l.Addr().String() + "/",
		server:  socketOf(t, server),
		changed: make(chan struct{}), seen: make(map[int64]int64),
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(t.Context(), func() { c.Close() })
			wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return p
}

// serve answers what a client asks on one connection.
func (p *streams) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	for {
		request, err := readMessage(client)
		if err != nil {
			return
		}
		command := body(request)
		if answer := p.answer(command); answer != nil {
			if _, err := client.Write(reply(request, answer)); err != nil {
				return
			}
			continue
		}
		if _, err := server.Write(request); err != nil {
			return
		}
		response, err := readMessage(server)
		if err != nil {
			return
		}
		if name, ok := command.Lookup("insert").StringValueOK(); ok && name == "changes" && command.Lookup("$db").StringValue() == p.database {
			p.mu.Lock()
			p.events++
			p.wake()
			p.mu.Unlock()
		}
		if _, err := client.Write(response); err != nil {
			return
		}
	}
}

// wake has the cursors look. Call it with the lock held.
func (p *streams) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// answer returns what the server says to a command about a change stream, nil for
// any other.
func (p *streams) answer(command bson.Raw) bson.D {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := command.LookupErr("pipeline", "0", "$changeStream"); err == nil {
		p.cursor++
		p.ended = false
		p.seen[p.cursor] = p.events
		return p.batch("firstBatch", p.cursor, 0)
	}
	if _, err := command.LookupErr("killCursors"); err == nil {
		return bson.D{{Key: "ok", Value: 1.0}}
	}
	id, ok := command.Lookup("getMore").AsInt64OK()
	if !ok {
		return nil
	}
	end := time.After(time.Duration(command.Lookup("maxTimeMS").AsInt64()) * time.Millisecond)
	for {
		seen, known := p.seen[id]
		if !known {
			return bson.D{{Key: "ok", Value: 0.0}, {Key: "code", Value: int32(43)}, {Key: "codeName", Value: "CursorNotFound"}, {Key: "errmsg", Value: "cursor id not found"}}
		}
		if n := p.events - seen; n > 0 || p.ended {
			p.seen[id] = p.events
			if p.ended {
				id = 0
			}
			return p.batch("nextBatch", id, n)
		}
		changed := p.changed
		p.mu.Unlock()
		over := false
		select {
		case <-changed:
		case <-end:
			over = true
		}
		p.mu.Lock()
		if over {
			p.empty++
			return p.batch("nextBatch", id, 0)
		}
	}
}

// batch is an answer with a number of events.
func (p *streams) batch(name string, cursor, n int64) bson.D {
	events := bson.A{}
	token := bson.D{{Key: "_data", Value: "8263"}}
	for range n {
		events = append(events, bson.D{{Key: "_id", Value: token}})
	}
	return bson.D{{Key: "cursor", Value: bson.D{
		{Key: "id", Value: cursor}, {Key: "ns", Value: p.database + ".changes"}, {Key: name, Value: events}, {Key: "postBatchResumeToken", Value: token},
	}}, {Key: "ok", Value: 1.0}}
}

// forget makes the server forget its cursors.
func (p *streams) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.seen)
	p.wake()
}

// end ends the change stream, as when the collection is dropped.
func (p *streams) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.wake()
}

// awaitEmpty waits until two more answers held no event.
func (p *streams) awaitEmpty(t *testing.T) {
	t.Helper()
	answers := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.empty
	}
	for before, end := answers(), time.Now().Add(30*time.Second); answers() < before+2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the stream does not ask")
		}
	}
}

// readMessage reads a message of MongoDB's wire protocol.
func readMessage(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, max(16, binary.LittleEndian.Uint32(size[:])))
	copy(message, size[:])
	_, err := io.ReadFull(r, message[4:])
	return message, err
}

// body is the command in an OP_MSG, whose first section it is; of other messages,
// an empty document.
func body(message []byte) bson.Raw {
	const opMsg, header = 2013, 16 + 4 + 1
	if binary.LittleEndian.Uint32(message[12:]) != opMsg || len(message) < header+4 {
		return bson.Raw{5, 0, 0, 0, 0}
	}
	return bson.Raw(message[header:][:binary.LittleEndian.Uint32(message[header:])])
}

// reply is an OP_MSG in answer to another one.
func reply(to []byte, document bson.D) []byte {
	raw, err := bson.Marshal(document)
	if err != nil {
		panic(err)
	}
	message := make([]byte, 21, 21+len(raw))
	binary.LittleEndian.PutUint32(message, uint32(21+len(raw)))
	copy(message[8:], to[4:8])
	copy(message[12:], to[12:16])
	return append(message, raw...)
}
