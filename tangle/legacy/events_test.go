package legacy

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/iotaledger/iota.go/bundle"
	devlegacy "github.com/iotoll/iotoll/tangle/devnet/legacy"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// mosquitto is a real broker on a free port of loopback, in the place of a
// node's.
type mosquitto struct {
	t    testing.TB
	addr string
	conf string
	cmd  *exec.Cmd
}

func startMosquitto(t testing.TB) *mosquitto {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	m := &mosquitto{t: t, addr: l.Addr().String(), conf: filepath.Join(t.TempDir(), "mosquitto.conf")}
	conf := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\n", l.Addr().(*net.TCPAddr).Port)
	if err := os.WriteFile(m.conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	t.Cleanup(m.kill)
	return m
}

func (m *mosquitto) start() {
	m.t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // not on everybody's PATH
	}
	conf := m.conf
	if os.Getuid() == 0 { // it would give up the right to read its file
		text, err := os.ReadFile(conf)
		if err != nil {
			m.t.Fatal(err)
		}
		conf += ".root"
		if err := os.WriteFile(conf, append(text, "user root\n"...), 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	m.cmd = exec.Command(path, "-c", conf)
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	for range 200 {
		if c, err := net.Dial("tcp", m.addr); err == nil {
			c.Close()
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	m.t.Fatal("mosquitto does not listen")
}

func (m *mosquitto) kill() {
	if m.cmd != nil {
		m.cmd.Process.Kill()
		m.cmd.Wait()
		m.cmd = nil
	}
}

// publisher returns what publishes as a node does.
func (m *mosquitto) publisher() func(topic string, payload []byte) {
	m.t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + m.addr))
	if t := c.Connect(); !t.WaitTimeout(5*time.Second) || t.Error() != nil {
		m.t.Fatalf("connect publisher: %v", t.Error())
	}
	m.t.Cleanup(func() { c.Disconnect(0) })
	return func(topic string, payload []byte) {
		if t := c.Publish(topic, 0, false, payload); !t.WaitTimeout(5*time.Second) || t.Error() != nil {
			m.t.Errorf("publish %s: %v", topic, t.Error())
		}
	}
}

// run runs e in the background and returns how often it woke.
func (e *Events) run(t testing.TB) *atomic.Int64 {
	wakes := new(atomic.Int64)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- e.Run(ctx, func() { wakes.Add(1) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return wakes
}

func eventually(t testing.TB, what string, happened func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// calm waits until nothing wakes any more, and returns how often it did.
func calm(wakes *atomic.Int64) int64 {
	for {
		n := wakes.Load()
		time.Sleep(4 * wakeEvery)
		if wakes.Load() == n {
			return n
		}
	}
}

// TestEvents: what a node publishes when a milestone confirms a payment wakes;
// that a payment has arrived does not.
func TestEvents(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	jane := addressOf(t, janeSeed, 0)
	topics := make(chan string, 1000)
	publish := m.publisher()
	net, err := devlegacy.New(devlegacy.Config{Genesis: bank(), Event: func(topic string, payload []byte) {
		publish(topic, payload)
		topics <- topic
	}})
	if err != nil {
		t.Fatal(err)
	}
	logger, log := logtest.NewNullLogger()
	wakes := (&Events{URL: "tcp://" + m.addr, Addresses: []string{jane}, Log: logger}).run(t)
	eventually(t, "the connection to wake", func() bool { return wakes.Load() == 1 })
	calm(wakes)

	message, err := devlegacy.Message(fromJohn)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := devlegacy.Spend{Seed: bankSeed, To: bundle.Transfers{{Address: jane, Value: 500, Message: message}}}.Sign()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := net.Send(signed); err != nil {
		t.Fatal(err)
	}
	if got := calm(wakes); got != 1 {
		t.Errorf("an unconfirmed payment woke %d times", got-1)
	}
	if _, err := net.Milestone(); err != nil {
		t.Fatal(err)
	}
	if got := calm(wakes); got < 2 || got > 3 {
		t.Errorf("a milestone with a payment woke %d times, want once or twice", got-1)
	}
	seen := make(map[string]bool)
	for len(topics) > 0 {
		seen[<-topics] = true
	}
	if !seen["lmi"] || !seen["sn"] || !seen["tx"] {
		t.Errorf("the tangle published %v", seen)
	}
	if n := len(log.AllEntries()); n != 1 {
		t.Errorf("got %d log lines, want one: %v", n, log.AllEntries())
	}
}

// TestEventsConcern: of confirmations, only those wake that may be about our
// addresses; and however many there are, the poll is not driven to exhaustion.
func TestEventsConcern(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	jane, eve := addressOf(t, janeSeed, 0), addressOf(t, janeSeed, 1)
	logger, _ := logtest.NewNullLogger()
	wakes := (&Events{URL: "tcp://" + m.addr, Addresses: []string{jane}, Log: logger}).run(t)
	eventually(t, "the connection to wake", func() bool { return wakes.Load() == 1 })
	publish := m.publisher()
	for _, test := range []struct {
		topic, payload string
		wakes          bool
	}{
		{"sn", `{"msIndex":4,"txHash":"XZTJ","address":"` + eve[:81] + `"}`, false},
		{"sn", `{"msIndex":4,"txHash":"XZTJ","address":"` + jane[:81] + `"}`, true},
		{"lmi", `{"prevLMI":3,"lmi":4}`, true},
		{"sn", ``, true}, // whatever that means
		{"sn", `{}`, true},
		{"sn", `sn 4 HASH ` + eve[:81], true},
		{"lmi", `{`, true},
		{"lm", `{"index":4}`, false},
		{"tx", `{"address":"` + jane[:81] + `"}`, false},
	} {
		before := calm(wakes)
		publish(test.topic, []byte(test.payload))
		if got := calm(wakes) - before; (got > 0) != test.wakes {
			t.Errorf("%s %.60s: woke %d times, want it to: %t", test.topic, test.payload, got, test.wakes)
		}
	}
	before, begun := calm(wakes), time.Now()
	for range 2000 {
		publish("sn", []byte(`{"address":"`+jane[:81]+`"}`))
	}
	most := int64(time.Since(begun)/wakeEvery) + 6
	if got := calm(wakes) - before; got < 1 || got > most {
		t.Errorf("2,000 confirmations woke %d times, want 1 to %d", got, most)
	}
}

// TestEventsAway: a broker that is away does no harm, is told of once, and is
// listened to again when it is back.
func TestEventsAway(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	m.kill()
	logger, log := logtest.NewNullLogger()
	wakes := (&Events{URL: "mqtt://" + m.addr, Log: logger}).run(t)
	logged := func(text string) (n int) {
		for _, e := range log.AllEntries() {
			if strings.Contains(e.Message, text) {
				n++
			}
		}
		return n
	}
	time.Sleep(time.Second) // three attempts
	if away := logged("no events from the node"); away != 1 || wakes.Load() != 0 {
		t.Errorf("away: got %d log lines and %d wakes, want 1 and none", away, wakes.Load())
	}
	m.start()
	eventually(t, "the connection to wake", func() bool { return wakes.Load() == 1 })
	m.kill()
	eventually(t, "the loss to be logged", func() bool { return logged("no events from the node") == 2 })
	m.start()
	eventually(t, "the connection to wake again", func() bool { return wakes.Load() == 2 })
	publish := m.publisher()
	calm(wakes)
	publish("lmi", []byte(`{"prevLMI":3,"lmi":4}`))
	eventually(t, "a milestone to wake", func() bool { return wakes.Load() == 3 })
	if back := logged("events of the node wake the poll"); back != 2 {
		t.Errorf("got %d log lines on connections, want 2", back)
	}
}

// TestEventsSilent: who accepts a connection and never answers does no harm.
func TestEventsSilent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	logger, log := logtest.NewNullLogger()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	e := &Events{URL: "tcp://" + l.Addr().String(), Log: logger}
	go func() { ended <- e.Run(ctx, func() { t.Error("it woke") }) }()
	eventually(t, "the silence to be logged", func() bool { return len(log.AllEntries()) == 1 })
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Second):
		t.Error("Run goes on a second after its context ended")
	}
}

func TestEventsValidate(t *testing.T) {
	logger, _ := logtest.NewNullLogger()
	for _, test := range []struct{ url, want string }{
		{"tcp://node.example:1883", ""},
		{"mqtt://127.0.0.1", ""},
		{"mqtts://[::1]:8883/", ""},
		{"", "want for instance tcp://127.0.0.1:1883"},
		{"127.0.0.1:1883", "want for instance tcp://127.0.0.1:1883"},
		{"http://node.example", `URL "http://node.example": want`},
		{"tcp://", "want for instance"},
		{"tcp://node.example/topic", "want for instance"},
		{"tcp://jane:hunter2@node.example", "want no username and password"},
		{"tcp://jane:hunter2@node.example:x", "want for instance"},
	} {
		err := (&Events{URL: test.url, Log: logger}).Validate()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%q: got %v, want %q", test.url, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the error shows the password: %v", test.url, err)
		}
	}
	if err := (&Events{URL: "tcp://node.example", Addresses: []string{"JANE"}, Log: logger}).Validate(); err == nil {
		t.Error("a deposit address that is none was accepted")
	}
	if err := (&Events{URL: "tcp://node.example"}).Validate(); err == nil {
		t.Error("a missing Log was accepted")
	}
}
