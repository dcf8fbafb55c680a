package gui

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// Bounds and times of what is shown of the service's log.
const (
	maxLogLines = 5000
	// gatherTime is how long lines are gathered, to be shown together.
	gatherTime = 200 * time.Millisecond
	// retryTime is the pause before the service is asked again after it went away.
	retryTime = 3 * time.Second
	// steadyTime is how long the service must not fail to be there again.
	steadyTime = time.Second
)

// logSource yields lines of the log of at least a level: Service.Logs.
type logSource func(ctx context.Context, level string, following bool) iter.Seq2[*app.LogRecord, error]

// logFeed follows the log and hands over what came, on Fyne's goroutine, several lines
// at once.
type logFeed struct {
	source logSource
	do     func(func()) // runs a function on Fyne's goroutine
	// take gets new lines; anew: they are all there are, the service was asked again.
	take func(records []*app.LogRecord, anew bool)
	// fail says that the service cannot be asked; nil: it can.
	fail func(error)
}

// start follows the log until the returned function is called.
func (f *logFeed) start(level string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	g := &gathering{feed: f, ctx: ctx, level: level}
	go g.follow()
	return cancel
}

// gathering is one start of a feed.
type gathering struct {
	feed  *logFeed
	ctx   context.Context
	level string

	mu      sync.Mutex
	records []*app.LogRecord // to be handed over
	again   bool             // the next line is the first of a new answer
	anew    bool             // records is
	due     bool             // they are handed over soon
}

func (g *gathering) follow() {
	for g.ctx.Err() == nil {
		g.mu.Lock()
		g.again = true
		g.mu.Unlock()
		well := time.AfterFunc(steadyTime, func() { g.do(func() { g.feed.fail(nil) }) })
		for record, err := range g.feed.source(g.ctx, g.level, true) {
			if err != nil {
				g.do(func() { g.feed.fail(err) })
				break
			}
			g.add(record)
		}
		well.Stop()
		select {
		case <-g.ctx.Done():
		case <-time.After(retryTime):
		}
	}
}

// do runs something on Fyne's goroutine, unless the feed has been stopped by then.
func (g *gathering) do(what func()) {
	g.feed.do(func() {
		if g.ctx.Err() == nil {
			what()
		}
	})
}

func (g *gathering) add(r *app.LogRecord) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.again {
		g.records, g.again, g.anew = nil, false, true
	}
	if g.records = append(g.records, r); len(g.records) > maxLogLines {
		g.records = slices.Delete(g.records, 0, len(g.records)-maxLogLines)
	}
	if !g.due {
		g.due = true
		time.AfterFunc(gatherTime, func() { g.do(g.deliver) })
	}
}

func (g *gathering) deliver() {
	g.mu.Lock()
	records, anew := g.records, g.anew
	g.records, g.anew, g.due = nil, false, false
	g.mu.Unlock()
	g.feed.take(records, anew)
}

// logLine is a line of the log as text: to be read, searched, copied and saved.
func logLine(r *app.LogRecord) string {
	return r.Time.Local().Format("2006-01-02 15:04:05.000") + " " + strings.ToUpper(r.Level) + " " + logText(r)
}

// logText is what a line says, without time and level.
func logText(r *app.LogRecord) string {
	text := r.Text()
	if r.Connection != "" {
		text = "[" + r.Connection + "] " + text
	}
	return strings.Join(strings.Fields(plain(text)), " ")
}

// logView shows the service's log as it comes, with what matters picked out.
type logView struct {
	feed   logFeed
	held   []*app.LogRecord // of the level, the oldest first
	shown  []*app.LogRecord // of held, those that are searched for
	stop   func()           // nil: nobody looks
	height float32          // of a line in the list

	level  *picker
	search *field
	list   *listBox
	whole  *widget.Label // the chosen line
	state  *widget.Label // why there is nothing
	all    *fyne.Container
}

// newLogView makes the view, which is empty until start. Do runs a function on Fyne's
// goroutine, copy puts text on the clipboard, save asks where to and writes it to a file
// of that name.
func newLogView(k *keys, source logSource, do func(func()), copy func(text string), save func(name, text string)) *logView {
	v := &logView{whole: wrapped(""), state: wrapped("")}
	v.feed = logFeed{source: source, do: do, take: v.take, fail: v.fail}
	v.whole.Selectable = true
	v.state.Importance = widget.WarningImportance
	v.state.Hide()
	v.search = newField(k)
	v.search.SetPlaceHolder(lang.L("Search the log"))
	v.search.OnChanged = func(string) { v.filter() }
	v.level = newPicker(k, levelNames(), nil)
	v.level.SetSelectedIndex(slices.Index(app.LogLevels(), "info"))
	v.level.OnChanged = func(string) { v.restart() }
	v.list = newListBox(k, func() int { return len(v.shown) }, newLogRow, v.fill)
	v.list.OnSelected = func(id widget.ListItemID) { v.whole.SetText(logLine(v.shown[id])) }
	v.list.OnUnselected = func(widget.ListItemID) { v.whole.SetText("") }
	v.height = newLogRow().MinSize().Height
	copyAll := newButton(k, lang.L("Copy"), theme.ContentCopyIcon(), func() { copy(v.text()) })
	saveAll := newButton(k, lang.L("Save"), theme.DocumentSaveIcon(), func() { save("wayfarer.log", v.text()) })
	top := container.NewVBox(v.search, container.NewBorder(nil, nil, nil, container.NewHBox(copyAll, saveAll), v.level))
	split := container.NewVSplit(v.list, container.NewVScroll(v.whole))
	split.SetOffset(0.85)
	v.all = container.NewBorder(container.NewVBox(top, v.state), nil, nil, nil, split)
	return v
}

// levelNames are the levels of the log in people's words, in the order of
// app.LogLevels.
func levelNames() []string {
	return []string{
		lang.L("Errors"), lang.L("Warnings and worse"), lang.L("What happens"), lang.L("Each message"), lang.L("Everything"),
	}
}

func newLogRow() fyne.CanvasObject {
	stamp := widget.NewLabel("00:00:00 ERROR") // all are as wide
	stamp.TextStyle = fyne.TextStyle{Monospace: true}
	stamp.SizeName = theme.SizeNameCaptionText
	text := widget.NewLabel("")
	text.SizeName = theme.SizeNameCaptionText
	text.Truncation = fyne.TextTruncateEllipsis
	return container.NewBorder(nil, nil, stamp, nil, text)
}

// fill shows a line in a row of the list.
func (v *logView) fill(id widget.ListItemID, o fyne.CanvasObject) {
	if id >= len(v.shown) {
		return // the list has not heard yet
	}
	r := v.shown[id]
	row := o.(*fyne.Container).Objects
	text, stamp := row[0].(*widget.Label), row[1].(*widget.Label)
	importance := map[string]widget.Importance{
		"error": widget.DangerImportance, "warn": widget.WarningImportance,
		"debug": widget.LowImportance, "trace": widget.LowImportance,
	}[r.Level]
	if text.Importance != importance {
		text.Importance, stamp.Importance = importance, importance
		stamp.Refresh()
		text.Refresh()
	}
	setText(stamp, fmt.Sprintf("%s %-5.5s", r.Time.Local().Format("15:04:05"), strings.ToUpper(plainLine(r.Level))))
	setText(text, logText(r))
}

func (v *logView) content() fyne.CanvasObject { return v.all }

// start follows the log until stop: while somebody looks.
func (v *logView) start() {
	if v.stop == nil {
		v.stop = v.feed.start(app.LogLevels()[max(0, v.level.SelectedIndex())])
	}
}

// end lets the log go on unread.
func (v *logView) end() {
	if v.stop != nil {
		v.stop()
		v.stop = nil
	}
}

// restart asks for the lines of another level.
func (v *logView) restart() {
	v.held = nil
	v.filter()
	if v.stop != nil {
		v.end()
		v.start()
	}
}

// fail shows why there is no log; nil: there is one.
func (v *logView) fail(err error) {
	if err != nil {
		setText(v.state, lang.L("The service's log cannot be read: {{.Why}}", map[string]any{"Why": plain(err.Error())}))
	}
	showIf(v.state, err != nil)
}

// take adds lines below those that are there, or puts them in their place.
func (v *logView) take(records []*app.LogRecord, anew bool) {
	follow, offset := v.atEnd(), v.list.GetScrollOffset()
	if anew {
		v.held, v.shown, follow = nil, nil, true
		v.list.UnselectAll()
	}
	v.held = append(v.held, records...)
	for _, r := range records {
		if v.wanted(r) {
			v.shown = append(v.shown, r)
		}
	}
	gone := v.forget()
	if gone > 0 {
		v.list.UnselectAll() // it goes by numbers, which are others now
	}
	v.list.Refresh()
	switch {
	case follow:
		v.list.ScrollToBottom()
	case gone > 0: // what is read stays where it is
		v.list.ScrollToOffset(max(0, offset-float32(gone)*v.pitch()))
	}
}

// forget drops the oldest lines that are too many, and says how many of them were shown.
func (v *logView) forget() (gone int) {
	surplus := len(v.held) - maxLogLines
	if surplus <= 0 {
		return 0
	}
	for _, r := range v.held[:surplus] {
		if gone < len(v.shown) && v.shown[gone] == r {
			gone++
		}
	}
	v.held = slices.Delete(v.held, 0, surplus)
	v.shown = slices.Delete(v.shown, 0, gone)
	return gone
}

// pitch is the distance from one line to the next.
func (v *logView) pitch() float32 { return v.height + theme.Size(theme.SizeNamePadding) }

// atEnd says whether the last line is to be seen; it stays so then.
func (v *logView) atEnd() bool {
	hidden := float32(len(v.shown))*v.pitch() - v.list.Size().Height
	return v.list.GetScrollOffset() >= hidden-v.pitch()
}

// filter shows the lines that are searched for.
func (v *logView) filter() {
	v.shown = v.shown[:0:0]
	for _, r := range v.held {
		if v.wanted(r) {
			v.shown = append(v.shown, r)
		}
	}
	v.list.UnselectAll()
	v.list.Refresh()
	v.list.ScrollToBottom()
}

func (v *logView) wanted(r *app.LogRecord) bool {
	return v.search.Text == "" || strings.Contains(strings.ToLower(logLine(r)), strings.ToLower(v.search.Text))
}

// text is all lines that are shown.
func (v *logView) text() string {
	var b strings.Builder
	for _, r := range v.shown {
		b.WriteString(logLine(r) + "\n")
	}
	return b.String()
}
