package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/iotoll/iotoll/acl"
	"github.com/iotoll/iotoll/internal/mosquitto"
)

// certificate writes a certificate and its key for 127.0.0.1.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", pkcs8)
}

// stream is a WebSocket as a net.Conn.
type stream struct {
	*websocket.Conn
	rest io.Reader
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.rest != nil {
			n, err := s.rest.Read(p)
			if err != io.EOF {
				return n, err
			}
			s.rest = nil
			if n > 0 {
				return n, nil
			}
		}
		_, r, err := s.NextReader()
		if err != nil {
			return 0, err
		}
		s.rest = r
	}
}

func (s *stream) Write(p []byte) (int, error) {
	return len(p), s.WriteMessage(websocket.BinaryMessage, p)
}

func (s *stream) SetDeadline(t time.Time) error { return s.SetWriteDeadline(t) }

// The broker asks at every moment that matters, for MQTT 3.1.1 and 5 over TCP, TLS and
// WebSocket.
func TestBrokerAsksAtEveryMoment(t *testing.T) {
	t.Parallel()
	s := startStore(t)
	s.user(acl.User{Name: "pub", Rights: []acl.Right{{Pattern: "#", Access: acl.Read | acl.Write}}})
	for _, transport := range []string{"tcp", "tls", "websocket"} {
		for _, version := range []byte{4, 5} {
			s.user(acl.User{Name: fmt.Sprintf("john-%s-v%d", transport, version)})
		}
	}
	cert, key := certificate(t)
	tlsPort, wsPort := mosquitto.FreePort(t), mosquitto.FreePort(t)
	b := startBroker(t, conf(s.uri,
		"plugin_opt_public +/free", "max_queued_messages 1000",
		fmt.Sprintf("listener %d 127.0.0.1\ncertfile %s\nkeyfile %s", tlsPort, cert, key),
		fmt.Sprintf("listener %d 127.0.0.1\nprotocol websockets", wsPort)))
	b.waitLog("following the store")
	b.WaitListening(tlsPort)
	b.WaitListening(wsPort)

	dial := map[string]func() (net.Conn, error){
		"tcp": func() (net.Conn, error) { return net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.Port)) },
		"tls": func() (net.Conn, error) {
			return tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", tlsPort), &tls.Config{InsecureSkipVerify: true})
		},
		"websocket": func() (net.Conn, error) {
			d := websocket.Dialer{Subprotocols: []string{"mqtt"}}
			c, _, err := d.Dial(fmt.Sprintf("ws://127.0.0.1:%d/mqtt", wsPort), http.Header{})
			if err != nil {
				return nil, err
			}
			return &stream{Conn: c}, nil
		},
	}
	for transport, dial := range dial {
		for _, version := range []byte{4, 5} {
			name := fmt.Sprintf("%s-v%d", transport, version)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				table{t: t, store: s, root: name, version: version, dial: dial}.run()
			})
		}
	}
}

// table is one transport and version of MQTT, with a topic tree that no other uses.
type table struct {
	t       *testing.T
	store   *testStore
	root    string
	version byte
	dial    func() (net.Conn, error)
}

func (x table) connect(o connect) *client {
	x.t.Helper()
	o.version = x.version
	if o.user != "" {
		o.pass = "secret"
	} else {
		o.anonymous = true
	}
	o.id = x.root + "-" + o.id
	code := -1
	var c *client
	for range 50 { // 2.0 may defer a login
		conn, err := x.dial()
		if err != nil {
			x.t.Fatal(err)
		}
		if c, code = dialClient(x.t, conn, o); code != -1 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if code != 0 {
		x.t.Fatalf("connect as %q: got %#x, want 0", o.user, code)
	}
	return c
}

func (x table) run() {
	t, denied, refused := x.t, 0x80, 0 // SUBACK; PUBACK
	if x.version == 5 {
		denied, refused = 0x87, 0x87
	}
	john, live, free, all := "john-"+x.root, x.root+"/live", x.root+"/free", x.root+"/#"
	is := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %#x, want %#x", what, got, want)
		}
	}
	pub := x.connect(connect{user: "pub", id: "pub"})
	both := func(payload string) {
		t.Helper()
		is("pub publishes", pub.publish(live, payload, 1, false), 0)
		is("pub publishes", pub.publish(free, payload, 1, false), 0)
	}
	is("retained", pub.publish(live, "retained", 1, true), 0)
	is("retained", pub.publish(free, "retained", 1, true), 0)
	// An offline session with a wildcard, made before he pays.
	offline := x.connect(connect{user: john, id: "offline", keepSession: true})
	is("subscribe offline", offline.subscribe(all, 1), 1)
	offline.want(free, "retained")
	offline.disconnect()

	// An anonymous client, and john before he pays.
	for _, who := range []string{"", john} {
		c := x.connect(connect{user: who, id: "before" + who})
		is("subscribe live", c.subscribe(live, 0), denied)
		is("subscribe shared", c.subscribe("$share/g/"+live, 0), denied)
		is("subscribe $SYS", c.subscribe("$SYS/broker/uptime", 0), denied)
		is("subscribe wildcard", c.subscribe(all, 0), 0)
		c.want(free, "retained")
		both("1")
		c.want(free, "1")
		is("unsubscribe", c.unsubscribe(all), 0)
		both("2")
		is("publish live", c.publish(live, "forged", 1, false), refused)
		is("publish free", c.publish(free, "forged", 1, true), refused)
		// Here come the others' messages, too.
		is("subscribe everything", c.subscribe("#", 0), 0)
		both("everything")
		is("unsubscribe", c.unsubscribe("#"), 0)
		for c.sync(); len(c.inbox) > 0; {
			if d := <-c.inbox; d.topic[len(d.topic)-4:] != "free" || d.payload == "forged" {
				t.Errorf("# delivers %v", d)
			}
		}
		c.wantNothing()
		c.disconnect()
	}

	// A will is checked when it is sent.
	watcher := x.connect(connect{user: "pub", id: "watcher"})
	is("subscribe will", watcher.subscribe(x.root+"/will", 0), 0)
	x.connect(connect{user: john, id: "dying", will: x.root + "/will", willMsg: "john"}).drop()
	x.connect(connect{user: "pub", id: "dying2", will: x.root + "/will", willMsg: "pub"}).drop()
	watcher.want(x.root+"/will", "pub")
	watcher.wantNothing()

	// He pays, while he is connected.
	c := x.connect(connect{user: john, id: "paying"})
	shared := x.connect(connect{user: john, id: "shared"})
	is("subscribe wildcard", c.subscribe(all, 0), 0)
	c.want(free, "retained")
	is("shared wildcard", shared.subscribe("$share/g/"+all, 0), denied)
	is("shared free", shared.subscribe("$share/g/"+free, 0), 0)
	for shared.sync(); len(shared.inbox) > 0; { // 2.0 sends what is retained, 2.1 does not
		shared.want(free, "retained")
	}
	both("3")
	c.want(free, "3")
	shared.want(free, "3")
	c.wantNothing()
	shared.wantNothing()
	x.store.grant(john, "live", live, 0, 4*time.Second)
	end := x.store.account(john, "live").NotAfter
	eventually(t, "grant", func() bool {
		pub.publish(live, "4", 1, false)
		c.sync()
		return len(c.inbox) > 0
	})
	for c.sync(); len(c.inbox) > 0; {
		c.want(live, "4")
	}
	// Of the messages queued for the offline session, he gets those of his paid time.
	offline = x.connect(connect{user: john, id: "offline", keepSession: true})
	offline.sync()
	got := make(map[string]int)
	for len(offline.inbox) > 0 {
		d := <-offline.inbox
		got[d.topic+" "+d.payload]++
	}
	if got[free+" 1"] == 0 || got[live+" 4"] == 0 || got[live+" 1"] > 0 || got[live+" 3"] > 0 {
		t.Errorf("queued messages: got %v, want live ones of the paid time only", got)
	}
	offline.disconnect()
	is("subscribe shared live", shared.subscribe("$share/g/"+live, 0), 0)
	for shared.sync(); len(shared.inbox) > 0; {
		shared.want(live, "retained")
	}
	both("5")
	c.want(live, "5")
	c.want(free, "5")
	shared.want(live, "5")
	shared.want(free, "5")
	is("subscribe live", c.subscribe(live, 0), 0)
	c.want(live, "retained")
	is("publish live", c.publish(live, "forged", 1, false), refused)
	c.sync()
	for len(c.inbox) > 0 {
		<-c.inbox
	}

	// His time ends.
	time.Sleep(time.Until(end))
	both("6")
	c.want(free, "6")
	c.wantNothing()
	select {
	case <-shared.closed: // or it would keep messages from other members
	case <-time.After(5 * time.Second):
		t.Error("the member of a shared subscription is still connected")
	}
	is("subscribe live", c.subscribe(live, 0), denied)
	is("subscribe wildcard", c.subscribe(all, 0), 0)
	c.want(free, "retained")
	c.wantNothing()
	// A message of the paid time that is still queued for the offline session is too late.
	offline = x.connect(connect{user: john, id: "offline", keepSession: true})
	for offline.sync(); len(offline.inbox) > 0; {
		if d := <-offline.inbox; d.topic == live {
			t.Errorf("queued message after the end: got %v", d)
		}
	}
	is("unsubscribe", offline.unsubscribe(all), 0)
	offline.disconnect()
}
