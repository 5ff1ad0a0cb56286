// Command bench measures what iotoll's plugin costs a Mosquitto, beside what its
// peers cost: no plugin, the built-in files, the dynamic-security plugin, and a
// plugin of ten lines that permits everything.
//
// It starts brokers of its own on free loopback ports, all with the same users,
// rules and topic, and plays publisher and subscribers itself. The speed of a
// machine drifts by a quarter between minutes, and others may use it too, so one
// measurement is made of all configurations in turn, a freshly started broker
// for each, in several rounds. A ratio is the median of the ratios within the
// rounds. Compare ratios, not figures of different runs.
//
// Usage, after make build:
//
//	go run ./cmd/bench [-rounds 5] [-seconds 2] [-subscribers 10,100] [-only allow,iotoll]
//	    [-mosquitto "chroot /srv/trixie mosquitto"] [-dir DIR] [-plugin build/iotoll.so]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// errUsage is wrapped by errors about the command line.
var errUsage = errors.New("usage")

// bench is what was asked for, and what all its measurements share.
type bench struct {
	rounds      int
	length      time.Duration // of one run
	subscribers []int         // how many, in each measurement of throughput
	names       []string      // of the configurations
	program     program
	plugin      string // iotoll.so
	dir         string // for files, visible to the broker
	fixture     *fixture
	confs       map[string]string // by configuration: its part of mosquitto.conf
}

// run is the program.
func run(ctx context.Context, args []string, stdout, progress io.Writer) (err error) {
	b, err := parse(args, progress)
	if err != nil {
		return err
	}
	version, err := b.program.version(ctx)
	if err != nil {
		return err
	}
	if b.dir, err = b.makeDir(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	callers := int(b.length.Seconds() * loginRate)
	b.fixture = newFixture(max(latencyReaders, slices.Max(b.subscribers)), callers)
	b.confs = make(map[string]string)
	for _, name := range b.names {
		if b.confs[name], err = b.prepare(ctx, name); err != nil {
			return fmt.Errorf("prepare %s: %w", name, err)
		}
	}
	begin := time.Now()
	r := newResults(b.names)
	for round := range b.rounds {
		fmt.Fprintf(progress, "round %d of %d\n", round+1, b.rounds)
		if err := b.round(ctx, round, r); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	fmt.Fprintf(stdout, "%s, %s\n", version, machine())
	fmt.Fprintf(stdout, "%d rounds of %s a run in %s; other processes used %s cores meanwhile\n\n",
		b.rounds, b.length, time.Since(begin).Round(time.Second), format(summarize(r.others)))
	return r.print(stdout)
}

// parse reads the command line.
func parse(args []string, stderr io.Writer) (*bench, error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	rounds := f.Int("rounds", 5, "how often everything is measured")
	seconds := f.Float64("seconds", 2, "how long one run measures")
	subscribers := f.String("subscribers", "10,100", "measure throughput with so many subscribers; a comma-separated list")
	only := f.String("only", "", "only these configurations; a comma-separated list (default all: "+strings.Join(configurations, ",")+")")
	mosquitto := f.String("mosquitto", "", "command that runs Mosquitto, may be \"chroot DIR mosquitto\" (default mosquitto from PATH or /usr/sbin)")
	dir := f.String("dir", "", "directory for files, which the broker must see (default the system's, inside the chroot if there is one)")
	plugin := f.String("plugin", "build/iotoll.so", "iotoll's plugin")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	b := &bench{rounds: *rounds, length: time.Duration(*seconds * float64(time.Second)), dir: *dir, plugin: *plugin}
	var faults []error
	if f.NArg() > 0 {
		faults = append(faults, fmt.Errorf("argument %q is not expected", f.Arg(0)))
	}
	if b.rounds < 1 {
		faults = append(faults, fmt.Errorf("-rounds is %d, want at least 1", b.rounds))
	}
	if b.length < 500*time.Millisecond || b.length > time.Minute {
		faults = append(faults, fmt.Errorf("-seconds is %g, want 0.5 to 60", *seconds))
	}
	for _, text := range strings.Split(*subscribers, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1000 {
			faults = append(faults, fmt.Errorf("-subscribers holds %q, want numbers from 1 to 1000", text))
		}
		b.subscribers = append(b.subscribers, n)
	}
	var err error
	if b.names, err = chosen(*only); err != nil {
		faults = append(faults, fmt.Errorf("-only: %w", err))
	}
	if b.program, err = newProgram(*mosquitto); err != nil {
		faults = append(faults, fmt.Errorf("-mosquitto: %w", err))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return b, nil
}

// makeDir makes a directory for our files that the broker can see.
func (b *bench) makeDir() (string, error) {
	parent := b.dir
	if parent == "" {
		parent = filepath.Join(b.program.root, os.TempDir())
	}
	parent, err := filepath.Abs(parent)
	if err != nil {
		return "", err
	}
	if b.program.root != "" && !strings.HasPrefix(parent, b.program.root+"/") {
		return "", fmt.Errorf("directory %s is not below %s, where the broker could see it", parent, b.program.root)
	}
	return os.MkdirTemp(parent, "iotoll-bench-")
}

// round makes each measurement of each configuration once. Those to be compared
// follow each other closely, and each round begins with another one.
func (b *bench) round(ctx context.Context, round int, r *results) error {
	for _, n := range b.subscribers {
		for _, name := range rotate(b.names, round) {
			err := b.onBroker(ctx, name, r, func(ctx context.Context, k *broker) error {
				t, err := measureThroughput(ctx, k, b.fixture, n, b.length)
				r.add(name, measure{fmt.Sprintf("deliveries/s, %d subscribers", n), true}, t.deliveries)
				r.add(name, measure{fmt.Sprintf("CPU s per million, %d subscribers", n), false}, t.cpu)
				return err
			})
			if err != nil {
				return fmt.Errorf("%s with %d subscribers: %w", name, n, err)
			}
		}
	}
	for _, name := range rotate(b.names, round) {
		err := b.onBroker(ctx, name, r, func(ctx context.Context, k *broker) error {
			l, err := measureLatency(ctx, k, b.fixture, b.length)
			r.add(name, measure{"delivery p50, ms", false}, l.alone.p50)
			r.add(name, measure{"delivery p99, ms", false}, l.alone.p99)
			r.add(name, measure{"delivery max, ms", false}, l.alone.max)
			r.add(name, measure{"delivery p50 during log-ins, ms", false}, l.logins.p50)
			r.add(name, measure{"delivery p99 during log-ins, ms", false}, l.logins.p99)
			r.add(name, measure{"delivery max during log-ins, ms", false}, l.logins.max)
			r.add(name, measure{"first log-in p50, ms", false}, l.login)
			r.add(name, measure{"second log-in p50, ms", false}, l.again)
			return err
		})
		if err != nil {
			return fmt.Errorf("latency of %s: %w", name, err)
		}
	}
	return nil
}

// onBroker starts a broker for one run and stops it afterwards.
func (b *bench) onBroker(ctx context.Context, name string, r *results, f func(context.Context, *broker) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*b.length+2*time.Minute)
	defer cancel()
	k, err := b.program.start(ctx, b.dir, b.confs[name])
	if err != nil {
		return err
	}
	defer func() {
		k.stop()
		if err != nil {
			err = fmt.Errorf("%w; the broker said: %q", err, k.output.String())
		}
	}()
	load, err := newLoad(k)
	if err != nil {
		return err
	}
	if err := f(ctx, k); err != nil {
		return err
	}
	others, err := load.others(k)
	if !math.IsNaN(others) {
		r.others = append(r.others, others)
	}
	return err
}

// rotate returns the names beginning with the n-th.
func rotate(names []string, n int) []string {
	n %= len(names)
	return slices.Concat(names[n:], names[:n])
}
