package rig

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
	"sync"
	"syscall"
	"time"
)

// Process is a program that the rig started.
type Process struct {
	Name string // for messages, and the name of its log file

	cmd  *exec.Cmd
	out  *Output
	done chan struct{} // closed when the program has ended
	err  error         // what Wait returned; read after done is closed
}

// start runs a program and keeps what it prints, also in DIR/NAME.log. The
// program dies with this process.
func start(dir, name string, args ...string) (*Process, error) {
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p := &Process{Name: name, out: &Output{}, done: make(chan struct{})}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Dir = dir
	w := &tee{p.out, log}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	// A group of its own, so that Ctrl-C reaches only us and we stop things in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		log.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		log.Close()
		close(p.done)
	}()
	return p, nil
}

// Output returns all that the program printed.
func (p *Process) Output() string { return p.out.String() }

// Signal sends a signal to the program.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop asks the program to end, makes it after five seconds, and waits.
func (p *Process) Stop() {
	if p == nil {
		return
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.Kill()
	}
}

// Kill ends the program at once and waits until it is gone.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// waitFor returns when the program has printed text.
func (p *Process) waitFor(ctx context.Context, text string) error {
	return p.wait(ctx, func() bool { return strings.Contains(p.Output(), text) }, fmt.Sprintf("to print %q", text))
}

// waitListening returns when the program accepts connections at addr.
func (p *Process) waitListening(ctx context.Context, addr string) error {
	return p.wait(ctx, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false
		}
		c.Close()
		return true
	}, "to listen on "+addr)
}

func (p *Process) wait(ctx context.Context, ready func() bool, what string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended (%v) while we waited for it %s; it said:\n%s", p.Name, p.err, what, p.out.tail())
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s %s: %w; it said:\n%s", p.Name, what, context.Cause(ctx), p.out.tail())
		case <-tick.C:
		}
	}
	return nil
}

// Output is what a program printed so far; it may be read while the program runs.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// tail returns the last lines, for an error message.
func (o *Output) tail() string {
	s := o.String()
	if len(s) > 2000 {
		s = "…" + s[len(s)-2000:]
	}
	return s
}

type tee struct {
	a *Output
	b *os.File
}

func (t *tee) Write(p []byte) (int, error) {
	_, err := t.a.Write(p)
	_, err2 := t.b.Write(p)
	return len(p), errors.Join(err, err2)
}

// freePorts returns n TCP ports of the loopback interface that nothing uses.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
