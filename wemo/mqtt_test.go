package wemo

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/sirupsen/logrus"
)

// mosquitto is a real broker on a free port of loopback.
type mosquitto struct {
	t    *testing.T
	port int
	conf string
	cmd  *exec.Cmd
}

// startMosquitto starts a broker with a user "writer", password "s3cret pa$$",
// and no rights without a password but to read.
func startMosquitto(t *testing.T) *mosquitto {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	passwords := write("passwords", "writer:s3cret pa$$\n")
	if out, err := exec.Command("mosquitto_passwd", "-U", passwords).CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd: %v %s", err, out)
	}
	acl := write("acl", "topic read #\nuser writer\ntopic readwrite #\n")
	user := "root"
	if os.Getuid() != 0 {
		user = ""
	}
	conf := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npassword_file %s\nacl_file %s\npersistence false\n", port, passwords, acl)
	if user != "" {
		conf += "user root\n"
	}
	m := &mosquitto{t: t, port: port, conf: write("mosquitto.conf", conf)}
	m.start()
	t.Cleanup(m.kill)
	return m
}

func (m *mosquitto) url() string { return fmt.Sprintf("mqtt://127.0.0.1:%d", m.port) }

func (m *mosquitto) start() {
	m.t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // not on everybody's PATH
	}
	m.cmd = exec.Command(path, "-c", m.conf)
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	for range 100 {
		c, err := net.Dial("tcp", strings.TrimPrefix(m.url(), "mqtt://"))
		if err == nil {
			c.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	m.t.Fatal("mosquitto does not listen")
}

func (m *mosquitto) kill() {
	if m.cmd != nil {
		m.cmd.Process.Kill()
		m.cmd.Wait()
		m.cmd = nil
	}
}

// listener is a subscriber that remembers.
type listener struct {
	mu  sync.Mutex
	all []published
	c   mqtt.Client
}

func (m *mosquitto) listen(filter string) *listener {
	m.t.Helper()
	l := &listener{}
	o := mqtt.NewClientOptions().AddBroker(strings.Replace(m.url(), "mqtt", "tcp", 1)).SetAutoReconnect(false)
	l.c = mqtt.NewClient(o)
	if t := l.c.Connect(); !t.WaitTimeout(5*time.Second) || t.Error() != nil {
		m.t.Fatalf("connect subscriber: %v", t.Error())
	}
	m.t.Cleanup(func() { l.c.Disconnect(0) })
	t := l.c.Subscribe(filter, 1, func(_ mqtt.Client, msg mqtt.Message) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all = append(l.all, published{time.Now(), msg.Topic(), string(msg.Payload()), msg.Retained()})
	})
	if !t.WaitTimeout(5*time.Second) || t.Error() != nil {
		m.t.Fatalf("subscribe: %v", t.Error())
	}
	return l
}

func (l *listener) on(topic string) []published {
	l.mu.Lock()
	defer l.mu.Unlock()
	var r []published
	for _, p := range l.all {
		if p.topic == topic {
			r = append(r, p)
		}
	}
	return r
}

// wait waits for a message that ok likes, and returns it.
func (l *listener) wait(t *testing.T, topic string, ok func(published) bool) published {
	t.Helper()
	for range 200 {
		for _, p := range l.on(topic) {
			if ok(p) {
				return p
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("no such message on %s within 10 s; got %v", topic, l.on(topic))
	return published{}
}

func status(p published) Status {
	var s Status
	json.Unmarshal([]byte(p.payload), &s)
	return s
}

// readings is a source that never fails.
var readings = sourceFunc(func(ctx context.Context) (Reading, error) { return Reading{time.Now(), 4155}, nil })

// publish runs a poller through a broker; stop ends it in good order.
func publish(t *testing.T, b *Broker, p *Poller) (stop func()) {
	t.Helper()
	p.Publisher, p.Live, p.Average = b, "sensor/live", "sensor/1m"
	if p.Log == nil {
		p.Log = quiet()
	}
	if b.Log == nil {
		b.Log = quiet()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, p.Run) }()
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

func writer(m *mosquitto) *Broker {
	return &Broker{URL: m.url(), Username: "writer", Password: []byte("s3cret pa$$"), Status: "sensor/status"}
}

func TestBrokerPublishes(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	l := m.listen("#")
	b := writer(m)
	stop := publish(t, b, &Poller{Source: readings})
	l.wait(t, "sensor/live", func(p published) bool { return p.payload == "4155" && !p.retained })
	l.wait(t, "sensor/status", func(p published) bool { return status(p).Online })
	b.Publish("sensor/1m", []byte("4000"), true)
	l.wait(t, "sensor/1m", func(p published) bool { return p.payload == "4000" })

	late := m.listen("#")
	late.wait(t, "sensor/1m", func(p published) bool { return p.payload == "4000" && p.retained })
	s := status(late.wait(t, "sensor/status", func(p published) bool { return p.retained }))
	if !s.Online || s.Since == nil || s.LastSeen == nil {
		t.Errorf("retained status: got %+v, want online, since and last seen", s)
	}
	late.wait(t, "sensor/live", func(p published) bool { return true })
	for _, p := range late.on("sensor/live") {
		if p.retained {
			t.Errorf("a live reading is retained: %+v", p)
		}
	}

	stop()
	s = status(l.wait(t, "sensor/status", func(p published) bool { return status(p).Reason == stopped }))
	if s.Online || s.LastSeen == nil || time.Since(*s.LastSeen) > 5*time.Second {
		t.Errorf("status after shutdown: got %+v, want offline and last seen just now", s)
	}
	time.Sleep(300 * time.Millisecond)
	all := l.on("sensor/status")
	if last := status(all[len(all)-1]); last.Reason != stopped {
		t.Errorf("last status after shutdown: got %+v, want no last will", last)
	}
}

// proxy forwards connections to a broker until it is cut.
type proxy struct {
	l     net.Listener
	mu    sync.Mutex
	conns []net.Conn // in pairs: the client's, and that to the broker
	left  []net.Conn // to the broker, which knows of no end
}

func (m *mosquitto) proxy() *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	p := &proxy{l: l}
	m.t.Cleanup(func() {
		l.Close()
		p.cut()
		for _, c := range p.left {
			c.Close()
		}
	})
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", strings.TrimPrefix(m.url(), "mqtt://"))
			if err != nil {
				a.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, a, b)
			p.mu.Unlock()
			pipe := func(dst, src net.Conn) {
				defer p.close(dst)
				defer p.close(src)
				buf := make([]byte, 4096)
				for {
					n, err := src.Read(buf)
					if err != nil {
						return
					}
					if _, err := dst.Write(buf[:n]); err != nil {
						return
					}
				}
			}
			go pipe(a, b)
			go pipe(b, a)
		}
	}()
	return p
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// close closes a connection, but none that was left.
func (p *proxy) close(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.left, c) {
		c.Close()
	}
}

// lose is what a network does that goes away in between: the client finds out,
// the broker does not.
func (p *proxy) lose() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := 0; i < len(p.conns); i += 2 {
		p.left = append(p.left, p.conns[i+1])
		p.conns[i].Close()
	}
	p.conns = nil
}

// A broker that still waits for the old connection when the new one is there
// must not publish the old one's last will over the status of the new one.
func TestBrokerLateLastWill(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	l := m.listen("sensor/status")
	p := m.proxy()
	b := writer(m)
	b.URL = "mqtt://" + p.l.Addr().String()
	publish(t, b, &Poller{Source: readings, Window: 24 * time.Hour})
	l.wait(t, "sensor/status", func(p published) bool { return status(p).Online })
	lost := time.Now()
	p.lose()
	l.wait(t, "sensor/status", func(p published) bool { return status(p).Online && p.at.After(lost) })
	time.Sleep(3 * brokerKeepAlive) // the broker looks every 5 s for who was silent for one and a half
	all := l.on("sensor/status")
	if last := status(all[len(all)-1]); !last.Online {
		t.Errorf("status after the reconnect: got %v, want online in the end", all)
	}
}

// A broker that is back and refuses us is another matter than one that is
// away, and the seller is told.
func TestBrokerTellsAnotherReason(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	m.kill()
	var buf bytes.Buffer
	var mu sync.Mutex
	log := logrus.New()
	log.SetOutput(lockedWriter{&mu, &buf})
	b := writer(m)
	b.Password, b.Log = []byte("wrong"), log
	publish(t, b, &Poller{Source: readings})
	await := func(text string) {
		t.Helper()
		for range 200 {
			mu.Lock()
			got := strings.ToLower(buf.String())
			mu.Unlock()
			if strings.Contains(got, text) {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatalf("the log does not say %q: %s", text, buf.String())
	}
	await("connection refused")
	m.start()
	await("not authorized")
}

// When the connection breaks, the broker publishes the last will; when it is
// back, the status is what it was.
func TestBrokerLastWill(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	l := m.listen("sensor/#")
	p := m.proxy()
	b := writer(m)
	b.URL = "mqtt://" + p.l.Addr().String()
	publish(t, b, &Poller{Source: readings})
	l.wait(t, "sensor/status", func(p published) bool { return status(p).Online })
	p.cut()
	will := l.wait(t, "sensor/status", func(p published) bool { return status(p).Reason == lost })
	l.wait(t, "sensor/status", func(p published) bool { return status(p).Online && p.at.After(will.at) })
	late := m.listen("sensor/status")
	if s := status(late.wait(t, "sensor/status", func(p published) bool { return p.retained })); !s.Online {
		t.Errorf("retained status after a reconnect: got %+v, want online", s)
	}
}

// The broker goes away and comes back: nothing of the time between is sent as
// live, and the newest mean is.
func TestBrokerRestart(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	b := writer(m)
	n := 0
	var mu sync.Mutex
	publish(t, b, &Poller{Interval: 100 * time.Millisecond, Source: sourceFunc(func(ctx context.Context) (Reading, error) {
		mu.Lock()
		defer mu.Unlock()
		n++
		return Reading{time.Now(), int64(n)}, nil
	})})
	l := m.listen("sensor/#")
	l.wait(t, "sensor/live", func(published) bool { return true })
	m.kill()
	time.Sleep(1500 * time.Millisecond)
	b.Publish("sensor/1m", []byte("1"), true)
	b.Publish("sensor/1m", []byte("2"), true)
	if connected, last := b.Health(); connected || time.Since(last) < time.Second || time.Since(last) > 10*time.Second {
		t.Errorf("Health without a connection: got %t, %s", connected, last)
	}
	if err := b.Publish("sensor/live", []byte("0"), false); err != ErrOffline {
		t.Errorf("Publish without a connection: got %v, want ErrOffline", err)
	}
	m.start()
	mu.Lock()
	before := n
	mu.Unlock()
	l = m.listen("sensor/#")
	first := l.wait(t, "sensor/live", func(published) bool { return true })
	if connected, last := b.Health(); !connected || time.Since(last) > 5*time.Second {
		t.Errorf("Health with a connection: got %t, %s", connected, last)
	}
	var v int
	fmt.Sscan(first.payload, &v)
	if v < before {
		t.Errorf("first live reading after the restart: got number %d, want %d or later", v, before)
	}
	l.wait(t, "sensor/status", func(p published) bool { return status(p).Online })
	if got := l.wait(t, "sensor/1m", func(published) bool { return true }); got.payload != "2" || len(l.on("sensor/1m")) != 1 {
		t.Errorf("means after the restart: got %v, want the newest", l.on("sensor/1m"))
	}
}

// A broker that is there and says nothing, as one that swaps: readings are not
// queued, and few are sent late.
func TestBrokerStalls(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	b := writer(m)
	n := 0
	var mu sync.Mutex
	publish(t, b, &Poller{Interval: 100 * time.Millisecond, Source: sourceFunc(func(ctx context.Context) (Reading, error) {
		mu.Lock()
		defer mu.Unlock()
		n++
		return Reading{time.Now(), time.Now().UnixMilli()}, nil
	})})
	l := m.listen("sensor/live")
	l.wait(t, "sensor/live", func(published) bool { return true })
	m.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(11 * time.Second)
	m.cmd.Process.Signal(syscall.SIGCONT)
	resumed := time.Now()
	time.Sleep(2 * time.Second)
	late := 0
	for _, p := range l.on("sensor/live") {
		var ms int64
		fmt.Sscan(p.payload, &ms)
		if p.at.Sub(time.UnixMilli(ms)) > 2*time.Second {
			late++
		}
	}
	fresh := l.on("sensor/live")
	if last := fresh[len(fresh)-1]; last.at.Before(resumed) {
		t.Error("no readings after the stall")
	}
	t.Logf("%d of %d readings were late", late, len(fresh))
	// What goes into the socket until the keep-alive finds out.
	if limit := int((brokerKeepAlive + brokerTimeout) / (100 * time.Millisecond)); late > limit {
		t.Errorf("%d readings were sent late", late)
	}
}

// What the password is appears nowhere, and a wrong one is tried again.
func TestBrokerKeepsThePassword(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	var buf bytes.Buffer
	var mu sync.Mutex
	log := logrus.New()
	log.SetLevel(logrus.TraceLevel)
	log.SetOutput(lockedWriter{&mu, &buf})
	b := writer(m)
	b.Password = []byte("wrong-s3cret")
	b.Log = log
	stop := publish(t, b, &Poller{Source: readings, Log: log})
	time.Sleep(time.Second)
	stop()
	mu.Lock()
	defer mu.Unlock()
	got := buf.String()
	if strings.Contains(got, "s3cret") || !strings.Contains(got, "no connection to the broker") || !strings.Contains(strings.ToLower(got), "not authorized") {
		t.Errorf("log: got %s, want the reason and not the password", got)
	}
	if n := strings.Count(got, "no connection to the broker"); n != 1 {
		t.Errorf("log: got %d lines about one outage, want 1", n)
	}
	for _, u := range []string{"", "127.0.0.1:1883", "http://127.0.0.1", "mqtt://", "mqtt://writer:s3cret@127.0.0.1", "mqtt://s3cret:s3cret@%zz", "mqtt://h/path"} {
		b := &Broker{URL: u, Log: log}
		if err := b.Run(t.Context(), nil); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("Run with URL %q: got %v, want an error without the password", u, err)
		}
	}
}

// Try says whether the broker lets us in.
func TestBrokerTry(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	l := m.listen("#")
	b := writer(m)
	if err := b.Try(t.Context()); err != nil {
		t.Errorf("Try: %v", err)
	}
	b.Password = []byte("wrong-s3cret")
	if err := b.Try(t.Context()); err == nil || !strings.Contains(strings.ToLower(err.Error()), "not authorized") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("Try with a wrong password: got %v, want the reason and not the password", err)
	}
	m.kill()
	if err := b.Try(t.Context()); err == nil || !strings.Contains(err.Error(), m.url()) {
		t.Errorf("Try without a broker: got %v, want an error with the URL", err)
	}
	if all := l.on("sensor/status"); len(all) > 0 {
		t.Errorf("Try published %v", all)
	}
	if err := (&Broker{URL: "http://h"}).Try(t.Context()); err == nil {
		t.Error("Try with a wrong URL: no error")
	}
	for url, want := range map[string]string{"mqtt://h": "tcp://h:1883", "mqtts://h": "ssl://h:8883", "mqtt://[::1]:7/": "tcp://[::1]:7"} {
		if got := (connection{url: url}).options().Servers[0].String(); got != want {
			t.Errorf("connection to %s: got %s, want %s", url, got, want)
		}
	}
}

// Over TLS a certificate must be one that the caller trusts.
func TestBrokerTLS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	m := startMosquitto(t)
	dir := filepath.Dir(m.conf)
	for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	conf, err := os.ReadFile(m.conf)
	if err != nil {
		t.Fatal(err)
	}
	conf = fmt.Appendf(conf, "listener %d 127.0.0.1\ncertfile %s/cert\nkeyfile %s/key\n", port, dir, dir)
	if err := os.WriteFile(m.conf, conf, 0o600); err != nil {
		t.Fatal(err)
	}
	m.kill()
	m.start()
	subscriber := m.listen("sensor/live")

	b := writer(m)
	b.URL = fmt.Sprintf("mqtts://127.0.0.1:%d", port)
	stop := publish(t, b, &Poller{Source: readings})
	time.Sleep(700 * time.Millisecond)
	stop()
	if got := subscriber.on("sensor/live"); len(got) != 0 {
		t.Errorf("with a certificate that nobody signed: got %v, want nothing", got)
	}
	b = writer(m)
	b.URL = fmt.Sprintf("mqtts://127.0.0.1:%d", port)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	b.TLS = &tls.Config{RootCAs: roots}
	publish(t, b, &Poller{Source: readings})
	subscriber.wait(t, "sensor/live", func(p published) bool { return p.payload == "4155" })
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}
