package main

import "testing"

// The sign-up key is retained for everybody, at the start and after each change, and
// gone once sign-up is off. The broker's restart changes nothing.
func TestBrokerPublishesSignupKey(t *testing.T) {
	t.Parallel()
	const topic = "$SYS/broker/iotoll/signup"
	s := startStore(t)
	announce := func(text string) {
		t.Helper()
		if err := s.AnnounceSignup(t.Context(), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	b := startBroker(t, shipped(t, s))
	b.waitLog("following the store")
	anyone := b.connect(connect{anonymous: true, id: "anyone"})
	if code := anyone.subscribe(topic, 0); code != 0 {
		t.Fatalf("an anonymous client subscribes to %s: got %#x, want 0", topic, code)
	}
	anyone.wantNothing()
	for _, key := range []string{`{"v":1,"kid":"1"}`, `{"v":1,"kid":"2"}`} {
		announce(key)
		anyone.want(topic, key)
	}
	retained := func(want string) {
		t.Helper()
		eventually(t, "retained: "+want, func() bool {
			c := b.connect(connect{anonymous: true, id: "late", version: 5})
			defer c.disconnect()
			c.subscribe(topic, 0)
			c.sync()
			select {
			case d := <-c.inbox:
				return d.payload == want && d.retained
			default:
				return want == ""
			}
		})
	}
	retained(`{"v":1,"kid":"2"}`)
	b.Stop()
	b.Restart()
	retained(`{"v":1,"kid":"2"}`)
	anyone = b.connect(connect{anonymous: true, id: "anyone"})
	anyone.subscribe(topic, 0)
	anyone.want(topic, `{"v":1,"kid":"2"}`)
	// While the store is away, the key stays.
	s.stop()
	b.waitLog("cannot follow the store")
	retained(`{"v":1,"kid":"2"}`)
	s.start()
	eventually(t, "the store", func() bool { return s.AnnounceSignup(t.Context(), nil) == nil })
	anyone.want(topic, "")
	retained("")

	// Nobody else publishes there.
	if code := b.connect(connect{anonymous: true, id: "forger", version: 5}).publish(topic, "forged", 1, true); code != 0x87 {
		t.Errorf("publish to %s: got %#x, want 0x87", topic, code)
	}
	retained("")
}
