//go:build gui && linux

package gui

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// cisco is a profile of Cisco's VPN client for the lab's gateway with a group secret
// (the lab's profile psk-am). The secret is obfuscated, as that client leaves it.
const cisco = `[main]
Description=Old office
Host=198.51.100.12
AuthType=1
GroupName=labgroup
enc_GroupPwd=000102030405060708090A0B0C0D0E0F10111213E8C843CE20C71220EF56846B8D83001609A830BB8AF9A03D429C1A83B4C5409AF93BA57F
Username=alice
DHGroup=14
`

// Somebody opens a profile of another program's while the window runs: it is shown before
// it is saved, then stands in the list and in the keyring, with its secret, also for the
// next start.
func TestImport(t *testing.T) {
	needLab(t)
	const name = "Old office"
	d := newDesktop(t)
	d.tray()
	d.keyring()
	s := d.service()
	p, tray := d.shows()
	file := filepath.Join(d.dir(), "office.pcf")
	d.must(os.WriteFile(file, []byte(cisco), 0o600))
	d.start(file).ends()
	d.shot("import-1-preview")
	if kept := d.kept(); len(kept) > 0 {
		t.Errorf("kept before Save: %q", kept)
	}
	d.clicks(0.085, 293) // what is weak is allowed only when somebody says so
	d.shot("import-2-allowed")
	d.clicks(0.72, -30) // Save
	d.keeps(name)
	tray.has("Connect " + name)
	d.shot("import-3-saved")
	tray.click("Quit")
	p.ends()

	p = d.start()
	tray = p.icon()
	d.shown()
	tray.click("Connect " + name)
	s.asks("password") // the group's secret and the login were in the keyring
	d.shot("import-4-password")
	d.types(officePass)
	d.press("Return")
	tray.is(green)
	d.shot("import-5-connected")
	// Without the tick, the connection would be made in main mode.
	if out, err := s.status(); err != nil || !bytes.Contains(out, []byte(`"exchange":"aggressive"`)) {
		t.Errorf("what the file asks for and was allowed is not used: %s, %v", out, err)
	}
	d.keeps(name)
}
