package gui

import (
	"fmt"
	"math"
	"time"

	"fyne.io/fyne/v2/lang"

	"wayfarer/app"
)

// What the graph shows: so many spans of so long.
const (
	minuteStep  = time.Second
	minuteSpans = 60
	hourStep    = 15 * time.Second
	hourSpans   = 240
	// leastSampling keeps two looks at nearly the same moment from making a rate.
	leastSampling = 500 * time.Millisecond
)

// series counts bytes in equal spans of time. The zero value of counts is empty.
type series struct {
	step   time.Duration
	newest int64  // the number of the newest span since the epoch
	counts []span // a ring, by the number of the span
}

// span is what one span of time carried, in bytes.
type span struct{ in, out float64 }

func newSeries(step time.Duration, n int) series {
	return series{step: step, counts: make([]span, n+1)} // and the one that is not over
}

func (s *series) number(t time.Time) int64 { return t.UnixNano() / int64(s.step) }

func (s *series) at(number int64) *span {
	n := int64(len(s.counts))
	return &s.counts[(number%n+n)%n]
}

// advance makes the span of t the newest; those in between carried nothing.
func (s *series) advance(t time.Time) {
	now := s.number(t)
	for i := max(s.newest+1, now-int64(len(s.counts))+1); i <= now; i++ {
		*s.at(i) = span{}
	}
	s.newest = max(s.newest, now)
}

// add spreads bytes evenly over the time in which they were carried.
func (s *series) add(from, to time.Time, more counters) {
	s.advance(to)
	whole := to.Sub(from).Seconds()
	oldest := s.newest - int64(len(s.counts)) + 1
	for i := max(s.number(from), oldest); i <= s.number(to); i++ {
		begin := time.Unix(0, i*int64(s.step))
		part := earlier(to, begin.Add(s.step)).Sub(later(from, begin)).Seconds() / whole
		s.at(i).in += part * float64(more.in)
		s.at(i).out += part * float64(more.out)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// rates are bytes per second of the spans that are over, the oldest first.
func (s *series) rates() (in, out []float64) {
	n := len(s.counts) - 1
	in, out = make([]float64, n), make([]float64, n)
	for i := range n {
		c := s.at(s.newest - int64(n-i))
		in[i], out[i] = c.in/s.step.Seconds(), c.out/s.step.Seconds()
	}
	return in, out
}

// history is what one connection carried lately. It learns from the counters of the
// status, whenever somebody looks: what came while nobody did is spread evenly.
type history struct {
	connection string
	at         time.Time
	counters   map[string]counters // of each ESP SA at that time, by its SPI; nil: unknown
	down, up   float64             // bytes per second between the last two looks
	minute     series
	hour       series
}

type counters struct{ in, out uint64 }

// sample takes in the counters of a connection and says whether that made a new rate.
func (h *history) sample(c *app.Connection, now time.Time) bool {
	if h.connection != c.ID || now.Before(h.at) {
		*h = history{connection: c.ID, minute: newSeries(minuteStep, minuteSpans), hour: newSeries(hourStep, hourSpans)}
	}
	since := now.Sub(h.at)
	if h.counters != nil && since < leastSampling {
		return false
	}
	seen := make(map[string]counters, len(c.ESP))
	var more counters
	for i := range c.ESP {
		sa := &c.ESP[i]
		seen[sa.SPIIn] = counters{sa.BytesIn, sa.BytesOut}
		before := h.counters[sa.SPIIn] // zero of one that is new
		more.in += grown(before.in, sa.BytesIn)
		more.out += grown(before.out, sa.BytesOut)
	}
	if h.counters == nil {
		h.minute.advance(now)
		h.hour.advance(now)
	} else {
		h.minute.add(h.at, now, more)
		h.hour.add(h.at, now, more)
		h.down, h.up = float64(more.in)/since.Seconds(), float64(more.out)/since.Seconds()
	}
	h.at, h.counters = now, seen
	return true
}

// grown is how much a counter has grown. One that is smaller has begun anew, as after a
// reconnect.
func grown(before, now uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}

// units of amounts of data, by steps of a thousand.
var units = []string{"B", "kB", "MB", "GB", "TB", "PB"}

// formatBytes is an amount of data for people: "1.2 MB".
func formatBytes(n float64) string {
	unit := 0
	for n >= 999.5 && unit < len(units)-1 {
		n /= 1000
		unit++
	}
	if unit == 0 || n >= 9.95 {
		return fmt.Sprintf("%.0f %s", n, units[unit])
	}
	return fmt.Sprintf("%.1f %s", n, units[unit])
}

// formatRate is bytes per second for people: "1.2 MB/s".
func formatRate(perSecond float64) string { return formatBytes(perSecond) + "/s" }

// formatTime is a length of time as a clock shows it: "00:12:33", "3 d 04:05:06".
func formatTime(d time.Duration) string {
	s := int(max(0, d.Round(time.Second)).Seconds())
	clock := fmt.Sprintf("%02d:%02d:%02d", s/3600%24, s/60%60, s%60)
	if days := s / 86400; days > 0 {
		return lang.L("{{.Days}} d {{.Time}}", map[string]any{"Days": days, "Time": clock})
	}
	return clock
}

// formatAgo says how long ago something was: "2 s ago".
func formatAgo(d time.Duration) string {
	d = max(0, d)
	switch {
	case d < time.Minute:
		return lang.L("{{.Seconds}} s ago", map[string]any{"Seconds": int(d.Seconds())})
	case d < time.Hour:
		return lang.L("{{.Minutes}} min ago", map[string]any{"Minutes": int(d.Minutes())})
	}
	return lang.L("{{.Time}} ago", map[string]any{"Time": formatTime(d)})
}

// niceTop is a round number at or above a rate, for the top of an axis: 1, 2 or 5 times
// a power of ten, a thousand at least.
func niceTop(rate float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(max(rate, 1000))))
	for _, times := range []float64{1, 2, 5} {
		if rate <= times*power {
			return times * power
		}
	}
	return 10 * power
}
