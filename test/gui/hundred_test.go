//go:build gui && linux

package gui

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// rounds is how often the demonstration is connected and disconnected.
const rounds = 100

// A hundred connects and disconnects by the tray leave nothing behind: no goroutine, no
// window, no file, and no memory that grows with them.
func TestHundred(t *testing.T) {
	few, many := connects(t, 3), connects(t, rounds)
	t.Logf("after 3: %+v; after %d: %+v", few, rounds, many)
	// Timers and calls of the service come and go.
	if many.goroutines > few.goroutines+3 {
		t.Errorf("%d goroutines, after 3 connects %d", many.goroutines, few.goroutines)
	}
	if many.files > few.files+3 {
		t.Errorf("%d open files, after 3 connects %d", many.files, few.files)
	}
	if many.windows != few.windows {
		t.Errorf("%d windows, after 3 connects %d", many.windows, few.windows)
	}
	if many.kilobytes > few.kilobytes+40<<10 {
		t.Errorf("%d kB, after 3 connects %d kB", many.kilobytes, few.kilobytes)
	}
}

// holdings is what a program holds.
type holdings struct{ goroutines, files, windows, kilobytes int }

// connects connects n times by the tray and counts what the program holds then.
func connects(t *testing.T, n int) holdings {
	t.Helper()
	d := newDesktop(t)
	d.tray()
	p, tray := d.demonstrates()
	tray.click("Disconnect 127.0.0.1")
	tray.is(grey)
	d.closes()
	d.hidden()
	for range n {
		tray.click("Connect 127.0.0.1")
		tray.is(green)
		tray.click("Disconnect 127.0.0.1")
		tray.is(grey)
	}
	h := p.holds()
	h.windows = len(strings.Fields(d.mustTool("xdotool", "search", "--name", "Wayfarer")))
	p.cmd.Process.Signal(syscall.SIGQUIT) // it ends with a list of its goroutines
	<-p.ended
	p.ended <- nil
	h.goroutines = strings.Count(p.said.String(), "\ngoroutine ")
	return h
}

// holds counts what the system knows of a program.
func (p *program) holds() holdings {
	p.Helper()
	proc := filepath.Join("/proc", fmt.Sprint(p.cmd.Process.Pid))
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	p.must(err)
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	p.must(err)
	h := holdings{files: len(files)}
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "VmRSS: %d kB", &h.kilobytes)
	}
	return h
}
