//go:build gui && linux

package gui

import (
	"syscall"
	"testing"
)

// doubting has connected for the first time, and is asked whether to trust the gateway.
func doubting(t *testing.T) (*desktop, *service, icon) {
	t.Helper()
	needLab(t)
	d := newDesktop(t)
	d.tray()
	d.keyring()
	s := d.service()
	_, tray := d.shows()
	d.fills(officeHost, officeLogin, officePass)
	d.press("Return")
	s.asks("trust")
	return d, s, tray
}

// Who does not trust a gateway is back at the form, with what was typed but for the
// password, and nothing is left of the attempt.
func TestDistrust(t *testing.T) {
	d, s, tray := doubting(t)
	d.clicks(0.28, -30) // Cancel
	d.until("the end of the connection", func() bool { return s.connections() == 0 })
	tray.is(grey)
	tray.has("Not connected")
	d.shot("distrust-1-form")
	if kept := d.kept(); len(kept) > 0 {
		t.Errorf("kept: %q", kept)
	}
	d.again(s, tray)
	d.shot("distrust-2-connected")
}

// again connects with a form that is filled but for the password, which has the keyboard.
func (d *desktop) again(s *service, tray icon) {
	d.Helper()
	d.types(officePass)
	d.press("Return")
	s.asks("trust")
	tray.starts(officeHost + ": Waiting for you")
	d.trusts()
	tray.is(green)
	d.keeps(officeHost)
}

// The service is killed while a question is open: the question goes, the window says what
// is wrong, and once the service is back the form stands there as it was filled.
func TestKilledWhileAsking(t *testing.T) {
	d, s, tray := doubting(t)
	tray.starts(officeHost + ": Waiting for you")
	s.end(syscall.SIGKILL)
	tray.is(amber)
	tray.has("The Wayfarer service cannot be used")
	d.shot("killed-1-no-service")
	s.begin()
	tray.is(grey)
	tray.has("Not connected")
	d.shot("killed-2-form")
	d.again(s, tray)
}
