package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// result is what a command line did.
type result struct {
	code        int
	out, errOut string
}

// iotoll runs a command line in this process, as main does.
func iotoll(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errOut bytes.Buffer
	err := run(ctx, args, strings.NewReader(stdin), &out, &errOut)
	// The passwords of all tests begin like that, and nothing ever prints one.
	if text := out.String() + errOut.String(); strings.Contains(text, "hunter") {
		t.Errorf("iotoll %s printed a password:\n%s", strings.Join(args, " "), text)
	}
	code := report(&errOut, err)
	return result{code, out.String(), progress.ReplaceAllString(errOut.String(), "")}
}

// progress is what a command says that takes more than a few seconds, as on a busy
// machine.
var progress = regexp.MustCompile(`(?m)^[a-z ]+ … [0-9ms]+\n`)

// mustRun runs a command line that has to succeed, and returns its output.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	r := iotoll(t, "", args...)
	if r.code != 0 {
		t.Fatalf("iotoll %s: exit code %d, want 0\n%s%s", strings.Join(args, " "), r.code, r.out, r.errOut)
	}
	return r.out
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"bogus"}, "iotoll: unknown command \"bogus\" for \"iotoll\"\nhint: iotoll --help\n"},
		{[]string{"version", "--bogus"}, "iotoll: unknown flag: --bogus\nhint: iotoll version --help\n"},
		{[]string{"version", "x"}, "iotoll: unexpected argument: \"x\"\nhint: iotoll version --help\n"},
		{[]string{"init"}, "iotoll: missing argument: DIR\nhint: iotoll init --help\n"},
		{[]string{"config"}, "iotoll: config needs a command: one of check\nhint: iotoll config --help\n"},
		{[]string{"config", "chekc"}, "iotoll: unknown command \"chekc\" of config: must be one of check\nhint: iotoll config --help\n"},
		{[]string{"address", "--seed-file", "x", "--index", "-1"}, "iotoll: --index \"-1\": want a whole number from 0 to 18446744073709551615\nhint: iotoll address --help\n"},
		{[]string{"pay", "--wait=maybe"}, "iotoll: --wait \"maybe\": want a duration such as 250ms or 1h\nhint: iotoll pay --help\n"},
		{[]string{"pay", "--force=maybe"}, "iotoll: --force \"maybe\": want true or false\nhint: iotoll pay --help\n"},
		{[]string{"sim", "tangle", "--milestone", "5"}, "iotoll: --milestone \"5\": want a duration such as 250ms or 1h\nhint: iotoll sim tangle --help\n"},
		{[]string{"sim", "tangle", "--seed-file", "x", "--milestone", "0s"}, "iotoll: --milestone 0s: must be a duration above 0\nhint: iotoll sim tangle --help\n"},
		{[]string{"sim", "iota", "--key-file", "x", "--checkpoint", "100ms"}, "iotoll: --checkpoint 100ms: must be a duration of 200ms or more\nhint: iotoll sim iota --help\n"},
		{[]string{"sim", "iota", "--key-file", "x", "--epoch", "0s"}, "iotoll: --epoch 0s: must be a duration above 0\nhint: iotoll sim iota --help\n"},
		{[]string{"sim", "iota", "--key-file", "x", "--iota", "5000000001"}, "iotoll: --iota 5000000001: must be at most 5000000000\nhint: iotoll sim iota --help\n"},
		{[]string{"sim", "iota", "--key-file", "x", "--conflicts", "x"}, "iotoll: --conflicts \"x\": must be certificates or pcool\nhint: iotoll sim iota --help\n"},
		{[]string{"sim", "iota", "--key-file", "x", "--control", "0.0.0.0:0"}, "iotoll: --control \"0.0.0.0:0\": must be a loopback address with a port, such as 127.0.0.1:9126\nhint: iotoll sim iota --help\n"},
		{[]string{"grant", "add", "john", "live", "30m", "--reason", " "}, "iotoll: --reason \" \": must say why\nhint: iotoll grant add --help\n"},
		{[]string{"grant", "revoke", "john", "live", "--reason", ""}, "iotoll: --reason \"\": must say why\nhint: iotoll grant revoke --help\n"},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			r := iotoll(t, "", test.args...)
			if r.code != 2 || r.errOut != test.want || r.out != "" {
				t.Errorf("got exit code %d, stdout %q, stderr:\n%swant 2, nothing, and:\n%s", r.code, r.out, r.errOut, test.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"help"}, {}} {
		r := iotoll(t, "", args...)
		if r.code != 0 || !strings.Contains(r.out, "init ") || !strings.Contains(r.out, "For the seller:") {
			t.Errorf("iotoll %s: got exit code %d and:\n%s", strings.Join(args, " "), r.code, r.out)
		}
	}
}

func TestVersion(t *testing.T) {
	if out := mustRun(t, "version"); !strings.HasPrefix(out, "iotoll ") || !strings.Contains(out, " go1.") {
		t.Errorf("version: got %q, want the version and Go's", out)
	}
	if got := versionText(nil); !strings.HasPrefix(got, "iotoll (unknown) go") {
		t.Errorf("versionText(nil): got %q, want (unknown)", got)
	}
}

func TestLogHasUnits(t *testing.T) {
	var out bytes.Buffer
	newLog(&out).WithField("retry_in", 1500*time.Millisecond).Warn("store is away")
	if got := out.String(); !strings.Contains(got, `"retry_in":"1.5s"`) {
		t.Errorf("log: got %s, want retry_in with its unit", got)
	}
}

// logBuffer collects what commands log while a test may look at it.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
