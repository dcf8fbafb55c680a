//go:build gui && linux

package gui

import (
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Colours of the tray's icon, on a light panel and on a dark one.
var (
	grey  = []color.RGBA{{0x5b, 0x64, 0x70, 0xff}, {0x97, 0xa1, 0xad, 0xff}}
	green = []color.RGBA{{0x1c, 0x8a, 0x3c, 0xff}, {0x35, 0xb7, 0x5a, 0xff}}
	blue  = []color.RGBA{{0x1f, 0x6f, 0xd1, 0xff}, {0x4c, 0x9d, 0xf5, 0xff}}
	amber = []color.RGBA{{0xb8, 0x62, 0x00, 0xff}, {0xf0, 0x9a, 0x1a, 0xff}}
)

// is waits for a colour of the icon.
func (i icon) is(want []color.RGBA) {
	i.d.Helper()
	defer func() {
		if i.d.Failed() {
			i.d.Logf("the icon is %v, its tooltip %q", i.colour(), i.tooltip())
		}
	}()
	i.d.until("another icon", func() bool { return slices.Contains(want, i.colour()) })
}

// The demonstration, from its start by keyboard to its end by the tray.
func TestDemo(t *testing.T) {
	d := newDesktop(t)
	d.tray()
	p, tray := d.shows("--demo")
	if tip := tray.tooltip(); tip != "Wayfarer\nNot connected" {
		t.Errorf("tooltip %q", tip)
	}
	d.shot("demo-1-start")
	// Panels find the window's entry in the menu by its class.
	entry, err := os.ReadFile(filepath.Join("..", "..", "installer", "linux", "io.github.wayfarer.desktop"))
	d.must(err)
	class := d.mustTool("xprop", "-id", d.window(), "WM_CLASS")
	if _, class, _ = strings.Cut(class, `", "`); !strings.Contains(string(entry), "\nStartupWMClass="+strings.Trim(class, `"`)+"\n") {
		t.Errorf("the desktop entry is not for class %q", class)
	}

	// Everything is filled in: Return in a field connects.
	d.press("Tab", "Tab", "Tab", "Return")
	d.until("the question of trust", func() bool { return slices.Contains(amber, tray.colour()) })
	d.shot("demo-2-trust")
	d.trusts()
	tray.is(green)
	d.shot("demo-3-connected")
	status := tray.starts("127.0.0.1: Connected, 10.77.1.")
	tray.has("Quit (disconnects)")
	if tip := tray.tooltip(); tip != "Wayfarer\n"+status {
		t.Errorf("tooltip %q", tip)
	}
	if notes := d.notified(); len(notes) > 0 {
		t.Errorf("notified %q, though the window is in front", notes)
	}

	// The same by the tray, without the window.
	d.closes()
	d.hidden()
	tray.click("Disconnect 127.0.0.1")
	tray.is(grey)
	tray.has("Not connected")
	tray.click("Connect 127.0.0.1")
	tray.is(green)
	d.until("the notification", func() bool {
		notes := d.notified()
		return len(notes) == 1 && strings.HasPrefix(notes[0], "Connected to 127.0.0.1\nYour address is 10.77.1.")
	})
	tray.click("Quit (disconnects)")
	p.ends()
}

// What the window's program leaves when it is quit: nothing of its own.
func TestDemoQuit(t *testing.T) {
	d := newDesktop(t)
	d.tray()
	p := d.start("--demo", "--hidden")
	tray := p.icon()
	tray.has("Quit")
	if w := d.window(); w != "" {
		t.Error("the window was shown, though hidden was asked for")
	}
	tray.click("Open Wayfarer")
	d.shown()
	d.closes()
	d.hidden()
	tray.tap()
	d.shown()
	tray.click("Quit")
	p.ends()
	// Fyne's own remarks do not count: it reads its settings while it writes them.
	if text := p.said.String(); strings.Contains(text, "panic") || strings.Contains(text, "systray error") || strings.Contains(text, "wayfarer-gui:") {
		t.Errorf("it said:\n%s", text)
	}
}
