package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
)

// measure is something that is measured.
type measure struct {
	name           string
	higherIsBetter bool
}

// results is what was measured, round by round.
type results struct {
	names    []string // of the configurations
	measures []measure
	values   map[measure]map[string][]float64 // by configuration
	others   others
}

func newResults(names []string) *results {
	return &results{names: names, values: make(map[measure]map[string][]float64)}
}

// add adds the next round's value.
func (r *results) add(name string, m measure, value float64) {
	if r.values[m] == nil {
		r.measures = append(r.measures, m)
		r.values[m] = make(map[string][]float64)
	}
	r.values[m][name] = append(r.values[m][name], value)
}

// print writes a table: medians (least–greatest) of the values and of the ratios.
func (r *results) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, m := range r.measures {
		fmt.Fprintf(t, "%s\t\t÷ %s\t÷ best of %s\n", m.name, floor, strings.Join(builtIn, ", "))
		values := r.values[m]
		var built [][]float64
		for _, name := range builtIn {
			if values[name] != nil {
				built = append(built, values[name])
			}
		}
		bases := [][]float64{values[floor], best(m.higherIsBetter, built...)}
		for _, name := range r.names {
			fmt.Fprintf(t, "  %s\t%s", name, format(summarize(values[name])))
			for _, base := range bases {
				fmt.Fprintf(t, "\t%s", format(summarize(ratios(values[name], base))))
			}
			fmt.Fprintln(t)
		}
	}
	return t.Flush()
}

// format writes a summary, or a dash if there is nothing to summarize.
func format(s summary) string {
	if math.IsNaN(s.median) {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.median), number(s.least), number(s.greatest))
}

// number writes three digits, or the whole part of what is larger, with commas.
func number(v float64) string {
	if v < 1000 {
		decimals := 2
		if v >= 100 {
			decimals = 0
		} else if v >= 10 {
			decimals = 1
		}
		return strconv.FormatFloat(v, 'f', decimals, 64)
	}
	text := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
