package app

import (
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// LevelTrace is the level of what is logged of every payload of every message.
const LevelTrace = slog.LevelDebug - 4

// logLevels lists the levels of the log by name, the gravest first.
var logLevels = []struct {
	name  string
	level slog.Level
}{
	{"error", slog.LevelError},
	{"warn", slog.LevelWarn},
	{"info", slog.LevelInfo},
	{"debug", slog.LevelDebug},
	{"trace", LevelTrace},
}

// LogLevels lists the names of the log's levels, the gravest first.
func LogLevels() []string {
	names := make([]string, len(logLevels))
	for i, l := range logLevels {
		names[i] = l.name
	}
	return names
}

// ParseLogLevel is the level of that name; false: there is none.
func ParseLogLevel(name string) (slog.Level, bool) {
	for _, l := range logLevels {
		if l.name == name {
			return l.level, true
		}
	}
	return 0, false
}

// LogLevelName is the name of the gravest level that is not above level.
func LogLevelName(level slog.Level) string {
	for _, l := range logLevels {
		if level >= l.level {
			return l.name
		}
	}
	return logLevels[len(logLevels)-1].name
}

// LogRecord is one line of the service's log: GET /v1/logs. None of it is a secret.
type LogRecord struct {
	Time  time.Time `json:"time"`
	Level string    `json:"level"` // one of LogLevels
	// Connection and its Owner are of what belongs to a connection; the owner may
	// read it.
	Connection string            `json:"connection,omitzero"`
	Owner      string            `json:"owner,omitzero"`
	Message    string            `json:"message"`
	Attributes map[string]string `json:"attributes,omitzero"`
}

// Text is what a record says: its message and, sorted by their keys, its attributes. What
// gateways say is in some of them, so it may hold anything.
func (r *LogRecord) Text() string {
	var b strings.Builder
	b.WriteString(r.Message)
	for _, key := range slices.Sorted(maps.Keys(r.Attributes)) {
		value := r.Attributes[key]
		if value == "" || strings.ContainsAny(value, " \"=\n\t") {
			value = strconv.Quote(value)
		}
		b.WriteString(" " + key + "=" + value)
	}
	return b.String()
}
