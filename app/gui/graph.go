package gui

import (
	"image"
	"image/color"
	"image/draw"
	"math"
	"slices"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
)

// Looks of the graph, in Fyne's pixels where they are lengths.
const (
	graphHeight  = 110
	lineWidth    = 1.8
	dashLength   = 6 // and the gap behind it
	areaOpacity  = 0x38
	gridOpacity  = 0x2c
	gridDivision = 2 // halves of the height
)

// Colours of the two directions; the lines differ by shape as well.
const (
	downColor = theme.ColorNamePrimary
	upColor   = theme.ColorNameWarning
)

// throughput is the graph with its legend and the choice of what it shows.
type throughput struct {
	graph    *graph
	span     *picker
	down, up *widget.Label
	all      *fyne.Container
	shown    *history
}

func newThroughput(k *keys) *throughput {
	v := &throughput{graph: newGraph(), down: widget.NewLabel(lang.L("Down")), up: widget.NewLabel(lang.L("Up"))}
	minute := lang.L("Last minute")
	v.span = newPicker(k, []string{minute, lang.L("Last hour")}, func(string) {
		if v.shown != nil {
			v.update(v.shown)
		}
	})
	v.span.SetSelected(minute)
	legend := container.NewHBox(newDash(downColor, false), v.down, newDash(upColor, true), v.up)
	v.all = container.NewBorder(container.New(layout.NewRowWrapLayout(), v.span, legend), nil, nil, nil, v.graph)
	return v
}

// update shows what h has now.
func (v *throughput) update(h *history) {
	v.shown = h
	now := lang.L("now")
	if v.span.Selected == v.span.Options[0] {
		down, up := h.minute.rates()
		v.graph.show(down, up, lang.L("1 min ago"), lang.L("30 s ago"), now)
		return
	}
	down, up := h.hour.rates()
	v.graph.show(down, up, lang.L("1 h ago"), lang.L("30 min ago"), now)
}

// dash shows in a legend how a line looks.
type dash struct {
	widget.BaseWidget
	color fyne.ThemeColorName
	parts []*canvas.Rectangle
}

// dashSize is that of a whole line.
var dashSize = fyne.NewSize(18, 3)

func newDash(c fyne.ThemeColorName, dashed bool) *dash {
	d := &dash{color: c, parts: []*canvas.Rectangle{{}}}
	if dashed {
		d.parts = append(d.parts, &canvas.Rectangle{})
	}
	d.ExtendBaseWidget(d)
	return d
}

// CreateRenderer implements fyne.Widget.
func (d *dash) CreateRenderer() fyne.WidgetRenderer {
	r := &dashRenderer{d}
	r.Refresh()
	return r
}

type dashRenderer struct{ *dash }

func (r dashRenderer) Destroy()           {}
func (r dashRenderer) MinSize() fyne.Size { return dashSize }

func (r dashRenderer) Objects() (all []fyne.CanvasObject) {
	for _, p := range r.parts {
		all = append(all, p)
	}
	return all
}

func (r dashRenderer) Layout(size fyne.Size) {
	part := dashSize.Width / float32(2*len(r.parts)-1) // and the gaps between them
	for i, p := range r.parts {
		p.Resize(fyne.NewSize(part, dashSize.Height))
		p.Move(fyne.NewPos(2*part*float32(i), (size.Height-dashSize.Height)/2))
	}
}

func (r dashRenderer) Refresh() {
	for _, p := range r.parts {
		p.FillColor = theme.Color(r.color)
		p.Refresh()
	}
}

// graph shows the rates of the last minute or hour. It is drawn when it gets new ones
// or another size, and never else.
type graph struct {
	widget.BaseWidget
	down, up []float64 // bytes per second, the oldest first
	top      float64   // of the axis

	raster          *canvas.Raster
	axis            [gridDivision + 1]*canvas.Text // rates, from the top
	begin, mid, end *canvas.Text                   // times
}

func newGraph() *graph {
	g := &graph{top: niceTop(0)}
	g.raster = canvas.NewRaster(g.draw)
	for i := range g.axis {
		g.axis[i] = axisText(fyne.TextAlignTrailing)
	}
	g.begin, g.mid, g.end = axisText(fyne.TextAlignLeading), axisText(fyne.TextAlignCenter), axisText(fyne.TextAlignTrailing)
	g.ExtendBaseWidget(g)
	return g
}

func axisText(align fyne.TextAlign) *canvas.Text {
	t := canvas.NewText("", color.Transparent)
	t.Alignment = align
	return t
}

// show draws the rates of so many spans, with the names of the axis of time, unless they
// are what there is already.
func (g *graph) show(down, up []float64, begin, mid, end string) {
	if slices.Equal(down, g.down) && slices.Equal(up, g.up) && begin == g.begin.Text {
		return
	}
	g.down, g.up = down, up
	g.top = niceTop(max(slices.Max(down), slices.Max(up)))
	for i, t := range g.axis {
		t.Text = strings.Replace(formatRate(g.top*float64(gridDivision-i)/gridDivision), ".0", "", 1)
	}
	g.begin.Text, g.mid.Text, g.end.Text = begin, mid, end
	g.Refresh()
}

// CreateRenderer implements fyne.Widget.
func (g *graph) CreateRenderer() fyne.WidgetRenderer {
	r := &graphRenderer{g: g}
	for _, t := range g.axis {
		r.objects = append(r.objects, t)
	}
	r.objects = append(r.objects, g.raster, g.begin, g.mid, g.end)
	r.style()
	return r
}

// AccessibilityLabel implements fyne.Accessible.
func (g *graph) AccessibilityLabel() string { return lang.L("Throughput") }

// AccessibilityRole implements fyne.Accessible.
func (g *graph) AccessibilityRole() fyne.AccessibleRole { return fyne.AccessibleRoleContainer }

var _ fyne.Accessible = (*graph)(nil)

type graphRenderer struct {
	g       *graph
	objects []fyne.CanvasObject
}

func (r *graphRenderer) Destroy()                     {}
func (r *graphRenderer) Objects() []fyne.CanvasObject { return r.objects }

func (r *graphRenderer) MinSize() fyne.Size {
	return fyne.NewSize(3*r.axisWidth(), graphHeight)
}

// axisWidth is what any rate needs, so that the graph does not move as they change.
func (r *graphRenderer) axisWidth() float32 {
	return fyne.MeasureText("500 MB/s", theme.Size(theme.SizeNameCaptionText), fyne.TextStyle{}).Width
}

func (r *graphRenderer) Layout(size fyne.Size) {
	g, gap := r.g, theme.Size(theme.SizeNamePadding)
	text := g.begin.MinSize().Height
	left, height := r.axisWidth()+gap, size.Height-text
	width := size.Width - left
	g.raster.Move(fyne.NewPos(left, 0))
	g.raster.Resize(fyne.NewSize(width, height))
	for i, t := range g.axis {
		y := height*float32(i)/gridDivision - text/2
		t.Move(fyne.NewPos(0, min(max(y, 0), height-text)))
		t.Resize(fyne.NewSize(left-gap, text))
	}
	for _, t := range []*canvas.Text{g.begin, g.mid, g.end} {
		t.Move(fyne.NewPos(left, height))
		t.Resize(fyne.NewSize(width, text))
	}
}

// style takes over the theme's colours and sizes.
func (r *graphRenderer) style() {
	g := r.g
	for _, t := range append([]*canvas.Text{g.begin, g.mid, g.end}, g.axis[:]...) {
		t.Color = theme.Color(theme.ColorNamePlaceHolder)
		t.TextSize = theme.Size(theme.SizeNameCaptionText)
	}
}

func (r *graphRenderer) Refresh() {
	r.style()
	r.Layout(r.g.Size())
	for _, o := range r.objects {
		o.Refresh()
	}
}

// draw is the generator of the raster: grid, area and lines, in so many pixels.
func (g *graph) draw(w, h int) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	if w == 0 || h == 0 {
		return img
	}
	scale := float32(w) / max(1, g.raster.Size().Width)
	grid := faded(theme.Color(theme.ColorNameForeground), gridOpacity)
	for i := range gridDivision + 1 {
		y := min(h*i/gridDivision, h-1)
		draw.Draw(img, image.Rect(0, y, w, y+1), image.NewUniform(grid), image.Point{}, draw.Over)
	}
	p := painter{img: img, top: g.top, width: lineWidth * float64(scale), dash: dashLength * float64(scale)}
	p.curve(g.down, theme.Color(downColor), true, false)
	p.curve(g.up, theme.Color(upColor), false, true)
	return img
}

func faded(c color.Color, alpha uint8) color.Color {
	n := color.NRGBAModel.Convert(c).(color.NRGBA)
	n.A = alpha
	return n
}

// painter paints curves into an image, column by column. A column is looked at in so
// many places, each of which covers parts of pixels: that makes edges smooth.
type painter struct {
	img         *image.RGBA
	top         float64 // value at the image's top
	width, dash float64 // of lines, in pixels
	covered     []float64
	from, to    int // what of covered is in use
}

const looks = 4

// curve draws values from the left edge to the right one, with an area below or as a
// dashed line.
func (p *painter) curve(values []float64, c color.Color, area, dashed bool) {
	if len(values) < 2 {
		return
	}
	size := p.img.Rect.Size()
	step := float64(size.X) / float64(len(values)-1) // pixels between two values
	along := 0.0                                     // length of the line so far
	p.covered, p.from, p.to = make([]float64, size.Y), size.Y, 0
	var line [looks]struct{ y, half float64 } // half is half of the line's height; 0: a gap
	for x := range size.X {
		for i := range line {
			at := (float64(x) + (float64(i)+0.5)/looks) / step
			n := min(int(at), len(values)-2)
			left, right := p.height(values[n]), p.height(values[n+1])
			slant := math.Hypot(1, (right-left)/step)
			line[i].y, line[i].half = left+(right-left)*(at-float64(n)), p.width/2*slant
			if along += slant / looks; dashed && math.Mod(along, 2*p.dash) >= p.dash {
				line[i].half = 0
			}
		}
		if area {
			for _, l := range line {
				p.cover(l.y, float64(size.Y))
			}
			p.paint(x, faded(c, areaOpacity))
		}
		for _, l := range line {
			p.cover(l.y-l.half, l.y+l.half)
		}
		p.paint(x, c)
	}
}

// height is where a value is in the image, so that its line stays inside.
func (p *painter) height(value float64) float64 {
	return p.width/2 + (float64(p.img.Rect.Dy())-p.width)*(1-min(1, value/p.top))
}

// cover notes that one look at a column found these rows to be painted.
func (p *painter) cover(top, bottom float64) {
	top, bottom = max(top, 0), min(bottom, float64(len(p.covered)))
	if bottom <= top {
		return
	}
	last := min(int(bottom), len(p.covered)-1)
	for y := int(top); y <= last; y++ {
		p.covered[y] += (min(bottom, float64(y+1)) - max(top, float64(y))) / looks
	}
	p.from, p.to = min(p.from, int(top)), max(p.to, last+1)
}

// paint puts a colour over what is covered of a column, and forgets that.
func (p *painter) paint(x int, c color.Color) {
	r, g, b, a := c.RGBA()
	for y := p.from; y < p.to; y++ {
		part := uint32(0xff * min(1, p.covered[y]))
		p.covered[y] = 0
		under := 0xffff - a*part/0xff
		pix := p.img.Pix[p.img.PixOffset(x, y):][:4]
		for i, over := range [4]uint32{r, g, b, a} {
			pix[i] = uint8((over*part/0xff + uint32(pix[i])*under/0xff) >> 8)
		}
	}
	p.from, p.to = len(p.covered), 0
}
