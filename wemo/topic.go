package wemo

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Topic is a Source: what somebody else publishes on an MQTT broker. It takes
// readings from Tasmota (tele/…/SENSOR, /ENERGY/Power), Shelly
// (…/status/switch:0, /apower), zigbee2mqtt (/power), Home Assistant's
// statestream (a plain number) and the like.
//
// The newest message counts; a retained one does not, since nobody knows how
// old it is, nor does one without the power: Shelly's events/rpc, for one, tell
// what changed and nothing else. A device that reports seldom needs a Poller
// with a longer Hold.
type Topic struct {
	URL      string      // mqtt://host:port, or mqtts:// with TLS
	Username string      // empty: anonymous
	Password []byte      // never logged
	TLS      *tls.Config // for mqtts://; nil is the system's defaults
	Topic    string
	// Pointer says where in a JSON message the power is (RFC 6901), such as
	// /ENERGY/Power. Empty: the message is the number.
	Pointer string
	Scale   float64          // milliwatts for 1 of its unit; 0 is 1000: it publishes watts
	Now     func() time.Time // nil is time.Now

	mu       sync.Mutex
	backoff  backoff
	client   mqtt.Client // nil: not connected
	messages chan message
	lost     chan error
	absent   bool // no need to say (again) that a message lacks the power
}

var _ Runner = (*Topic)(nil)

// Validate reports everything that keeps the source from being read.
func (s *Topic) Validate() error {
	errs := []error{connection{url: s.URL}.validate()}
	if err := validTopic(s.Topic); err != nil {
		errs = append(errs, fmt.Errorf("topic %q: %w", clip(s.Topic), err))
	}
	if s.Pointer != "" && !strings.HasPrefix(s.Pointer, "/") {
		errs = append(errs, fmt.Errorf("pointer %q: want a JSON pointer, such as /ENERGY/Power", clip(s.Pointer)))
	}
	if math.IsNaN(s.Scale) || math.IsInf(s.Scale, 0) {
		errs = append(errs, fmt.Errorf("scale %g: want a number", s.Scale))
	}
	return errors.Join(errs...)
}

// Read implements Source: it waits for the next message. The connection that
// it needs for that stays until it fails, or ctx ends while Read waits, or Run
// ends.
func (s *Topic) Read(ctx context.Context) (Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		if err := s.backoff.wait(ctx, s.now(), nil); err != nil {
			return Reading{}, err
		}
		err := s.connect(ctx)
		s.backoff.done(err, s.now())
		if err != nil {
			return Reading{}, err
		}
	}
	scale := s.Scale
	if scale == 0 {
		scale = 1000
	}
	for {
		select {
		case <-ctx.Done():
			s.disconnect()
			return Reading{}, ctx.Err()
		case err := <-s.lost:
			s.disconnect()
			err = fmt.Errorf("connection to %s: %w", s.URL, err)
			s.backoff.done(err, s.now())
			return Reading{}, err
		case m := <-s.messages:
			mw, err := parsePower(m.payload, s.Pointer, scale)
			if errors.Is(err, errAbsent) && s.absent {
				continue
			}
			s.absent = s.absent || err == nil || errors.Is(err, errAbsent)
			if err != nil {
				return Reading{}, fmt.Errorf("message on %s: %w", s.Topic, err)
			}
			return Reading{At: m.at, MilliWatts: mw}, nil
		}
	}
}

// Run waits until ctx ends, and then for the end of the connection. A Poller
// runs it.
func (s *Topic) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock() // reads have ended with ctx
	defer s.mu.Unlock()
	if s.client != nil {
		s.disconnect()
	}
	return nil
}

func (s *Topic) connect(ctx context.Context) error {
	if err := s.Validate(); err != nil {
		return err
	}
	// Each connection has channels of its own: a late message of an earlier
	// one goes nowhere.
	messages, lost := make(chan message, 1), make(chan error, 1)
	o := connection{s.URL, s.Username, s.Password, s.TLS}.options()
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err })
	client := mqtt.NewClient(o)
	err := await(ctx, client.Connect())
	if err == nil {
		t := client.Subscribe(s.Topic, 0, func(_ mqtt.Client, m mqtt.Message) {
			if m.Retained() {
				return
			}
			select {
			case <-messages: // the newest counts; this is the only sender
			default:
			}
			messages <- message{payload: m.Payload(), at: s.now()}
		})
		if err = await(ctx, t); err == nil && t.(*mqtt.SubscribeToken).Result()[s.Topic] > 2 {
			err = errors.New("the broker refuses the subscription")
		}
	}
	if err != nil {
		client.Disconnect(0)
		return fmt.Errorf("subscribe to %s at %s: %w", s.Topic, s.URL, err)
	}
	s.client, s.messages, s.lost = client, messages, lost
	return nil
}

func (s *Topic) disconnect() {
	s.client.Disconnect(100)
	s.client = nil
}

func (s *Topic) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// errAbsent says that a message has nothing at the pointer.
var errAbsent = errors.New("there is no such value")

// parsePower takes a number, or a string that is one, out of a JSON document.
func parsePower(doc []byte, pointer string, scale float64) (int64, error) {
	if len(doc) > maxBody {
		return 0, fmt.Errorf("%d bytes, want at most %d", len(doc), maxBody)
	}
	var text string
	if pointer == "" {
		text = strings.Trim(strings.TrimSpace(string(doc)), `"`)
	} else {
		d := json.NewDecoder(bytes.NewReader(doc))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			return 0, fmt.Errorf("parse JSON: %w", err)
		}
		if _, err := d.Token(); err != io.EOF {
			return 0, errors.New("parse JSON: want nothing after the value")
		}
		v, err := resolvePointer(v, pointer)
		if err != nil {
			return 0, err
		}
		switch v := v.(type) {
		case json.Number:
			text = v.String()
		case string:
			text = v
		default:
			return 0, fmt.Errorf("%s is no number", pointer)
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("power is %q, want a number", clip(text))
	}
	return milliWatts(f * scale)
}

// resolvePointer follows a JSON pointer (RFC 6901).
func resolvePointer(v any, pointer string) (any, error) {
	for _, token := range strings.Split(pointer, "/")[1:] {
		key := strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		ok := false
		switch c := v.(type) {
		case map[string]any:
			v, ok = c[key]
		case []any:
			if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(c) && strconv.Itoa(i) == key {
				v, ok = c[i], true
			}
		}
		if !ok {
			return nil, fmt.Errorf("%w: %s", errAbsent, pointer)
		}
	}
	return v, nil
}
