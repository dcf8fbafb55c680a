package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// Chart is horizontal bars in groups: a group for each thing that is compared, a bar in it
// for each series.
type Chart struct {
	Title  string
	Unit   string
	Series []string // names, as many as a group has bars
	Groups []Group
}

// Group is the bars of one thing. A bar that is not a number is left out.
type Group struct {
	Name string
	Bars []float64
}

// Sizes of a chart in pixels, and its colours, which are seen on white and on black.
const (
	chartWidth = 720
	nameWidth  = 210
	valueWidth = 90
	barHeight  = 14
	groupGap   = 12
	titleSpace = 54
)

var chartColours = []string{"#2f6fb3", "#e08a2e", "#4f9a5b", "#9a5fb3"}

// WriteSVG draws the chart.
func (c Chart) WriteSVG(w io.Writer) error {
	most := 0.0
	for _, g := range c.Groups {
		for _, v := range g.Bars {
			if v > most {
				most = v
			}
		}
	}
	var b strings.Builder
	y := titleSpace
	for _, g := range c.Groups {
		c.group(&b, g, y, most)
		y += len(g.Bars)*barHeight + groupGap
	}
	head := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="12" fill="#808080">`+"\n",
		chartWidth, y, chartWidth, y)
	head += fmt.Sprintf(`<text x="8" y="20" font-size="15" font-weight="bold">%s</text>`+"\n", escape(c.Title))
	x := nameWidth
	for i, s := range c.Series {
		head += fmt.Sprintf(`<rect x="%d" y="30" width="12" height="12" fill="%s"/><text x="%d" y="40">%s</text>`+"\n",
			x, chartColours[i%len(chartColours)], x+18, escape(s))
		x += 120
	}
	_, err := io.WriteString(w, head+b.String()+"</svg>\n")
	return err
}

func (c Chart) group(b *strings.Builder, g Group, y int, most float64) {
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", nameWidth-8, y+len(g.Bars)*barHeight/2+4, escape(g.Name))
	for i, v := range g.Bars {
		if !(v >= 0) || most == 0 {
			continue
		}
		width := v / most * (chartWidth - nameWidth - valueWidth)
		top := y + i*barHeight
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/><text x="%.1f" y="%d">%s %s</text>`+"\n",
			nameWidth, top, width, barHeight-2, chartColours[i%len(chartColours)], nameWidth+width+6, top+barHeight-4, number(v), escape(c.Unit))
	}
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
