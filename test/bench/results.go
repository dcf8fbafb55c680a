//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"wayfarer/test/bench/report"
)

// results are the samples of a part.
type results struct {
	Part    string            `json:"part"`
	Started time.Time         `json:"started"`
	Machine map[string]string `json:"machine"`
	Bound   float64           `json:"bound"` // of Foreign, for clean samples
	Rounds  int               `json:"rounds"`
	Values  []string          `json:"values"`
	Samples report.Samples    `json:"samples"`
}

// keep takes a sample in place of an earlier one of the same round.
func (r *results) keep(s report.Sample) {
	for i, other := range r.Samples {
		if other.Round == s.Round && other.Variant == s.Variant && other.Test == s.Test {
			r.Samples[i] = s
			return
		}
	}
	r.Samples = append(r.Samples, s)
}

// otherSpeed is how many times as fast, or as slow, as usual in its part the processors may
// be beside a sample.
const otherSpeed = 1.25

func (r *results) limits() report.Limits {
	var speeds []float64
	for _, s := range r.Samples {
		speeds = append(speeds, s.Speed.Least, s.Speed.Most)
	}
	usual := report.Median(speeds)
	return report.Limits{Foreign: r.Bound, Speed: report.Span{Least: usual / otherSpeed, Most: usual * otherSpeed}}
}

// fewest is the number of clean rounds of the test that has the fewest.
func (r *results) fewest() int {
	type test struct{ variant, name string }
	clean, limits := make(map[test]int), r.limits()
	for _, s := range r.Samples {
		n := clean[test{s.Variant, s.Test}]
		if s.Clean(limits) {
			n++
		}
		clean[test{s.Variant, s.Test}] = n
	}
	least := r.Rounds
	for _, n := range clean {
		least = min(least, n)
	}
	return least
}

func (r *results) save(dir string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, r.Part+".json")
	if err := os.WriteFile(name+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// loadResults reads those of a part; nil if there are none.
func loadResults(dir, part string) (*results, error) {
	data, err := os.ReadFile(filepath.Join(dir, part+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	r := new(results)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", part, err)
	}
	return r, nil
}

// show writes tables of all results that there are, and the chart.
func (b *bench) show(w io.Writer) error {
	var all report.Samples
	for _, part := range subsets {
		r, err := loadResults(b.out, part.name)
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		clean := r.Samples.Clean(r.limits())
		fmt.Fprintf(w, "\n%s, %s, commit %s: %d rounds, %d of %d samples clean\n", part.name, r.Started.Format(time.DateTime),
			r.Machine["commit"], r.Rounds, len(clean), len(r.Samples))
		if err := report.WriteMedians(w, clean, r.Values); err != nil {
			return err
		}
		all = append(all, clean...)
	}
	fmt.Fprintln(w)
	verdicts := all.Judge(goals)
	if err := report.WriteGoals(w, verdicts, fullPlan.rounds); err != nil {
		return err
	}
	return errors.Join(b.saveSummary(verdicts), b.saveChart(all))
}

// saveSummary writes the goals as JSON.
func (b *bench) saveSummary(verdicts []report.Result) error {
	type line struct {
		Goal    string         `json:"goal"`
		Must    float64        `json:"must"`
		Aim     float64        `json:"aim"`
		Median  *float64       `json:"median,omitempty"` // none without a round
		Rounds  int            `json:"rounds"`
		Verdict report.Verdict `json:"verdict"`
	}
	var lines []line
	for _, v := range verdicts {
		l := line{Goal: v.Name, Must: v.Must, Aim: v.Aim, Rounds: v.Rounds, Verdict: v.Verdict()}
		if v.Rounds > 0 {
			l.Median = &v.Median
		}
		lines = append(lines, l)
	}
	data, err := json.MarshalIndent(lines, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.out, "goals.json"), data, 0o644)
}

// saveChart draws the throughput of one TCP stream. A star marks those with strongSwan's
// gateway.
func (b *bench) saveChart(all report.Samples) error {
	c := report.Chart{Title: "One TCP stream, both ends on one machine", Unit: "Mbit/s", Series: []string{"up", "down"}}
	lab := false
	for _, bar := range []struct{ variant, part, name string }{
		{forwarderName, "tcp", "without encryption"},
		{wayfarerName, "tcp", "Wayfarer, AES-128-GCM"},
		{wireguardName, "tcp", "wireguard-go"},
		{openvpnName, "tcp", "OpenVPN, AES-128-GCM"},
		{charonName, "strongswan", "strongSwan, AES-128-GCM *"},
		{vpncName, "strongswan", "vpnc, AES-128-CBC *"},
	} {
		g := report.Group{Name: bar.name}
		for _, way := range []direction{up, down} {
			test := fmt.Sprintf("%s: %s", bar.part, way)
			if bar.part == "tcp" {
				test += ", 1"
			}
			g.Bars = append(g.Bars, report.Median(all.Numbers(report.Key{Variant: bar.variant, Test: test, Value: valueRate})))
		}
		if slices.ContainsFunc(g.Bars, func(v float64) bool { return !math.IsNaN(v) }) {
			c.Groups = append(c.Groups, g)
			lab = lab || bar.part == "strongswan"
		}
	}
	if lab {
		c.Title += " (*: with strongSwan's gateway)"
	}
	f, err := os.Create(filepath.Join(b.out, "throughput.svg"))
	if err != nil {
		return err
	}
	return errors.Join(c.WriteSVG(f), f.Close())
}
