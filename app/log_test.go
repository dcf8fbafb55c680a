package app

import (
	"log/slog"
	"testing"
)

func TestLogLevels(t *testing.T) {
	for _, name := range LogLevels() {
		level, ok := ParseLogLevel(name)
		if got := LogLevelName(level); !ok || got != name {
			t.Errorf("%s: %v, %v, which is called %s", name, level, ok, got)
		}
	}
	for _, name := range []string{"", "ERROR", "verbose"} {
		if level, ok := ParseLogLevel(name); ok {
			t.Errorf("%q is %v", name, level)
		}
	}
	for level, want := range map[slog.Level]string{
		slog.LevelError + 4: "error", slog.LevelInfo + 1: "info", slog.LevelDebug - 1: "trace", LevelTrace - 4: "trace",
	} {
		if got := LogLevelName(level); got != want {
			t.Errorf("%v: got %s, want %s", level, got, want)
		}
	}
}

func TestLogText(t *testing.T) {
	for want, r := range map[string]*LogRecord{
		"":                    {},
		"the service begins":  {Message: "the service begins", Level: "info", Connection: "c1", Owner: "ada"},
		`x a="" b=1 c="no y"`: {Message: "x", Attributes: map[string]string{"c": "no y", "a": "", "b": "1"}},
		`x a="b=\"c\"\n\t"`:   {Message: "x", Attributes: map[string]string{"a": "b=\"c\"\n\t"}},
	} {
		if got := r.Text(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
