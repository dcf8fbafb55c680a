package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/windows/registry"
	"golang.org/x/sys/windows/svc/eventlog"
)

// The service's lines name users and gateways, and everybody may read the log Application. So
// there is a log of its own, which only SYSTEM and Administrators may read and write.
const (
	eventLogKey    = `SYSTEM\CurrentControlSet\Services\EventLog\Wayfarer`
	eventSource    = "wayfarerd"
	eventLogAccess = "O:BAG:SYD:(A;;0xf0007;;;SY)(A;;0x7;;;BA)"
	eventLogSize   = 4 << 20 // bytes; the oldest events go first
	// eventTexts is a program of Windows' that has the texts of events which are a text.
	eventTexts = `%SystemRoot%\System32\EventCreate.exe`
)

// eventID is of all events: their texts tell them apart.
const eventID = 1

// eventLog writes lines of the log, one a call, as events of their level.
type eventLog struct {
	log   *eventlog.Log
	other io.Writer // where lines go as well, and alone if there is no event log
}

// openEventLog registers the log and its source, as an installer has. Without a log of its
// own the service has none, for lines from an unknown source are in Application.
func openEventLog(other io.Writer) *eventLog {
	if err := registerEventLog(eventLogKey); err != nil {
		fmt.Fprintf(other, "wayfarerd: no event log: %v\n", err)
		return &eventLog{other: other}
	}
	log, err := eventlog.Open(eventSource)
	if err != nil {
		fmt.Fprintf(other, "wayfarerd: no event log: %v\n", err)
		return &eventLog{other: other}
	}
	return &eventLog{log, other}
}

// registerEventLog makes the key of a log, whose access comes first, and of its source. The
// access and the size that an administrator has set stay.
func registerEventLog(path string) error {
	log, _, err := registry.CreateKey(registry.LOCAL_MACHINE, path, registry.QUERY_VALUE|registry.SET_VALUE|registry.CREATE_SUB_KEY)
	if err != nil {
		return err
	}
	defer log.Close()
	if _, _, err := log.GetValue("CustomSD", nil); errors.Is(err, registry.ErrNotExist) {
		if err := log.SetStringValue("CustomSD", eventLogAccess); err != nil {
			return err
		}
	}
	if _, _, err := log.GetValue("MaxSize", nil); errors.Is(err, registry.ErrNotExist) {
		if err := log.SetDWordValue("MaxSize", eventLogSize); err != nil {
			return err
		}
	}
	source, _, err := registry.CreateKey(log, eventSource, registry.SET_VALUE)
	if err != nil {
		return err
	}
	defer source.Close()
	return errors.Join(
		source.SetExpandStringValue("EventMessageFile", eventTexts),
		source.SetDWordValue("TypesSupported", eventlog.Error|eventlog.Warning|eventlog.Info),
		source.SetDWordValue("CustomSource", 1),
	)
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
