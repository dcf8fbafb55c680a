package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"wayfarer/app"
	"wayfarer/ike"
)

func newLog() (*Logs, *slog.Logger) {
	logs := NewLogs(slog.DiscardHandler)
	return logs, slog.New(logs)
}

// textOf is records on a line each.
func textOf(records []app.LogRecord) string {
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "%s %s %s %s %v\n", r.Level, r.Connection, r.Owner, r.Message, r.Attributes)
	}
	return b.String()
}

func TestLogsKeepRecords(t *testing.T) {
	logs, log := newLog()
	own := log.With("connection", "c1", "owner", "ada")
	log.Warn("first", "n", 1)
	own.Info("second", "password", ike.Secret("hunter2"), "error", fmt.Errorf("of %v", ike.Secret("hunter2")))
	own.Log(t.Context(), app.LevelTrace, "third")
	log.WithGroup("g").With("a", 1).Error("fourth", "owner", "a key of its own", slog.Group("h", "b", 2), slog.Group("", "c", 3))
	for _, tt := range []struct {
		after uint64
		least slog.Level
		want  string
	}{
		{0, app.LevelTrace, "warn   first map[n:1]\ninfo c1 ada second map[error:of [secret] password:[secret]]\n" +
			"trace c1 ada third map[]\nerror   fourth map[g.a:1 g.c:3 g.h.b:2 g.owner:a key of its own]\n"},
		{0, slog.LevelWarn, "warn   first map[n:1]\nerror   fourth map[g.a:1 g.c:3 g.h.b:2 g.owner:a key of its own]\n"},
		{2, slog.LevelDebug, "error   fourth map[g.a:1 g.c:3 g.h.b:2 g.owner:a key of its own]\n"},
		{4, app.LevelTrace, ""},
	} {
		records, newest := logs.Since(tt.after, tt.least)
		if got := textOf(records); got != tt.want || newest != 4 {
			t.Errorf("after %d, %v: newest %d, got\n%swant\n%s", tt.after, tt.least, newest, got, tt.want)
		}
	}
}

// A flood of details pushes out details only, and in all there is a bound.
func TestLogsAreBounded(t *testing.T) {
	logs, log := newLog()
	log.Error("grave")
	for i := range 3 * maxLogRecords {
		log.Debug("detail", "n", i)
	}
	records, _ := logs.Since(0, app.LevelTrace)
	if n := len(records); n != maxLogRecords+1 || records[0].Message != "grave" || records[n-1].Attributes["n"] != fmt.Sprint(3*maxLogRecords-1) {
		t.Errorf("%d records, from %+v to %+v", n, records[0], records[n-1])
	}
	for range 2 * maxLogBytes / maxLogText {
		log.Debug(strings.Repeat("x", 2*maxLogText), "a", strings.Repeat("y", 2*maxLogText))
	}
	size := 0
	records, _ = logs.Since(0, slog.LevelDebug)
	for _, r := range records {
		size += len(r.Message) + len(r.Attributes["a"])
		if len(r.Message) > maxLogText || len(r.Attributes["a"]) > maxLogText {
			t.Fatalf("a text of %d bytes", len(r.Message))
		}
	}
	if size > maxLogBytes+len("grave") || size < maxLogBytes/2 {
		t.Errorf("%d bytes of details", size)
	}
	var many []any
	for i := range 2 * maxLogAttribute {
		many = append(many, fmt.Sprint("key", i), i)
	}
	log.Warn("many", many...)
	if records, _ = logs.Since(0, slog.LevelWarn); len(records[1].Attributes) != maxLogAttribute {
		t.Errorf("%d attributes", len(records[1].Attributes))
	}
}

// The next handler gets what it wants, as before.
func TestLogsPassOn(t *testing.T) {
	var out bytes.Buffer
	plain := &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	logs := NewLogs(slog.NewTextHandler(&out, plain))
	log := slog.New(logs).With("connection", "c1").WithGroup("").WithGroup("g")
	log.Debug("a detail")
	log.Info("told", "n", 1)
	if want := "level=INFO msg=told connection=c1 g.n=1\n"; out.String() != want {
		t.Errorf("got %s", &out)
	}
	if records, _ := logs.Since(0, app.LevelTrace); len(records) != 2 {
		t.Errorf("kept %s", textOf(records))
	}
}

func TestLogsAreWatched(t *testing.T) {
	logs, log := newLog()
	changes, stop := logs.Watch()
	log.Info("one")
	log.Info("two")
	<-changes
	select {
	case <-changes:
		t.Error("not coalesced")
	default:
	}
	stop()
	log.Info("three")
	select {
	case <-changes:
		t.Error("told after the end of the watch")
	default:
	}
}

// What one connection's gateway says is kept, whatever another's does.
func TestLogsKeepTheTraceOfEachConnection(t *testing.T) {
	logs, log := newLog()
	trace := func(connection, message string) {
		log.With("connection", connection).Log(t.Context(), app.LevelTrace, message)
	}
	trace("c1", "first")
	for range 3 * maxLogRecords {
		trace("c2", "flood")
	}
	records, _ := logs.Since(0, app.LevelTrace)
	if len(records) != 1+maxLogRecords || records[0].Message != "first" {
		t.Errorf("%d records, the oldest is %q", len(records), records[0].Message)
	}
	for i := range maxTracedLogs - 2 {
		trace(fmt.Sprintf("d%d", i), "other")
	}
	trace("c1", "second")
	trace("e", "one too many") // c2 has been still for longest
	records, _ = logs.Since(0, app.LevelTrace)
	text := textOf(records)
	if strings.Contains(text, "flood") || strings.Count(text, " c1 ") != 2 || len(records) != 2+maxTracedLogs-2+1 {
		t.Errorf("%d records:\n%s", len(records), text)
	}
	log.Info("grave")
	if records, _ := logs.Since(0, slog.LevelInfo); len(records) != 1 {
		t.Errorf("got\n%s", textOf(records))
	}
}
