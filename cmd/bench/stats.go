package main

import (
	"math"
	"slices"
)

// summary is what a series of rounds comes to.
type summary struct{ median, least, greatest float64 }

// summarize returns the summary of values, NaN if there are none.
func summarize(values []float64) summary {
	if len(values) == 0 {
		return summary{math.NaN(), math.NaN(), math.NaN()}
	}
	return summary{quantile(values, 0.5), slices.Min(values), slices.Max(values)}
}

// quantile returns the value below which a share q of the values lies,
// interpolated between neighbours; NaN if there are no values.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	below := int(at)
	if below == len(sorted)-1 {
		return sorted[below]
	}
	part := at - float64(below)
	return sorted[below]*(1-part) + sorted[below+1]*part
}

// ratios divides round by round, since the machine's speed drifts from one
// round to the next.
func ratios(values, bases []float64) []float64 {
	var out []float64
	for i := range min(len(values), len(bases)) {
		out = append(out, values[i]/bases[i])
	}
	return out
}

// best returns for each round the best of several series.
func best(higherIsBetter bool, series ...[]float64) []float64 {
	var out []float64
	for _, values := range series {
		for i, v := range values {
			switch {
			case i == len(out):
				out = append(out, v)
			case higherIsBetter:
				out[i] = max(out[i], v)
			default:
				out[i] = min(out[i], v)
			}
		}
	}
	return out
}
