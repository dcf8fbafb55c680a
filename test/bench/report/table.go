package report

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// Goal is a number that is wanted: of a key, or of its ratio to another.
type Goal struct {
	Name      string
	Of        Key
	Over      Key // the zero value: Of alone
	Must, Aim float64
	More      bool // more is better
}

// Result is how a goal was met.
type Result struct {
	Goal
	Median, Least, Most float64 // not numbers without a round
	Rounds              int
}

// Verdict says how a result stands.
type Verdict string

// Verdicts.
const (
	Unmeasured Verdict = "not measured"
	Missed     Verdict = "missed"
	Must       Verdict = "must"
	Aim        Verdict = "aim"
)

// Judge compares the samples with goals.
func (s Samples) Judge(goals []Goal) []Result {
	var results []Result
	for _, g := range goals {
		numbers := s.Numbers(g.Of)
		if g.Over != (Key{}) {
			numbers = s.Ratios(g.Of, g.Over)
		}
		r := Result{Goal: g, Median: Median(numbers), Least: math.NaN(), Most: math.NaN(), Rounds: len(numbers)}
		if len(numbers) > 0 {
			r.Least, r.Most = slices.Min(numbers), slices.Max(numbers)
		}
		results = append(results, r)
	}
	return results
}

// Verdict compares the median with what is wanted.
func (r Result) Verdict() Verdict {
	reaches := func(wanted float64) bool { return r.Median >= wanted == r.More || r.Median == wanted }
	switch {
	case r.Rounds == 0:
		return Unmeasured
	case reaches(r.Aim):
		return Aim
	case reaches(r.Must):
		return Must
	default:
		return Missed
	}
}

// WriteGoals writes a table of results. Those of fewer than enough rounds say so.
func WriteGoals(w io.Writer, results []Result, enough int) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "goal\tmust\taim\tmedian\tleast\tmost\trounds\treached")
	for _, r := range results {
		verdict := string(r.Verdict())
		if r.Rounds > 0 && r.Rounds < enough {
			verdict += ", few rounds"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", r.Name, number(r.Must), number(r.Aim),
			number(r.Median), number(r.Least), number(r.Most), r.Rounds, verdict)
	}
	return t.Flush()
}

// WriteMedians writes a table of the medians of all samples: a line for each test and
// variant, a column for each value.
func WriteMedians(w io.Writer, s Samples, values []string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "test\tvariant\t%s\trounds\n", strings.Join(values, "\t"))
	type line struct{ test, variant string }
	var lines []line
	for _, m := range s {
		if l := (line{m.Test, m.Variant}); !slices.Contains(lines, l) {
			lines = append(lines, l)
		}
	}
	slices.SortFunc(lines, func(a, b line) int {
		return cmp.Or(strings.Compare(a.test, b.test), strings.Compare(a.variant, b.variant))
	})
	for _, l := range lines {
		fmt.Fprintf(t, "%s\t%s", l.test, l.variant)
		n := 0
		for _, v := range values {
			numbers := s.Numbers(Key{l.variant, l.test, v})
			n = max(n, len(numbers))
			fmt.Fprintf(t, "\t%s", number(Median(numbers)))
		}
		fmt.Fprintf(t, "\t%d\n", n)
	}
	return t.Flush()
}

// number is a number for people, with three or four digits that count.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case a >= 100 || v == math.Trunc(v) && a >= 10:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.1 || v == 0:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.2g", v)
	}
}
