package gui

import (
	"errors"
	"testing"

	"fyne.io/fyne/v2/test"
)

// TestStartAtLoginFails: the tick tells what is so.
func TestStartAtLoginFails(t *testing.T) {
	test.NewTempApp(t)
	v := newSettingsView(&keys{}, &settings{})
	refused := errors.New("the disk is full")
	v.onStart = func(bool) error { return refused }
	if test.Tap(v.start); v.start.Checked {
		t.Error("it is ticked, though it does not start")
	}
	refused = nil
	if test.Tap(v.start); !v.start.Checked {
		t.Error("it is not ticked, though it starts")
	}
}

// TestFormTrims: blanks that came with pasting are no part of gateway and login.
func TestFormTrims(t *testing.T) {
	test.NewTempApp(t)
	v := newFormView(&keys{})
	v.gateway.SetText(" \t")
	v.login.SetText("ada")
	if !v.connect.Disabled() || v.first() != v.gateway {
		t.Error("blanks are a gateway")
	}
	var got draft
	v.onConnect = func(d draft) { got = d }
	v.gateway.SetText(" vpn.example.com\t")
	v.login.SetText("\u00a0ada ")
	v.password.SetText(" lovelace ")
	v.submit()
	if got.gateway != "vpn.example.com" || got.login != "ada" || string(got.password) != " lovelace " {
		t.Errorf("got %+v", got)
	}
}
