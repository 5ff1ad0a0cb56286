package tangle

import (
	"errors"
	"fmt"
	"math/bits"
	"time"
)

// lastTime is the last moment to which time can be sold: after it, neither RFC
// 3339 nor encoding/json can write a time.
var lastTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// ErrTooMuch is wrapped by the error for a payment that would buy time beyond
// the year 9999. It is held whole.
var ErrTooMuch = errors.New("buys time beyond the year 9999")

// Purchase is what an amount bought, and what is left of it.
type Purchase struct {
	Milliseconds int64 // the time bought
	Credit       int64 // base units kept for the next payment
	Remainder    int64 // base units × milliseconds, below the price: what dividing left over
}

// Buy says what amount buys at this offer, together with the credit and the
// remainder that earlier payments left. Below the price everything is kept as
// credit; from the price on, time is pro rata. Remainders carry over, so that
// over any number of payments no fraction of a millisecond is lost or gained:
//
//	Σ Milliseconds = ⌊(Σ amount − Credit) × Period ÷ Price⌋
//
// The offer must be valid, amount above 0, credit and remainder what an earlier
// Buy left, or 0. Credit is base units and stays so if the price was changed
// since; of the remainder, no more counts than gives less than a millisecond.
func (o Offer) Buy(credit, remainder, amount int64) (Purchase, error) {
	if amount <= 0 || credit < 0 || remainder < 0 {
		return Purchase{}, fmt.Errorf("buy for amount %d, credit %d, remainder %d: below zero", amount, credit, remainder)
	}
	total := uint64(credit) + uint64(amount) // two int64 above zero fit
	if total < uint64(o.Price) {
		return Purchase{Credit: int64(total), Remainder: remainder}, nil
	}
	hi, lo := bits.Mul64(total, uint64(o.Period.Milliseconds()))
	price := uint64(o.Price)
	lo, carry := bits.Add64(lo, min(uint64(remainder), price-1), 0)
	hi += carry
	if hi >= price { // the quotient has more than 64 bits
		return Purchase{}, fmt.Errorf("amount %d: %w", amount, ErrTooMuch)
	}
	ms, rest := bits.Div64(hi, lo, price)
	if ms > uint64(lastTime.UnixMilli()) {
		return Purchase{}, fmt.Errorf("amount %d: %w", amount, ErrTooMuch)
	}
	return Purchase{Milliseconds: int64(ms), Remainder: int64(rest)}, nil
}

// interval returns the time of ms milliseconds that follows what an account has
// already, and never begins before now.
func interval(end, now time.Time, ms int64) (from, to time.Time, err error) {
	from = now
	if end.After(now) {
		from = end
	}
	if ms > lastTime.UnixMilli()-from.UnixMilli() {
		return time.Time{}, time.Time{}, ErrTooMuch
	}
	return from, time.UnixMilli(from.UnixMilli() + ms).UTC(), nil
}
