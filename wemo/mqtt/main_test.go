package mqtt

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/iotoll/iotoll/internal/mosquitto"
	"github.com/iotoll/iotoll/wemo"
)

// broker is a Mosquitto whose rights a test may change.
type broker struct {
	*mosquitto.Broker
	t   *testing.T
	acl string // path of the acl_file
}

// start starts a broker with a user "writer", password "s3cret pa$$"; without a
// password one may only read.
func start(t *testing.T, more ...string) *broker {
	t.Helper()
	b := &broker{t: t, acl: filepath.Join(t.TempDir(), "acl")}
	b.allow("#")
	passwords := mosquitto.PasswordFile(t, map[string]string{"writer": "s3cret pa$$"})
	b.Broker = mosquitto.Start(t, fmt.Sprintf("listener PORT 127.0.0.1\nallow_anonymous true\npassword_file %s\nacl_file %s\n%s", passwords, b.acl, strings.Join(more, "\n")))
	return b
}

// allow sets what the writer may write from the next SIGHUP on.
func (b *broker) allow(filters ...string) {
	b.t.Helper()
	text := "topic read #\nuser writer\ntopic read #\n"
	for _, f := range filters {
		text += "topic write " + f + "\n"
	}
	if err := os.WriteFile(b.acl, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// login is how the writer connects.
func (b *broker) login() Broker {
	return Broker{URL: b.URL(), Username: "writer", Password: []byte("s3cret pa$$")}
}

// published is a message and when it arrived.
type published struct {
	at       time.Time
	topic    string
	payload  string
	retained bool
}

func (p published) status() wemo.Status {
	var s wemo.Status
	json.Unmarshal([]byte(p.payload), &s)
	return s
}

// subscriber remembers what it receives.
type subscriber struct {
	*connection
	mu  sync.Mutex
	all []published
}

// subscribe connects anonymously until the test ends.
func (b *broker) subscribe(filter string) *subscriber {
	b.t.Helper()
	s := &subscriber{}
	var err error
	s.connection, err = Broker{URL: b.URL()}.connect(b.t.Context(), newClientID(), nil, func(m *paho.Publish) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all = append(s.all, published{time.Now(), m.Topic, string(m.Payload), m.Retain})
	})
	if err != nil {
		b.t.Fatalf("subscriber: %v", err)
	}
	b.t.Cleanup(s.disconnect)
	if _, err := s.Subscribe(b.t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 1}}}); err != nil {
		b.t.Fatalf("subscribe to %s: %v", filter, err)
	}
	return s
}

func (s *subscriber) on(topic string) []published {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.all), func(p published) bool { return p.topic != topic })
}

// wait waits for a message that ok accepts, and returns it.
func (s *subscriber) wait(t *testing.T, topic string, ok func(published) bool) published {
	t.Helper()
	var found published
	eventually(t, "a message on "+topic, func() bool {
		all := s.on(topic)
		i := slices.IndexFunc(all, ok)
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	return found
}

func whichever(published) bool { return true }

// eventually waits for up to 20 s until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

// run runs a publisher with work until the test ends or stop is called.
func run(t *testing.T, p *Publisher, work func(context.Context) error) (stop func()) {
	t.Helper()
	if p.Log == nil {
		p.Log, _ = logtest.NewNullLogger()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, work) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(15 * time.Second):
			t.Error("Run did not return")
		}
	})
	t.Cleanup(stop)
	return stop
}

// idle is work that publishes nothing by itself.
func idle(ctx context.Context) error { <-ctx.Done(); return nil }

// connected runs a publisher and waits for its connection.
func connected(t *testing.T, p *Publisher) (stop func()) {
	t.Helper()
	stop = run(t, p, idle)
	eventually(t, "a connection", func() bool { return p.Health().Connected })
	return stop
}

// poll runs a poller that publishes through p.
func poll(t *testing.T, p *Publisher, source wemo.Source) (stop func()) {
	log, _ := logtest.NewNullLogger()
	poller := &wemo.Poller{Source: source, Publisher: p, Live: "sensor/live", Average: "sensor/1m", Interval: 100 * time.Millisecond, Window: 24 * time.Hour, Log: log}
	return run(t, p, poller.Run)
}

// readings is a source that never fails: each reading is one milliwatt more.
func readings() wemo.Source { return &counter{} }

type counter struct{ n int64 }

func (c *counter) Read(context.Context) (wemo.Reading, error) {
	c.n++
	return wemo.Reading{At: time.Now(), MilliWatts: c.n}, nil
}

// logger returns a log and what it says so far.
func logger() (logrus.FieldLogger, *logtest.Hook) {
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.TraceLevel)
	return log, hook
}

// logged returns the entries with a message, as text.
func logged(hook *logtest.Hook, message string) []string {
	var all []string
	for _, e := range hook.AllEntries() {
		if e.Message == message {
			text, _ := e.String()
			all = append(all, text)
		}
	}
	return all
}

// proxy forwards connections to a broker until it breaks them.
type proxy struct {
	net.Listener
	mu    sync.Mutex
	pairs [][2]net.Conn // the client's connection, and that to the broker
	left  []net.Conn    // connections to the broker that it takes to be alive
}

func (b *broker) proxy() *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	p := &proxy{Listener: l}
	b.t.Cleanup(func() {
		l.Close()
		p.cut()
		for _, c := range p.left {
			c.Close()
		}
	})
	pipe := func(dst, src net.Conn) {
		buf := make([]byte, 4096)
		for {
			n, err := src.Read(buf)
			if err != nil {
				break
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				break
			}
		}
		for _, c := range []net.Conn{src, dst} {
			p.mu.Lock()
			if !slices.Contains(p.left, c) {
				c.Close()
			}
			p.mu.Unlock()
		}
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", b.Addr())
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			p.pairs = append(p.pairs, [2]net.Conn{client, server})
			p.mu.Unlock()
			go pipe(client, server)
			go pipe(server, client)
		}
	}()
	return p
}

// cut ends all connections on both sides.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.pairs {
		c[0].Close()
		c[1].Close()
	}
	p.pairs = nil
}

// lose ends all connections on the client's side only, as a network failure does
// that the broker has not noticed.
func (p *proxy) lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.pairs {
		p.left = append(p.left, c[1])
		c[0].Close()
	}
	p.pairs = nil
}
