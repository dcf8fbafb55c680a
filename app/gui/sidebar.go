package gui

import (
	"image/color"
	"slices"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// sidebarView lists the profiles and connections, and where each stands.
type sidebarView struct {
	keys *keys
	rows []*sidebarRow
	list *fyne.Container
	// add and load are not there where the policy forbids to add anything.
	add, load *button
	root      *fyne.Container

	onSelect   func(key string)
	onMenu     func(key string) *fyne.Menu
	onActivate func(key string) // Return, double click
	onAdd      func()
	onImport   func()
	onMore     func(below fyne.CanvasObject)
}

func newSidebarView(k *keys) *sidebarView {
	v := &sidebarView{keys: k, list: container.New(layout.NewCustomPaddedVBoxLayout(2))}
	v.add = newButton(k, lang.L("New"), theme.ContentAddIcon(), func() { v.onAdd() })
	v.load = newIconButton(k, lang.L("Import"), theme.FolderOpenIcon(), func() { v.onImport() })
	v.add.Importance = widget.LowImportance
	var more *button
	more = newIconButton(k, lang.L("More"), theme.MoreVerticalIcon(), func() { v.onMore(more) })
	foot := container.NewPadded(container.NewHBox(v.add, v.load, layout.NewSpacer(), more))
	inside := container.NewBorder(nil, foot, nil, nil, container.NewVScroll(container.NewPadded(v.list)))
	back := newPane(theme.ColorNameHeaderBackground)
	v.root = container.NewStack(back, inside)
	return v
}

func (v *sidebarView) content() *fyne.Container { return v.root }

// update shows the items of the model.
func (v *sidebarView) update(m *model, items []item) {
	showIf(v.add, !m.policy.ForbidAdding)
	showIf(v.load, !m.policy.ForbidAdding)
	for len(v.rows) < len(items) {
		v.rows = append(v.rows, newSidebarRow(v))
	}
	if len(v.rows) > len(items) {
		v.rows = v.rows[:len(items)]
	}
	for i := range items {
		v.rows[i].update(&items[i], items[i].key == m.selected)
	}
	if len(v.list.Objects) != len(items) {
		v.list.Objects = nil
		for _, row := range v.rows {
			v.list.Objects = append(v.list.Objects, row)
		}
		v.list.Refresh()
	}
}

// step selects the row that is by steps below the one with that key.
func (v *sidebarView) step(key string, by int) {
	i := slices.IndexFunc(v.rows, func(r *sidebarRow) bool { return r.key == key }) + by
	if i < 0 || i >= len(v.rows) {
		return
	}
	v.onSelect(v.rows[i].key)
	focus(v.root, v.rows[i])
}

// sidebarRow is one item.
type sidebarRow struct {
	widget.BaseWidget
	list *sidebarView

	key            string
	state          app.State
	chosen, dark   bool
	focused, under bool

	back *canvas.Rectangle
	icon *widget.Icon
	name *widget.Label
	note *widget.Label
}

func newSidebarRow(v *sidebarView) *sidebarRow {
	r := &sidebarRow{list: v, back: canvas.NewRectangle(color.Transparent), icon: widget.NewIcon(nil), name: widget.NewLabel(""), note: widget.NewLabel("")}
	r.back.CornerRadius = 8
	r.name.Truncation, r.note.Truncation = fyne.TextTruncateEllipsis, fyne.TextTruncateEllipsis
	r.note.SizeName, r.note.Importance = theme.SizeNameCaptionText, widget.LowImportance
	r.ExtendBaseWidget(r)
	return r
}

// update shows an item.
func (r *sidebarRow) update(it *item, chosen bool) {
	if r.key == it.key && r.name.Text == it.name && r.state == it.state && r.chosen == chosen && r.dark == isDark() {
		return
	}
	r.key, r.state, r.chosen, r.dark = it.key, it.state, chosen, isDark()
	r.name.TextStyle.Bold = chosen
	r.name.SetText(it.name)
	r.note.SetText(stateName(it.state))
	r.icon.SetResource(stateSign(it.state, isDark()))
	r.Refresh()
}

// CreateRenderer implements fyne.Widget.
func (r *sidebarRow) CreateRenderer() fyne.WidgetRenderer {
	text := container.New(layout.NewCustomPaddedVBoxLayout(-14), r.name, r.note)
	mark := container.NewCenter(container.NewGridWrap(fyne.NewSquareSize(22), r.icon))
	content := container.NewBorder(nil, nil, container.New(layout.NewCustomPaddedLayout(0, 0, 8, 0), mark), nil, text)
	return &sidebarRenderer{widget.NewSimpleRenderer(container.NewStack(r.back, content)), r}
}

type sidebarRenderer struct {
	fyne.WidgetRenderer
	row *sidebarRow
}

// Refresh implements fyne.WidgetRenderer.
func (s *sidebarRenderer) Refresh() {
	r := s.row
	r.back.FillColor, r.back.StrokeWidth = color.Transparent, 0
	switch {
	case r.chosen:
		r.back.FillColor = theme.Color(theme.ColorNameSelection)
	case r.under:
		r.back.FillColor = theme.Color(theme.ColorNameHover)
	}
	if r.focused {
		r.back.StrokeColor, r.back.StrokeWidth = theme.Color(theme.ColorNamePrimary), 2
	}
	r.back.Refresh()
	s.WidgetRenderer.Refresh()
}

// Tapped implements fyne.Tappable.
func (r *sidebarRow) Tapped(*fyne.PointEvent) { r.list.onSelect(r.key) }

// DoubleTapped implements fyne.DoubleTappable.
func (r *sidebarRow) DoubleTapped(*fyne.PointEvent) { r.list.onActivate(r.key) }

// TappedSecondary implements fyne.SecondaryTappable.
func (r *sidebarRow) TappedSecondary(e *fyne.PointEvent) {
	r.list.onSelect(r.key)
	if c := fyne.CurrentApp().Driver().CanvasForObject(r); c != nil {
		widget.ShowPopUpMenuAtPosition(r.list.onMenu(r.key), c, e.AbsolutePosition)
	}
}

// MouseIn implements desktop.Hoverable.
func (r *sidebarRow) MouseIn(*desktop.MouseEvent) { r.under = true; r.Refresh() }

// MouseMoved implements desktop.Hoverable.
func (r *sidebarRow) MouseMoved(*desktop.MouseEvent) {}

// MouseOut implements desktop.Hoverable.
func (r *sidebarRow) MouseOut() { r.under = false; r.Refresh() }

// FocusGained implements fyne.Focusable.
func (r *sidebarRow) FocusGained() { r.focused = true; r.Refresh() }

// FocusLost implements fyne.Focusable.
func (r *sidebarRow) FocusLost() { r.focused = false; r.Refresh() }

// TypedRune implements fyne.Focusable.
func (r *sidebarRow) TypedRune(rune) {}

// TypedKey implements fyne.Focusable.
func (r *sidebarRow) TypedKey(e *fyne.KeyEvent) {
	switch e.Name {
	case fyne.KeyUp:
		r.list.step(r.key, -1)
	case fyne.KeyDown:
		r.list.step(r.key, 1)
	case fyne.KeySpace:
		r.list.onSelect(r.key)
	case fyne.KeyReturn, fyne.KeyEnter:
		r.list.onActivate(r.key)
	default:
		r.list.onSelect(r.key)
		r.list.keys.press(e.Name)
	}
}

// AccessibilityLabel implements fyne.Accessible.
func (r *sidebarRow) AccessibilityLabel() string { return r.name.Text + ", " + r.note.Text }

// AccessibilityRole implements fyne.Accessible.
func (r *sidebarRow) AccessibilityRole() fyne.AccessibleRole { return fyne.AccessibleRoleButton }
