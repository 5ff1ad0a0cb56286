package mqtt

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/iotoll/iotoll/wemo"
)

func recording(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSource(t *testing.T) {
	t.Parallel()
	b := start(t)
	out := &Publisher{Broker: b.login()}
	connected(t, out)
	const topic = "tele/pow/SENSOR"
	sensor := recording(t, "tasmota-sensor.json")
	power := func(w string) string { return strings.Replace(sensor, `"Power":9`, `"Power":`+w, 1) }
	send := func(payload string) {
		t.Helper()
		if err := out.Publish(topic, []byte(payload), false); err != nil {
			t.Fatalf("Publish: %v", err)
		}
	}
	out.Publish(topic, []byte(power("1")), true)
	b.subscribe(topic).wait(t, topic, whichever)

	s := &Source{Broker: Broker{URL: b.URL()}, Topic: topic, Pointer: "/ENERGY/Power"}
	results := make(chan result)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	read := func() {
		go func() {
			r, err := s.Read(ctx)
			results <- result{r, err}
		}()
	}
	subscribed := func(n int) {
		t.Helper()
		eventually(t, "the subscription", func() bool { return strings.Count(b.Log(), "\t"+topic+" (QoS 0)") == n })
	}
	read()
	subscribed(1)
	send(sensor)
	if r := <-results; r.err != nil || r.reading.MilliWatts != 9000 || time.Since(r.reading.At) > time.Second {
		t.Errorf("Read: got %+v, want 9000 mW just now: the retained message does not count", r)
	}
	// Messages without the power are ignored; a value that is not a number is an
	// error.
	send(recording(t, "shelly-notify.json"))
	eventually(t, "the message", func() bool { return strings.Count(b.Log(), "'"+topic+"'") >= 5 })
	send(power("null"))
	read()
	if r := <-results; r.err == nil || !strings.Contains(r.err.Error(), "/ENERGY/Power is not a number") {
		t.Errorf("Read: got %+v, want an error", r)
	}
	// The broker goes away and comes back.
	b.Kill()
	read()
	if r := <-results; r.err == nil {
		t.Errorf("Read without a broker: got %+v, want an error", r)
	}
	b.Restart()
	eventually(t, "the publisher", func() bool { return out.Health().Connected })
	read()
	subscribed(2)
	send(power("12.5"))
	if r := <-results; r.err != nil || r.reading.MilliWatts != 12_500 {
		t.Errorf("Read afterwards: got %+v, want 12500 mW", r)
	}
	read()
	stop()
	if r := <-results; !errors.Is(r.err, context.Canceled) || s.conn != nil {
		t.Errorf("canceled Read: got %v, connected %t, want context.Canceled and no connection", r.err, s.conn != nil)
	}
}

// Of a burst between two reads the newest reading counts, not the newest message.
func TestSourceBurst(t *testing.T) {
	s := &Source{Pointer: "/power"}
	const p500, p0, without, bad = `{"power":500}`, `{"power":0}`, `{"state":"ON"}`, `{"power":"?"}`
	for _, tt := range []struct {
		burst []string
		want  int64
		err   string
	}{
		{[]string{p500, p0, without}, 0, ""},
		{[]string{p500, p0, bad, without, "{"}, 0, ""},
		{[]string{without, p0, p500}, 500_000, ""},
		{[]string{bad, p500}, 500_000, ""},
		{[]string{without, bad}, 0, "want a number"},
		{[]string{bad, without}, 0, "no such value"},
	} {
		newest := make(chan result, 1)
		for _, m := range tt.burst {
			offer(newest, s.parse([]byte(m)))
		}
		r := <-newest
		if (r.err == nil) != (tt.err == "") || r.err != nil && !strings.Contains(r.err.Error(), tt.err) || r.reading.MilliWatts != tt.want {
			t.Errorf("burst %q: got %+v, want %d mW and error %q", tt.burst, r, tt.want, tt.err)
		}
	}
}

// A poller that ends leaves no connection behind, also if it ends between two reads.
func TestSourceEndsWithItsPoller(t *testing.T) {
	t.Parallel()
	b := start(t)
	live := b.subscribe("sensor/live")
	out := &Publisher{Broker: b.login()}
	connected(t, out)
	s := &Source{Broker: Broker{URL: b.URL()}, Topic: "tele/power", Scale: 1}
	stop := poll(t, &Publisher{Broker: b.login()}, s)
	eventually(t, "a reading", func() bool {
		out.Publish("tele/power", []byte("4155"), false)
		return len(live.on("sensor/live")) > 0
	})
	stop()
	if s.conn != nil {
		t.Error("the connection is still there")
	}
}

func TestSourceValidate(t *testing.T) {
	at := Broker{URL: "mqtt://h"}
	for want, s := range map[string]*Source{
		`broker URL ""`:                     {Topic: "a"},
		`topic "a/+": want a topic without`: {Broker: at, Topic: "a/+"},
		`pointer "power": want a JSON`:      {Broker: at, Topic: "a", Pointer: "power"},
	} {
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate: got %v, want %q", err, want)
		}
	}
}

var _ wemo.Source = (*Source)(nil)
