package mqtt

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iotoll/iotoll/wemo"
)

func TestPublisher(t *testing.T) {
	t.Parallel()
	b := start(t)
	s := b.subscribe("#")
	p := &Publisher{Broker: b.login(), Status: "sensor/status"}
	stop := poll(t, p, readings())
	s.wait(t, "sensor/live", func(m published) bool { return !m.retained })
	s.wait(t, "sensor/status", func(m published) bool { return m.status().Online })
	p.Publish("iotoll/account/john", []byte("{}"), true)
	s.wait(t, "iotoll/account/john", func(m published) bool { return m.payload == "{}" })
	if h := p.Health(); !h.Connected || h.Err != nil || time.Since(h.Acknowledged) > 10*time.Second || len(h.Refused) != 0 {
		t.Errorf("Health: got %+v, want connected and acknowledged", h)
	}

	late := b.subscribe("#")
	late.wait(t, "iotoll/account/john", func(m published) bool { return m.payload == "{}" && m.retained })
	if got := late.wait(t, "sensor/status", func(m published) bool { return m.retained }).status(); !got.Online || got.Since == nil || got.LastSeen == nil {
		t.Errorf("retained status: got %+v, want online, since and last_seen", got)
	}
	late.wait(t, "sensor/live", whichever)
	for _, m := range late.on("sensor/live") {
		if m.retained {
			t.Errorf("a live reading is retained: %+v", m)
		}
	}

	stop()
	got := s.wait(t, "sensor/status", func(m published) bool { return m.status().Reason == wemo.Stopped }).status()
	if got.Online || got.LastSeen == nil {
		t.Errorf("status after Run: got %+v, want offline, and when the last reading was", got)
	}
	if all := b.subscribe("sensor/status").wait(t, "sensor/status", whichever); all.status().Reason != wemo.Stopped {
		t.Errorf("retained status after Run: got %+v, want no last will", all)
	}
}

// The broker takes an MQTT 3.1.1 client's message and drops it if the client has
// no right to publish; we must know.
func TestPublisherRefused(t *testing.T) {
	t.Parallel()
	b := start(t)
	b.allow("sensor/status", "sensor/1m")
	b.Signal(syscall.SIGHUP)
	log, hook := logger()
	p := &Publisher{Broker: b.login(), Status: "sensor/status", Log: log}
	s := b.subscribe("sensor/#")
	begun := time.Now()
	poll(t, p, readings())
	got := s.wait(t, "sensor/status", func(m published) bool { return m.status().Reason == wemo.Refused }).status()
	if got.Online || got.Refused["sensor/live"] != "not authorized" || got.LastSeen == nil {
		t.Errorf("status: got %+v, want that the broker refuses sensor/live", got)
	}
	h := p.Health()
	if len(h.Refused) != 1 || h.Refused[0].Topic != "sensor/live" || h.Refused[0].Reason != "not authorized" || h.Refused[0].Since.Before(begun) || !h.Connected {
		t.Errorf("Health: got %+v, want connected, and sensor/live refused: not authorized", h)
	}
	if all := logged(hook, "publishing fails"); len(all) != 1 || !strings.Contains(all[0], "sensor/live") || !strings.Contains(all[0], "not authorized") {
		t.Errorf("log: got %q, want one line about sensor/live", all)
	}
	// Once it has the right, readings go on without a new connection.
	b.allow("#")
	b.Signal(syscall.SIGHUP)
	s.wait(t, "sensor/live", whichever)
	s.wait(t, "sensor/status", func(m published) bool { return m.status().Online && m.status().Refused == nil })
	if h := p.Health(); len(h.Refused) != 0 || len(logged(hook, "publishing works again")) != 1 || len(logged(hook, "connected to the broker")) != 1 {
		t.Errorf("afterwards: got %+v and %d connections, want nothing refused on the same one", h, len(logged(hook, "connected to the broker")))
	}
}

// A right that is taken away shows within confirmEvery, also on a topic that is
// published to without acknowledgements; a refused retained message goes out as
// soon as the right is back.
func TestPublisherRefusedLater(t *testing.T) {
	t.Parallel()
	b := start(t)
	log, hook := logger()
	p := &Publisher{Broker: b.login(), Log: log, confirmEvery: 100 * time.Millisecond}
	s := b.subscribe("#")
	connected(t, p)
	live := func() error { return p.Publish("live", []byte("1"), false) }
	live()
	s.wait(t, "live", whichever)
	b.allow("other")
	b.Signal(syscall.SIGHUP)
	var refused *wemo.RefusedError
	eventually(t, "a refusal", func() bool { return errors.As(live(), &refused) })
	p.Publish("retained", []byte("2"), true)
	eventually(t, "another refusal", func() bool { return len(p.Health().Refused) == 2 })
	for i := range 2 * maxLogged {
		p.Publish(fmt.Sprint("account/", i), []byte("{}"), true)
	}
	eventually(t, "all refusals", func() bool { return len(p.Health().Refused) == 2*maxLogged+2 })
	if one, more := len(logged(hook, "publishing fails")), len(logged(hook, "publishing fails on more topics")); one != maxLogged || more != 1 {
		t.Errorf("log: got %d topics and %d times that there are more, want %d and 1", one, more, maxLogged)
	}
	if err := p.Publish("other", []byte("3"), true); err != nil {
		t.Errorf("Publish to a topic that is allowed: got %v", err)
	}
	s.wait(t, "other", whichever)
	b.allow("#")
	b.Signal(syscall.SIGHUP)
	s.wait(t, "retained", func(m published) bool { return m.payload == "2" })
	eventually(t, "no refusal", func() bool { live(); return len(p.Health().Refused) == 0 })
}

// When the connection breaks, the broker publishes the last will, and with the next
// connection the status is what it was; also if the broker has not noticed and ends
// the old connection only for the new one.
func TestPublisherLastWill(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*proxy){"broken": (*proxy).cut, "broken on our side only": (*proxy).lose} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t)
			s := b.subscribe("sensor/status")
			proxy := b.proxy()
			p := &Publisher{Broker: b.login(), Status: "sensor/status"}
			p.URL = "mqtt://" + proxy.Addr().String()
			poll(t, p, readings())
			s.wait(t, "sensor/status", func(m published) bool { return m.status().Online })
			end(proxy)
			will := s.wait(t, "sensor/status", func(m published) bool { return m.status().Reason == wemo.Lost })
			s.wait(t, "sensor/status", func(m published) bool { return m.status().Online && m.at.After(will.at) })
			if got := b.subscribe("sensor/status").wait(t, "sensor/status", whichever); !got.status().Online {
				t.Errorf("retained status: got %+v, want online", got)
			}
		})
	}
}

// The broker is away and comes back: no reading of the time between is sent, and of
// each retained topic the newest message.
func TestPublisherRestart(t *testing.T) {
	t.Parallel()
	b := start(t)
	log, hook := logger()
	p := &Publisher{Broker: b.login(), Log: log}
	connected(t, p)
	b.Kill()
	eventually(t, "the loss of the connection", func() bool { return !p.Health().Connected })
	p.Publish("1m", []byte("1"), true)
	p.Publish("1m", []byte("2"), true)
	if err := p.Publish("live", []byte("old"), false); err != ErrOffline {
		t.Errorf("Publish without a connection: got %v, want ErrOffline", err)
	}
	eventually(t, "why there is no connection", func() bool {
		h := p.Health()
		return h.Err != nil && strings.Contains(h.Err.Error(), "connection refused")
	})
	if h := p.Health(); h.Connected || h.Acknowledged.IsZero() {
		t.Errorf("Health without a connection: got %+v, want when the broker last answered", h)
	}
	b.Restart()
	s := b.subscribe("#")
	if got := s.wait(t, "1m", whichever); got.payload != "2" {
		t.Errorf("retained message after the restart: got %+v, want 2", got)
	}
	if err := p.Publish("live", []byte("new"), false); err != nil {
		t.Errorf("Publish with a connection: got %v", err)
	}
	s.wait(t, "live", whichever)
	if all := s.on("live"); len(all) != 1 || all[0].payload != "new" {
		t.Errorf("live messages: got %+v, want only the new one", all)
	}
	if all := logged(hook, "no connection to the broker, trying again"); len(all) != 2 { // lost, refused
		t.Errorf("log: got %q, want one line for each reason", all)
	}
}

// A broker that accepts and says nothing, as one that swaps: no readings pile up,
// the topic is reported, and all is well afterwards.
func TestPublisherStalls(t *testing.T) {
	t.Parallel()
	b := start(t)
	p := &Publisher{Broker: b.login()}
	p.patience = time.Second
	p.confirmEvery = 100 * time.Millisecond
	s := b.subscribe("live")
	connected(t, p)
	stamp := func() { p.Publish("live", fmt.Append(nil, time.Now().UnixMilli()), false) }
	stamp()
	s.wait(t, "live", whichever)
	b.Signal(syscall.SIGSTOP)
	eventually(t, "the end of the connection", func() bool { stamp(); return !p.Health().Connected })
	if h := p.Health(); len(h.Refused) != 1 || h.Refused[0].Reason != "no acknowledgement within 1s" {
		t.Errorf("Health: got %+v, want that the topic is not acknowledged", h)
	}
	b.Signal(syscall.SIGCONT)
	resumed := time.Now()
	eventually(t, "a reading afterwards", func() bool {
		stamp()
		all := s.on("live")
		return all[len(all)-1].at.After(resumed) && len(p.Health().Refused) == 0
	})
	late := 0
	for _, m := range s.on("live") {
		var ms int64
		fmt.Sscan(m.payload, &ms)
		if m.at.Sub(time.UnixMilli(ms)) > time.Second {
			late++
		}
	}
	if limit := int(p.confirmEvery / (5 * time.Millisecond)); late > limit { // those in the socket
		t.Errorf("%d readings arrived late, want at most %d", late, limit)
	}
}

// A session that was away gets no old reading, whatever its QoS: the broker drops
// them after a second.
func TestPublisherLiveExpires(t *testing.T) {
	t.Parallel()
	b := start(t, "queue_qos0_messages true")
	session := func(more ...string) string {
		t.Helper()
		args := append([]string{"-p", fmt.Sprint(b.Port), "-i", "sleeper", "-c", "-q", "1", "-t", "live", "-t", "retained"}, more...)
		out, err := exec.Command("mosquitto_sub", args...).CombinedOutput()
		if exit := (*exec.ExitError)(nil); err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 27) { // 27: -W ended it
			t.Fatalf("mosquitto_sub: %v\n%s", err, out)
		}
		return string(out)
	}
	session("-E")
	p := &Publisher{Broker: b.login()}
	connected(t, p)
	p.Publish("live", []byte("first"), false) // QoS 1
	eventually(t, "an acknowledgement", func() bool { return strings.Contains(b.Log(), "'live'") })
	p.Publish("live", []byte("second"), false) // QoS 0
	p.Publish("retained", []byte("kept"), true)
	time.Sleep(2100 * time.Millisecond) // to the second, the broker's clock
	if got := session("-W", "1"); !strings.Contains(got, "kept\n") || strings.Contains(got, "first") || strings.Contains(got, "second") {
		t.Errorf("after two seconds away: got %q, want only the retained message", got)
	}
}

// The password appears nowhere, and a wrong one is tried again.
func TestPublisherKeepsThePassword(t *testing.T) {
	t.Parallel()
	b := start(t)
	log, hook := logger()
	p := &Publisher{Broker: b.login(), Log: log}
	p.Password = []byte("wrong-s3cret")
	run(t, p, idle)
	eventually(t, "two attempts", func() bool { return strings.Count(b.Log(), "not authorised") >= 2 })
	all := logged(hook, "no connection to the broker, trying again")
	if len(all) != 1 || !strings.Contains(all[0], "not authorized") {
		t.Errorf("log: got %q, want one line that says why", all)
	}
	for _, e := range hook.AllEntries() {
		if text, _ := e.String(); strings.Contains(text, "s3cret") {
			t.Errorf("log: got %q, want no password", text)
		}
	}
}
