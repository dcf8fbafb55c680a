//go:build gui && linux

package gui

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A desktop without a tray: the window works alone, and its end is the program's.
func TestNoTray(t *testing.T) {
	d := newDesktop(t)
	p := d.start("--demo", "--hidden")
	d.shown() // after a while: there would be nothing else to see
	d.shot("no-tray")
	d.closes()
	p.ends()
}

// A panel that starts after the program finds its icon.
func TestLateTray(t *testing.T) {
	d := newDesktop(t)
	p := d.start("--demo")
	d.shown()
	d.tray()
	icon := p.icon()
	d.closes()
	d.hidden()
	icon.tap()
	d.shown()
	icon.click("Quit")
	p.ends()
}

// No message bus at all, as in a bare session: window, start and end are the same.
func TestNoBus(t *testing.T) {
	d := newDesktop(t)
	d.bus = "unix:path=" + filepath.Join(d.runtime, "none")
	p := d.start("--demo")
	d.shown()
	d.closes()
	p.ends()
	if text := p.said.String(); strings.Contains(text, "panic") {
		t.Errorf("it said:\n%s", text)
	}
}

// A second start raises the window of the first, hands over what it was asked for, and
// ends.
func TestSecondStart(t *testing.T) {
	d := newDesktop(t)
	d.tray()
	first := d.start("--demo", "--hidden")
	icon := first.icon()
	icon.has("Quit")
	second := d.start("--demo")
	second.ends()
	d.shown()
	d.closes()
	d.hidden()

	// From another folder, so the file's name alone would not do.
	profile := filepath.Join(d.dir(), "branch.toml")
	d.must(os.WriteFile(profile, []byte("version = 1\nname = \"branch\"\ngateway = \"vpn.example.com\"\nlogin = \"ada\"\n"), 0o600))
	third := d.start("--demo", profile)
	third.ends()
	d.shown()
	d.shot("import-preview")

	first.cmd.Process.Kill()
	<-first.ended
	first.ended <- nil
	again := d.start("--demo", "--hidden") // what the dead one left is not in the way
	again.icon().click("Quit")
	again.ends()
}
