package main

import (
	"bytes"
	"io"

	"golang.org/x/sys/windows/svc/eventlog"
)

// eventSource is the service's name in the system's event log (Application).
const eventSource = "Wayfarer"

// eventID is of all events: their texts tell them apart.
const eventID = 1

// eventLog writes lines of the log, one a call, as events of their level.
type eventLog struct {
	log   *eventlog.Log
	other io.Writer // where lines go as well, and alone if there is no event log
}

// openEventLog registers the source if no installer has.
func openEventLog(other io.Writer) *eventLog {
	// An error says that it is registered, or that the next line will fail.
	_ = eventlog.InstallAsEventCreate(eventSource, eventlog.Error|eventlog.Warning|eventlog.Info)
	log, err := eventlog.Open(eventSource)
	if err != nil {
		return &eventLog{other: other}
	}
	return &eventLog{log, other}
}

// Write reports one line. A log that is full must not stop the service.
func (l *eventLog) Write(line []byte) (int, error) {
	_, _ = l.other.Write(line) // a service has no terminal
	if l.log == nil {
		return len(line), nil
	}
	text := string(bytes.TrimSpace(line))
	switch levelOf(line) {
	case eventlog.Error:
		_ = l.log.Error(eventID, text)
	case eventlog.Warning:
		_ = l.log.Warning(eventID, text)
	default:
		_ = l.log.Info(eventID, text)
	}
	return len(line), nil
}

// levelOf is the level of a line that log/slog has written, or of an error's text.
func levelOf(line []byte) uint32 {
	_, rest, isRecord := bytes.Cut(line, []byte("level="))
	switch {
	case !isRecord || bytes.HasPrefix(rest, []byte("ERROR")):
		return eventlog.Error
	case bytes.HasPrefix(rest, []byte("WARN")):
		return eventlog.Warning
	}
	return eventlog.Info
}

func (l *eventLog) close() {
	if l.log != nil {
		l.log.Close()
	}
}
