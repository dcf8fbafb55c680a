package gui

import (
	"strings"
	"testing"

	"fyne.io/fyne/v2"

	"wayfarer/app"
)

func withManaged(w *world, _ *Options) {
	w.service.placed = app.Managed{
		Policy: app.Policy{ForbidWeak: true, ForbidAdding: true},
		Profiles: []app.ManagedProfile{
			{Profile: app.Profile{Name: "plant", Gateway: "vpn.example.com", Login: "ada"}},
			{Profile: app.Profile{Name: "open", Gateway: "open.example.com"}},
		},
	}
}

// TestManagedProfiles: what the administrator has placed is in the list and connected by
// its name, and nothing of it is changed or kept.
func TestManagedProfiles(t *testing.T) {
	inWorld(t, withManaged, func(w *world) {
		items := w.model.items()
		if len(items) != 2 || items[0].name != "plant" || items[0].profile != nil || items[0].managed == nil {
			t.Fatalf("%+v", items)
		}
		w.selectItem(profileKey("plant"))
		f := w.home.form
		for what, o := range map[string]fyne.CanvasObject{"gateway": f.gatewayPart, "login": f.loginPart, "remember": f.remember, "edit": f.more} {
			if o.Visible() {
				t.Errorf("%s can be changed", what)
			}
		}
		if !strings.Contains(f.known.Text, "ada at vpn.example.com") || !strings.Contains(f.known.Text, "Set up by the administrator") {
			t.Errorf("it says %q", f.known.Text)
		}
		if n := len(w.itemMenu(profileKey("plant")).Items); n != 1 {
			t.Errorf("%d items in the menu", n)
		}
		f.password.SetText("lovelace")
		w.press(f.connect)
		if len(w.service.requests) != 1 {
			t.Fatalf("%d requests", len(w.service.requests))
		}
		req := w.service.requests[0]
		if p := req.Profile; p.Name != "plant" || p.Gateway != "" || p.Login != "" || string(req.Password) != "lovelace" || !req.Ask {
			t.Errorf("got %+v", req)
		}
		w.service.set(connection(app.StateConnected, func(c *app.Connection) { c.Profile = "plant" }))
		w.want("connected")
		if names, _ := w.store.Names(); len(names) > 0 {
			t.Errorf("saved: %v", names)
		}
		if len(w.attempts) != 0 {
			t.Error("an attempt with its password stays")
		}

		w.selectItem(profileKey("open"))
		if !f.loginPart.Visible() || !f.connect.Disabled() {
			t.Error("it is connected without a login")
		}
		f.login.SetText("bob")
		w.press(f.connect)
		if p := w.service.requests[1].Profile; p.Name != "open" || p.Login != "bob" {
			t.Errorf("got %+v", p)
		}
	})
}

// A profile of the user's own stands before one of the same name.
func TestManagedBehindOwn(t *testing.T) {
	inWorld(t, func(w *world, opts *Options) {
		withOffice(w, opts)
		w.service.placed.Profiles = []app.ManagedProfile{{Profile: app.Profile{Name: "office", Gateway: "vpn.example.com"}}}
	}, func(w *world) {
		if items := w.model.items(); len(items) != 1 || items[0].profile == nil || items[0].managed != nil {
			t.Errorf("%+v", items)
		}
	})
}

// TestPolicyIsShown: the page of the settings has its rules.
func TestPolicyIsShown(t *testing.T) {
	for _, tt := range []struct {
		policy app.Policy
		want   string
	}{
		{app.Policy{}, ""},
		{
			app.Policy{ForbidWeak: true, ForceBlockOutside: true, ForbidAdding: true},
			"Rules of the administrator of this computer:\nWeak algorithms are forbidden.\nNothing leaves outside of the VPN.\nOnly what the administrator has set up is connected.",
		},
	} {
		note := policyNote(tt.policy)
		if got := strings.TrimSpace(texts(note)); note.Visible() != (tt.want != "") || note.Visible() && got != tt.want {
			t.Errorf("%+v: %q", tt.policy, got)
		}
	}
}
