//go:build gui && linux

package gui

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// starts is how often the start is measured.
const starts = 5

// clockTick is the unit of processor time in /proc (USER_HZ).
const clockTick = 10 * time.Millisecond

// TestCost reports what the window costs. GUI_COST is how long the program is watched, in
// front, minimised and hidden. Where software draws (Mesa's llvmpipe, as under
// Xvfb), that is a part of it.
func TestCost(t *testing.T) {
	watched, err := time.ParseDuration(os.Getenv("GUI_COST"))
	if err != nil {
		t.Skip("GUI_COST does not say how long, e.g. 1m")
	}
	var times []time.Duration
	for range starts {
		times = append(times, firstFrame(t))
	}
	slices.Sort(times)
	t.Logf("start to first frame: %v (median of %d: %v)", times[starts/2].Round(time.Millisecond), starts, times)

	d := newDesktop(t)
	d.tray()
	p, tray := d.demonstrates()
	p.watch("connected, in front", watched)
	window := d.window()
	d.mustTool("xdotool", "windowminimize", window)
	p.watch("connected, minimised", watched)
	d.mustTool("xdotool", "windowmap", window)
	d.shown()
	d.closes()
	d.hidden()
	p.watch("connected, hidden", watched)
	tray.click("Quit (disconnects)")
	p.ends()
}

// firstFrame is the time until the window shows more than a colour. Looking at it takes
// a part of that.
func firstFrame(t *testing.T) time.Duration {
	t.Helper()
	d := newDesktop(t)
	d.tray()
	began := time.Now()
	p := d.start("--demo")
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

// watch reports what the program uses for a while.
func (p *program) watch(name string, long time.Duration) {
	p.Helper()
	time.Sleep(5 * time.Second) // for what led here to be over
	began, used, before := time.Now(), p.used(), p.holds()
	time.Sleep(long)
	part := float64(p.used()-used) / float64(time.Since(began))
	p.Logf("%-22s %5.2f %% of a core, %d kB at first, %d kB after %v", name, 100*part, before.kilobytes, p.holds().kilobytes, long)
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
