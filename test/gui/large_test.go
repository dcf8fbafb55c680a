//go:build gui && linux

package gui

import "testing"

// At 200 %, for a display of many pixels or for who sees badly, everything has twice the
// size and is where it was.
func TestLarge(t *testing.T) {
	d := newDesktopOf(t, "2560x1440")
	d.tray()
	d.vars = append(d.vars, "FYNE_SCALE=2")
	p, tray := d.shows("--demo")
	// The window of the first run, twice as wide as a program's at 100 %.
	if width, _ := d.size(); width != 2*460 {
		t.Errorf("the window is %d pixels wide, not %d", width, 2*460)
	}
	d.shot("large-1-form")
	d.press("Tab", "Tab", "Tab", "Return")
	tray.is(amber)
	d.shot("large-2-trust")
	d.clicks(0.72, -60) // Trust
	tray.is(green)
	d.shot("large-3-connected")
	tray.click("Quit (disconnects)")
	p.ends()
}
