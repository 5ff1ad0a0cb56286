// Package mosquitto starts real Mosquitto brokers for tests.
//
// It is the one place that knows how: the tests of plugin, wemo, tangle and cmd
// all use it, and Go's rule for internal packages lets all four import only
// what lies in an internal directory of the top level.
//
// The broker is the mosquitto on PATH, so that a script that stands in for it
// runs the same tests in a chroot (see cmd/e2e/brokers.sh). A machine without
// Mosquitto fails the tests; none is skipped.
package mosquitto

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// TB is the part of testing.TB that this package uses. Programs import the
// package for Path, and must not link package testing.
type TB interface {
	Cleanup(func())
	Errorf(format string, args ...any)
	Failed() bool
	Fatalf(format string, args ...any)
	Helper()
	Logf(format string, args ...any)
	TempDir() string
}

// Path returns the program to run: mosquitto from PATH, or /usr/sbin/mosquitto,
// which Debian's PATH has for root only.
func Path() string {
	if path, err := exec.LookPath("mosquitto"); err == nil {
		return path
	}
	return "/usr/sbin/mosquitto"
}

// FreePort returns a TCP port of 127.0.0.1 that was free a moment ago.
func FreePort(t TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// PasswordFile writes a password_file with these users and returns its path.
func PasswordFile(t TB, passwords map[string]string) string {
	t.Helper()
	var text strings.Builder
	for user, password := range passwords {
		fmt.Fprintf(&text, "%s:%s\n", user, password)
	}
	path := filepath.Join(t.TempDir(), "passwords")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatalf("write passwords: %v", err)
	}
	if out, err := exec.Command("mosquitto_passwd", "-U", path).CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd -U: %v\n%s", err, out)
	}
	return path
}

// Broker is a running Mosquitto. At the end of the test it is stopped, and if
// the test has failed, the end of its log is printed.
type Broker struct {
	Port int    // in place of PORT in the configuration; it stays across restarts
	Conf string // path of mosquitto.conf, which may be rewritten between Stop and Restart

	t    TB
	env  []string
	log  output
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// Start starts a broker and waits until it accepts connections on Port. See
// Launch.
func Start(t TB, conf string, env ...string) *Broker {
	t.Helper()
	b := Launch(t, conf, env...)
	b.WaitListening(b.Port)
	return b
}

// Launch starts a broker and does not wait for it. In conf, the text of
// mosquitto.conf, PORT stands for a free port. The log goes to Log, with every
// message unless conf has a log_type; as root, "user root" is added, since
// another user could not read the test's files. env is added to the
// environment.
func Launch(t TB, conf string, env ...string) *Broker {
	t.Helper()
	b := &Broker{Port: FreePort(t), Conf: filepath.Join(t.TempDir(), "mosquitto.conf"), t: t, env: env}
	conf = strings.ReplaceAll(conf, "PORT", fmt.Sprint(b.Port))
	if !strings.Contains(conf, "log_type ") {
		conf = "log_type all\n" + conf
	}
	if os.Geteuid() == 0 {
		conf = "user root\n" + conf
	}
	if err := os.WriteFile(b.Conf, []byte("log_dest stderr\n"+conf), 0o600); err != nil {
		t.Fatalf("write mosquitto.conf: %v", err)
	}
	b.launch()
	t.Cleanup(func() {
		b.Stop()
		if t.Failed() {
			text := b.Log()
			t.Logf("the broker's log ends:\n%s", text[max(0, len(text)-4000):])
		}
	})
	return b
}

func (b *Broker) launch() {
	b.t.Helper()
	cmd, done := exec.Command(Path(), "-c", b.Conf), make(chan struct{})
	cmd.Env = append(os.Environ(), b.env...)
	cmd.Stdout, cmd.Stderr = &b.log, &b.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it must not outlive us
	if err := cmd.Start(); err != nil {
		b.t.Fatalf("start Mosquitto: %v", err)
	}
	go func() {
		cmd.Wait()
		close(done)
	}()
	b.cmd, b.done = cmd, done
}

// Restart starts a broker that has ended again, with the same port and log,
// and waits until it accepts connections.
func (b *Broker) Restart() {
	b.t.Helper()
	b.launch()
	b.WaitListening(b.Port)
}

// WaitListening waits until the broker accepts connections on a port of
// 127.0.0.1, for a broker with several listeners.
func (b *Broker) WaitListening(port int) {
	b.t.Helper()
	const patience = 20 * time.Second
	for end := time.Now().Add(patience); time.Now().Before(end); {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-b.done:
			b.t.Fatalf("Mosquitto ended (%v) before it listened on port %d:\n%s", b.cmd.ProcessState, port, b.Log())
		case <-time.After(10 * time.Millisecond):
		}
	}
	b.t.Fatalf("Mosquitto does not listen on port %d after %s:\n%s", port, patience, b.Log())
}

// Addr returns 127.0.0.1:PORT.
func (b *Broker) Addr() string { return fmt.Sprintf("127.0.0.1:%d", b.Port) }

// URL returns mqtt://127.0.0.1:PORT.
func (b *Broker) URL() string { return "mqtt://" + b.Addr() }

// Log returns all that the broker has logged, across restarts.
func (b *Broker) Log() string { return b.log.String() }

// PID returns the process ID of the broker that was started last.
func (b *Broker) PID() int { return b.cmd.Process.Pid }

// Signal sends a signal to the broker.
func (b *Broker) Signal(s os.Signal) error { return b.cmd.Process.Signal(s) }

// Done returns a channel that is closed when the broker has ended. Restart
// makes a new one.
func (b *Broker) Done() <-chan struct{} { return b.done }

// Running reports whether the broker has not ended.
func (b *Broker) Running() bool {
	select {
	case <-b.done:
		return false
	default:
		return true
	}
}

// Stop ends the broker as an operator does, also one that was sent SIGSTOP. It
// is an error if the broker does not obey within ten seconds or exits with
// anything but 0. Stop does nothing if the broker has ended already.
func (b *Broker) Stop() {
	b.t.Helper()
	if !b.Running() {
		return
	}
	b.Signal(syscall.SIGCONT)
	b.Signal(syscall.SIGTERM)
	select {
	case <-b.done:
		if b.cmd.ProcessState.ExitCode() != 0 {
			b.t.Errorf("Mosquitto ended with %v on SIGTERM, want exit status 0", b.cmd.ProcessState)
		}
	case <-time.After(10 * time.Second):
		b.Kill()
		b.t.Errorf("Mosquitto does not end on SIGTERM")
	}
}

// Kill ends the broker as a power failure does, and waits until it is gone.
func (b *Broker) Kill() {
	b.cmd.Process.Kill()
	<-b.done
}

// output is a log that is read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
