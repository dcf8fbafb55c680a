package gui

import (
	"image"
	"image/color"
	"testing"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"
)

// rising are rates that go up to most in n steps.
func rising(n int, most float64) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = most * float64(i) / float64(n-1)
	}
	return values
}

// like says whether c is the theme's colour of that name, as far as a painted edge is.
func like(c color.Color, name fyne.ThemeColorName) bool {
	r, g, b, a := c.RGBA()
	r2, g2, b2, _ := theme.Color(name).RGBA()
	const most = 0x1800
	return a > 0xf000 && max(r, r2)-min(r, r2) < most && max(g, g2)-min(g, g2) < most && max(b, b2)-min(b, b2) < most
}

func TestGraphIsDrawn(t *testing.T) {
	test.NewTempApp(t)
	g := newGraph()
	g.Resize(fyne.NewSize(400, 120))
	g.show(rising(61, 1000), make([]float64, 61), "1 min ago", "30 s ago", "now")
	if got := g.axis[0].Text + ", " + g.axis[1].Text + ", " + g.axis[2].Text; got != "1 kB/s, 500 B/s, 0 B/s" {
		t.Errorf("the axis has %s", got)
	}
	img := g.draw(600, 200).(*image.RGBA)
	for _, x := range []int{100, 300, 500} { // the line goes from the lower left to the upper right
		y := 200 - x/3 // up to the line's width beside
		if !like(img.At(x, y-2), downColor) && !like(img.At(x, y-1), downColor) && !like(img.At(x, y), downColor) && !like(img.At(x, y+1), downColor) {
			t.Errorf("the line is not at %d, %d", x, y)
		}
	}
	if _, _, _, a := img.At(100, 60).RGBA(); a != 0 {
		t.Error("something stands above the line")
	}
	if _, _, _, a := img.At(500, 120).RGBA(); a == 0 || a > 0x8000 {
		t.Errorf("the area has the opacity %#x", a)
	}
	drawn := 0
	for x := range 600 {
		if like(img.At(x, 198), upColor) {
			drawn++
		}
	}
	if drawn < 200 || drawn > 400 { // dashed
		t.Errorf("of the line of zeros %d of 600 columns are drawn", drawn)
	}
}

// Sizes and values that make no picture make no panic either.
func TestGraphOfLittle(t *testing.T) {
	test.NewTempApp(t)
	g := newGraph()
	for _, values := range [][]float64{nil, {0}, {5e9}, {0, 1e300}} {
		g.down, g.up, g.top = values, values, niceTop(0)
		for _, size := range []image.Point{{}, {1, 0}, {1, 1}, {3, 200}} {
			if got := g.draw(size.X, size.Y).Bounds().Size(); got != size {
				t.Errorf("%v: an image of %v, want %v", values, got, size)
			}
		}
	}
}

// It is drawn once for each sample: what else changes in the window draws nothing.
func TestGraphIsDrawnOnceASample(t *testing.T) {
	test.NewTempApp(t)
	v := newThroughput(&keys{})
	w := test.NewTempWindow(t, v.all)
	w.Resize(fyne.NewSize(460, 200))
	drawn := 0
	v.graph.raster.Generator = func(width, height int) image.Image {
		drawn++
		return v.graph.draw(width, height)
	}
	var h history
	h.sample(counted("c1", 0, 0), at(0))
	v.update(&h)
	w.Canvas().Capture()
	before := drawn
	for i := range 5 {
		h.sample(counted("c1", uint64(i)*1e6, 0), at(float64(1+i)))
		v.update(&h)
	}
	if drawn != before {
		t.Errorf("%d times drawn while nothing is painted", drawn-before)
	}
	v.graph.top = 0 // show would make it another
	v.update(&h)
	if v.graph.top != 0 {
		t.Error("drawn, though it has stayed the same")
	}
}

func TestThroughputOfTheHour(t *testing.T) {
	test.NewTempApp(t)
	v := newThroughput(&keys{})
	var h history
	h.sample(counted("c1", 0, 0), at(0))
	h.sample(counted("c1", 60e6, 0), at(60))
	v.update(&h)
	if v.graph.begin.Text != "1 min ago" || len(v.graph.down) != minuteSpans {
		t.Errorf("the minute has %d spans from %s", len(v.graph.down), v.graph.begin.Text)
	}
	v.span.SetSelected(v.span.Options[1])
	if n := len(v.graph.down); v.graph.begin.Text != "1 h ago" || n != hourSpans || v.graph.down[n-1] != 1e6 {
		t.Errorf("the hour has %d spans from %s: %v", n, v.graph.begin.Text, v.graph.down[n-5:])
	}
	v.span.SetSelected(v.span.Selected) // one is always chosen
	if v.span.Selected == "" {
		t.Error("nothing is chosen")
	}
}

// A second of a visible graph on a screen of 200 %: the sample, its picture.
func BenchmarkGraph(b *testing.B) {
	test.NewTempApp(b)
	v := newThroughput(&keys{})
	v.graph.Resize(fyne.NewSize(440, 150))
	var h history
	var i uint64
	for b.Loop() {
		i++
		h.sample(counted("c1", i*i*1000, i*5000), at(float64(i)))
		v.update(&h)
		v.graph.draw(880, 300)
	}
}

var _ fyne.Accessible = (*graph)(nil)
