package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine names what the measurement ran on.
func machine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel := "Linux"
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel += " " + strings.TrimSpace(string(text))
	}
	return fmt.Sprintf("%d cores of %s, %s", runtime.NumCPU(), model, kernel)
}

// load is the CPU time used up to a moment: by all, and by us and a broker.
type load struct {
	at        time.Time
	all, ours time.Duration
}

func newLoad(b *broker) (load, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return load{}, err
	}
	all, err := busy(string(text))
	if err != nil {
		return load{}, err
	}
	var self unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &self); err != nil {
		return load{}, fmt.Errorf("read our CPU time: %w", err)
	}
	cpu, err := b.cpu()
	return load{time.Now(), all, time.Duration(self.Nano()) + cpu}, err
}

// others is what processes that have no part in the measurement used during it.
type others struct{ used, elapsed time.Duration }

// add adds what they used between two moments.
func (o *others) add(from, to load) {
	o.used += (to.all - from.all) - (to.ours - from.ours)
	o.elapsed += to.at.Sub(from.at)
}

// cores returns how many cores they kept busy on average.
func (o others) cores() float64 {
	// /proc/stat counts in hundredths of a second, so that nothing may come out
	// below zero.
	return max(0, o.used.Seconds()/o.elapsed.Seconds())
}

// busy returns the CPU time of all cores that was not idle, from the text of
// /proc/stat, proc(5).
func busy(stat string) (time.Duration, error) {
	first, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(first)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q, want the cpu line", first)
	}
	var ticks int64
	for i, text := range fields[1:9] {
		const idle, iowait = 3, 4
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if i != idle && i != iowait {
			ticks += n
		}
	}
	const perSecond = 100 // USER_HZ
	return time.Duration(ticks) * time.Second / perSecond, nil
}
