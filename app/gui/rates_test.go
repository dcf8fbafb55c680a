package gui

import (
	"math"
	"slices"
	"testing"
	"time"

	"wayfarer/app"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }

// counted is a connection with counters, on two SAs.
func counted(id string, in, out uint64) *app.Connection {
	return &app.Connection{ID: id, ESP: []app.ESP{{SPIIn: "0x1", BytesIn: in / 2, BytesOut: out}, {SPIIn: "0x2", BytesIn: in - in/2}}}
}

func TestHistory(t *testing.T) {
	for _, tt := range []struct {
		name    string
		samples []float64 // pairs: seconds, bytes in
		minute  []float64 // the last spans
		down    float64
	}{
		{"the first look is no rate", []float64{0, 5000}, []float64{0, 0}, 0},
		{"each second", []float64{0, 0, 1, 1000, 2, 3000}, []float64{0, 1000, 2000}, 2000},
		{"between the seconds", []float64{0.5, 0, 1.5, 1000, 2.5, 3000}, []float64{500, 500 + 1000}, 2000},
		{"what nobody looked at is spread", []float64{0, 0, 4, 4000}, []float64{0, 1000, 1000, 1000, 1000}, 1000},
		{"a second look at once", []float64{0, 0, 1, 1000, 1.1, 9000}, []float64{0, 1000}, 1000},
		{"counters begin anew", []float64{0, 50000, 1, 51000, 2, 300}, []float64{1000, 300}, 300},
		{"longer than the graph", []float64{0, 0, 6000, 6e6, 6001, 6e6 + 500}, []float64{1000, 1000, 500}, 500},
		{"the clock was set back", []float64{100, 0, 101, 1000, 50, 2000, 51, 2500}, []float64{0, 500}, 500},
	} {
		var h history
		for i := 0; i < len(tt.samples); i += 2 {
			h.sample(counted("c1", uint64(tt.samples[i+1]), 7), at(tt.samples[i]))
		}
		in, out := h.minute.rates()
		got := in[len(in)-len(tt.minute):]
		if !slices.EqualFunc(got, tt.minute, near) || !near(h.down, tt.down) || len(in) != minuteSpans {
			t.Errorf("%s: got %v, down %v of %d", tt.name, got, h.down, len(in))
		}
		if slices.Max(out) != 0 || h.up != 0 {
			t.Errorf("%s: nothing went out, got %v", tt.name, out)
		}
	}
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-6*max(1, math.Abs(b)) }

// Another connection has a history of its own.
func TestHistoryOfAnotherConnection(t *testing.T) {
	var h history
	h.sample(counted("c1", 0, 0), at(0))
	h.sample(counted("c1", 8000, 4000), at(1))
	if in, out := h.minute.rates(); in[59] != 8000 || out[59] != 4000 || h.up != 4000 {
		t.Fatalf("got %v and %v", in, out)
	}
	h.sample(counted("c2", 500, 0), at(2))
	if in, _ := h.minute.rates(); slices.Max(in) != 0 || h.down != 0 {
		t.Errorf("got %v, down %v", in, h.down)
	}
}

// Counters are of an ESP SA: its successor begins at zero, beside it and then alone.
func TestHistoryOverARekey(t *testing.T) {
	var h history
	old := app.ESP{SPIIn: "0x1", BytesIn: 1e9}
	for i, esp := range [][]app.ESP{
		{old},
		{{SPIIn: "0x1", BytesIn: 1e9 + 500}, {SPIIn: "0x2", BytesIn: 400}},
		{{SPIIn: "0x2", BytesIn: 1000}},
	} {
		h.sample(&app.Connection{ID: "c1", ESP: esp}, at(float64(i)))
	}
	if in, _ := h.minute.rates(); !slices.Equal(in[58:], []float64{900, 600}) || h.down != 600 {
		t.Errorf("got %v, down %v", in[50:], h.down)
	}
}

// The two graphs tell of the same bytes.
func TestHistoryLosesNothing(t *testing.T) {
	var h history
	var in, out uint64
	for i := range 50 {
		h.sample(counted("c1", in, out), at(3+1.013*float64(i)))
		in += uint64(1000 * i)
		out += 77
	}
	h.minute.advance(at(55))
	h.hour.advance(at(60))
	last := uint64(1000 * 49) // grew after the last look
	for name, s := range map[string]*series{"minute": &h.minute, "hour": &h.hour} {
		rates, _ := s.rates()
		var sum float64
		for _, r := range rates {
			sum += r * s.step.Seconds()
		}
		if !near(sum, float64(in-last)) {
			t.Errorf("%s: %v bytes, want %v", name, sum, in-last)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{formatBytes(0), "0 B"},
		{formatBytes(999), "999 B"},
		{formatBytes(999.6), "1.0 kB"},
		{formatBytes(1234), "1.2 kB"},
		{formatBytes(9949), "9.9 kB"},
		{formatBytes(9950), "10 kB"},
		{formatBytes(999499), "999 kB"},
		{formatBytes(999500), "1.0 MB"},
		{formatBytes(1.5e19), "15000 PB"},
		{formatRate(2.5e6), "2.5 MB/s"},
		{formatTime(-time.Second), "00:00:00"},
		{formatTime(12*time.Minute + 33*time.Second), "00:12:33"},
		{formatTime(76*time.Hour + 5*time.Minute + 6*time.Second), "3 d 04:05:06"},
		{formatAgo(-time.Second), "0 s ago"},
		{formatAgo(2900 * time.Millisecond), "2 s ago"},
		{formatAgo(119 * time.Second), "1 min ago"},
		{formatAgo(2*time.Hour + time.Second), "02:00:01 ago"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
	for _, tt := range []struct{ rate, want float64 }{
		{0, 1000},
		{1000, 1000},
		{1001, 2000},
		{2001, 5000},
		{5001, 10000},
		{99e6, 100e6},
		{100e6, 100e6},
	} {
		if got := niceTop(tt.rate); !near(got, tt.want) {
			t.Errorf("niceTop(%v) = %v, want %v", tt.rate, got, tt.want)
		}
	}
}
