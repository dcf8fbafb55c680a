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
