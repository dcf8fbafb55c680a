package gui

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
)

// wrapped is a label that breaks its lines where they end.
func wrapped(text string) *widget.Label {
	l := widget.NewLabel(text)
	l.Wrapping = fyne.TextWrapWord
	return l
}

// quiet is a label for what is of lesser importance.
func quiet(text string) *widget.Label {
	l := wrapped(text)
	l.Importance = widget.LowImportance
	l.SizeName = theme.SizeNameCaptionText
	return l
}

// title is the largest text of a view.
func title(text string) *widget.Label {
	l := wrapped(text)
	l.SizeName = theme.SizeNameHeadingText
	l.TextStyle = fyne.TextStyle{Bold: true}
	return l
}

// caption stands above a field.
func caption(text string) *widget.Label {
	l := wrapped(text)
	l.TextStyle = fyne.TextStyle{Bold: true}
	return l
}

// under is a field with its name above it, and what there is to say about it below.
func under(name string, field fyne.CanvasObject, help string) fyne.CanvasObject {
	box := container.New(layout.NewCustomPaddedVBoxLayout(-4), caption(name), field)
	if help != "" {
		box.Add(quiet(help))
	}
	return box
}

// card frames what belongs together.
func card(content fyne.CanvasObject) fyne.CanvasObject {
	back := newPane(theme.ColorNameInputBackground)
	back.border = true
	return container.NewStack(back, container.NewPadded(content))
}

// pane is a rectangle in a colour of the theme, also after the theme has changed.
type pane struct {
	widget.BaseWidget
	colour fyne.ThemeColorName
	border bool // with a thin line around it, and round corners
}

func newPane(colour fyne.ThemeColorName) *pane {
	p := &pane{colour: colour}
	p.ExtendBaseWidget(p)
	return p
}

// CreateRenderer implements fyne.Widget.
func (p *pane) CreateRenderer() fyne.WidgetRenderer {
	rect := canvas.NewRectangle(color.Transparent)
	r := &paneRenderer{widget.NewSimpleRenderer(rect), p, rect}
	r.paint()
	return r
}

type paneRenderer struct {
	fyne.WidgetRenderer
	pane *pane
	rect *canvas.Rectangle
}

func (r *paneRenderer) paint() {
	r.rect.FillColor = theme.Color(r.pane.colour)
	if r.pane.border {
		r.rect.StrokeColor, r.rect.StrokeWidth, r.rect.CornerRadius = theme.Color(theme.ColorNameSeparator), 1, 10
	}
}

// Refresh implements fyne.WidgetRenderer.
func (r *paneRenderer) Refresh() {
	r.paint()
	r.rect.Refresh()
}

// gap is empty room between the parts of a view.
func gap(height float32) fyne.CanvasObject {
	r := canvas.NewRectangle(color.Transparent)
	r.SetMinSize(fyne.NewSize(0, height))
	return r
}

// column keeps what is in it from becoming wider than is good to read.
type column struct{ ems float32 } // of the text's size, to grow with it

// MinSize implements fyne.Layout.
func (c column) MinSize(objects []fyne.CanvasObject) fyne.Size {
	var size fyne.Size
	for _, o := range objects {
		size = size.Max(o.MinSize())
	}
	return size
}

// Layout implements fyne.Layout.
func (c column) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	width := min(size.Width, c.ems*theme.Size(theme.SizeNameText))
	for _, o := range objects {
		o.Resize(fyne.NewSize(width, size.Height))
		o.Move(fyne.NewPos((size.Width-width)/2, 0))
	}
}

// readable is content in a column of a good width.
func readable(content fyne.CanvasObject) *fyne.Container {
	return container.New(column{ems: 40}, content)
}

// setText changes a label only where that is a change.
func setText(l *widget.Label, text string) {
	if l.Text != text {
		l.SetText(text)
	}
}

// showIf shows or hides, where that is a change.
func showIf(o fyne.CanvasObject, yes bool) {
	switch {
	case yes && !o.Visible():
		o.Show()
	case !yes && o.Visible():
		o.Hide()
	}
}

// margins keep content from the window's edges.
func margins(content fyne.CanvasObject) *fyne.Container {
	return container.New(layout.NewCustomPaddedLayout(4, 8, 20, 20), content)
}

// pageFrame is a page that stands in place of everything: a heading with the way back,
// what is in it, and what is always to be seen below; foot may be nil.
func pageFrame(k *keys, heading string, back func(), body, foot fyne.CanvasObject) fyne.CanvasObject {
	name := widget.NewLabel(heading)
	name.SizeName, name.TextStyle.Bold, name.Truncation = theme.SizeNameSubHeadingText, true, fyne.TextTruncateEllipsis
	goBack := newIconButton(k, lang.L("Back"), theme.NavigateBackIcon(), back)
	head := container.NewPadded(container.NewBorder(nil, widget.NewSeparator(), goBack, nil, name))
	var below fyne.CanvasObject
	if foot != nil {
		below = margins(readable(foot))
	}
	return container.NewBorder(head, below, nil, nil, body)
}

// focus gives the keyboard to something in the window of an object.
func focus(in fyne.CanvasObject, to fyne.Focusable) {
	if c := fyne.CurrentApp().Driver().CanvasForObject(in); c != nil {
		c.Focus(to)
	}
}
