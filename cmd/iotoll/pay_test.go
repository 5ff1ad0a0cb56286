package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// background runs a command line until the test ends, and returns the lines
// that it prints up to "ready".
func background(t *testing.T, stdin string, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	var errOut logBuffer
	done := make(chan error, 1)
	go func() {
		err := run(ctx, args, strings.NewReader(stdin), w, &errOut)
		w.Close()
		done <- err
	}()
	t.Cleanup(func() {
		cancel()
		go io.Copy(io.Discard, r)
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("iotoll %s: %v", strings.Join(args, " "), err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("iotoll %s does not end 10 s after it was interrupted", strings.Join(args, " "))
		}
		if strings.Contains(errOut.String(), "hunter") {
			t.Errorf("iotoll %s logged a password", strings.Join(args, " "))
		}
		if t.Failed() {
			t.Logf("iotoll %s logged:\n%s", strings.Join(args, " "), errOut.String())
		}
	})
	var lines []string
	for s := bufio.NewScanner(r); s.Scan(); {
		lines = append(lines, s.Text())
		if strings.Contains(s.Text(), "ready") {
			go io.Copy(io.Discard, r)
			return lines
		}
	}
	t.Fatalf("iotoll %s ended before it was ready: %v\n%s", strings.Join(args, " "), <-done, errOut.String())
	return nil
}

// startTangle runs a simulated tangle and returns its URL and the file of the
// seed that owns its iotas.
func startTangle(t *testing.T) (node, seed string) {
	t.Helper()
	seed = filepath.Join(t.TempDir(), "john.seed")
	lines := background(t, "", "sim", "tangle", "--listen", "127.0.0.1:0", "--seed-file", seed, "--milestone", "100ms", "--mwm", "1", "--iotas", "10000")
	if len(lines) != 3 || lines[1] != "seed "+seed+" owns 10000 iotas" {
		t.Fatalf("sim tangle: got %q", lines)
	}
	return strings.TrimPrefix(lines[0], "node "), seed
}

func TestPay(t *testing.T) {
	t.Parallel()
	node, seed := startTangle(t)
	pay := func(args ...string) result {
		return iotoll(t, "", append([]string{"pay", "--node", node, "--seed-file", seed, "--address", depositAddress}, args...)...)
	}
	r := pay("--amount", "500", "--message", `{"username": "john"}`, "--wait")
	if r.code != 0 || r.errOut != "" || !strings.HasPrefix(r.out, "sent 500 i\npayment ") || !strings.Contains(r.out, "\nfinal after ") {
		t.Errorf("pay: got %+v", r)
	}
	if r := pay("--amount", "1", "--message", `{"user": "john"}`); r.code != 1 || !strings.HasPrefix(r.errOut, "iotoll: message would not be matched to a user: the message names no username\nhint: --username NAME ") || r.out != "" {
		t.Errorf("pay for nobody: got %+v, want a refusal", r)
	}
	if r := pay("--amount", "1", "--message", `{"user": "john"}`, "--force", "--wait"); r.code != 0 {
		t.Errorf("pay for nobody with --force: got %+v", r)
	}
	if r := pay("--amount", "20000", "--message", `{"username": "john"}`); r.code != 1 || !strings.Contains(r.errOut, "not enough iotas: 9499 ") || !strings.Contains(r.errOut, "hint: ") {
		t.Errorf("pay too much: got %+v", r)
	}
	if r := pay("--amount", "0", "--message", `{"username": "john"}`); r.code != 1 || !strings.Contains(r.errOut, "amount 0: want 1 to ") {
		t.Errorf("pay nothing: got %+v", r)
	}
	if r := pay("--amount", "1", "--message", `{"username": "jörg"}`); r.code != 1 || !strings.Contains(r.errOut, "ASCII") {
		t.Errorf("pay with a message that is not ASCII: got %+v", r)
	}
	if r := pay("--amount", "1", "--username", "x", "--node", "http://127.0.0.1:1"); r.code != 1 || !strings.Contains(r.errOut, "connection refused") {
		t.Errorf("pay through a node that is away: got %+v", r)
	}
	if r := pay("--amount", "1", "--message", `{"username": "john"}`, "--mwm", "3"); r.code != 1 || !strings.Contains(r.errOut, "requested: 3, expected: 1") || !strings.Contains(r.errOut, "\nhint: leave out --mwm") {
		t.Errorf("pay with another magnitude: got %+v", r)
	}
	if r := pay("--username", "john", "--offer", "live", "--amount", "1", "--wait=1ns"); r.code != 1 || !strings.Contains(r.errOut, " is not final after 1ns\nhint: it may still become final: ") {
		t.Errorf("pay without patience: got %+v", r)
	}
	for _, test := range []struct{ args, want string }{
		{"--amount 1.5 --username john", `--amount: amount "1.5" has 1 decimals`},
		{"--amount 1 --username john --address X", `--address: address "X" has 1 characters`},
		{"--amount 1 --username john --ledger gold", `--ledger: kind: "gold", want legacy or iota`},
		{"--amount 1", "--username or --message: required"},
		{"--amount 1 --message {} --offer live", "--offer: want --username too"},
	} {
		if r := pay(strings.Fields(test.args)...); r.code != 2 || !strings.Contains(r.errOut, test.want) {
			t.Errorf("pay %s: got %+v, want %q", test.args, r, test.want)
		}
	}
	if r := pay("--message", `{"username": "john"}`); r.code != 2 || !strings.Contains(r.errOut, `required flag(s) "amount" not set`) {
		t.Errorf("pay without amount: got %+v, want exit code 2", r)
	}
}

// TestControl: the simulated tangle obeys whoever is on this machine, and a
// payment that may have been sent is told of, with the warning not to repeat it.
func TestControl(t *testing.T) {
	t.Parallel()
	seed := filepath.Join(t.TempDir(), "john.seed")
	if r := iotoll(t, "", "sim", "tangle", "--seed-file", seed, "--control", "0.0.0.0:0"); r.code != 2 || !strings.Contains(r.errOut, `--control "0.0.0.0:0": must be a loopback address`) {
		t.Errorf("open control: got %+v", r)
	}
	lines := background(t, "", "sim", "tangle", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--seed-file", seed, "--milestone", "100ms", "--mwm", "1")
	control := strings.TrimPrefix(lines[2], "control ")
	command := func(c string) {
		t.Helper()
		answer, err := http.Post(control+c, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("POST %s: got %s", c, answer.Status)
		}
	}
	pay := func() result {
		return iotoll(t, "", "pay", "--node", strings.TrimPrefix(lines[0], "node "), "--seed-file", seed, "--address", depositAddress, "--amount", "500", "--message", `{"username": "john"}`)
	}
	command("/break?command=broadcastTransactions&fault=html")
	if r := pay(); r.code != 1 || !strings.HasPrefix(r.out, "may have sent 500 i\npayment ") || !strings.Contains(r.errOut, "\nhint: wait a few minutes ") {
		t.Errorf("pay through a node that breaks: got %+v", r)
	}
	command("/break?command=&fault=")
	command("/milestone")
	if r := pay(); r.code != 0 {
		t.Errorf("pay through a node that is mended: got %+v", r)
	}
}

func TestSimPlug(t *testing.T) {
	t.Parallel()
	lines := background(t, "slow 1ms\n", "sim", "plug", "--listen", "127.0.0.1:0")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "plug 127.0.0.1:") {
		t.Errorf("sim plug: got %q", lines)
	}
}
