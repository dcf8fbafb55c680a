package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
	"golang.org/x/sys/windows/svc/eventlog"
)

// The service's lines name users and gateways, and everybody may read the log Application. So
// there is a log of its own, which only SYSTEM and Administrators may read and write.
const (
	eventLogName   = "Wayfarer"
	eventLogKey    = `SYSTEM\CurrentControlSet\Services\EventLog\` + eventLogName
	eventSource    = "wayfarerd"
	eventLogAccess = "O:BAG:SYD:(A;;0xf0007;;;SY)(A;;0x7;;;BA)"
	eventLogSize   = 4 << 20 // bytes; the oldest events go first
	// eventTexts is a program of Windows' that has the texts of events which are a text.
	eventTexts = `%SystemRoot%\System32\EventCreate.exe`
)

// eventID is of all events: their texts tell them apart.
const eventID = 1

// An unknown source is no error to Windows: its events are in Application ([MS-EVEN]
// 3.1.1.3), those of its handle for ever. The event log service learns of a new source from
// the registry, some time after it was written there. So lines are held meanwhile.
const (
	eventPause = time.Second     // between two questions whether the log is known
	eventLimit = 1000            // lines that are held, the newest
	eventClose = 3 * time.Second // how long the program's end waits for the log
)

// eventSystem is what opening the log needs of Windows.
type eventSystem struct {
	register func() (fresh bool, err error) // fresh: it was not there
	known    func() bool                    // to the event log service
	open     func() (events, error)
}

// events is a source of events: *eventlog.Log, but for tests.
type events interface {
	Info(id uint32, text string) error
	Warning(id uint32, text string) error
	Error(id uint32, text string) error
	Close() error
}

var windowsEvents = eventSystem{
	register: func() (bool, error) { return registerEventLog(eventLogKey) },
	known:    func() bool { return channelKnown(eventLogName) },
	open:     func() (events, error) { return eventlog.Open(eventSource) },
}

// eventLog writes lines of the log, one a call, as events of their level.
type eventLog struct {
	opened, closing chan struct{} // closed once it is settled; when the program ends

	mu      sync.Mutex
	other   io.Writer // where lines go as well, and alone if there is no event log
	settled bool      // it is open, or cannot be
	log     events    // nil before it is open, and if it cannot be
	held    []string  // lines for log, until that is settled
}

// openEventLog registers the log and its source, as an installer has, and opens it, while the
// program goes on. Without a log of its own the service has none.
func openEventLog(other io.Writer, system eventSystem) *eventLog {
	l := &eventLog{opened: make(chan struct{}), closing: make(chan struct{}), other: other}
	go func() {
		defer close(l.opened)
		log, err := l.open(system)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.settled = true
		if err != nil {
			fmt.Fprintf(l.other, "wayfarerd: no event log: %v\n", err)
			return
		}
		l.log = log
		for _, line := range l.held {
			l.report(line)
		}
		l.held = nil
	}()
	return l
}

// open waits until events go where they belong. Nil is no log.
func (l *eventLog) open(system eventSystem) (events, error) {
	fresh, err := system.register()
	if err != nil {
		return nil, err
	}
	for ; fresh || !system.known(); fresh = false { // the log may be known before its source
		select {
		case <-l.closing:
			return nil, errors.New("the event log service does not know of it yet")
		case <-time.After(eventPause):
		}
	}
	return system.open()
}

// channelKnown asks the event log service whether it has a log; where that cannot be asked,
// it has.
func channelKnown(name string) bool {
	wevtapi := windows.NewLazySystemDLL("wevtapi.dll")
	open, closeHandle := wevtapi.NewProc("EvtOpenChannelConfig"), wevtapi.NewProc("EvtClose")
	if open.Find() != nil || closeHandle.Find() != nil {
		return true
	}
	config, _, err := open.Call(0, uintptr(unsafe.Pointer(windows.StringToUTF16Ptr(name))), 0)
	if config == 0 {
		return !errors.Is(err, windows.ERROR_EVT_CHANNEL_NOT_FOUND)
	}
	_, _, _ = closeHandle.Call(config)
	return true
}

// registerEventLog makes the key of a log, whose access comes first, and of its source. The
// access and the size that an administrator has set stay. Fresh is one that was not there.
func registerEventLog(path string) (fresh bool, err error) {
	log, hadLog, err := registry.CreateKey(registry.LOCAL_MACHINE, path, registry.QUERY_VALUE|registry.SET_VALUE|registry.CREATE_SUB_KEY)
	if err != nil {
		return false, err
	}
	defer log.Close()
	if _, _, err := log.GetValue("CustomSD", nil); errors.Is(err, registry.ErrNotExist) {
		if err := log.SetStringValue("CustomSD", eventLogAccess); err != nil {
			return false, err
		}
	}
	if _, _, err := log.GetValue("MaxSize", nil); errors.Is(err, registry.ErrNotExist) {
		if err := log.SetDWordValue("MaxSize", eventLogSize); err != nil {
			return false, err
		}
	}
	source, hadSource, err := registry.CreateKey(log, eventSource, registry.SET_VALUE)
	if err != nil {
		return false, err
	}
	defer source.Close()
	return !hadLog || !hadSource, errors.Join(
		source.SetExpandStringValue("EventMessageFile", eventTexts),
		source.SetDWordValue("TypesSupported", eventlog.Error|eventlog.Warning|eventlog.Info),
		source.SetDWordValue("CustomSource", 1),
	)
}

// Write reports one line.
func (l *eventLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.other.Write(line) // a service has no terminal
	switch {
	case l.log != nil:
		l.report(string(line))
	case !l.settled:
		l.held = append(l.held, string(line))
		l.held = l.held[max(0, len(l.held)-eventLimit):]
	}
	return len(line), nil
}

// report makes an event of a line. A log that is full must not stop the service.
func (l *eventLog) report(line string) {
	text := strings.TrimSpace(line)
	switch levelOf(line) {
	case eventlog.Error:
		_ = l.log.Error(eventID, text)
	case eventlog.Warning:
		_ = l.log.Warning(eventID, text)
	default:
		_ = l.log.Info(eventID, text)
	}
}

// levelOf is the level of a line that log/slog has written, or of an error's text.
func levelOf(line string) uint32 {
	_, rest, isRecord := strings.Cut(line, "level=")
	switch {
	case !isRecord || strings.HasPrefix(rest, "ERROR"):
		return eventlog.Error
	case strings.HasPrefix(rest, "WARN"):
		return eventlog.Warning
	}
	return eventlog.Info
}

// close gives what is held a last time to become events.
func (l *eventLog) close() {
	select {
	case <-l.opened:
	case <-time.After(eventClose):
	}
	close(l.closing)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.log != nil {
		_ = l.log.Close()
	}
}
