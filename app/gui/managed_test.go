package gui

import (
	"slices"
	"strings"
	"testing"

	"fyne.io/fyne/v2"

	"wayfarer/app"
	"wayfarer/app/store"
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
		w.selectItem(managedKey("plant"))
		f := w.home.form
		for what, o := range map[string]fyne.CanvasObject{"gateway": f.gatewayPart, "login": f.loginPart, "remember": f.remember, "edit": f.more} {
			if o.Visible() {
				t.Errorf("%s can be changed", what)
			}
		}
		if !strings.Contains(f.known.Text, "ada at vpn.example.com") || !strings.Contains(f.known.Text, "Set up by the administrator") {
			t.Errorf("it says %q", f.known.Text)
		}
		if n := len(w.itemMenu(managedKey("plant")).Items); n != 1 {
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

		w.selectItem(managedKey("open"))
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

// withTwins has a profile of the user's and one of the administrator's of the same name.
func withTwins(w *world, opts *Options) {
	withOffice(w, opts)
	w.service.placed.Profiles = []app.ManagedProfile{{Profile: app.Profile{Name: "office", Gateway: "managed.example.com", Login: "bob"}}}
}

// twins are the states of the two of withTwins.
func (w *world) twins() (own, managed app.State) {
	w.settleDown()
	return w.model.item(profileKey("office")).state, w.model.item(managedKey("office")).state
}

// TestManagedBesideOwn: two of the same name are both there, can be told apart, and each
// shows its own connection.
func TestManagedBesideOwn(t *testing.T) {
	inWorld(t, withTwins, func(w *world) {
		items := w.model.items()
		if len(items) != 2 || items[0].name != "office" || items[0].managed != nil || items[1].name != "office (administrator)" || items[1].managed == nil {
			t.Fatalf("%+v", items)
		}
		mine, placed := profileKey("office"), managedKey("office")
		at := func(host string) app.Connection {
			return connection(app.StateConnected, func(c *app.Connection) { c.Gateway = &app.Gateway{Host: host} })
		}
		// Begun elsewhere: by its gateway.
		w.service.set(at("managed.example.com"))
		if own, managed := w.twins(); own != app.StateDisconnected || managed != app.StateConnected {
			t.Errorf("the administrator's: own %s, managed %s", own, managed)
		}
		w.service.set(at("vpn.example.com"))
		if own, managed := w.twins(); own != app.StateConnected || managed != app.StateDisconnected {
			t.Errorf("one's own: own %s, managed %s", own, managed)
		}
		w.service.update(func(s *app.Status) { s.Connections = nil })
		w.settleDown()

		// Begun here: whatever its gateway.
		w.selectItem(placed)
		w.home.form.password.SetText("lovelace")
		w.press(w.home.form.connect)
		if p := w.service.requests[0].Profile; p.Name != "office" || p.Gateway != "" {
			t.Errorf("sent %+v", p)
		}
		w.service.set(at("vpn.example.com"))
		if own, managed := w.twins(); own != app.StateDisconnected || managed != app.StateConnected || w.model.selected != placed {
			t.Errorf("begun here: own %s, managed %s, selected %q", own, managed, w.model.selected)
		}
		if w.model.keyOf("office") != mine {
			t.Error("by its name the administrator's is connected")
		}
	})
}

// TestOwnAtBackup: one's own that was begun here is one's own, even where the gateway that
// answers is the administrator's profile's; what the window knows of it goes with it.
func TestOwnAtBackup(t *testing.T) {
	backup := func(state app.State) app.Connection {
		return connection(state, func(c *app.Connection) { c.Gateway = &app.Gateway{Host: "managed.example.com"} })
	}
	inWorld(t, withTwins, func(w *world) {
		w.connectNamed("office")
		w.settleDown()
		if len(w.attempts) != 1 || w.model.selected != profileKey("office") {
			t.Fatalf("%d attempts, selected %q", len(w.attempts), w.model.selected)
		}
		entry := w.attempts[profileKey("office")].entry
		w.service.set(backup(app.StateConnecting))
		if own, managed := w.twins(); own != app.StateConnecting || managed != app.StateDisconnected {
			t.Errorf("own %s, managed %s", own, managed)
		}
		w.service.set(backup(app.StateConnected))
		if own, managed := w.twins(); own != app.StateConnected || managed != app.StateDisconnected {
			t.Errorf("own %s, managed %s", own, managed)
		}
		if len(w.attempts) > 0 || len(entry.Password) > 0 {
			t.Error("an attempt with its password stays")
		}
		w.service.update(func(s *app.Status) { s.Connections = nil })
		w.settleDown()
		if len(w.model.begun) > 0 {
			t.Errorf("it has ended, and is remembered: %v", w.model.begun)
		}
		// One of that number that was begun elsewhere.
		w.service.set(backup(app.StateConnected))
		if own, managed := w.twins(); own != app.StateDisconnected || managed != app.StateConnected {
			t.Errorf("of another service: own %s, managed %s", own, managed)
		}
	})
	// One that never stands.
	inWorld(t, withTwins, func(w *world) {
		w.connectNamed("office")
		w.settleDown()
		if len(w.model.begun) != 1 {
			t.Errorf("begun: %v", w.model.begun)
		}
		w.service.set(backup(app.StateFailed))
		if own, managed := w.twins(); own != app.StateFailed || managed != app.StateDisconnected {
			t.Errorf("own %s, managed %s", own, managed)
		}
		w.service.update(func(s *app.Status) { s.Connections = nil })
		w.settleDown()
		if len(w.attempts) > 0 || len(w.model.begun) > 0 {
			t.Errorf("%d attempts, begun %v", len(w.attempts), w.model.begun)
		}
	})
	// One that is typed in has its key only then.
	inWorld(t, nil, func(w *world) {
		w.home.form.fill("vpn.example.com", "ada")
		w.press(w.home.form.connect)
		if key := profileKey("vpn.example.com"); w.model.begun["c1"] != key || w.attempts[key] == nil {
			t.Errorf("begun %v, attempts %v", w.model.begun, w.attempts)
		}
	})
}

// TestManagedOnly: where only the administrator's profiles are connected there is nothing
// to fill in, and nothing new is made; what the user has can be taken away.
func TestManagedOnly(t *testing.T) {
	only := func(w *world, opts *Options) {
		withTwins(w, opts)
		lab := officeEntry()
		lab.Profile.Name = "lab"
		w.save(lab)
		w.service.placed.Policy.ForbidAdding = true
	}
	refused := func(w *world, what string) {
		t.Helper()
		if w.dialog == nil || w.page != nil || !strings.Contains(texts(w.win.Canvas().Overlays().Top()), "allows no others") {
			t.Errorf("%s is not refused", what)
			return
		}
		w.dialog.Hide()
	}
	inWorld(t, only, func(w *world) {
		items := w.model.items()
		if len(items) != 3 || items[0].managed == nil || items[0].barred || !items[1].barred || !items[2].barred {
			t.Fatalf("%+v", items)
		}
		if w.model.keyOf("office") != managedKey("office") {
			t.Error("one's own is connected by the name")
		}
		// Begun elsewhere: one's own cannot be it, whatever the gateway.
		for _, gateway := range []*app.Gateway{nil, {Host: "vpn.example.com"}, {Host: "managed.example.com"}} {
			w.service.set(connection(app.StateConnected, func(c *app.Connection) { c.Gateway = gateway }))
			if own, managed := w.twins(); own != app.StateDisconnected || managed != app.StateConnected {
				t.Errorf("at %+v: own %s, managed %s", gateway, own, managed)
			}
		}
		w.service.update(func(s *app.Status) { s.Connections = nil })
		w.settleDown()
		if w.sidebar.add.Visible() || w.sidebar.load.Visible() {
			t.Error("there are buttons to add something")
		}
		mine := profileKey("office")
		w.selectItem(mine)
		f := w.home.form
		if f.connect.Visible() || f.entryPart.Visible() || !strings.Contains(f.known.Text, "allows no others") {
			t.Errorf("one's own can be connected; it says %q", f.known.Text)
		}
		f.submit()
		w.connectKey(mine)
		w.connectNamed("lab")
		if len(w.service.requests) > 0 || len(w.attempts) > 0 {
			t.Errorf("sent %+v", w.service.requests)
		}
		for _, item := range w.itemMenu(mine).Items {
			if forbidden := item.Label == "Connect" || item.Label == "Duplicate"; item.Disabled != forbidden && !strings.HasPrefix(item.Label, "Move") {
				t.Errorf("%s: %v", item.Label, item.Disabled)
			}
		}
		for _, row := range trayRows(&w.model, false) {
			if row.label == "Connect office" && row.does != trayNothing || row.label == "Connect office (administrator)" && row.does != trayConnect {
				t.Errorf("tray: %+v", row)
			}
		}
		w.openSettings()
		w.settleDown()
		if got := selectsOf(w.page)[0].Options; !slices.Equal(got, []string{"nothing", "office"}) {
			t.Errorf("to connect at the start there is %q", got)
		}
		w.closePage()
		w.compose()
		refused(w, "a new connection")
		w.chooseImport()
		refused(w, "the choice of a file")
		w.openImport(someImports())
		refused(w, "an import")
		w.selectItem(mine)
		w.edit("office")
		w.settleDown()
		if w.page == nil {
			t.Error("one's own cannot be edited")
		}
	})
	// Without any profile.
	inWorld(t, func(w *world, _ *Options) { w.service.placed.Policy.ForbidAdding = true }, func(w *world) {
		f := w.home.form
		for what, o := range map[string]fyne.CanvasObject{
			"gateway": f.gatewayPart, "login": f.loginPart, "password": f.entryPart, "remember": f.remember, "connect": f.connect,
		} {
			if o.Visible() {
				t.Errorf("%s is there", what)
			}
		}
		if f.known.Text != managedOnly() || !f.known.Visible() || !f.more.Visible() {
			t.Errorf("it says %q", f.known.Text)
		}
		w.editSelected()
		refused(w, "a draft")
	})
}

// TestPolicyIsFixed: what the policy decides cannot be switched, and nothing of it is
// written into profiles.
func TestPolicyIsFixed(t *testing.T) {
	strict := app.Policy{ForbidWeak: true, ForceBlockOutside: true}
	for _, policy := range []app.Policy{{}, strict} {
		fixed := policy == strict
		s := newSettingsView(&keys{}, &settings{policy: policy})
		if s.block.Disabled() != fixed || s.block.Checked != fixed || strings.Contains(texts(s.content()), "has decided this") != fixed {
			t.Errorf("%+v: settings: checked %v, disabled %v", policy, s.block.Checked, s.block.Disabled())
		}
		list := someImports()
		i := newImportView(&keys{}, list, policy)
		if weak := i.choices[0].weak; weak.Disabled() != fixed || strings.Contains(texts(i.content()), "has decided this") != fixed {
			t.Errorf("%+v: import: disabled %v", policy, weak.Disabled())
		}
		entry := officeEntry()
		entry.Profile.AllowWeak = []string{"3des"}
		e := newEditorView(&keys{}, "", &entry, policy)
		unfold(e.content())
		if said := strings.Count(texts(e.content()), "has decided this"); said != map[bool]int{true: 2}[fixed] {
			t.Errorf("%+v: editor: explained %d times", policy, said)
		}
		e.onSave = func(*store.Entry) {}
		if e.changed() {
			t.Errorf("%+v: nothing was changed", policy)
		}
		e.save()
		if entry.Profile.BlockOutside || (len(entry.Profile.AllowWeak) == 0) != fixed {
			t.Errorf("%+v: saved %+v", policy, entry.Profile)
		}
	}
}

// TestLocalNetworkIsTheAdministrators: the page of the settings says for which connections
// the local network cannot be switched, and where it is for all, it cannot.
func TestLocalNetworkIsTheAdministrators(t *testing.T) {
	for _, tt := range []struct {
		s           settings
		said, fixed bool
	}{
		{settings{local: true}, false, false},
		{settings{local: true, managed: true}, true, false},
		{settings{local: true, policy: app.Policy{ForbidAdding: true}}, true, true},
	} {
		v := newSettingsView(&keys{}, &tt.s)
		if v.local.Disabled() != tt.fixed || v.local.Checked == tt.fixed || strings.Contains(texts(v.content()), "do not heed this") != tt.said {
			t.Errorf("%+v: checked %v, disabled %v", tt.s, v.local.Checked, v.local.Disabled())
		}
	}
	inWorld(t, func(w *world, _ *Options) {
		w.service.placed.Profiles = []app.ManagedProfile{{Profile: app.Profile{Name: "plant"}}}
	}, func(w *world) {
		w.openSettings()
		w.settleDown()
		if !strings.Contains(texts(w.page), "do not heed this") {
			t.Error("the page does not say it")
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
