// Package report makes numbers of measurements: medians, ratios of what was measured in
// the same round, a table beside what is wanted, and a chart.
package report

import (
	"math"
	"slices"
)

// Sample is one measurement of one variant.
type Sample struct {
	Variant string             `json:"variant"`
	Test    string             `json:"test"` // "up", "64 bytes"
	Round   int                `json:"round"`
	Foreign float64            `json:"foreign"` // share of all processors that others took meanwhile
	Speed   Span               `json:"speed"`   // of the processors before and after, in any unit
	Values  map[string]float64 `json:"values"`
}

// Samples are those of a run.
type Samples []Sample

// Span is from the lowest of some numbers to the highest.
type Span struct {
	Least float64 `json:"least"`
	Most  float64 `json:"most"`
}

// Limits tell a clean sample.
type Limits struct {
	Foreign float64 // share of all processors that others may take
	Speed   Span    // of the processors
}

// Clean says that others did not disturb the sample.
func (m Sample) Clean(l Limits) bool {
	return m.Foreign <= l.Foreign && m.Speed.Least >= l.Speed.Least && m.Speed.Most <= l.Speed.Most
}

// Clean leaves out the samples that others disturbed.
func (s Samples) Clean(l Limits) Samples {
	return slices.DeleteFunc(slices.Clone(s), func(m Sample) bool { return !m.Clean(l) })
}

// Key names a series of numbers: one in each round.
type Key struct{ Variant, Test, Value string }

// Series are the numbers of a key by round. Of several in a round the last one counts.
func (s Samples) Series(k Key) map[int]float64 {
	series := make(map[int]float64)
	for _, m := range s {
		if v, ok := m.Values[k.Value]; ok && m.Variant == k.Variant && m.Test == k.Test {
			series[m.Round] = v
		}
	}
	return series
}

// Numbers are those of a key in the order of the rounds.
func (s Samples) Numbers(k Key) []float64 {
	series := s.Series(k)
	var numbers []float64
	for _, round := range rounds(series) {
		numbers = append(numbers, series[round])
	}
	return numbers
}

// Ratios are a ÷ b in the rounds that have both, in their order. Zero has no ratios.
func (s Samples) Ratios(a, b Key) []float64 {
	over, under := s.Series(a), s.Series(b)
	var ratios []float64
	for _, round := range rounds(over) {
		if v, ok := under[round]; ok && v != 0 {
			ratios = append(ratios, over[round]/v)
		}
	}
	return ratios
}

func rounds(series map[int]float64) []int {
	var list []int
	for round := range series {
		list = append(list, round)
	}
	slices.Sort(list)
	return list
}

// Median of numbers; not a number if there are none.
func Median(numbers []float64) float64 {
	n := len(numbers)
	if n == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(numbers))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Quantile is the smallest of numbers that at least q of them (0 to 1) do not exceed; not a
// number if there are none.
func Quantile(numbers []float64, q float64) float64 {
	if len(numbers) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(numbers))
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}
