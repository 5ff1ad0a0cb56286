package tangle

import (
	"errors"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"
)

const supply = 2779530283277761 // iotas in all

func TestBuy(t *testing.T) {
	hour := Offer{ID: "live", Price: 500, Period: time.Hour}
	third := Offer{ID: "third", Price: 3, Period: time.Millisecond}
	for _, test := range []struct {
		name                      string
		offer                     Offer
		credit, remainder, amount int64
		want                      Purchase
		err                       error
	}{
		{"the price", hour, 0, 0, 500, Purchase{Milliseconds: 3_600_000}, nil},
		{"below", hour, 0, 0, 200, Purchase{Credit: 200}, nil},
		{"one below", hour, 0, 0, 499, Purchase{Credit: 499}, nil},
		{"the rest of it", hour, 200, 0, 300, Purchase{Milliseconds: 3_600_000}, nil},
		{"two and a half", hour, 0, 0, 1250, Purchase{Milliseconds: 9_000_000}, nil},
		{"pro rata", hour, 0, 0, 501, Purchase{Milliseconds: 3_607_200}, nil},
		{"remainder kept", third, 0, 0, 4, Purchase{Milliseconds: 1, Remainder: 1}, nil},
		{"remainder used", third, 0, 2, 4, Purchase{Milliseconds: 2, Remainder: 0}, nil},
		{"remainder with credit", third, 1, 2, 1, Purchase{Credit: 2, Remainder: 2}, nil},
		{"remainder of a higher price", hour, 0, 499_999_999, 500, Purchase{Milliseconds: 3_600_000, Remainder: 499}, nil},
		{"all there is", hour, 0, 0, supply, Purchase{}, ErrTooMuch},
		{"all there is, dear", Offer{Price: supply, Period: time.Hour}, 0, 0, supply, Purchase{Milliseconds: 3_600_000}, nil},
		{"all there is, twice", Offer{Price: supply, Period: 365 * 24 * time.Hour}, supply - 1, supply - 1, supply, Purchase{Milliseconds: 63_072_000_000, Remainder: 2779498747277760}, nil},
		{"largest numbers", Offer{Price: 1, Period: 1<<63 - 1 - (1<<63-1)%time.Millisecond}, 1<<62 - 1, 0, 1<<63 - 1, Purchase{}, ErrTooMuch},
	} {
		got, err := test.offer.Buy(test.credit, test.remainder, test.amount)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: Buy(%d, %d, %d): got %+v, %v, want %+v, %v", test.name, test.credit, test.remainder, test.amount, got, err, test.want, test.err)
		}
	}
	for _, amount := range []int64{0, -1, -1 << 63} {
		if _, err := hour.Buy(0, 0, amount); err == nil {
			t.Errorf("Buy(0, 0, %d): got no error", amount)
		}
	}
}

// TestBuyAddsUp holds the promise of Buy against big integers.
func TestBuyAddsUp(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		o := Offer{Price: 1 + r.Int64N(1<<r.IntN(40)), Period: time.Duration(1+r.Int64N(1<<r.IntN(30))) * time.Millisecond}
		var credit, remainder int64
		paid, bought := new(big.Int), new(big.Int)
		for range 50 {
			amount := 1 + r.Int64N(2*o.Price)
			p, err := o.Buy(credit, remainder, amount)
			if err != nil {
				t.Fatalf("Buy(%d, %d, %d) at %d: %v", credit, remainder, amount, o.Price, err)
			}
			if p.Credit >= o.Price || p.Remainder >= o.Price {
				t.Fatalf("Buy(%d, %d, %d) at %d: got %+v, want less than the price left", credit, remainder, amount, o.Price, p)
			}
			credit, remainder = p.Credit, p.Remainder
			paid.Add(paid, big.NewInt(amount))
			bought.Add(bought, big.NewInt(p.Milliseconds))
		}
		want := new(big.Int).Sub(paid, big.NewInt(credit))
		want.Mul(want, big.NewInt(o.Period.Milliseconds())).Div(want, big.NewInt(o.Price))
		if bought.Cmp(want) != 0 {
			t.Errorf("seed %d: bought %s ms for %s, want %s", seed, bought, paid, want)
		}
	}
}

func TestInterval(t *testing.T) {
	now := time.Date(2026, 11, 22, 17, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name string
		end  time.Time
		ms   int64
		from time.Time
		err  error
	}{
		{"first", time.Time{}, 1000, now, nil},
		{"expired", now.Add(-time.Hour), 1000, now, nil},
		{"just ended", now, 1000, now, nil},
		{"extends", now.Add(time.Hour), 1000, now.Add(time.Hour), nil},
		{"too long", now, lastTime.UnixMilli(), time.Time{}, ErrTooMuch},
		{"to the last", now, lastTime.UnixMilli() - now.UnixMilli(), now, nil},
		{"one more", now, lastTime.UnixMilli() - now.UnixMilli() + 1, time.Time{}, ErrTooMuch},
		{"after the last", lastTime, 1, time.Time{}, ErrTooMuch},
	} {
		from, to, err := interval(test.end, now, test.ms)
		if !from.Equal(test.from) || !errors.Is(err, test.err) {
			t.Errorf("%s: got %s, %v, want %s, %v", test.name, from, err, test.from, test.err)
		}
		if err == nil && to.Sub(from) != time.Duration(test.ms)*time.Millisecond && test.ms < 1e12 {
			t.Errorf("%s: got %s to %s, want %d ms", test.name, from, to, test.ms)
		}
	}
}
