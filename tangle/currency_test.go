package tangle

import (
	"math"
	"strings"
	"testing"
)

var (
	iota9  = Currency{Unit: "IOTA", Decimals: 9, Max: math.MaxInt64}
	legacy = Currency{Unit: "i", Max: 2_779_530_283_277_761}
)

func TestCurrencyParse(t *testing.T) {
	for _, test := range []struct {
		currency Currency
		text     string
		want     int64
		fault    string
	}{
		{legacy, "500", 500, ""},
		{legacy, "500 i", 500, ""},
		{legacy, "0", 0, ""},
		{legacy, "2779530283277761", 2_779_530_283_277_761, ""},
		{legacy, "2779530283277762", 0, "out of range, want at most 2779530283277761 i"},
		{legacy, "500 IOTA", 0, `unit "IOTA" is unknown, want a whole number such as 500 i`},
		{legacy, "0.5", 0, "has 1 decimals, want at most 0"},
		{iota9, "0.5 IOTA", 500_000_000, ""},
		{iota9, "0.5", 500_000_000, ""},
		{iota9, "1", 1_000_000_000, ""},
		{iota9, "0.000000001 IOTA", 1, ""},
		{iota9, "9223372036.854775807", math.MaxInt64, ""},
		{iota9, "9223372036.854775808", 0, "out of range"},
		{iota9, "0.0000000001", 0, "has 10 decimals, want at most 9"},
		{iota9, "", 0, "is not a number, want a number such as 0.5 IOTA"},
		{iota9, "IOTA", 0, "is not a number"},
		{iota9, "-1", 0, "is not a number"},
		{iota9, "+1", 0, "is not a number"},
		{iota9, "1e9", 0, "is not a number"},
		{iota9, ".5", 0, "is not a number"},
		{iota9, "5.", 0, "is not a number"},
		{iota9, "0,5", 0, "is not a number"},
		{iota9, "1.2.3", 0, "is not a number"},
		{iota9, "0x10", 0, "is not a number"},
		{iota9, "٥", 0, "is not a number"},
		{iota9, "1 000", 0, `unit "000" is unknown`},
		{iota9, "1 iota", 0, `unit "iota" is unknown`},
	} {
		got, err := test.currency.Parse(test.text)
		if got != test.want || (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
			t.Errorf("Parse(%q): got %d, %v, want %d, %q", test.text, got, err, test.want, test.fault)
		}
	}
}

func TestCurrencyFormat(t *testing.T) {
	for _, test := range []struct {
		currency Currency
		amount   int64
		want     string
	}{
		{legacy, 500, "500 i"},
		{iota9, 500_000_000, "0.5 IOTA"},
		{iota9, 501_234_000, "0.501234 IOTA"},
		{iota9, 1, "0.000000001 IOTA"},
		{iota9, 0, "0 IOTA"},
		{iota9, 10_000_000_000, "10 IOTA"},
		{iota9, -1_500_000_000, "-1.5 IOTA"},
		{iota9, math.MinInt64, "-9223372036.854775808 IOTA"},
	} {
		if got := test.currency.Format(test.amount); got != test.want {
			t.Errorf("Format(%d): got %q, want %q", test.amount, got, test.want)
		}
	}
}

// FuzzCurrency: what is read is written back as the same amount.
func FuzzCurrency(f *testing.F) {
	f.Add("0.5 IOTA")
	f.Add("9223372036.854775807")
	f.Fuzz(func(t *testing.T, text string) {
		for _, c := range []Currency{iota9, legacy} {
			amount, err := c.Parse(text)
			if err != nil {
				continue
			}
			if again, err := c.Parse(c.Format(amount)); err != nil || again != amount {
				t.Errorf("Parse(Format(%d)): got %d, %v", amount, again, err)
			}
		}
	})
}
