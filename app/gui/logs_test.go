package gui

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// fakeLog is a service's log that tests write.
type fakeLog struct {
	lines chan *app.LogRecord

	mu     sync.Mutex
	asked  []string // levels
	gone   error    // the service is not there
	queued []func() // for Fyne's goroutine, which is the test's
}

func (f *fakeLog) queue(what func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queued = append(f.queued, what)
}

// leave has the service be away for a reason; nil: it is back.
func (f *fakeLog) leave(why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = why
}

// wait lets so much time pass, and does what was queued then.
func (f *fakeLog) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
	f.mu.Lock()
	queued := f.queued
	f.queued = nil
	f.mu.Unlock()
	for _, what := range queued {
		what()
	}
}

func (f *fakeLog) source(ctx context.Context, level string, following bool) iter.Seq2[*app.LogRecord, error] {
	return func(yield func(*app.LogRecord, error) bool) {
		f.mu.Lock()
		f.asked = append(f.asked, level)
		gone := f.gone
		f.mu.Unlock()
		if gone != nil {
			yield(nil, gone)
			return
		}
		for {
			select {
			case <-ctx.Done():
				return
			case r := <-f.lines:
				if r == nil {
					yield(nil, errors.New("the service has ended"))
					return
				}
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

func (f *fakeLog) write(level, message string) {
	f.lines <- &app.LogRecord{Time: noon, Level: level, Connection: "c1", Message: message, Attributes: map[string]string{"b": "two words", "a": "1"}}
}

// watched is a view that follows a log, in a window; all ends with the test.
func watched(t *testing.T) (*logView, *fakeLog, fyne.Window) {
	test.NewTempApp(t)
	f := &fakeLog{lines: make(chan *app.LogRecord)}
	v := newLogView(&keys{}, f.source, f.queue, func(string) {}, func(string, string) {})
	w := test.NewTempWindow(t, v.content())
	w.Resize(fyne.NewSize(460, 600))
	v.start()
	t.Cleanup(v.end)
	return v, f, w
}

func TestLogLine(t *testing.T) {
	r := &app.LogRecord{
		Time: noon.In(time.Local), Level: "warn", Connection: "c1", Message: "the gateway\nsays \x1b[1mno",
		Attributes: map[string]string{"z": "", "b": "two words", "a": "1", "q": `say "x"`},
	}
	want := noon.Local().Format("2006-01-02 15:04:05.000") + ` WARN [c1] the gateway says [1mno a=1 b="two words" q="say \"x\"" z=""`
	if got := logLine(r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLogViewFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f, _ := watched(t)
		f.write("info", "one")
		f.write("warn", "two")
		f.wait(0)
		if len(v.shown) != 0 {
			t.Error("each line is shown by itself")
		}
		f.wait(gatherTime)
		f.write("error", "three")
		f.wait(gatherTime)
		if got := v.text(); strings.Count(got, "\n") != 3 || !strings.Contains(got, "ERROR [c1] three a=1 b=\"two words\"\n") {
			t.Errorf("shown is\n%s", got)
		}
		row := newLogRow()
		v.fill(2, row)
		if l := row.(*fyne.Container).Objects[0].(*widget.Label); l.Importance != widget.DangerImportance || !strings.HasPrefix(l.Text, "[c1] three") {
			t.Errorf("an error is shown as %q", l.Text)
		}
		v.fill(3, row) // the list may be late
	})
}

// What is searched for, and in which level.
func TestLogViewSearches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f, _ := watched(t)
		for i := range 10 {
			f.write("info", fmt.Sprintf("Message %d", i))
		}
		f.wait(gatherTime)
		v.search.SetText("message 7")
		if len(v.shown) != 1 || !strings.Contains(v.text(), "Message 7") {
			t.Errorf("found\n%s", v.text())
		}
		f.write("info", "another")
		f.write("info", "message 77")
		f.wait(gatherTime)
		if len(v.shown) != 2 || len(v.held) != 12 {
			t.Errorf("found of %d\n%s", len(v.held), v.text())
		}
		v.list.Select(1)
		if !strings.Contains(v.whole.Text, "message 77") {
			t.Errorf("chosen is %q", v.whole.Text)
		}
		v.search.SetText("")
		if len(v.shown) != 12 || v.whole.Text != "" {
			t.Errorf("shown are %d, chosen is %q", len(v.shown), v.whole.Text)
		}
		v.level.SetSelectedIndex(4)
		f.wait(0)
		if len(v.held) != 0 || strings.Join(f.asked, " ") != "info trace" {
			t.Errorf("asked for %v, held are %d", f.asked, len(v.held))
		}
	})
}

// The view holds so much, and stays at the end while nobody reads further up.
func TestLogViewIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f, _ := watched(t)
		v.search.SetText("even")
		write := func(n int) {
			for i := range n {
				f.write("info", []string{"even", "odd"}[i%2])
			}
			f.wait(gatherTime)
		}
		write(maxLogLines)
		if !v.atEnd() || v.list.GetScrollOffset() == 0 {
			t.Errorf("not at the end but at %v", v.list.GetScrollOffset())
		}
		v.list.ScrollToOffset(4000)
		first := int(v.list.GetScrollOffset() / v.pitch())
		read := v.shown[first+20]
		write(40)
		if len(v.held) != maxLogLines || len(v.shown) != maxLogLines/2 {
			t.Errorf("held are %d, shown %d", len(v.held), len(v.shown))
		}
		if now := int(v.list.GetScrollOffset()/v.pitch() + 0.01); v.shown[now+20] != read {
			t.Errorf("what is read has moved: line %d was the first, now %d is", first, now)
		}
		v.list.ScrollToBottom()
		write(10 * maxLogLines) // at once
		if len(v.held) != maxLogLines || len(v.shown) != maxLogLines/2 || !v.atEnd() {
			t.Errorf("held are %d, shown %d, at the end: %v", len(v.held), len(v.shown), v.atEnd())
		}
	})
}

// A service that goes away and comes back.
func TestLogViewRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f, _ := watched(t)
		f.write("info", "before")
		f.wait(gatherTime)
		f.leave(errors.New("the service does not run"))
		f.lines <- nil
		f.wait(0)
		if !v.state.Visible() || !strings.Contains(v.state.Text, "the service has ended") {
			t.Errorf("shown is %q", v.state.Text)
		}
		for range 10 { // and all the time
			f.wait(retryTime / 2)
			if !v.state.Visible() {
				t.Fatal("the reason is not shown any more")
			}
		}
		if !strings.Contains(v.state.Text, "does not run") || !strings.Contains(v.text(), "before") {
			t.Errorf("shown is %q and\n%s", v.state.Text, v.text())
		}
		f.leave(nil)
		f.wait(retryTime + steadyTime)
		if v.state.Visible() {
			t.Errorf("still shown is %q", v.state.Text)
		}
		f.write("info", "after")
		f.wait(gatherTime)
		if got := v.text(); strings.Contains(got, "before") || !strings.Contains(got, "after") {
			t.Errorf("shown is\n%s", got)
		}
	})
}

// Nobody looks: nothing is read, and nothing is left running.
func TestLogViewEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, f, _ := watched(t)
		v.start() // once is enough
		f.write("info", "one")
		v.end()
		v.end()
		f.wait(gatherTime)
		if len(v.held) != 0 || len(f.asked) != 1 {
			t.Errorf("asked for %v, held are %d", f.asked, len(v.held))
		}
		v.level.SetSelectedIndex(0) // nor does this begin
		f.wait(0)
		v.start()
		f.write("info", "two")
		f.wait(gatherTime)
		if strings.Join(f.asked, " ") != "info error" || len(v.held) != 1 {
			t.Errorf("asked for %v, held are %d", f.asked, len(v.held))
		}
	})
}

func TestLogViewGivesAway(t *testing.T) {
	test.NewTempApp(t)
	var copied, name, saved string
	f := &fakeLog{}
	v := newLogView(&keys{}, f.source, nil, func(text string) { copied = text }, func(n, text string) { name, saved = n, text })
	w := test.NewTempWindow(t, v.content())
	w.Resize(fyne.NewSize(460, 600))
	v.take([]*app.LogRecord{{Time: noon, Level: "info", Message: "one"}, {Time: noon, Level: "info", Message: "two"}}, true)
	v.search.SetText("two")
	for _, b := range buttons(v.content()) {
		test.Tap(b)
	}
	if copied != v.text() || saved != copied || strings.Count(copied, "\n") != 1 || name != "wayfarer.log" {
		t.Errorf("copied was %q, saved %q to %s", copied, saved, name)
	}
}

func TestLogLevelsHaveNames(t *testing.T) {
	if got, want := len(levelNames()), len(app.LogLevels()); got != want {
		t.Errorf("%d names for %d levels", got, want)
	}
}

func TestLogViewLook(t *testing.T) {
	inBoth(t, "logs", fyne.NewSize(460, 400), func() fyne.CanvasObject {
		v := newLogView(&keys{}, nil, nil, nil, nil)
		var records []*app.LogRecord
		for i, level := range []string{"info", "debug", "trace", "warn", "error", "info"} {
			records = append(records, &app.LogRecord{
				Time: time.Date(2026, 1, 2, 12, 0, i, 0, time.Local), Level: level, Connection: "c1",
				Message: "something happens that is told in a line that is rather long", Attributes: map[string]string{"gateway": "192.0.2.1:500"},
			})
		}
		v.take(records, true)
		v.list.Select(3)
		return v.content()
	})
}
