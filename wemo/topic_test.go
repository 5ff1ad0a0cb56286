package wemo

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParsePower(t *testing.T) {
	for _, tt := range []struct {
		doc, pointer string
		scale        float64
		want         int64
	}{
		{recording(t, "tasmota-sensor.json"), "/ENERGY/Power", 1000, 9000},
		{recording(t, "shelly-switch.json"), "/apower", 1000, 193500},
		{recording(t, "shelly-switch.json"), "/aenergy/by_minute/2", 1, 3191},
		{`{"power":12.3456}`, "/power", 1000, 12346},
		{"4155", "", 1, 4155},
		{" 8.9\n", "", 1000, 8900},
		{`"8.9"`, "", 1000, 8900},
		{`{"a/b":{"m~n":"-7.5"}}`, "/a~1b/m~0n", 1000, -7500},
		{`[0,{"":-1.5e-3}]`, "/1/", -1000, 2},
	} {
		got, err := parsePower([]byte(tt.doc), tt.pointer, tt.scale)
		if err != nil || got != tt.want {
			t.Errorf("parsePower(%.40q, %q, %g): got %d, %v, want %d", tt.doc, tt.pointer, tt.scale, got, err, tt.want)
		}
	}
	for _, tt := range []struct{ doc, pointer, want string }{
		{recording(t, "shelly-notify.json"), "/params/switch:0/apower", "there is no such value: /params/switch:0/apower"},
		{"unavailable", "", `power is "unavailable", want a number`},
		{"", "", `power is ""`},
		{"NaN", "", "want a number within"},
		{"1e300", "", "want a number within"},
		{"{", "/a", "parse JSON"},
		{`{"a":1} 2`, "/a", "want nothing after"},
		{`{"a":null}`, "/a", "/a is no number"},
		{`{"a":true}`, "/a", "/a is no number"},
		{`{"a":[1]}`, "/a/1", "there is no such value"},
		{`{"a":[1]}`, "/a/00", "there is no such value"},
		{`{"a":[1]}`, "/a/-", "there is no such value"},
		{strings.Repeat("[", 60000), "/0", "parse JSON"},
		{strings.Repeat(" ", maxBody+1), "", "want at most 65536"},
	} {
		if got, err := parsePower([]byte(tt.doc), tt.pointer, 1000); err == nil || !strings.Contains(err.Error(), tt.want) || got != 0 {
			t.Errorf("parsePower(%.40q, %q): got %d, %v, want %q", tt.doc, tt.pointer, got, err, tt.want)
		}
	}
}

func FuzzParsePower(f *testing.F) {
	f.Add([]byte(recording(f, "tasmota-sensor.json")), "/ENERGY/Power")
	f.Add([]byte(`{"a/b":["~"]}`), "/a~1b/0")
	f.Add([]byte("1"), "")
	f.Fuzz(func(t *testing.T, doc []byte, pointer string) {
		mw, err := parsePower(doc, pointer, 1000)
		if err != nil && mw != 0 || mw > maxMilliWatts || mw < -maxMilliWatts {
			t.Errorf("parsePower(%q, %q): got %d, %v", doc, pointer, mw, err)
		}
	})
}

func TestTopic(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	out := writer(m)
	out.Status, out.Log = "", quiet()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go out.Run(ctx, func(ctx context.Context) error { <-ctx.Done(); return nil })
	send := func(payload string, retained bool) {
		t.Helper()
		for range 100 {
			if out.Publish("tele/pow/SENSOR", []byte(payload), retained) == nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatal("the publisher does not connect")
	}
	sensor := recording(t, "tasmota-sensor.json")
	send(strings.Replace(sensor, `"Power":9`, `"Power":1`, 1), true)
	m.listen("tele/#").wait(t, "tele/pow/SENSOR", func(published) bool { return true })

	s := &Topic{URL: m.url(), Topic: "tele/pow/SENSOR", Pointer: "/ENERGY/Power"}
	results := make(chan result)
	rctx, stop := context.WithCancel(t.Context())
	defer stop()
	read := func() {
		go func() {
			r, err := s.Read(rctx)
			results <- result{r, err}
		}()
	}
	// get reads once; until a message arrives, it is sent again.
	get := func(payload string) result {
		t.Helper()
		read()
		for range 40 {
			select {
			case r := <-results:
				return r
			case <-time.After(250 * time.Millisecond):
				send(payload, false)
			}
		}
		t.Fatal("no reading within 10 s")
		return result{}
	}
	if r := get(sensor); r.err != nil || r.reading.MilliWatts != 9000 || time.Since(r.reading.At) > time.Second {
		t.Errorf("Read: got %+v, %v, want 9000 mW just now: the retained message does not count", r.reading, r.err)
	}
	// Messages without the power are passed over, what is no number is not.
	read()
	for range 3 {
		send(recording(t, "shelly-notify.json"), false)
		time.Sleep(50 * time.Millisecond)
	}
	select {
	case r := <-results:
		t.Errorf("Read: got %+v, %v, want nothing", r.reading, r.err)
	default:
	}
	send(strings.Replace(sensor, `"Power":9`, `"Power":null`, 1), false)
	if r := <-results; r.err == nil || !strings.Contains(r.err.Error(), "/ENERGY/Power is no number") {
		t.Errorf("Read: got %+v, %v, want an error", r.reading, r.err)
	}
	if r := get(strings.Replace(sensor, `"Power":9`, `"Power":12.5`, 1)); r.err != nil || r.reading.MilliWatts != 12500 {
		t.Errorf("Read: got %+v, %v, want 12500 mW", r.reading, r.err)
	}
	// The broker goes away and comes back.
	m.kill()
	read()
	if r := <-results; r.err == nil {
		t.Errorf("Read without a broker: got %+v, want an error", r.reading)
	}
	m.start()
	if r := get(sensor); r.err != nil || r.reading.MilliWatts != 9000 {
		t.Errorf("Read afterwards: got %+v, %v, want 9000 mW", r.reading, r.err)
	}
	read()
	stop()
	if r := <-results; !errors.Is(r.err, context.Canceled) || s.client != nil {
		t.Errorf("canceled Read: got %v, connected %t, want context.Canceled and no connection", r.err, s.client != nil)
	}
}

// A poller that ends leaves no connection behind, also one that ends between
// two reads.
func TestTopicEndsWithItsPoller(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	l := m.listen("sensor/#")
	s := &Topic{URL: m.url(), Topic: "tele/power", Scale: 1}
	stop := publish(t, writer(m), &Poller{Source: s, Interval: 5 * time.Second})
	out := writer(m)
	out.Status, out.Log = "", quiet()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go out.Run(ctx, func(ctx context.Context) error { <-ctx.Done(); return nil })
	for end := time.Now().Add(10 * time.Second); len(l.on("sensor/live")) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no reading within 10 s")
		}
		out.Publish("tele/power", []byte("4155"), false)
	}
	stop()
	if s.client != nil {
		t.Error("the connection is still there")
	}
}

func TestTopicValidate(t *testing.T) {
	for want, s := range map[string]*Topic{
		`broker URL ""`:                     {Topic: "a"},
		`topic "a/+": want a topic without`: {URL: "mqtt://h", Topic: "a/+"},
		`pointer "power": want a JSON`:      {URL: "mqtt://h", Topic: "a", Pointer: "power"},
	} {
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate: got %v, want %q", err, want)
		}
	}
}
