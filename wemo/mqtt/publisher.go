package mqtt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/sirupsen/logrus"

	"github.com/iotoll/iotoll/wemo"
)

// Publisher is a wemo.Publisher that keeps one connection to a broker, with a
// last will. MQTT has one will per connection, so each status topic needs a
// Publisher of its own.
//
// It holds at most one message per topic, the newest: nothing piles up while
// the broker is slow or unreachable, and a live message that cannot go out at
// once is dropped. Retained messages are sent again on each new connection,
// since the last will may have replaced them, or a broker without persistence
// forgotten them. Messages that the kernel took before a connection was found
// dead, which takes up to ten seconds, may still arrive late.
//
// The broker acknowledges each retained message, and one live message per topic
// every ten seconds; Health reports which topics it refuses. A refused retained
// message is sent again every ten seconds.
type Publisher struct {
	Broker
	Status string // topic of the last will; empty: no will
	Will   []byte // the last will; nil: a wemo.Status that says so
	Log    logrus.FieldLogger

	mu        sync.Mutex
	health    Health
	pending   map[string]message   // by topic
	retained  map[string]message   // the newest of each topic
	refused   map[string]Refusal   // by topic
	confirmed map[string]time.Time // when a live topic was last acknowledged
	wake      chan struct{}        // holds one: something is pending

	confirmEvery time.Duration // 0 is 10 s; tests set it
}

var _ wemo.Publisher = (*Publisher)(nil)

// ErrOffline says that a live message was dropped for want of a connection.
var ErrOffline = errors.New("not connected to the broker")

// Health is the state of a Publisher.
type Health struct {
	Connected    bool
	Err          error     // why there is no connection; nil before the first attempt
	Acknowledged time.Time // when the broker last accepted the connection or a message; zero: never
	Refused      []Refusal // by topic
}

// Refusal says that the broker refuses the messages on a topic, or does not
// acknowledge them.
type Refusal struct {
	Topic  string
	Since  time.Time
	Reason string // such as "not authorized"
}

type message struct {
	payload  []byte
	retained bool
	at       time.Time // of the call of Publish
}

// liveMaxAge is the age from which a message is not live.
const liveMaxAge = time.Second

// Validate returns every reason why Run cannot run.
func (p *Publisher) Validate() error {
	err := p.Broker.Validate()
	if p.Status != "" {
		if topicErr := wemo.ValidateTopic(p.Status); topicErr != nil {
			err = errors.Join(err, fmt.Errorf("status topic %.80q: %w", p.Status, topicErr))
		}
	}
	return err
}

// Run connects, stays connected while work runs, sends what work published
// last, and disconnects. It returns what work returns. Without a connection it
// tries again, after 250 ms at first and at most 10 s later.
//
// For a wemo.Poller, work is its Run method.
func (p *Publisher) Run(ctx context.Context, work func(context.Context) error) error {
	if err := p.Validate(); err != nil {
		return err
	}
	p.mu.Lock()
	p.init()
	p.mu.Unlock()
	// The connection outlives ctx: work publishes on its way out that it stopped.
	kept, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.keepConnected(kept)
	}()
	err := work(ctx)
	cancel()
	<-done
	return err
}

// init makes what Publish needs. p.mu is held.
func (p *Publisher) init() {
	if p.wake == nil {
		p.wake = make(chan struct{}, 1)
		p.pending = map[string]message{}
		p.retained = map[string]message{}
		p.refused = map[string]Refusal{}
		p.confirmed = map[string]time.Time{}
		if p.confirmEvery == 0 {
			p.confirmEvery = 10 * time.Second
		}
	}
}

// Publish implements wemo.Publisher. Live messages expire after a second, so
// that the broker keeps none for absent clients.
func (p *Publisher) Publish(topic string, payload []byte, retained bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.init()
	m := message{payload, retained, time.Now()}
	if retained {
		p.retained[topic] = m
	} else if !p.health.Connected {
		return ErrOffline
	}
	if p.health.Connected {
		p.pending[topic] = m
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	if r, ok := p.refused[topic]; ok {
		return &wemo.RefusedError{Reason: r.Reason}
	}
	return nil
}

// Health returns the state of the connection and of each refused topic. It does
// not wait for the network.
func (p *Publisher) Health() Health {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.health
	for _, topic := range slices.Sorted(maps.Keys(p.refused)) {
		h.Refused = append(h.Refused, p.refused[topic])
	}
	return h
}

// keepConnected connects again and again until ctx ends.
func (p *Publisher) keepConnected(ctx context.Context) {
	const shortest, longest = 250 * time.Millisecond, 10 * time.Second
	// Each connection has the same client ID: the broker ends the old connection
	// of an ID, and publishes its will, before it accepts the new one. With
	// another ID it would do so later, when it finds the old connection dead, and
	// replace the status that the new one has published.
	id := newClientID()
	pause := shortest
	logged := "" // why there is no connection
	for ctx.Err() == nil {
		start := time.Now()
		err := p.session(ctx, id, func() {
			p.log().Info("connected to the broker")
			logged = ""
		})
		if ctx.Err() != nil {
			return
		}
		if time.Since(start) > longest {
			pause = shortest
		}
		if text := err.Error(); text != logged {
			p.log().WithError(err).Warn("no connection to the broker, trying again")
			logged = text
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
		pause = min(2*pause, longest)
	}
}

// session is one connection, from its beginning to its end. When ctx ends it
// sends what is pending and disconnects.
func (p *Publisher) session(ctx context.Context, id string, connected func()) (err error) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.health.Connected, p.health.Err = false, err
		clear(p.pending)
	}()
	var will *paho.WillMessage
	if p.Status != "" {
		will = &paho.WillMessage{Topic: p.Status, Payload: p.Will, QoS: 1, Retain: true}
		if p.Will == nil {
			will.Payload = wemo.Status{Reason: wemo.Lost}.Payload()
		}
	}
	c, err := p.connect(ctx, id, will, nil)
	if err != nil {
		return err
	}
	defer c.disconnect()
	connected()

	p.mu.Lock()
	p.health.Connected, p.health.Err, p.health.Acknowledged = true, nil, time.Now()
	clear(p.confirmed)
	p.pending = maps.Clone(p.retained)
	p.mu.Unlock()

	retry := time.NewTicker(p.confirmEvery)
	defer retry.Stop()
	for {
		if err := p.flush(c); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return p.flush(c)
		case err := <-c.lost:
			return err
		case <-retry.C:
			p.retryRefused()
		case <-p.wake:
		}
	}
}

// retryRefused makes the refused retained messages pending again.
func (p *Publisher) retryRefused() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for topic := range p.refused {
		if m, ok := p.retained[topic]; ok {
			p.pending[topic] = m
		}
	}
}

// flush sends what is pending. An error ends the connection.
func (p *Publisher) flush(c *connection) error {
	p.mu.Lock()
	pending := p.pending
	p.pending = make(map[string]message, len(pending))
	p.mu.Unlock()
	for topic, m := range pending {
		out := &paho.Publish{Topic: topic, Payload: m.payload, Retain: m.retained, QoS: 1}
		if !m.retained {
			if time.Since(m.at) > liveMaxAge {
				continue
			}
			second := uint32(1)
			out.Properties = &paho.PublishProperties{MessageExpiry: &second}
			p.mu.Lock()
			if time.Since(p.confirmed[topic]) < p.confirmEvery {
				out.QoS = 0
			}
			p.mu.Unlock()
		}
		response, err := c.Publish(context.Background(), out)
		switch {
		case response != nil && response.ReasonCode >= 0x80:
			text := ""
			if response.Properties != nil {
				text = response.Properties.ReasonString
			}
			p.refuse(topic, reason(response.ReasonCode, text))
		case errors.Is(err, paho.ErrInvalidArguments): // such as no retained messages
			p.refuse(topic, err.Error())
		case errors.Is(err, context.DeadlineExceeded):
			p.refuse(topic, fmt.Sprintf("no acknowledgement within %s", p.timeout()))
			return fmt.Errorf("publish to %s: no acknowledgement within %s", topic, p.timeout())
		case err != nil:
			select {
			case lost := <-c.lost: // says why
				return lost
			case <-time.After(100 * time.Millisecond):
				return fmt.Errorf("publish to %s: %w", topic, err)
			}
		case out.QoS > 0:
			p.accept(topic)
		}
	}
	return nil
}

// maxLogged bounds the refused topics that are logged one by one: there may be one
// topic per buyer.
const maxLogged = 20

// refuse notes that the broker refused a message.
func (p *Publisher) refuse(topic, reason string) {
	p.mu.Lock()
	old, known := p.refused[topic]
	r := Refusal{Topic: topic, Since: time.Now(), Reason: reason}
	if known {
		r.Since = old.Since
	}
	p.refused[topic] = r
	count := len(p.refused)
	delete(p.confirmed, topic)
	p.mu.Unlock()
	if old.Reason != reason && count <= maxLogged {
		p.log().WithFields(logrus.Fields{"topic": topic, "reason": reason}).Error("publishing fails")
	} else if !known && count == maxLogged+1 {
		p.log().Error("publishing fails on more topics")
	}
}

// accept notes that the broker took a message.
func (p *Publisher) accept(topic string) {
	now := time.Now()
	p.mu.Lock()
	old, refused := p.refused[topic]
	count := len(p.refused)
	delete(p.refused, topic)
	p.health.Acknowledged, p.confirmed[topic] = now, now
	p.mu.Unlock()
	if refused && count <= maxLogged {
		p.log().WithFields(logrus.Fields{"topic": topic, "after": now.Sub(old.Since).Round(time.Second).String()}).Info("publishing works again")
	}
}

func (p *Publisher) log() logrus.FieldLogger { return p.Log.WithField("broker", p.URL) }
