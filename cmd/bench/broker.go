package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// program is the Mosquitto to be measured.
type program struct {
	command []string // with the words before the options
	root    string   // the root directory that it sees; "" if that is ours
}

// newProgram splits a command into words. After "chroot DIR" the broker sees
// DIR as its root.
func newProgram(command string) (program, error) {
	words := strings.Fields(command)
	switch {
	case len(words) == 0:
		if path, err := exec.LookPath("mosquitto"); err == nil {
			return program{command: []string{path}}, nil
		}
		// Debian keeps it where only root's PATH looks.
		return program{command: []string{"/usr/sbin/mosquitto"}}, nil
	case filepath.Base(words[0]) == "chroot" && len(words) < 3:
		return program{}, fmt.Errorf("mosquitto command %q: want chroot DIR COMMAND", command)
	case filepath.Base(words[0]) == "chroot":
		return program{command: words, root: filepath.Clean(words[1])}, nil
	}
	return program{command: words}, nil
}

// inside returns the path by which the broker knows one of our files.
func (p program) inside(path string) string { return strings.TrimPrefix(path, p.root) }

// version returns how the broker names itself, such as "mosquitto version 2.0.11".
func (p program) version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// It exits with 3 after the help, so only the text counts.
	out, err := p.exec(ctx, "-h").Output()
	first, _, _ := strings.Cut(string(out), "\n")
	if !strings.Contains(first, "version") {
		return "", errors.Join(fmt.Errorf("%s -h says %q, want its version", strings.Join(p.command, " "), first), err)
	}
	return first, nil
}

func (p program) exec(ctx context.Context, options ...string) *exec.Cmd {
	args := append(p.command[1:len(p.command):len(p.command)], options...)
	cmd := exec.CommandContext(ctx, p.command[0], args...)
	// If we are killed, the broker must not stay.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// broker is a running Mosquitto.
type broker struct {
	address string // host:port
	cmd     *exec.Cmd
	output  bytes.Buffer
	done    chan error // what Wait returned
}

// common is the part of mosquitto.conf that every configuration shares.
const common = `listener %d 127.0.0.1
set_tcp_nodelay true
persistence false
sys_interval 0
max_queued_messages 0
connection_messages false
log_dest stderr
log_type error
log_type warning
`

// start runs a broker on a free port and returns when it accepts connections.
// Its process must be the one that is started here: that one's CPU is counted.
func (p program) start(ctx context.Context, dir, conf string) (*broker, error) {
	port, err := freePort()
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	text := fmt.Sprintf(common, port)
	if os.Getuid() == 0 {
		text += "user root\n" // else it gives up the right to read our files
	}
	path := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(path, []byte(text+conf), 0o600); err != nil {
		return nil, err
	}
	b := &broker{address: fmt.Sprintf("127.0.0.1:%d", port), done: make(chan error, 1)}
	b.cmd = p.exec(ctx, "-c", p.inside(path))
	b.cmd.Stdout, b.cmd.Stderr = &b.output, &b.output
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	go func() { b.done <- b.cmd.Wait() }()
	if err := b.waitListening(ctx); err != nil {
		b.stop()
		return nil, fmt.Errorf("start broker: %w; it said:\n%s", err, b.output.String())
	}
	return b, nil
}

func (b *broker) waitListening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.DialTimeout("tcp", b.address, time.Second); err == nil {
			return c.Close()
		}
		select {
		case err := <-b.done:
			b.done <- err
			return fmt.Errorf("it ended (%v) before it listened", err)
		case <-ctx.Done():
			return fmt.Errorf("it does not listen on %s: %w", b.address, ctx.Err())
		case <-tick.C:
		}
	}
}

// pause stops the broker in its tracks, so that it costs nothing while another
// one is measured: a plugin with threads of its own would.
func (b *broker) pause() error { return b.cmd.Process.Signal(syscall.SIGSTOP) }

// resume lets the broker carry on.
func (b *broker) resume() error { return b.cmd.Process.Signal(syscall.SIGCONT) }

// stop ends the broker, after five seconds by force.
func (b *broker) stop() {
	b.resume()
	b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.done:
	case <-time.After(5 * time.Second):
		b.cmd.Process.Kill()
		<-b.done
	}
}

// cpu returns the CPU time that the broker has used so far, all its threads
// together, in nanoseconds rather than /proc's hundredths of a second.
func (b *broker) cpu() (time.Duration, error) {
	// clock_getcpuclockid(3): the process's CPU clock of kind "sched".
	clock := int32(^b.cmd.Process.Pid<<3 | 2)
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", b.cmd.Process.Pid, err)
	}
	return time.Duration(t.Nano()), nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
