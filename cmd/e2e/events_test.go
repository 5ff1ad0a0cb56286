package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/iotoll/iotoll/cmd/internal/rig"
)

// TestWokenByEvents: serve that polls once an hour settles a payment at once
// when the node tells of it.
func TestWokenByEvents(t *testing.T) {
	t.Parallel()
	tl := newTill(t, "")
	broker := nodeBroker(t)
	text, err := os.ReadFile(tl.config)
	if err != nil {
		t.Fatal(err)
	}
	slow := strings.Replace(string(text), "poll: 50ms", fmt.Sprintf("poll: 1h, events: %q", broker), 1)
	if err := os.WriteFile(tl.config, []byte(slow), 0o600); err != nil {
		t.Fatal(err)
	}
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker))
	if token := c.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	defer c.Disconnect(0)

	s := tl.serve(tl.config, "")
	s.await("serve to listen to events", func() bool {
		return s.said("deposit address is watched from now on") > 0 && s.said("events of the node wake the poll") > 0
	})
	tl.addUsers("john")
	time.Sleep(time.Second) // until serve has seen that there is a new user
	tl.pay("john", 500)
	time.Sleep(time.Second)
	if s.said(settled...) > 0 {
		t.Fatal("a payment was settled that nobody told of")
	}
	tl.event = func(topic string, payload []byte) { c.Publish(topic, 0, false, payload).Wait() }
	tl.pay("john", 500)
	s.await("serve to settle both payments", func() bool { return s.said(settled...) == 2 })
}

// nodeBroker starts a broker in the place of a node's, and returns its URL.
func nodeBroker(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	conf := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\n", l.Addr().(*net.TCPAddr).Port)
	if os.Getuid() == 0 {
		conf += "user root\n"
	}
	path := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(rig.Mosquitto(), "-c", path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	eventually(t, "the broker to listen", func() bool {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return "tcp://" + l.Addr().String()
}
