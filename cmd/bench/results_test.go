package main

import (
	"math"
	"strings"
	"testing"
)

func TestPrint(t *testing.T) {
	r := newResults([]string{files, dynsec, floor, iotoll})
	speed := measure{"speed", true}
	for name, values := range map[string][]float64{
		files:  {90, 95, 300},
		dynsec: {80, 100, 200},
		floor:  {100, 100, 400},
		iotoll: {99, 98, 388},
	} {
		for _, v := range values {
			r.add(name, speed, v)
		}
	}
	var b strings.Builder
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	want := `speed                      ÷ allow           ÷ best of files, dynsec
  files   95.0 (90.0–300)  0.90 (0.75–0.95)  1.00 (0.95–1.00)
  dynsec  100 (80.0–200)   0.80 (0.50–1.00)  0.89 (0.67–1.00)
  allow   100 (100–400)    1.00 (1.00–1.00)  1.11 (1.00–1.33)
  iotoll  99.0 (98.0–388)  0.98 (0.97–0.99)  1.10 (0.98–1.29)
`
	if b.String() != want {
		t.Errorf("print: got\n%swant\n%s", b.String(), want)
	}
}

// Without its base a ratio is left open.
func TestPrintWithoutBase(t *testing.T) {
	r := newResults([]string{none})
	r.add(none, measure{"speed", true}, 1)
	var b strings.Builder
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	if _, row, _ := strings.Cut(b.String(), "\n"); strings.Join(strings.Fields(row), " ") != "none 1.00 (1.00–1.00) – –" {
		t.Errorf("print: got %q", row)
	}
}

func TestNumber(t *testing.T) {
	for _, test := range []struct {
		in   float64
		want string
	}{
		{0, "0.00"}, {0.968, "0.97"}, {12.34, "12.3"}, {123.4, "123"},
		{1234, "1,234"}, {123456.7, "123,457"}, {1234567, "1,234,567"},
	} {
		if got := number(test.in); got != test.want {
			t.Errorf("number(%v): got %s, want %s", test.in, got, test.want)
		}
	}
	if got := format(summary{median: math.NaN()}); got != "–" {
		t.Errorf("format of nothing: got %s, want a dash", got)
	}
}
