package main

import (
	"math"
	"slices"
	"testing"
)

func TestQuantile(t *testing.T) {
	for _, test := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{[]float64{5}, 0.5, 5},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{4, 1, 3, 2}, 0, 1},
		{[]float64{4, 1, 3, 2}, 1, 4},
		{[]float64{0, 10}, 0.99, 9.9},
		{nil, 0.5, math.NaN()},
	} {
		given := slices.Clone(test.values)
		got := quantile(test.values, test.q)
		if math.Abs(got-test.want) > 1e-9 || math.IsNaN(got) != math.IsNaN(test.want) {
			t.Errorf("quantile(%v, %v): got %v, want %v", test.values, test.q, got, test.want)
		}
		if !slices.Equal(test.values, given) {
			t.Errorf("quantile(%v) changed its argument to %v", given, test.values)
		}
	}
}

func TestSummarize(t *testing.T) {
	if got, want := summarize([]float64{3, 1, 8}), (summary{3, 1, 8}); got != want {
		t.Errorf("summarize(3, 1, 8): got %v, want %v", got, want)
	}
	if got := summarize(nil); !math.IsNaN(got.median) || !math.IsNaN(got.least) || !math.IsNaN(got.greatest) {
		t.Errorf("summarize(nil): got %v, want NaN", got)
	}
}

// The machine is four times as fast in the second round: ratios must not show it.
func TestRatiosWithinRounds(t *testing.T) {
	got := ratios([]float64{90, 360, 95}, []float64{100, 400, 100})
	if want := []float64{0.9, 0.9, 0.95}; !slices.Equal(got, want) {
		t.Errorf("ratios: got %v, want %v", got, want)
	}
	if got := ratios([]float64{1, 2}, nil); got != nil {
		t.Errorf("ratios to nothing: got %v, want none", got)
	}
}

func TestBest(t *testing.T) {
	a, b := []float64{1, 5, 3}, []float64{2, 4, 3}
	if got, want := best(true, a, b), []float64{2, 5, 3}; !slices.Equal(got, want) {
		t.Errorf("best, higher is better: got %v, want %v", got, want)
	}
	if got, want := best(false, a, b), []float64{1, 4, 3}; !slices.Equal(got, want) {
		t.Errorf("best, lower is better: got %v, want %v", got, want)
	}
	if got := best(true); got != nil {
		t.Errorf("best of nothing: got %v, want none", got)
	}
	if !slices.Equal(a, []float64{1, 5, 3}) {
		t.Errorf("best changed its argument to %v", a)
	}
}
