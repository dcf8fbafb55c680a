package gui

import (
	"slices"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// conversationView shows what this computer and a gateway said to each other, as the
// ladder that the standards draw.
type conversationView struct {
	feed  logFeed
	held  []*app.LogRecord // that may be of use, the oldest first
	shown []message
	stop  func() // nil: nobody looks
	// wanted is the connection to show as soon as there is something of it.
	wanted string
	newest bool // the chosen one was the newest

	rung, remark float32 // heights of rows

	connection *picker
	list       *listBox
	whole      *widget.Label // what is in the chosen message
	state      *widget.Label // why there is nothing
	all        *fyne.Container
}

// newConversationView makes the view, which is empty until start. Its parameters are
// those of newLogView.
func newConversationView(k *keys, source logSource, do func(func()), copy func(text string), save func(name, text string)) *conversationView {
	v := &conversationView{whole: wrapped(""), state: wrapped(lang.L("There is no conversation yet: connect first."))}
	v.feed = logFeed{source: source, do: do, take: v.take, fail: v.fail}
	v.whole.Selectable, v.whole.TextStyle, v.whole.SizeName = true, fyne.TextStyle{Monospace: true}, theme.SizeNameCaptionText
	v.connection = newPicker(k, nil, func(string) { v.render() })
	v.connection.PlaceHolder = lang.L("Connection")
	v.list = newListBox(k, func() int { return len(v.shown) }, func() fyne.CanvasObject { return newRung() }, v.fill)
	v.list.OnSelected = func(id widget.ListItemID) { v.whole.SetText(v.shown[id].details()) }
	v.list.OnUnselected = func(widget.ListItemID) { v.whole.SetText("") }
	row := newRung()
	v.rung, v.remark = row.MinSize().Height, row.title.MinSize().Height
	copyAll := newButton(k, lang.L("Copy"), theme.ContentCopyIcon(), func() { copy(conversationText(v.shown)) })
	saveAll := newButton(k, lang.L("Save"), theme.DocumentSaveIcon(), func() { save("wayfarer-conversation.txt", conversationText(v.shown)) })
	here, there := caption(lang.L("This computer")), caption(lang.L("Gateway"))
	there.Alignment = fyne.TextAlignTrailing
	top := container.NewVBox(
		container.NewBorder(nil, nil, nil, container.NewHBox(copyAll, saveAll), v.connection),
		v.state, container.NewGridWithColumns(2, here, there))
	split := container.NewVSplit(v.list, container.NewVScroll(v.whole))
	split.SetOffset(0.65)
	v.all = container.NewBorder(top, nil, nil, nil, split)
	return v
}

func (v *conversationView) content() fyne.CanvasObject { return v.all }

// start follows the log until end: while somebody looks.
func (v *conversationView) start() {
	if v.stop == nil {
		v.stop = v.feed.start(app.LogLevelName(app.LevelTrace))
	}
}

// end lets the log go on unread.
func (v *conversationView) end() {
	if v.stop != nil {
		v.stop()
		v.stop = nil
	}
}

// choose shows the conversation of a connection, by its ID.
func (v *conversationView) choose(id string) {
	v.wanted = id
	v.selectConnection()
}

// selectConnection chooses the wanted connection; else the newest is followed, until
// somebody chooses another.
func (v *conversationView) selectConnection() {
	switch ids := v.connection.Options; {
	case slices.Contains(ids, v.wanted):
		v.connection.SetSelected(v.wanted)
		v.wanted = ""
	case len(ids) == 0:
		v.connection.ClearSelected()
	case v.newest || !slices.Contains(ids, v.connection.Selected):
		v.connection.SetSelected(ids[0])
	}
	v.newest = v.connection.SelectedIndex() <= 0
}

func (v *conversationView) fail(err error) {
	if err != nil {
		setText(v.state, lang.L("The service's log cannot be read: {{.Why}}", map[string]any{"Why": plain(err.Error())}))
	} else {
		setText(v.state, lang.L("There is no conversation yet: connect first."))
	}
	showIf(v.state, err != nil || len(v.held) == 0)
}

func (v *conversationView) take(records []*app.LogRecord, anew bool) {
	if anew {
		v.held = nil
	}
	for _, r := range records {
		if r.Connection != "" && (r.Level != "debug" || r.Message == resentRecord) {
			v.held = append(v.held, r)
		}
	}
	if surplus := len(v.held) - maxLogLines; surplus > 0 {
		v.held = slices.Delete(v.held, 0, surplus)
	}
	ids := conversations(v.held)
	if !slices.Equal(ids, v.connection.Options) {
		v.newest = v.connection.SelectedIndex() <= 0
		v.connection.SetOptions(ids)
	}
	v.selectConnection()
	v.fail(nil)
	v.render()
}

// render shows the chosen conversation. What is read stays where it is, the end is
// followed.
func (v *conversationView) render() {
	follow, offset, before := v.atEnd(), v.list.GetScrollOffset(), v.shown
	v.shown = conversation(v.held, v.connection.Selected)
	for i := range v.shown {
		v.list.SetItemHeight(i, v.height(&v.shown[i]))
	}
	gone, same := forgotten(before, v.shown)
	if !same || gone > 0 {
		v.list.UnselectAll() // it goes by numbers, which are others now
	}
	v.list.Refresh()
	switch {
	case follow || !same:
		v.list.ScrollToBottom()
	case gone > 0:
		v.list.ScrollToOffset(max(0, offset-v.room(before[:gone])))
	}
}

// forgotten counts the first messages of before that are not in after, which goes on with
// the others; false: it is another conversation.
func forgotten(before, after []message) (gone int, same bool) {
	if len(before) == 0 || len(after) == 0 {
		return 0, len(before) == len(after)
	}
	gone = slices.IndexFunc(before, func(m message) bool { return m.is(&after[0]) })
	return max(gone, 0), gone >= 0 && len(before)-gone <= len(after)
}

// is says whether two are the same message of the log; it may have been sent again since.
func (m *message) is(other *message) bool {
	return m.at.Equal(other.at) && m.sent == other.sent && m.exchange == other.exchange && m.id == other.id && m.text == other.text
}

// height is that of a message's row.
func (v *conversationView) height(m *message) float32 {
	if m.grave != "" {
		return v.remark
	}
	return v.rung
}

// room is what rows take up in the list, with what is between them.
func (v *conversationView) room(messages []message) float32 {
	var sum float32
	for i := range messages {
		sum += v.height(&messages[i]) + theme.Size(theme.SizeNamePadding)
	}
	return sum
}

// atEnd says whether the last message is to be seen; it stays so then.
func (v *conversationView) atEnd() bool {
	hidden := v.room(v.shown) - v.list.Size().Height
	return v.list.GetScrollOffset() >= hidden-v.rung
}

func (v *conversationView) fill(id widget.ListItemID, o fyne.CanvasObject) {
	if id < len(v.shown) {
		o.(*rung).show(&v.shown[id])
	}
}

// rung is a row of the ladder: an arrow from one side to the other, with what is sent, or
// a remark between two of them.
type rung struct {
	widget.BaseWidget
	stamp, title, what *widget.Label
	arrow              *arrow
	line               *fyne.Container // of the arrow
}

func newRung() *rung {
	small := func(align fyne.TextAlign) *widget.Label {
		l := widget.NewLabelWithStyle("", align, fyne.TextStyle{})
		l.SizeName, l.Truncation = theme.SizeNameCaptionText, fyne.TextTruncateEllipsis
		return l
	}
	r := &rung{stamp: small(fyne.TextAlignTrailing), title: small(fyne.TextAlignLeading), what: small(fyne.TextAlignLeading), arrow: newArrow()}
	r.line = container.New(layout.NewCustomPaddedLayout(9, 9, 8, 8), r.arrow)
	r.stamp.Importance = widget.LowImportance
	r.stamp.Truncation = fyne.TextTruncateOff
	r.ExtendBaseWidget(r)
	return r
}

// CreateRenderer implements fyne.Widget.
func (r *rung) CreateRenderer() fyne.WidgetRenderer {
	return widget.NewSimpleRenderer(container.New(layout.NewCustomPaddedVBoxLayout(tightly),
		container.NewBorder(nil, nil, nil, r.stamp, r.title),
		r.line, r.what))
}

// show takes over a message.
func (r *rung) show(m *message) {
	setText(r.stamp, m.at.Local().Format("15:04:05.000"))
	remark := m.grave != ""
	r.title.TextStyle.Bold, r.title.Importance = !remark, widget.MediumImportance
	showIf(r.line, !remark)
	showIf(r.what, !remark)
	if remark {
		r.title.Importance = widget.LowImportance
		if importance, ok := map[string]widget.Importance{"error": widget.DangerImportance, "warn": widget.WarningImportance}[m.grave]; ok {
			r.title.Importance = importance
		}
		r.title.SetText(m.text)
		return
	}
	title := m.title()
	if m.encrypted {
		title += " · " + lang.L("encrypted")
	}
	if m.resent > 0 {
		title += " " + lang.L("(sent {{.Count}} times)", map[string]any{"Count": m.resent + 1})
	}
	if m.first {
		title = lang.L("New attempt") + " – " + title
	}
	r.title.SetText(title)
	setText(r.what, m.summary())
	r.arrow.show(m)
}

// arrow is a line from one side to the other. The two differ by shape and colour.
type arrow struct {
	widget.BaseWidget
	sent  bool
	lines [3]*canvas.Line // the shaft and the head's two sides
}

const (
	arrowHeight = 9
	arrowHead   = 7
)

func newArrow() *arrow {
	a := &arrow{}
	for i := range a.lines {
		a.lines[i] = canvas.NewLine(nil)
		a.lines[i].StrokeWidth = 1.6
	}
	a.ExtendBaseWidget(a)
	return a
}

func (a *arrow) show(m *message) {
	if m.sent != a.sent {
		a.sent = m.sent
		a.Refresh()
	}
}

// CreateRenderer implements fyne.Widget.
func (a *arrow) CreateRenderer() fyne.WidgetRenderer {
	r := arrowRenderer{a}
	r.Refresh()
	return r
}

type arrowRenderer struct{ *arrow }

func (r arrowRenderer) Destroy()           {}
func (r arrowRenderer) MinSize() fyne.Size { return fyne.NewSize(4*arrowHead, arrowHeight) }

func (r arrowRenderer) Objects() []fyne.CanvasObject {
	return []fyne.CanvasObject{r.lines[0], r.lines[1], r.lines[2]}
}

func (r arrowRenderer) Layout(size fyne.Size) {
	y := size.Height / 2
	tip, back := size.Width, size.Width-arrowHead
	if !r.sent {
		tip, back = 0, arrowHead
	}
	r.lines[0].Position1, r.lines[0].Position2 = fyne.NewPos(0, y), fyne.NewPos(size.Width, y)
	r.lines[1].Position1, r.lines[1].Position2 = fyne.NewPos(back, y-arrowHead/2), fyne.NewPos(tip, y)
	r.lines[2].Position1, r.lines[2].Position2 = fyne.NewPos(back, y+arrowHead/2), fyne.NewPos(tip, y)
}

func (r arrowRenderer) Refresh() {
	name := theme.ColorNameSuccess
	if r.sent {
		name = theme.ColorNamePrimary
	}
	r.Layout(r.Size())
	for _, l := range r.lines {
		l.StrokeColor = theme.Color(name)
		l.Refresh()
	}
}
