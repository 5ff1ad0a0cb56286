package bench

import (
	"math"
	stdslices "slices"
	"testing"
)

// series is what was measured, round by round, of each configuration.
type series map[string][]float64

func (s series) add(name string, value float64) { s[name] = append(s[name], value) }

func (s series) median(name string) float64 { return quantile(s[name], 0.5) }

// ratio returns the median of the rounds' ratios, since the machine's speed
// drifts from one round to the next.
func (s series) ratio(name, base string) float64 {
	var ratios []float64
	for i, v := range s[name] {
		ratios = append(ratios, v/s[base][i])
	}
	return quantile(ratios, 0.5)
}

// quantile returns the value below which a share q of the values lies,
// interpolated between neighbours; NaN if there are no values.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := stdslices.Sorted(stdslices.Values(values))
	at := q * float64(len(sorted)-1)
	below := int(at)
	if below == len(sorted)-1 {
		return sorted[below]
	}
	part := at - float64(below)
	return sorted[below]*(1-part) + sorted[below+1]*part
}

// TestRatio: the machine is four times as fast in the second round, which must
// not show in the ratio.
func TestRatio(t *testing.T) {
	s := series{"a": {90, 360, 95}, "b": {100, 400, 100}}
	if got := s.ratio("a", "b"); got != 0.9 {
		t.Errorf("ratio: got %v, want 0.9", got)
	}
}

func TestQuantile(t *testing.T) {
	for _, test := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{[]float64{5}, 0.5, 5},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{4, 1, 3, 2}, 0, 1},
		{[]float64{4, 1, 3, 2}, 1, 4},
		{[]float64{0, 10}, 0.99, 9.9},
	} {
		if got := quantile(test.values, test.q); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("quantile(%v, %v): got %v, want %v", test.values, test.q, got, test.want)
		}
	}
}
