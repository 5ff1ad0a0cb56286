package mqtt

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/eclipse/paho.golang/paho"
)

// ErrNoMessage says that a topic has no retained message.
var ErrNoMessage = errors.New("no retained message")

// Follow connects, subscribes to a topic and calls receive for each message, first
// the retained one, until ctx ends or receive returns false; then it returns nil.
// Messages that wait while receive runs are replaced by newer ones. It does not
// connect again: the error says why the connection ended. It wraps [ErrRefused] if
// the broker refuses the subscription.
func (b Broker) Follow(ctx context.Context, topic string, receive func(payload []byte) bool) error {
	newest := make(chan []byte, 1)
	c, err := b.connect(ctx, newClientID(), nil, func(m *paho.Publish) {
		select {
		case <-newest:
		default:
		}
		newest <- bytes.Clone(m.Payload)
	})
	if err != nil {
		return err
	}
	defer c.disconnect()
	ack, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 1}}})
	if ack != nil && len(ack.Reasons) > 0 && ack.Reasons[0] >= 0x80 {
		return fmt.Errorf("subscribe to %s at %s: %w: %s", topic, b.URL, ErrRefused, reason(ack.Reasons[0], ""))
	} else if err != nil && ctx.Err() == nil {
		return fmt.Errorf("subscribe to %s at %s: %w", topic, b.URL, b.explain(ctx, err))
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-c.lost:
			return err
		case payload := <-newest:
			if !receive(payload) {
				return nil
			}
		}
	}
}

// Retained returns the retained message of a topic. The error wraps [ErrNoMessage]
// if none comes within the time that an answer may take: a broker does not say that
// there is none, nor that it withholds one.
func (b Broker) Retained(ctx context.Context, topic string) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, b.timeout())
	defer cancel()
	var found []byte
	err := b.Follow(limited, topic, func(payload []byte) bool {
		found = payload
		return false
	})
	switch {
	case err != nil:
		return nil, err
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case found == nil:
		return nil, fmt.Errorf("read %s at %s: %w within %s", topic, b.URL, ErrNoMessage, b.timeout())
	}
	return found, nil
}
