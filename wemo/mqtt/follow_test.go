package mqtt

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// Follow gives the retained message first and later ones as they come, until it is
// told to stop.
func TestFollow(t *testing.T) {
	t.Parallel()
	b := start(t)
	p := &Publisher{Broker: b.login()}
	connected(t, p)
	p.Publish("account", []byte("1"), true)
	eventually(t, "the retained message", func() bool {
		got, err := Broker{URL: b.URL()}.Retained(t.Context(), "account")
		return err == nil && string(got) == "1"
	})
	var got []string
	err := Broker{URL: b.URL()}.Follow(t.Context(), "account", func(payload []byte) bool {
		got = append(got, string(payload))
		p.Publish("account", []byte("2"), true)
		return len(got) < 2
	})
	if err != nil || strings.Join(got, " ") != "1 2" {
		t.Errorf("Follow: got %q, %v, want 1 2", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = Broker{URL: b.URL()}.Follow(ctx, "account", func([]byte) bool { cancel(); return true })
	if err != nil {
		t.Errorf("Follow until ctx ends: got %v", err)
	}
	if _, err := (Broker{URL: b.URL()}).Retained(ctx, "account"); !errors.Is(err, context.Canceled) {
		t.Errorf("Retained with a context that has ended: got %v", err)
	}
	if err := (Broker{URL: b.URL()}).Follow(t.Context(), "account", func([]byte) bool { b.Kill(); return true }); err == nil {
		t.Error("Follow of a broker that is killed: got no error")
	}
}

// Retained does not wait for ever for a message that is not there.
func TestRetainedAbsent(t *testing.T) {
	t.Parallel()
	b := start(t)
	_, err := Broker{URL: b.URL(), patience: 300 * time.Millisecond}.Retained(t.Context(), "nothing")
	if !errors.Is(err, ErrNoMessage) {
		t.Errorf("got %v, want ErrNoMessage", err)
	}
}

// A message that is too long for a reader does not reach it.
func TestFollowTooLong(t *testing.T) {
	t.Parallel()
	b := start(t)
	p := &Publisher{Broker: b.login()}
	connected(t, p)
	p.Publish("long", make([]byte, 2<<20), true)
	p.Publish("short", []byte("1"), true)
	reader := Broker{URL: b.URL(), patience: time.Second}
	eventually(t, "the short one", func() bool { _, err := reader.Retained(t.Context(), "short"); return err == nil })
	if got, err := reader.Retained(t.Context(), "long"); !errors.Is(err, ErrNoMessage) {
		t.Errorf("got %d bytes, %v, want ErrNoMessage", len(got), err)
	}
}
