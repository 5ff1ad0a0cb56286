// Command bench measures what iotoll's plugin costs a Mosquitto, beside what its
// peers cost: no plugin, the built-in files, the dynamic-security plugin, and a
// plugin of ten lines that permits everything.
//
// It starts brokers of its own on free loopback ports, all with the same users,
// rules and topic, and plays publisher and subscribers itself. The speed of a
// machine drifts by a quarter between minutes, and others may use it too, so one
// measurement is made of all configurations in turn, throughput even in slices of
// a quarter of a second, in several rounds with freshly started brokers. A ratio
// is the median of the ratios within the rounds. Compare ratios, not figures of
// different runs.
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
	store       *store            // iotoll's; nil unless it is measured
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
	b.fixture = newFixture(max(latencyReaders, slices.Max(b.subscribers)), loginsIn(b.length))
	b.confs = make(map[string]string)
	defer func() {
		if b.store != nil {
			err = errors.Join(err, b.store.stop())
		}
	}()
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
	fmt.Fprintf(stdout, "%d rounds of %s a run in %s; other processes used %s cores meanwhile on average\n\n",
		b.rounds, b.length, time.Since(begin).Round(time.Second), number(r.others.cores()))
	return r.print(stdout)
}

// parse reads the command line.
func parse(args []string, stderr io.Writer) (*bench, error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	rounds := f.Int("rounds", 5, "how often everything is measured")
	seconds := f.Float64("seconds", 2, "how long one run measures")
	subscribers := f.String("subscribers", "10,100", "measure throughput with so many subscribers; a comma-separated list")
	only := f.String("only", "", "only these configurations; a comma-separated list of "+strings.Join(configurations, ",")+" (default all but "+thread+")")
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

// contestant is a broker under one of the configurations.
type contestant struct {
	*broker
	name string
}

// round makes each measurement of each configuration once, on brokers that were
// freshly started. Only the one that is measured runs.
func (b *bench) round(ctx context.Context, round int, r *results) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(len(b.names))*(time.Duration(len(b.subscribers)+3)*b.length+beforehand+time.Minute))
	defer cancel()
	var all []*contestant
	defer func() {
		for _, c := range all {
			c.stop()
			if err != nil && c.output.Len() > 0 {
				err = fmt.Errorf("%w\n%s's broker said:\n%s", err, c.name, &c.output)
			}
		}
	}()
	for _, name := range b.names {
		k, err := b.program.start(ctx, b.dir, b.confs[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		c := &contestant{broker: k, name: name}
		all = append(all, c)
		if err := c.pause(); err != nil {
			return err
		}
	}
	for _, n := range b.subscribers {
		if err := b.throughput(ctx, rotate(all, round), n, r); err != nil {
			return fmt.Errorf("throughput with %d subscribers: %w", n, err)
		}
	}
	return b.latency(ctx, rotate(all, round), r)
}

// slice is how long one broker is measured before it is the next one's turn. The
// machine's speed changes little in so short a time, so all meet the same.
const slice = 250 * time.Millisecond

// throughput measures the brokers slice by slice, each slice beginning with
// another of them.
func (b *bench) throughput(ctx context.Context, all []*contestant, subscribers int, r *results) error {
	flows := make(map[string]*flow)
	defer func() {
		for _, w := range flows {
			w.close()
		}
	}()
	for _, c := range all {
		err := r.running(c, func() error {
			w, err := newFlow(ctx, c.broker, b.fixture, subscribers)
			if err == nil {
				flows[c.name] = w
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	sums := make(map[string]throughput)
	for i := range int((b.length + slice - 1) / slice) {
		for _, c := range rotate(all, i) {
			err := r.running(c, func() error {
				t, err := flows[c.name].measure(ctx, slice)
				sums[c.name] = sums[c.name].plus(t)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	for _, c := range all {
		if err := r.running(c, func() error { return flows[c.name].finish(ctx) }); err != nil {
			return err
		}
		r.add(c.name, measure{fmt.Sprintf("deliveries/s, %d subscribers", subscribers), true}, sums[c.name].perSecond())
		r.add(c.name, measure{fmt.Sprintf("CPU s per million, %d subscribers", subscribers), false}, sums[c.name].cpuPerMillion())
	}
	return nil
}

// latency measures the brokers one after another.
func (b *bench) latency(ctx context.Context, all []*contestant, r *results) error {
	for _, c := range all {
		err := r.running(c, func() error {
			l, err := measureLatency(ctx, c.broker, b.fixture, b.length)
			r.add(c.name, measure{"delivery p50, ms", false}, l.alone.p50)
			r.add(c.name, measure{"delivery p99, ms", false}, l.alone.p99)
			r.add(c.name, measure{"delivery max, ms", false}, l.alone.max)
			r.add(c.name, measure{"delivery p50 during log-ins, ms", false}, l.logins.p50)
			r.add(c.name, measure{"delivery p99 during log-ins, ms", false}, l.logins.p99)
			r.add(c.name, measure{"delivery max during log-ins, ms", false}, l.logins.max)
			r.add(c.name, measure{"delivery p50 during later log-ins, ms", false}, l.later.p50)
			r.add(c.name, measure{"delivery p99 during later log-ins, ms", false}, l.later.p99)
			r.add(c.name, measure{"delivery max during later log-ins, ms", false}, l.later.max)
			r.add(c.name, measure{"first log-in p50, ms", false}, l.login)
			r.add(c.name, measure{"second log-in p50, ms", false}, l.again)
			return err
		})
		if err != nil {
			return fmt.Errorf("latency: %w", err)
		}
	}
	return nil
}

// running calls f while the broker of a contestant runs, and notes what other
// processes used meanwhile.
func (r *results) running(c *contestant, f func() error) (err error) {
	if err := c.resume(); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	var from, to load
	from, err = newLoad(c.broker)
	if err == nil {
		err = f()
	}
	if err == nil {
		to, err = newLoad(c.broker)
		r.others.add(from, to)
	}
	if e := c.pause(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return nil
}

// rotate returns the items beginning with the n-th.
func rotate[T any](items []T, n int) []T {
	n %= len(items)
	return slices.Concat(items[n:], items[:n])
}
