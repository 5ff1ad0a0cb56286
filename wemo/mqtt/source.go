package mqtt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/iotoll/iotoll/wemo"
)

// Source is a wemo.Source that subscribes to a topic on which a device publishes
// its power: Tasmota (tele/…/SENSOR, /ENERGY/Power), Shelly (…/status/switch:0,
// /apower), zigbee2mqtt (/power), Home Assistant's statestream (a plain number)
// and the like.
//
// The newest reading counts. Retained messages are ignored, since their age is
// unknown, and so are messages without the power: Shelly's events/rpc carries
// only what changed. A device that reports seldom needs a Poller with a longer
// Hold.
type Source struct {
	Broker
	Topic string
	// Pointer says where in a JSON message the power is (RFC 6901), such as
	// /ENERGY/Power. Empty: the message is the number.
	Pointer string
	Scale   float64          // milliwatts per unit of the number; 0 is 1000, for watts
	Now     func() time.Time // nil is time.Now

	mu       sync.Mutex
	backoff  wemo.Backoff
	conn     *connection // nil: not connected
	newest   chan result // holds the newest reading, or an error if there is none
	absentOK bool        // a message without the power is not, or no longer, worth an error
}

type result struct {
	reading wemo.Reading
	err     error
}

var _ wemo.Runner = (*Source)(nil)

// Validate returns every reason why the source cannot be read.
func (s *Source) Validate() error {
	errs := []error{s.Broker.Validate()}
	if err := wemo.ValidateTopic(s.Topic); err != nil {
		errs = append(errs, fmt.Errorf("topic %.80q: %w", s.Topic, err))
	}
	if s.Pointer != "" && !strings.HasPrefix(s.Pointer, "/") {
		errs = append(errs, fmt.Errorf("pointer %.80q: want a JSON pointer, such as /ENERGY/Power", s.Pointer))
	}
	if math.IsNaN(s.Scale) || math.IsInf(s.Scale, 0) {
		errs = append(errs, fmt.Errorf("scale %g: want a number", s.Scale))
	}
	return errors.Join(errs...)
}

// Read implements wemo.Source: it waits for the next reading. The connection
// stays until it breaks, or ctx ends while Read waits, or Run ends.
func (s *Source) Read(ctx context.Context) (wemo.Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		if err := s.backoff.Wait(ctx, s.now(), nil); err != nil {
			return wemo.Reading{}, err
		}
		err := s.subscribe(ctx)
		s.backoff.Done(err, s.now())
		if err != nil {
			return wemo.Reading{}, err
		}
	}
	for {
		select {
		case <-ctx.Done():
			s.disconnect()
			return wemo.Reading{}, ctx.Err()
		case err := <-s.conn.lost:
			s.disconnect()
			s.backoff.Done(err, s.now())
			return wemo.Reading{}, err
		case r := <-s.newest:
			absent := errors.Is(r.err, wemo.ErrNoPower)
			if absent && s.absentOK {
				continue
			}
			s.absentOK = s.absentOK || absent || r.err == nil
			if r.err != nil {
				return wemo.Reading{}, fmt.Errorf("message on %s: %w", s.Topic, r.err)
			}
			return r.reading, nil
		}
	}
}

// Run waits until ctx ends and then closes the connection. A Poller runs it.
func (s *Source) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock() // Read has returned
	defer s.mu.Unlock()
	if s.conn != nil {
		s.disconnect()
	}
	return nil
}

// subscribe connects and subscribes.
func (s *Source) subscribe(ctx context.Context) error {
	if err := s.Validate(); err != nil {
		return err
	}
	// Each connection has its own channel, so that a late message of an earlier
	// one is dropped.
	newest := make(chan result, 1)
	c, err := s.connect(ctx, newClientID(), nil, func(m *paho.Publish) {
		if !m.Retain {
			offer(newest, s.parse(m.Payload))
		}
	})
	if err != nil {
		return err
	}
	const noRetained = 2
	ack, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: s.Topic, RetainHandling: noRetained}}})
	if err != nil {
		c.disconnect()
		if ack != nil && len(ack.Reasons) > 0 && ack.Reasons[0] >= 0x80 {
			err = errors.New(reason(ack.Reasons[0], ""))
		}
		return fmt.Errorf("subscribe to %s at %s: %w", s.Topic, s.URL, s.explain(ctx, err))
	}
	s.conn, s.newest = c, newest
	return nil
}

// parse examines a message when it arrives.
func (s *Source) parse(payload []byte) result {
	scale := s.Scale
	if scale == 0 {
		scale = 1000
	}
	mw, err := wemo.ParsePower(payload, s.Pointer, scale)
	return result{wemo.Reading{At: s.now(), MilliWatts: mw}, err}
}

// offer puts a result in place of the one that waits in newest, unless that is a
// reading and the new one is not. It is the only sender.
func offer(newest chan result, r result) {
	select {
	case waiting := <-newest:
		if r.err != nil && waiting.err == nil {
			r = waiting
		}
	default:
	}
	newest <- r
}

func (s *Source) disconnect() {
	s.conn.disconnect()
	s.conn = nil
}

func (s *Source) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}
