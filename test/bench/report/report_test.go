package report

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		numbers []float64
		want    float64
	}{{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}, {[]float64{8, 1, 2, 100}, 5}} {
		before := slices.Clone(tc.numbers)
		if got := Median(tc.numbers); got != tc.want || !slices.Equal(before, tc.numbers) {
			t.Errorf("%v: got %v, want %v", before, got, tc.want)
		}
	}
	if !math.IsNaN(Median(nil)) || !math.IsNaN(Quantile(nil, 0.5)) {
		t.Error("nothing has a median")
	}
}

func TestQuantile(t *testing.T) {
	var numbers []float64
	for i := range 200 {
		numbers = append(numbers, float64(200-i))
	}
	for q, want := range map[float64]float64{0: 1, 0.005: 1, 0.0051: 2, 0.5: 100, 0.99: 198, 1: 200} {
		if got := Quantile(numbers, q); got != want {
			t.Errorf("%v: got %v, want %v", q, got, want)
		}
	}
}

// three rounds of two variants; others took the processor in one sample.
var three = Samples{
	{Variant: "a", Test: "up", Round: 0, Values: map[string]float64{"mbps": 10}},
	{Variant: "b", Test: "up", Round: 0, Values: map[string]float64{"mbps": 5}},
	{Variant: "b", Test: "up", Round: 1, Values: map[string]float64{"mbps": 4}},
	{Variant: "a", Test: "up", Round: 1, Values: map[string]float64{"mbps": 12}},
	{Variant: "a", Test: "up", Round: 2, Values: map[string]float64{"mbps": 100}},
	{Variant: "b", Test: "up", Round: 2, Foreign: 0.3, Values: map[string]float64{"mbps": 1}},
	{Variant: "a", Test: "down", Round: 0, Values: map[string]float64{"mbps": 7, "rss": 0}},
}

func TestRatios(t *testing.T) {
	a, b := Key{"a", "up", "mbps"}, Key{"b", "up", "mbps"}
	if got, want := three.Ratios(a, b), []float64{2, 3, 100}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	clean := three.Clean(Limits{Foreign: 0.2})
	if got, want := clean.Ratios(a, b), []float64{2, 3}; !slices.Equal(got, want) {
		t.Errorf("clean: got %v, want %v", got, want)
	}
	if got, want := clean.Numbers(a), []float64{10, 12, 100}; !slices.Equal(got, want) {
		t.Errorf("numbers: got %v, want %v", got, want)
	}
	if len(three) != 7 || len(three.Clean(Limits{Foreign: 0.3})) != 7 {
		t.Error("a sample at the bound was dropped, or the samples were changed")
	}
	if got := three.Ratios(a, Key{"a", "down", "rss"}); got != nil {
		t.Errorf("by zero: %v", got)
	}
}

func TestJudge(t *testing.T) {
	a, b := Key{"a", "up", "mbps"}, Key{"b", "up", "mbps"}
	for _, tc := range []struct {
		goal   Goal
		want   Verdict
		rounds int
	}{
		{Goal{Of: a, Over: b, Must: 2, Aim: 3, More: true}, Aim, 3},
		{Goal{Of: a, Over: b, Must: 3, Aim: 3.1, More: true}, Must, 3},
		{Goal{Of: a, Over: b, Must: 3.1, Aim: 4, More: true}, Missed, 3},
		{Goal{Of: a, Over: b, Must: 4, Aim: 3}, Aim, 3},
		{Goal{Of: a, Over: b, Must: 3, Aim: 2}, Must, 3},
		{Goal{Of: a, Over: b, Must: 2, Aim: 1}, Missed, 3},
		{Goal{Of: a, Must: 12, Aim: 11}, Must, 3},
		{Goal{Of: Key{"a", "down", "rss"}, Must: 0, Aim: 0}, Aim, 1},
		{Goal{Of: a, Over: Key{"c", "up", "mbps"}, Must: 1, Aim: 2}, Unmeasured, 0},
	} {
		r := three.Judge([]Goal{tc.goal})[0]
		if r.Verdict() != tc.want || r.Rounds != tc.rounds {
			t.Errorf("%+v: %v after %d rounds, want %v after %d", tc.goal, r.Verdict(), r.Rounds, tc.want, tc.rounds)
		}
	}
	r := three.Judge([]Goal{{Of: a, Over: b, Must: 1, Aim: 1}})[0]
	if r.Median != 3 || r.Least != 2 || r.Most != 100 {
		t.Errorf("%+v", r)
	}
}

func TestTables(t *testing.T) {
	var b strings.Builder
	goals := []Goal{
		{Name: "fast", Of: Key{"a", "up", "mbps"}, Over: Key{"b", "up", "mbps"}, Must: 2.3, Aim: 2.6, More: true},
		{Name: "unknown", Of: Key{"c", "up", "mbps"}, Must: 1, Aim: 0.6},
	}
	if err := errors.Join(WriteGoals(&b, three.Judge(goals), 5), WriteMedians(&b, three, []string{"mbps", "rss"})); err != nil {
		t.Fatal(err)
	}
	want := `goal     must  aim   median  least  most  rounds  reached
fast     2.30  2.60  3.00    2.00   100   3       aim, few rounds
unknown  1.00  0.60  -       -      -     0       not measured
test  variant  mbps  rss   rounds
down  a        7.00  0.00  1
up    a        12    -     3
up    b        4.00  -     3
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{7763.4: "7763", 99.96: "100.0", 42: "42", 12.34: "12.3", 2.345: "2.35", 0.1: "0.10", 0.0123: "0.012", -0.5: "-0.50"} {
		if got := number(v); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
}

// TestChart: well-formed, bars in proportion, no bar for what was not measured, names as
// they are.
func TestChart(t *testing.T) {
	var b strings.Builder
	c := Chart{Title: "up & down", Unit: "Mbit/s", Series: []string{"up", "down"}, Groups: []Group{
		{"a <b>", []float64{100, 50}}, {"c", []float64{math.NaN(), 25}},
	}}
	if err := c.WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	var widths, texts []string
	d := xml.NewDecoder(strings.NewReader(b.String()))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		switch e := token.(type) {
		case xml.StartElement:
			if e.Name.Local == "rect" {
				widths = append(widths, e.Attr[2].Value)
			}
		case xml.CharData:
			if s := strings.TrimSpace(string(e)); s != "" {
				texts = append(texts, s)
			}
		}
	}
	if want := []string{"12", "12", "420.0", "210.0", "105.0"}; !slices.Equal(widths, want) {
		t.Errorf("widths %v, want %v", widths, want)
	}
	if want := []string{"up & down", "up", "down", "a <b>", "100 Mbit/s", "50 Mbit/s", "c", "25 Mbit/s"}; !slices.Equal(texts, want) {
		t.Errorf("texts %q, want %q", texts, want)
	}
	if err := (Chart{Groups: []Group{{"nothing", []float64{0}}}}).WriteSVG(&b); err != nil {
		t.Error(err)
	}
}
