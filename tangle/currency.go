package tangle

import (
	"fmt"
	"strconv"
	"strings"
)

// Currency is a ledger's money. Amounts are integers in base units everywhere;
// a Currency writes them for people and reads what people write.
type Currency struct {
	Unit     string // of what people write, such as "IOTA"
	Decimals int    // base units are 10^-Decimals of Unit
	Max      int64  // greatest amount that can exist, in base units
	Dust     int64  // payments below are only booked, as one sum a day and address; 0 if the ledger has no such limit
	Least    int64  // price of an offer below which what buyers pay beside it is out of proportion, in base units; 0 if there is none
}

// CheckPrice returns an error if an offer's price is below Least.
func (c Currency) CheckPrice(price int64) error {
	if price < c.Least {
		return fmt.Errorf("%s is low, want at least %s: each payment costs the buyer gas as well", c.Format(price), c.Format(c.Least))
	}
	return nil
}

// Parse returns the base units of an amount such as "0.5 IOTA" or "0.5": a
// decimal number, and the unit unless it is left out. The error names the text
// and what is accepted.
func (c Currency) Parse(text string) (int64, error) {
	number, unit, spaced := strings.Cut(strings.TrimSpace(text), " ")
	if spaced && strings.TrimSpace(unit) != c.Unit {
		return 0, fmt.Errorf("amount %.80q: unit %.20q is unknown, want %s", text, strings.TrimSpace(unit), c.example())
	}
	whole, fraction, point := strings.Cut(number, ".")
	if !digits(whole) || point && !digits(fraction) {
		return 0, fmt.Errorf("amount %.80q is not a number, want %s", text, c.example())
	}
	if len(fraction) > c.Decimals {
		return 0, fmt.Errorf("amount %.80q has %d decimals, want at most %d", text, len(fraction), c.Decimals)
	}
	amount, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", c.Decimals-len(fraction)), 10, 64)
	if err != nil || amount > c.Max {
		return 0, fmt.Errorf("amount %.80q is out of range, want at most %s", text, c.Format(c.Max))
	}
	return amount, nil
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// example is an amount as this currency writes it.
func (c Currency) example() string {
	if c.Decimals == 0 {
		return "a whole number such as 500 " + c.Unit
	}
	return "a number such as 0.5 " + c.Unit
}

// Format returns an amount with its unit, such as "0.5 IOTA".
func (c Currency) Format(amount int64) string {
	return c.Number(amount) + " " + c.Unit
}

// Number returns an amount without its unit: exact, with a dot, without
// grouping and without trailing zeros.
func (c Currency) Number(amount int64) string {
	sign, abs := "", uint64(amount)
	if amount < 0 {
		sign, abs = "-", -uint64(amount)
	}
	text := strconv.FormatUint(abs, 10)
	if c.Decimals == 0 {
		return sign + text
	}
	if missing := c.Decimals + 1 - len(text); missing > 0 {
		text = strings.Repeat("0", missing) + text
	}
	point := len(text) - c.Decimals
	text = strings.TrimRight(text[:point]+"."+text[point:], "0")
	return sign + strings.TrimSuffix(text, ".")
}
