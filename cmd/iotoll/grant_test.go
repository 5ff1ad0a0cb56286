package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/acl/embedded"
)

// cutStore runs the embedded store behind an address where every connection
// that writes into a collection ends before the write arrives.
func cutStore(t *testing.T, socket, collection string) {
	t.Helper()
	server, err := embedded.Open(embedded.Config{Directory: filepath.Join(t.TempDir(), "store")}, logrus.New())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Run(ctx) }()
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	store, err := url.PathUnescape(strings.Trim(strings.TrimPrefix(server.URI(), "mongodb://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				to, err := net.Dial("unix", store)
				if err != nil {
					t.Error(err)
					return
				}
				defer to.Close()
				go io.Copy(conn, to)
				for buffer := make([]byte, 64<<10); ; {
					n, err := conn.Read(buffer)
					if err != nil || bytes.Contains(buffer[:n], []byte("insert\x00")) && bytes.Contains(buffer[:n], []byte(collection+"\x00")) {
						return
					}
					to.Write(buffer[:n])
				}
			}()
		}
	}()
}

// TestGrantAddHalfDone: the store fails when the time has been given and before
// it has said so. Whoever gives it again gives it twice, and has to be told.
func TestGrantAddHalfDone(t *testing.T) {
	t.Parallel()
	s := newSite(t, "http://127.0.0.1:1", "")
	cutStore(t, s.socket, "settlements")
	s.must("hunter3", "user", "add", "john")
	s.refuses(1, "hint: the time may be given all the same: \"iotoll grant list --user john\" tells, before you give it again\n", "",
		"grant", "add", "john", "live", "1h", "--reason", "the plug was away")
	if out := s.must("", "grant", "list", "--user", "john", "--live"); !strings.Contains(out, "live   1   manual  live ") {
		t.Errorf("grant list: got\n%s", out)
	}
	s.refuses(1, `there is no user of that name`, "", "grant", "add", "nobody", "live", "1h", "--reason", "x")
}
