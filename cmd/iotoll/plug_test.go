package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/iotoll/iotoll/wemo"
	"github.com/iotoll/iotoll/wemo/insight"
)

func TestPlugRead(t *testing.T) {
	t.Parallel()
	lines := background(t, "", "sim", "plug", "--listen", "127.0.0.1:0")
	address := strings.TrimPrefix(lines[0], "plug ")
	out := mustRun(t, "plug", "read", address)
	for _, want := range []string{"name                  Simulated plug\n", "address               " + address + "\n", "state                 on", " mW\n", "threshold             8000 mW\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("plug read: got\n%swithout %q", out, want)
		}
	}
	if r := iotoll(t, "", "plug", "read", "not an address"); r.code != 2 || !strings.Contains(r.errOut, `plug address "not an address": want an IP address or a host name`) {
		t.Errorf("plug read of nonsense: got %+v", r)
	}
	if r := iotoll(t, "", "plug", "watch", "192.168.1"); r.code != 2 {
		t.Errorf("plug watch of nonsense: got %+v, want exit code 2", r)
	}

	ctx, cancel := context.WithCancel(t.Context())
	out = ""
	err := watch(ctx, &insight.Plug{Address: address, Log: newLog(new(logBuffer))}, 1, func(r wemo.Reading, err error) error {
		var b strings.Builder
		showLine(&b)(r, err)
		if out += b.String(); strings.Count(out, "\n") == 3 {
			cancel()
		}
		return err
	})
	if err != nil || strings.Count(out, "\n") != 3 || strings.Contains(out, "no reading") {
		t.Errorf("watch: got %v and\n%s", err, out)
	}
}

func TestPlugPrinting(t *testing.T) {
	var b strings.Builder
	d := insight.Device{UDN: "uuid:Insight-1_0-1", Name: "Fridge\x1b[2J", Firmware: "2.00", Addr: netip.MustParseAddrPort("192.168.1.20:49153")}
	printDevices(&b, []insight.Device{d})
	if want := `NAME             ADDRESS             UDN                 FIRMWARE
"Fridge\x1b[2J"  192.168.1.20:49153  uuid:Insight-1_0-1  2.00
`; b.String() != want {
		t.Errorf("printDevices: got\n%swant\n%s", &b, want)
	}
	b.Reset()
	show := showSpark(&b)
	show(wemo.Reading{MilliWatts: 0}, nil)
	show(wemo.Reading{MilliWatts: 700}, nil)
	show(wemo.Reading{MilliWatts: 350}, nil)
	show(wemo.Reading{}, errors.New("the plug is away"))
	if want := "\r\x1b[K      0.0 W  ▁\r\x1b[K      0.7 W  ▁█\r\x1b[K      0.3 W  ▁█▄\r\x1b[Kno reading: the plug is away"; b.String() != want {
		t.Errorf("showSpark: got %q, want %q", b.String(), want)
	}
	for range 100 {
		show(wemo.Reading{}, nil)
	}
	if got := fmt.Sprint(b.String()[strings.LastIndex(b.String(), "W"):]); strings.Count(got, "▁") != 60 {
		t.Errorf("showSpark: got %q, want the last 60 readings", got)
	}
}
