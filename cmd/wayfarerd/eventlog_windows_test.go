package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
	"golang.org/x/sys/windows/svc/eventlog"
)

// fakeEvents is a source of events, which the event log service knows late.
type fakeEvents struct {
	mu            sync.Mutex
	lines         []string
	asked, opened int
	closed        bool
}

func (f *fakeEvents) add(level, text string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, level+" "+text)
	return nil
}

func (f *fakeEvents) Info(_ uint32, text string) error    { return f.add("info", text) }
func (f *fakeEvents) Warning(_ uint32, text string) error { return f.add("warning", text) }
func (f *fakeEvents) Error(_ uint32, text string) error   { return f.add("error", text) }
func (f *fakeEvents) Close() error                        { f.closed = true; return nil }

// system is a Windows whose event log service knows the log when it is asked for the nth
// time; 0: never.
func (f *fakeEvents) system(fresh bool, nth int) eventSystem {
	return eventSystem{
		register: func() (bool, error) { return fresh, nil },
		known:    func() bool { f.asked++; return f.asked == nth },
		open:     func() (events, error) { f.opened++; return f, nil },
	}
}

func (f *fakeEvents) written() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.lines)
}

// TestEventLogIsKnownFirst: no line goes by a source that the event log service does not know,
// for it would be in Application. Those that came before follow.
func TestEventLogIsKnownFirst(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fresh bool
		nth   int
		want  time.Duration // until the log is open
	}{
		{"it was there", false, 1, 0},
		{"it is new", true, 1, eventPause},
		{"the service is slow", true, 4, 4 * eventPause},
		{"an installer has just made it", false, 3, 2 * eventPause},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var other bytes.Buffer
				source, start := &fakeEvents{}, time.Now()
				l := openEventLog(&other, source.system(tt.fresh, tt.nth))
				fmt.Fprintln(l, "level=INFO msg=one")
				fmt.Fprintln(l, "level=WARN msg=two")
				if tt.want > 0 {
					time.Sleep(tt.want - 1)
					synctest.Wait()
					if source.opened != 0 {
						t.Error("it is open too early")
					}
				}
				<-l.opened
				if waited := time.Since(start); waited != tt.want {
					t.Errorf("open after %v, want %v", waited, tt.want)
				}
				fmt.Fprintln(l, "wayfarerd: three")
				want := []string{"info level=INFO msg=one", "warning level=WARN msg=two", "error wayfarerd: three"}
				if got := source.written(); !slices.Equal(got, want) {
					t.Errorf("events %q", got)
				}
				if other.String() != "level=INFO msg=one\nlevel=WARN msg=two\nwayfarerd: three\n" {
					t.Errorf("elsewhere %q", other.String())
				}
				if l.close(); !source.closed || source.opened != 1 {
					t.Errorf("closed: %v, opened %d times", source.closed, source.opened)
				}
			})
		})
	}
}

// TestEventLogStaysUnknown: what is held is bounded, and does not keep the program from its
// end.
func TestEventLogStaysUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var other bytes.Buffer
		source := &fakeEvents{}
		l := openEventLog(&other, source.system(true, 0))
		for i := range eventLimit + 2 {
			fmt.Fprintln(l, "line", i)
		}
		if len(l.held) != eventLimit || l.held[0] != "line 2\n" {
			t.Errorf("%d lines are held, first %q", len(l.held), l.held[0])
		}
		start := time.Now()
		l.close()
		if waited := time.Since(start); waited != eventClose {
			t.Errorf("closed after %v", waited)
		}
		synctest.Wait()
		if source.opened != 0 || !strings.Contains(other.String(), "no event log: the event log service does not know") {
			t.Errorf("opened %d times, told %q", source.opened, other.String())
		}
	})
}

// TestNoEventLog: without a log of its own the service has none, and no memory of lines.
func TestNoEventLog(t *testing.T) {
	broken := errors.New("broken")
	source := &fakeEvents{}
	register, open := source.system(false, 1), source.system(false, 1)
	register.register = func() (bool, error) { return false, broken }
	open.open = func() (events, error) { return (*eventlog.Log)(nil), broken }
	for _, system := range []eventSystem{register, open} {
		var other bytes.Buffer
		l := openEventLog(&other, system)
		<-l.opened
		fmt.Fprintln(l, "level=INFO msg=one")
		l.close()
		if other.String() != "wayfarerd: no event log: broken\nlevel=INFO msg=one\n" || len(l.held) != 0 {
			t.Errorf("%q, %d lines held", other.String(), len(l.held))
		}
	}
}

// TestChannelIsKnown: a log that every Windows has is known, and one that none has is not.
func TestChannelIsKnown(t *testing.T) {
	if !channelKnown("Application") {
		t.Error("Application is not known")
	}
	if channelKnown("Wayfarer test without a log") {
		t.Skip("this system, as Wine does, cannot be asked for a log")
	}
}

func TestEventLevels(t *testing.T) {
	var line bytes.Buffer
	log := slog.New(slog.NewTextHandler(&line, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, tt := range []struct {
		level slog.Level
		want  uint32
	}{{slog.LevelDebug, eventlog.Info}, {slog.LevelInfo, eventlog.Info}, {slog.LevelWarn, eventlog.Warning}, {slog.LevelError, eventlog.Error}} {
		line.Reset()
		log.Log(t.Context(), tt.level, "it says level=NOTHING")
		if got := levelOf(line.String()); got != tt.want {
			t.Errorf("%s: %d", line.String(), got)
		}
	}
	if levelOf("wayfarerd: no pipe\n") != eventlog.Error {
		t.Error("what ends the service is no error")
	}
}

// TestEventLog: only SYSTEM and Administrators read the log, and its source is registered.
func TestEventLog(t *testing.T) {
	path := fmt.Sprintf(`SOFTWARE\Wayfarer test %d`, os.Getpid())
	for _, want := range []bool{true, false} { // the second time it is there
		fresh, err := registerEventLog(path)
		if err != nil {
			t.Skip("this user may not write below HKEY_LOCAL_MACHINE: ", err)
		}
		if fresh != want {
			t.Errorf("made: %v, want %v", fresh, want)
		}
	}
	defer registry.DeleteKey(registry.LOCAL_MACHINE, path)
	defer registry.DeleteKey(registry.LOCAL_MACHINE, path+`\`+eventSource)
	log, err := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.QUERY_VALUE)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	access, _, err := log.GetStringValue("CustomSD")
	if err != nil {
		t.Fatal(err)
	}
	sd, err := windows.SecurityDescriptorFromString(access)
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := sd.DACL()
	if err != nil || list.AceCount != 2 {
		t.Fatalf("access %q: %v", access, err)
	}
	for i := range uint32(list.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &ace); err != nil {
			t.Fatal(err)
		}
		sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart))
		if !sid.IsWellKnown(windows.WinLocalSystemSid) && !sid.IsWellKnown(windows.WinBuiltinAdministratorsSid) {
			t.Errorf("%v may do %#x", sid, ace.Mask)
		}
	}
	source, err := registry.OpenKey(registry.LOCAL_MACHINE, path+`\`+eventSource, registry.QUERY_VALUE)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	texts, kind, err := source.GetStringValue("EventMessageFile")
	if err != nil || kind != registry.EXPAND_SZ || texts != eventTexts {
		t.Errorf("texts in %q, %v", texts, err)
	}
	if kinds, _, err := source.GetIntegerValue("TypesSupported"); err != nil || kinds != 7 {
		t.Errorf("kinds of events %d, %v", kinds, err)
	}
}

// TestEventLogSet: what an administrator has set of the log stays.
func TestEventLogSet(t *testing.T) {
	path := fmt.Sprintf(`SOFTWARE\Wayfarer test set %d`, os.Getpid())
	if _, err := registerEventLog(path); err != nil {
		t.Skip("this user may not write below HKEY_LOCAL_MACHINE: ", err)
	}
	defer registry.DeleteKey(registry.LOCAL_MACHINE, path)
	defer registry.DeleteKey(registry.LOCAL_MACHINE, path+`\`+eventSource)
	log, err := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.QUERY_VALUE|registry.SET_VALUE)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	size, _, err := log.GetIntegerValue("MaxSize")
	if err != nil || size != eventLogSize {
		t.Errorf("size %d, %v", size, err)
	}
	const theirs = "O:BAG:SYD:(A;;0x7;;;BA)"
	if err := errors.Join(log.SetStringValue("CustomSD", theirs), log.SetDWordValue("MaxSize", 1<<20)); err != nil {
		t.Fatal(err)
	}
	if _, err := registerEventLog(path); err != nil {
		t.Fatal(err)
	}
	access, _, err := log.GetStringValue("CustomSD")
	if size, _, failed := log.GetIntegerValue("MaxSize"); err != nil || failed != nil || access != theirs || size != 1<<20 {
		t.Errorf("access %q, size %d, %v, %v", access, size, err, failed)
	}
}
