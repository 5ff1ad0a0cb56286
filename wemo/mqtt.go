package wemo

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/sirupsen/logrus"
)

// Broker is a Publisher that keeps one connection to an MQTT 3.1.1 broker,
// with a last will. MQTT has one will a connection, so each status topic needs
// a Broker of its own.
//
// It holds at most one message a topic, the newest: nothing piles up while the
// broker is slow or away, and a live message that could not go out at once is
// dropped. Retained ones are sent again with each new connection, since the
// last will or another broker's memory may have replaced them. What a socket
// took before a connection was found dead, which takes up to ten seconds, may
// still arrive late.
type Broker struct {
	URL      string      // mqtt://host:port, or mqtts:// with TLS
	Username string      // empty: anonymous
	Password []byte      // never logged
	TLS      *tls.Config // for mqtts://; nil is the system's defaults
	Status   string      // topic of the last will; empty: no will
	Log      logrus.FieldLogger

	mu       sync.Mutex
	id       string // the client ID of every connection
	online   bool
	took     time.Time          // when the broker last took something
	pending  map[string]message // by topic
	retained map[string]message // the newest of each topic
	wake     chan struct{}      // has room for one: there is something pending
}

var _ Publisher = (*Broker)(nil)

// ErrOffline says that a message was dropped because there is no connection.
var ErrOffline = errors.New("not connected to the broker")

type message struct {
	payload  []byte
	retained bool
	at       time.Time // when it was handed over
}

const (
	brokerKeepAlive = 5 * time.Second // bounds how long a dead connection swallows readings
	brokerTimeout   = 5 * time.Second // for connecting, and for one acknowledgement
	liveMaxAge      = time.Second     // an older one is not live
)

// Validate reports a URL that does not read as one.
func (b *Broker) Validate() error {
	if err := (connection{url: b.URL}).validate(); err != nil {
		return err
	}
	if b.Status != "" {
		if err := validTopic(b.Status); err != nil {
			return fmt.Errorf("status topic %q: %w", clip(b.Status), err)
		}
	}
	return nil
}

// Run connects, keeps connected while work runs, sends what work published
// last, and disconnects. It returns what work returns. That the broker is away
// is no error: it is tried again, after 250 ms at first and 10 s at last.
//
// For a Poller, work is its Run method.
func (b *Broker) Run(ctx context.Context, work func(context.Context) error) error {
	if err := b.Validate(); err != nil {
		return err
	}
	b.mu.Lock()
	b.init()
	b.mu.Unlock()
	// The connection outlives ctx: work says on its way out that it stopped.
	cctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		b.keep(cctx)
	}()
	err := work(ctx)
	cancel()
	<-kept
	return err
}

// Try connects once, without a last will, and disconnects. Its error says why
// that fails.
func (b *Broker) Try(ctx context.Context) error {
	if err := b.Validate(); err != nil {
		return err
	}
	client := mqtt.NewClient(connection{b.URL, b.Username, b.Password, b.TLS}.options())
	defer client.Disconnect(100)
	if err := await(ctx, client.Connect()); err != nil {
		return fmt.Errorf("connect to %s: %w", b.URL, err)
	}
	return nil
}

// init makes what Publish needs. b.mu is held.
func (b *Broker) init() {
	if b.wake == nil {
		b.id = newClientID()
		b.wake = make(chan struct{}, 1)
		b.pending = map[string]message{}
		b.retained = map[string]message{}
	}
}

// Publish implements Publisher. Live messages have QoS 0, so that the broker
// keeps none for clients that are away; retained ones have QoS 1.
func (b *Broker) Publish(topic string, payload []byte, retained bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.init()
	m := message{payload, retained, time.Now()}
	if retained {
		b.retained[topic] = m
	}
	if !b.online {
		if retained {
			return nil // goes out with the next connection
		}
		return ErrOffline
	}
	b.pending[topic] = m
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return nil
}

// Health reports whether there is a connection to the broker, and when it last
// took something; the zero time if it never did.
func (b *Broker) Health() (connected bool, last time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.online, b.took
}

// keep connects again and again until ctx ends.
func (b *Broker) keep(ctx context.Context) {
	const first, last = 250 * time.Millisecond, 10 * time.Second
	pause := first
	failing := "" // why there is no connection
	for ctx.Err() == nil {
		connected := time.Now()
		err := b.session(ctx, func() {
			b.log().Info("connected to the broker")
			failing = ""
		})
		if ctx.Err() != nil {
			return
		}
		if time.Since(connected) > last {
			pause = first
		}
		if text := err.Error(); text != failing {
			b.log().WithError(err).Warn("no connection to the broker, trying again")
			failing = text
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
		pause = min(2*pause, last)
	}
}

// session is one connection, from its beginning to its end. When ctx ends it
// sends what is pending and disconnects.
func (b *Broker) session(ctx context.Context, connected func()) error {
	lost := make(chan error, 1)
	o := b.options()
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err })
	client := mqtt.NewClient(o)
	defer client.Disconnect(250)
	if err := await(ctx, client.Connect()); err != nil {
		return fmt.Errorf("connect to %s: %w", b.URL, err)
	}
	connected()

	b.mu.Lock()
	b.online, b.took = true, time.Now()
	clear(b.pending)
	for topic, m := range b.retained {
		b.pending[topic] = m
	}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.online = false
		clear(b.pending)
		b.mu.Unlock()
	}()

	for {
		if err := b.flush(client); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return b.flush(client)
		case err := <-lost:
			return fmt.Errorf("connection to %s: %w", b.URL, err)
		case <-b.wake:
		}
	}
}

// flush sends what is pending.
func (b *Broker) flush(client mqtt.Client) error {
	b.mu.Lock()
	pending := b.pending
	b.pending = make(map[string]message, len(pending))
	b.mu.Unlock()
	for topic, m := range pending {
		var qos byte
		if m.retained {
			qos = 1
		} else if time.Since(m.at) > liveMaxAge {
			continue
		}
		if err := await(context.Background(), client.Publish(topic, qos, m.retained, m.payload)); err != nil {
			return fmt.Errorf("publish to %s: %w", topic, err)
		}
		b.mu.Lock()
		b.took = time.Now()
		b.mu.Unlock()
	}
	return nil
}

// await waits for t, for ctx and for brokerTimeout.
func await(ctx context.Context, t mqtt.Token) error {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("no answer within %s", brokerTimeout)
		}
		return ctx.Err()
	}
}

func (b *Broker) options() *mqtt.ClientOptions {
	o := connection{b.URL, b.Username, b.Password, b.TLS}.options()
	// The broker ends the old connection of a client ID, and publishes its will,
	// before it lets in the new one. Of another ID it would do so later, when it
	// misses the old one, over the status that the new one has published.
	o.SetClientID(b.id)
	if b.Status != "" {
		o.SetBinaryWill(b.Status, Status{Reason: lost}.payload(), 1, true)
	}
	return o
}

func (b *Broker) log() logrus.FieldLogger { return b.Log.WithField("broker", b.URL) }

// newClientID returns an ID that nobody else has or guesses: whoever connects
// with it ends our connection.
func newClientID() string { return "iotoll-" + strings.ToLower(rand.Text()[:16]) }

// connection is what it takes to connect to a broker. The fields are those of
// Broker.
type connection struct {
	url      string
	username string
	password []byte
	tls      *tls.Config
}

func (c connection) validate() error {
	u, err := url.Parse(c.url)
	if err != nil {
		return errors.New("broker URL: want mqtt://HOST:PORT") // err would show a password in it
	}
	if u.User != nil {
		return errors.New("broker URL: want no username and password in it: they have fields of their own")
	}
	if u.Scheme != "mqtt" && u.Scheme != "mqtts" || u.Hostname() == "" || u.Path != "" && u.Path != "/" {
		return fmt.Errorf("broker URL %q: want mqtt://HOST:PORT or mqtts://HOST:PORT", clip(c.url))
	}
	return nil
}

// options are those of a connection that ends with the first thing that goes
// wrong: who uses it connects again, and nothing is left over.
func (c connection) options() *mqtt.ClientOptions {
	u, _ := url.Parse(c.url) // validate has
	scheme, port := "tcp", "1883"
	if u.Scheme == "mqtts" {
		scheme, port = "ssl", "8883"
	}
	if u.Port() != "" {
		port = u.Port()
	}
	o := mqtt.NewClientOptions().
		AddBroker(scheme + "://" + net.JoinHostPort(u.Hostname(), port)).
		SetClientID(newClientID()).
		SetProtocolVersion(4).
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(brokerTimeout).
		SetKeepAlive(brokerKeepAlive).
		SetPingTimeout(brokerTimeout).
		SetWriteTimeout(brokerTimeout)
	if c.username != "" {
		o.SetUsername(c.username).SetPassword(string(c.password))
	}
	if scheme == "ssl" {
		t := c.tls
		if t == nil {
			t = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		o.SetTLSConfig(t)
	}
	return o
}
