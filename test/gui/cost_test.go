//go:build gui && linux

package gui

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// starts is how often the start is measured.
const starts = 5

// clockTick is the unit of processor time in /proc (USER_HZ).
const clockTick = 10 * time.Millisecond

// Where the window is while it is watched, and the part of a core that it may cost, in
// percent. Where software draws (Mesa's llvmpipe, as under Xvfb), that is a part of it.
var places = []struct {
	name  string
	bound float64
	put   func(d *desktop, window string)
}{
	{"in front", 1, func(*desktop, string) {}},
	// The program cannot know that nobody sees it, but it is not in front.
	{"minimised", 1, func(d *desktop, window string) { d.mustTool("xdotool", "windowminimize", window) }},
	// Nothing is drawn, and nothing counted.
	{"hidden", 0.5, func(d *desktop, window string) {
		d.mustTool("xdotool", "windowmap", window)
		d.shown()
		d.closes()
		d.hidden()
	}},
}

// away is the longest that the window is watched where it is not in front.
const away = time.Minute

// TestCost reports what the window costs while it is connected and packets flow, and fails
// if that is too much. GUI_COST is how long it is watched in front.
func TestCost(t *testing.T) {
	watched, err := time.ParseDuration(os.Getenv("GUI_COST"))
	if err != nil {
		t.Skip("GUI_COST does not say how long, e.g. 1m")
	}
	needLab(t)
	d := newDesktop(t)
	d.tray()
	d.keyring()
	s := d.service()
	var times []time.Duration
	for range starts {
		times = append(times, d.firstFrame().Round(time.Millisecond))
	}
	slices.Sort(times)
	p, tray := s.works()
	s.flows()
	window := d.window()
	table := []string{fmt.Sprintf("start to first frame: %v (median of %v)", times[starts/2], times)}
	for i, place := range places {
		place.put(d, window)
		long := watched
		if i > 0 {
			long = min(watched, away)
		}
		c := p.watch(long)
		c.judge(t, place.name, place.bound)
		table = append(table, fmt.Sprintf("%-10s %8v %6.2f %% of a core (at most %.1f %%), %d to %d MB live, %d to %d kB resident", place.name, long, c.part, place.bound,
			c.early.live, c.late.live, c.early.resident, c.late.resident))
	}
	t.Log("the window, connected:\n" + strings.Join(table, "\n"))
	tray.click("Quit (stays connected)")
	p.ends()
}

// flows has a packet go to the company and back twice a second until the test ends.
func (s *service) flows() {
	s.Helper()
	cmd := exec.Command(labScript, "exec", "rw", "ping", "-q", "-i", "0.5", "-s", "1000", "10.10.0.2")
	s.must(cmd.Start())
	s.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
}

// firstFrame is the time until the window shows more than a colour. Looking at it takes
// a part of that.
func (d *desktop) firstFrame() time.Duration {
	d.Helper()
	began := time.Now()
	p := d.start()
	var took time.Duration
	d.until("the first frame", func() bool {
		window := d.window()
		if window == "" {
			return false
		}
		colours, err := d.tool("import", "-window", window, "-format", "%k", "info:")
		n, _ := strconv.Atoi(colours)
		took = time.Since(began)
		return err == nil && n > 16
	})
	p.icon().click("Quit")
	p.ends()
	return took
}

// cost is what a program used of a core, in percent, and what it held after a tenth of
// the time and at its end.
type cost struct {
	part        float64
	early, late holdings
}

// watch watches the program for a while.
func (p *program) watch(long time.Duration) (c cost) {
	p.Helper()
	time.Sleep(5 * time.Second) // for what led here to be over
	began, used := time.Now(), p.used()
	time.Sleep(long / 10)
	c.early = p.holds()
	time.Sleep(long - time.Since(began))
	c.part = 100 * float64(p.used()-used) / float64(time.Since(began))
	c.late = p.holds()
	return c
}

// judge fails the test if the cost is above a part of a core, in percent, or memory grows.
func (c cost) judge(t *testing.T, name string, bound float64) {
	t.Helper()
	if c.part > bound {
		t.Errorf("%s: %.2f %% of a core, more than %.1f %%", name, c.part, bound)
	}
	if c.late.live > c.early.live+moreLive {
		t.Errorf("%s: %d MB of Go's memory live, after a tenth of the time %d MB", name, c.late.live, c.early.live)
	}
	if c.late.resident > c.early.resident+moreResident {
		t.Errorf("%s: %d kB resident, after a tenth of the time %d kB", name, c.late.resident, c.early.resident)
	}
}

// used is the processor's time that the program has had.
func (p *program) used() time.Duration {
	p.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(p.cmd.Process.Pid), "stat"))
	p.must(err)
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	const utime, stime = 11, 12 // behind the name, see proc(5)
	user, err := strconv.Atoi(fields[utime])
	p.must(err)
	system, err := strconv.Atoi(fields[stime])
	p.must(err)
	return time.Duration(user+system) * clockTick
}
