package legacy

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/iotaledger/iota.go/trinary"
	"github.com/sirupsen/logrus"
)

const (
	eventsTimeout = 5 * time.Second        // for a broker to answer
	wakeEvery     = 50 * time.Millisecond  // at the most, however much is published
	eventsRetry   = 250 * time.Millisecond // after the first failure to connect, doubled with each
	eventsBackOff = 30 * time.Second       // at the most
)

// Events listens to what a node publishes over MQTT (Hornet 0.4 and 0.5, topics
// "lmi": a milestone came, and "sn": a milestone confirmed a transaction), to have
// the ledger read as soon as there may be a payment. Events are hints: they come
// with QoS 0, some are dropped under load, none is repeated, and whoever publishes
// them can make them up. What they say is not used, but for the address, and
// without them payments are found at the next poll.
type Events struct {
	URL       string   // of the node's MQTT broker, such as tcp://127.0.0.1:1883; mqtts:// for TLS
	Addresses []string // deposit addresses, as in Config
	Log       logrus.FieldLogger
}

// Validate returns what is wrong with e.
func (e *Events) Validate() error {
	if e.Log == nil {
		return errors.New("events: Log must be set")
	}
	u, err := url.Parse(e.URL)
	if err != nil {
		return errors.New("events: URL cannot be read, want for instance tcp://127.0.0.1:1883") // err would show a password in it
	}
	if u.User != nil {
		return fmt.Errorf("events: URL %s: want no username and password in it", u.Redacted())
	}
	if _, ok := mqttSchemes[u.Scheme]; !ok || u.Hostname() == "" || u.Path != "" && u.Path != "/" {
		return fmt.Errorf("events: URL %q: want for instance tcp://127.0.0.1:1883", e.URL)
	}
	for _, a := range e.Addresses {
		if _, err := addressHash(a); err != nil {
			return fmt.Errorf("events: %w", err)
		}
	}
	return nil
}

// mqttSchemes gives the transport and the usual port.
var mqttSchemes = map[string][2]string{"tcp": {"tcp", "1883"}, "mqtt": {"tcp", "1883"}, "mqtts": {"ssl", "8883"}}

// Run calls wake when a payment may have been confirmed, and when it has
// connected, since it may have missed something until then; at most every 50 ms.
// It connects again and again until ctx ends, and returns nil then; only what
// Validate finds is an error.
func (e *Events) Run(ctx context.Context, wake func()) error {
	if err := e.Validate(); err != nil {
		return err
	}
	u, _ := url.Parse(e.URL) // Validate has
	log := e.Log.WithField("events", u.Scheme+"://"+u.Host)
	pause, failing := eventsRetry, false
	for {
		begun := time.Now()
		err := e.listen(ctx, u, wake, func() {
			log.Info("events of the node wake the poll")
			failing = false
		})
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(begun) > eventsBackOff {
			pause = eventsRetry
		}
		if !failing {
			log.WithError(err).Warn("no events from the node, payments are found at the next poll")
		}
		failing = true
		if !wait(ctx, pause) {
			return nil
		}
		pause = min(2*pause, eventsBackOff)
	}
}

// wait waits and tells whether ctx has not ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// listen is one connection, from its beginning to its end.
func (e *Events) listen(ctx context.Context, u *url.URL, wake, connected func()) error {
	transport := mqttSchemes[u.Scheme]
	port := u.Port()
	if port == "" {
		port = transport[1]
	}
	lost := make(chan error, 1)
	hint := make(chan struct{}, 1)
	client := mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker(transport[0] + "://" + net.JoinHostPort(u.Hostname(), port)).
		SetClientID("iotoll-" + strings.ToLower(rand.Text()[:16])).
		SetProtocolVersion(4).
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(eventsTimeout).
		SetKeepAlive(30 * time.Second).
		SetPingTimeout(eventsTimeout).
		SetWriteTimeout(eventsTimeout).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err }))
	defer client.Disconnect(0)
	if err := answered(ctx, client.Connect()); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	ours := make(map[trinary.Hash]bool)
	for _, a := range e.Addresses {
		ours[a[:81]] = true
	}
	subscribed := client.SubscribeMultiple(map[string]byte{"lmi": 0, "sn": 0}, func(_ mqtt.Client, m mqtt.Message) {
		if m.Topic() == "sn" && !concerns(m.Payload(), ours) {
			return
		}
		select {
		case hint <- struct{}{}:
		default:
		}
	})
	if err := answered(ctx, subscribed); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	for topic, code := range subscribed.(*mqtt.SubscribeToken).Result() {
		if code > 2 {
			return fmt.Errorf("subscribe to %s: the broker refuses", topic)
		}
	}
	connected()
	for {
		wake()
		if !wait(ctx, wakeEvery) {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-lost:
			return fmt.Errorf("connection: %w", err)
		case <-hint:
		}
	}
}

// concerns tells whether the payload of "sn" may be about one of the addresses.
func concerns(payload []byte, ours map[trinary.Hash]bool) bool {
	var confirmed struct{ Address trinary.Hash }
	if json.Unmarshal(payload, &confirmed) != nil || confirmed.Address == "" {
		return true // looking is cheap
	}
	return ours[confirmed.Address]
}

// answered waits for t, for ctx and for eventsTimeout.
func answered(ctx context.Context, t mqtt.Token) error {
	ctx, cancel := context.WithTimeoutCause(ctx, eventsTimeout, fmt.Errorf("no answer within %s", eventsTimeout))
	defer cancel()
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
