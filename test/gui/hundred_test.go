//go:build gui && linux

package gui

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// rounds is how often the office is connected and disconnected.
const rounds = 100

// What may differ between few connects and many.
const (
	moreGoroutines = 3        // timers and calls of the service come and go
	moreFiles      = 3        // so do their sockets
	moreLive       = 2        // megabytes: the collector's account is in whole ones
	moreResident   = 16 << 10 // kilobytes: half of what Go has free between collections
)

// A hundred connects and disconnects by the tray leave nothing behind: no goroutine, no
// window, no file, no entry of the keyring, no connection, and no memory that grows with
// them.
func TestHundred(t *testing.T) {
	needLab(t)
	few, many := connects(t, 3), connects(t, rounds)
	t.Logf("after 3: %+v; after %d: %+v", few, rounds, many)
	if many.goroutines > few.goroutines+moreGoroutines {
		t.Errorf("%d goroutines, after 3 connects %d", many.goroutines, few.goroutines)
	}
	if many.files > few.files+moreFiles {
		t.Errorf("%d open files, after 3 connects %d", many.files, few.files)
	}
	if many.windows != few.windows {
		t.Errorf("%d windows, after 3 connects %d", many.windows, few.windows)
	}
	if many.live > few.live+moreLive {
		t.Errorf("%d MB of Go's memory live, after 3 connects %d MB", many.live, few.live)
	}
	if many.resident > few.resident+moreResident {
		t.Errorf("%d kB resident, after 3 connects %d kB", many.resident, few.resident)
	}
}

// holdings is what a program holds.
type holdings struct {
	goroutines, files, windows int
	live                       int // megabytes of Go's, after the last collection
	resident                   int // kilobytes, with what X and Mesa have of them
}

// connects connects n times by the tray and counts what the program holds then. The
// profile is saved at the first time, and the only one.
func connects(t *testing.T, n int) holdings {
	t.Helper()
	d := newDesktop(t)
	d.tray()
	d.keyring()
	s := d.service()
	p, tray := s.works()
	tray.click("Disconnect " + officeHost)
	tray.is(grey)
	d.closes()
	d.hidden()
	for range n {
		tray.click("Connect " + officeHost)
		tray.is(green)
		tray.click("Disconnect " + officeHost)
		tray.is(grey)
	}
	d.keeps(officeHost)
	if n := s.connections(); n > 0 {
		t.Errorf("the service still has %d connections", n)
	}
	h := p.holds()
	h.windows = len(strings.Fields(d.mustTool("xdotool", "search", "--name", "Wayfarer")))
	p.cmd.Process.Signal(syscall.SIGQUIT) // it ends with a list of its goroutines
	<-p.ended
	p.ended <- nil
	h.goroutines = strings.Count(p.said.String(), "\ngoroutine ")
	return h
}

// works starts the program, which tells of its memory, and connects it with the office.
func (s *service) works() (*program, icon) {
	s.Helper()
	s.vars = append(s.vars, "GODEBUG=gctrace=1")
	p, tray := s.shows()
	s.fills(officeHost, officeLogin, officePass)
	s.press("Return")
	s.asks("trust")
	s.trusts()
	tray.is(green)
	s.keeps(officeHost)
	return p, tray
}

// collection is a line of Go's collector (GODEBUG=gctrace=1, see the package runtime)
// with what lives after it.
var collection = regexp.MustCompile(`(?m)^gc \d+ @.* \d+->\d+->(\d+) MB, `)

// holds counts what the system, and the collector, know of a program of works.
func (p *program) holds() holdings {
	p.Helper()
	proc := filepath.Join("/proc", fmt.Sprint(p.cmd.Process.Pid))
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	p.must(err)
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	p.must(err)
	h := holdings{files: len(files)}
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "VmRSS: %d kB", &h.resident)
	}
	said := collection.FindAllStringSubmatch(p.said.String(), -1)
	if len(said) == 0 {
		p.Fatal("the program does not tell of its memory")
	}
	h.live, err = strconv.Atoi(said[len(said)-1][1])
	p.must(err)
	return h
}
