package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/iotoll/iotoll/cmd/internal/hint"
	"github.com/iotoll/iotoll/wemo"
	"github.com/iotoll/iotoll/wemo/insight"
)

func newPlug(c console) *cobra.Command {
	return group("plug", "Find and read smart plugs (WeMo Insight)", newPlugDiscover(c), newPlugRead(c), newPlugWatch(c))
}

func newPlugDiscover(c console) *cobra.Command {
	return &cobra.Command{
		Use:   "discover",
		Short: "List the plugs that answer on this network (takes four to eight seconds)",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			devices, err := insight.Search{}.Discover(cmd.Context(), new(insight.Client))
			if err != nil {
				return err
			}
			if len(devices) == 0 {
				return hint.Add(insight.ErrNotFound, `some plugs answer no search: "iotoll plug read ADDRESS" asks one directly`)
			}
			return printDevices(c.out, devices)
		},
	}
}

func printDevices(w io.Writer, devices []insight.Device) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tADDRESS\tUDN\tFIRMWARE")
	for _, d := range devices {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", printable(d.Name), d.Addr, printable(d.UDN), printable(d.Firmware))
	}
	return t.Flush()
}

func newPlugRead(c console) *cobra.Command {
	return &cobra.Command{
		Use:   "read ADDRESS",
		Short: "Read a plug once and print everything that it reports",
		Long: `read asks the plug at ADDRESS, an IP address or a host name, with or without a
port. Without a port, the usual ones are tried.`,
		Args: exactly("ADDRESS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := (&insight.Plug{Address: args[0]}).Validate(); err != nil {
				return &usageError{err: err}
			}
			ctx := cmd.Context()
			client := new(insight.Client)
			addr, err := insight.ResolveAddress(ctx, args[0])
			if err != nil {
				return err
			}
			d, err := client.Locate(ctx, addr, "")
			if errors.Is(err, insight.ErrUnreachable) {
				return hint.Add(err, `"iotoll plug discover" looks for plugs`)
			} else if err != nil {
				return err
			}
			p, err := client.Params(ctx, d.Addr)
			if err != nil {
				return err
			}
			return printParams(c.out, d, p)
		},
	}
}

// printParams prints everything that a plug reports, with names and units.
func printParams(w io.Writer, d insight.Device, p insight.Params) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, name+"\t"+format+"\n", args...) }
	row("name", "%s", printable(d.Name))
	row("address", "%s", d.Addr)
	row("UDN", "%s", printable(d.UDN))
	row("model", "%s", printable(d.Model))
	row("firmware", "%s", printable(d.Firmware))
	state, ok := map[insight.State]string{insight.Off: "off", insight.On: "on", insight.Standby: "on, below the threshold"}[p.State]
	if !ok {
		state = fmt.Sprintf("unknown (%d)", p.State)
	}
	row("state", "%s", state)
	row("since", "%s", clock(p.LastChange))
	row("power now", "%d mW", p.MilliWatts())
	row("average while on", "%g W", p.AverageWatts)
	row("energy today", "%.3f Wh", wattHours(p.EnergyToday))
	row("energy in the period", "%.3f Wh", wattHours(p.EnergyTotal))
	row("period", "%s", p.Period)
	row("on since or for", "%s", p.OnFor)
	row("on today", "%s", p.OnToday)
	row("on in the period", "%s", p.OnTotal)
	row("threshold", "%g mW", p.Threshold)
	return t.Flush()
}

// wattHours converts milliwatt minutes, the plug's unit of energy.
func wattHours(milliwattMinutes float64) float64 { return milliwattMinutes / 60_000 }

func newPlugWatch(c console) *cobra.Command {
	return &cobra.Command{
		Use:   "watch [ADDRESS]",
		Short: "Show what a plug measures, once a second, until interrupted",
		Long: `watch reads a plug once a second; without ADDRESS, the only one that a search
finds. On a terminal it shows the last minute, otherwise it prints one line for
each reading: the time and milliwatts.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return exactly("ADDRESS")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			plug := &insight.Plug{Log: newLog(c.err)}
			if len(args) > 0 {
				plug.Address = args[0]
			}
			if err := plug.Validate(); err != nil {
				return &usageError{err: err}
			}
			show := showLine(c.out)
			if f, ok := c.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				show = showSpark(c.out)
				defer fmt.Fprintln(c.out)
			}
			return watch(cmd.Context(), plug, time.Second, show)
		},
	}
}

// watch shows the readings of a source, or why there is none, until ctx ends. The
// source itself waits after failures.
func watch(ctx context.Context, source wemo.Source, interval time.Duration, show func(wemo.Reading, error) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		r, err := source.Read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := show(r, err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func showLine(w io.Writer) func(wemo.Reading, error) error {
	return func(r wemo.Reading, err error) error {
		if err != nil {
			_, err = fmt.Fprintf(w, "%s no reading: %v\n", clock(time.Now()), err)
			return err
		}
		_, err = fmt.Fprintf(w, "%s %d\n", clock(r.At), r.MilliWatts)
		return err
	}
}

// showSpark keeps one line of a terminal up to date.
func showSpark(w io.Writer) func(wemo.Reading, error) error {
	var last []int64
	return func(r wemo.Reading, err error) error {
		if err != nil {
			_, err = fmt.Fprintf(w, "\r\x1b[Kno reading: %v", err)
			return err
		}
		last = append(last[max(0, len(last)-59):], r.MilliWatts)
		_, err = fmt.Fprintf(w, "\r\x1b[K%9.1f W  %s", float64(r.MilliWatts)/1000, sparkline(last))
		return err
	}
}

// sparkline draws values, scaled from the least to the greatest of them.
func sparkline(values []int64) string {
	const bars = "▁▂▃▄▅▆▇█"
	steps := []rune(bars)
	if len(values) == 0 {
		return ""
	}
	least, most := values[0], values[0]
	for _, v := range values {
		least, most = min(least, v), max(most, v)
	}
	var b strings.Builder
	for _, v := range values {
		i := 0
		if most > least {
			i = int(float64(v-least) / float64(most-least) * float64(len(steps)-1))
		}
		b.WriteRune(steps[i])
	}
	return b.String()
}
