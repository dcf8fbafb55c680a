package gui

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
	"wayfarer/app/profiles"
	"wayfarer/app/store"
)

// withThree saves three profiles.
func withThree(w *world, _ *Options) {
	for _, name := range []string{"office", "lab", "home"} {
		e := officeEntry()
		e.Profile.Name = name
		w.save(e)
	}
}

func (w *world) names() []string {
	names, err := w.store.Names()
	if err != nil {
		w.t.Fatal(err)
	}
	return names
}

// ctrl presses a key with Ctrl, where the focus is.
func (w *world) ctrl(key fyne.KeyName) {
	s := &desktop.CustomShortcut{KeyName: key, Modifier: fyne.KeyModifierShortcutDefault}
	if f, ok := w.focused().(fyne.Shortcutable); ok {
		f.TypedShortcut(s)
	} else {
		w.keys.run(s) // the canvas of tests has none
	}
	w.settleDown()
}

// key presses a key, where the focus is.
func (w *world) key(name fyne.KeyName) {
	if f := w.focused(); f != nil {
		f.TypedKey(&fyne.KeyEvent{Name: name})
	} else {
		w.win.Canvas().OnTypedKey()(&fyne.KeyEvent{Name: name})
	}
	w.settleDown()
}

// menu chooses an item of a menu by its name.
func (w *world) menu(m *fyne.Menu, label string) {
	w.t.Helper()
	i := slices.IndexFunc(m.Items, func(it *fyne.MenuItem) bool { return it.Label == label })
	if i < 0 || m.Items[i].Disabled {
		w.t.Fatalf("the menu has no %q", label)
	}
	m.Items[i].Action()
	w.settleDown()
}

// entries are the fields of an object, by the name above them.
func entries(o fyne.CanvasObject) map[string]*field {
	found, last := map[string]*field{}, ""
	for _, o := range visible(o) {
		switch o := o.(type) {
		case *widget.Label:
			last = o.Text
		case *field:
			if _, ok := found[last]; !ok {
				found[last] = o
			}
		}
	}
	return found
}

// confirm agrees to what a dialog asks.
func (w *world) confirm() {
	w.t.Helper()
	var last *button
	for _, o := range visible(w.win.Canvas().Overlays().Top()) {
		if b, ok := o.(*button); ok {
			last = b
		}
	}
	w.press(last)
}

// buttonOf is the button of that text in an object.
func (w *world) buttonOf(o fyne.CanvasObject, text string) *button {
	w.t.Helper()
	for _, o := range visible(o) {
		if b, ok := o.(*button); ok && b.Text == text {
			return b
		}
	}
	w.t.Fatalf("there is no button %q", text)
	return nil
}

func TestEdit(t *testing.T) {
	inWorld(t, withThree, func(w *world) {
		w.ctrl(fyne.KeyE)
		if w.page == nil {
			t.Fatal("Ctrl+E opens nothing")
		}
		fields := entries(w.page)
		if got := fields["Gateway"].Text; got != "vpn.example.com" {
			t.Errorf("the gateway is %q", got)
		}
		if got := fields["Password"].Text; got != "" {
			t.Error("the stored password is in its field")
		}
		fields["Gateway"].SetText(" gw.example.com ")
		fields["Name"].SetText("head office")
		w.ctrl(fyne.KeyS)
		if w.page != nil {
			t.Fatal("Ctrl+S does not save")
		}
		e, err := w.store.Load("head office")
		if err != nil || e.Profile.Gateway != "gw.example.com" || string(e.Password) != "lovelace" {
			t.Errorf("stored %+v, %v", e, err)
		}
		if got := w.names(); !slices.Equal(got, []string{"head office", "lab", "home"}) {
			t.Errorf("names %q", got)
		}
		if w.model.selected != profileKey("head office") {
			t.Errorf("selected is %q", w.model.selected)
		}
	})
}

// TestUnsaved: what is typed is not lost to another page, unless the person says so.
func TestUnsaved(t *testing.T) {
	for name, replace := range map[string]func(*world){
		"Ctrl+N":   func(w *world) { w.ctrl(fyne.KeyN) },
		"Ctrl+E":   func(w *world) { w.ctrl(fyne.KeyE) },
		"a file":   func(w *world) { w.importFiles([]string{"none.toml"}); w.settleDown() },
		"the tray": func(w *world) { w.openLog() },
		"a report": func(w *world) { w.openReport(); w.settleDown() },
		"settings": func(w *world) { w.openSettings(); w.settleDown() },
	} {
		inWorld(t, withThree, func(w *world) {
			w.ctrl(fyne.KeyE)
			page, field := w.page, entries(w.page)["Gateway"]
			field.SetText("typed.example.com")
			replace(w)
			if w.page != page || w.dialog == nil {
				t.Fatalf("%s takes the editor away, or does not ask", name)
			}
			w.key(fyne.KeyEscape)
			if w.page != page || w.dialog != nil || field.Text != "typed.example.com" {
				t.Fatalf("%s: kept is %q", name, field.Text)
			}
			replace(w)
			w.confirm()
			w.settleDown()
			if w.page == page {
				t.Errorf("%s does not come", name)
			}
			w.closePage()
		})
	}
}

// TestUnchanged: where nothing was typed, nobody is asked.
func TestUnchanged(t *testing.T) {
	inWorld(t, withThree, func(w *world) {
		w.ctrl(fyne.KeyE)
		w.key(fyne.KeyEscape)
		if w.page != nil || w.dialog != nil {
			t.Error("Escape does not close the editor, or asks")
		}
		w.ctrl(fyne.KeyE)
		entries(w.page)["Password"].SetText("byron")
		entries(w.page)["Name"].SetText("lab") // which there is
		w.ctrl(fyne.KeyS)
		entries(w.page)["Name"].SetText("office")
		w.key(fyne.KeyEscape)
		if w.page == nil || w.dialog == nil {
			t.Error("a password that a refused Save has taken is lost")
		}
	})
}

// TestEditRefusals: what cannot be saved is said in the page, which stays open.
func TestEditRefusals(t *testing.T) {
	for _, tt := range []struct{ field, value, says string }{
		{"Name", "", "must not be empty"},
		{"Name", "lab", "profile of that name already"},
		{"Largest packet (MTU)", "many", "a number from 0 to 65535"},
	} {
		inWorld(t, withThree, func(w *world) {
			w.ctrl(fyne.KeyE)
			unfold(w.page)
			entries(w.page)[tt.field].SetText(tt.value)
			w.ctrl(fyne.KeyS)
			if w.page == nil || !strings.Contains(texts(w.page), tt.says) {
				t.Errorf("%s %q: is not refused with %q", tt.field, tt.value, tt.says)
			}
			w.key(fyne.KeyEscape)
			w.confirm() // to discard it
			w.settleDown()
			if w.page != nil || w.focused() != nil {
				t.Error("Escape does not close the page, or a field of it still gets the keys")
			}
			if e, _ := w.store.Load("office"); e == nil || e.Profile.MTU != 0 {
				t.Error("something was saved")
			}
		})
	}
}

func unfold(o fyne.CanvasObject) {
	for _, o := range visible(o) {
		if a, ok := o.(*widget.Accordion); ok {
			a.OpenAll()
		}
	}
}

// TestEditorKeepsEverything: what a profile has is what is saved, when nothing is
// changed; and the fields that a method does not need are not there.
func TestEditorKeepsEverything(t *testing.T) {
	p := app.Profile{
		Version: 1, Name: "full", Gateway: "a,b", Login: "ada", Auth: "xauth-psk", Exchange: "main", RemoteID: "dn:CN=rhum",
		LocalID: "keyid:x", GroupID: "staff", Pin: "ab", SystemRoots: true, IKE: []string{"aes256-sha256-modp2048"},
		ESP: []string{"aes256gcm16", "aes128gcm16"}, AllowWeak: []string{"3des"}, PFS: "modp2048", ModeConfig: "pull",
		Selectors: "one", LocalNetworks: []string{"10.1.0.0/16"}, RemoteNetworks: []string{"10.2.0.0/16"}, NATT: "draft-02",
		LocalPort: 4500, IPComp: true, LocalNetwork: true, BlockOutside: true, RoutesAdd: []string{"10.3.0.0/16"},
		RoutesSkip: []string{"10.4.0.0/16"}, MTU: 1300, Quirks: []string{"latin1", "-empty-id"},
	}
	full := func(w *world, _ *Options) { w.save(store.Entry{Profile: p, GroupSecret: []byte("s")}) }
	inWorld(t, full, func(w *world) {
		w.ctrl(fyne.KeyE)
		unfold(w.page)
		fields := entries(w.page)
		if fields["Your certificate"] != nil || fields["Group"] == nil {
			t.Error("the fields are not those that the method needs")
		}
		w.ctrl(fyne.KeyS)
		e, err := w.store.Load("full")
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Profile; !equalProfiles(got, p) || string(e.GroupSecret) != "s" {
			t.Errorf("got  %+v\nwant %+v", got, p)
		}
	})
}

func equalProfiles(a, b app.Profile) bool {
	x, err1 := profiles.Encode(&a)
	y, err2 := profiles.Encode(&b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// TestSecretsOfTheEditor: a new one replaces the stored one, which can be forgotten, and
// nothing stays in memory after Cancel.
func TestSecretsOfTheEditor(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.ctrl(fyne.KeyE)
		entries(w.page)["Password"].SetText("byron")
		w.ctrl(fyne.KeyS)
		if e, _ := w.store.Load("office"); string(e.Password) != "byron" {
			t.Errorf("stored %q", e.Password)
		}
		w.ctrl(fyne.KeyE)
		check(t, w.page, "Forget the stored one").SetChecked(true)
		w.ctrl(fyne.KeyS)
		if e, _ := w.store.Load("office"); len(e.Password) > 0 {
			t.Errorf("stored %q", e.Password)
		}
		e := officeEntry()
		v := newEditorView(w.keys, "", &e, app.Policy{})
		password := e.Password
		v.close()
		if strings.Trim(string(password), "\x00") != "" {
			t.Errorf("%q stays", password)
		}
	})
}

func check(t *testing.T, o fyne.CanvasObject, name string) *checkBox {
	t.Helper()
	for _, o := range visible(o) {
		if c, ok := o.(*checkBox); ok && c.Text == name {
			return c
		}
	}
	t.Fatalf("there is no %q to check", name)
	return nil
}

func TestNewConnection(t *testing.T) {
	inWorld(t, withThree, func(w *world) {
		w.ctrl(fyne.KeyN)
		w.want("form")
		if w.focused() != w.home.form.gateway {
			t.Error("the keyboard is not in the first field")
		}
		w.home.form.fill("new.example.com:4500", "ada")
		w.home.form.password.SetText("lovelace")
		w.home.form.onMore = w.editDraft // the first line of its menu
		w.press(w.home.form.more)
		fields := entries(w.page)
		if fields["Name"].Text != "new.example.com" || fields["Gateway"].Text != "new.example.com:4500" {
			t.Errorf("got %q, %q", fields["Name"].Text, fields["Gateway"].Text)
		}
		w.press(w.buttonOf(w.page, "Save"))
		if e, err := w.store.Load("new.example.com"); err != nil || string(e.Password) != "lovelace" {
			t.Errorf("stored %+v, %v", e, err)
		}
		w.want("form")
		if w.home.form.gatewayPart.Visible() {
			t.Error("the new profile is not selected")
		}
		w.ctrl(fyne.KeyN)
		w.key(fyne.KeyEscape)
		if w.model.selected == "" {
			t.Error("Escape does not leave the form")
		}
	})
}

func TestRename(t *testing.T) {
	inWorld(t, withThree, func(w *world) {
		w.win.Canvas().Focus(w.sidebar.rows[1])
		w.key(fyne.KeyF2)
		if w.dialog == nil || w.model.selected != profileKey("lab") {
			t.Fatal("F2 asks nothing")
		}
		w.key(fyne.KeyEscape)
		if w.dialog != nil {
			t.Fatal("Escape does not close the question")
		}
		w.win.Canvas().Focus(w.sidebar.rows[1])
		w.key(fyne.KeyF2)
		w.focused().(*field).SetText("laboratory")
		w.key(fyne.KeyReturn)
		if got := w.names(); !slices.Equal(got, []string{"office", "laboratory", "home"}) {
			t.Errorf("names %q", got)
		}
		w.rename("home")
		w.settleDown()
		w.focused().(*field).SetText("office")
		w.key(fyne.KeyReturn)
		if got := w.names(); !slices.Equal(got, []string{"office", "laboratory", "home"}) || w.dialog == nil {
			t.Errorf("a name that is taken: names %q, said %v", got, w.dialog != nil)
		}
	})
}

func TestRemove(t *testing.T) {
	inWorld(t, withThree, func(w *world) {
		w.win.Canvas().Focus(w.sidebar.rows[1])
		w.key(fyne.KeyDelete)
		if w.dialog == nil || len(w.names()) != 3 {
			t.Fatal("removed without a question")
		}
		w.confirm()
		w.settleDown()
		if got := w.names(); !slices.Equal(got, []string{"office", "home"}) {
			t.Errorf("names %q", got)
		}
		if w.model.profile(w.model.selected) == nil {
			t.Errorf("selected is %q", w.model.selected)
		}
	})
}

func TestItemMenu(t *testing.T) {
	inWorld(t, withThree, func(w *world) {
		w.menu(w.itemMenu(profileKey("home")), "Move up")
		if got := w.names(); !slices.Equal(got, []string{"office", "home", "lab"}) {
			t.Errorf("moved up: %q", got)
		}
		w.menu(w.itemMenu(profileKey("office")), "Move down")
		if got := w.names(); !slices.Equal(got, []string{"home", "office", "lab"}) {
			t.Errorf("moved down: %q", got)
		}
		for _, at := range []struct{ name, item string }{{"home", "Move up"}, {"lab", "Move down"}} {
			m := w.itemMenu(profileKey(at.name))
			if i := slices.IndexFunc(m.Items, func(it *fyne.MenuItem) bool { return it.Label == at.item }); !m.Items[i].Disabled {
				t.Errorf("%s can be chosen for %s", at.item, at.name)
			}
		}
		w.menu(w.itemMenu(profileKey("lab")), "Duplicate")
		if e, err := w.store.Load("lab 2"); err != nil || string(e.Password) != "lovelace" {
			t.Errorf("the duplicate: %+v, %v", e, err)
		}
		w.menu(w.itemMenu(profileKey("lab")), "Connect")
		if n := len(w.service.requests); n != 1 {
			t.Fatalf("%d requests", n)
		}
		w.service.set(connection(app.StateConnected, func(c *app.Connection) { c.Profile = "lab" }))
		w.settleDown()
		w.menu(w.itemMenu(profileKey("lab")), "Disconnect")
		if !slices.Equal(w.service.ended, []string{"c1"}) {
			t.Errorf("ended %v", w.service.ended)
		}
	})
}

// TestListByKeyboard: arrows move, Return connects and disconnects.
func TestListByKeyboard(t *testing.T) {
	inWorld(t, withThree, func(w *world) {
		w.win.Canvas().Focus(w.sidebar.rows[0])
		w.key(fyne.KeyDown)
		w.win.Canvas().Focus(w.sidebar.rows[1])
		if w.model.selected != profileKey("lab") {
			t.Fatalf("selected is %q", w.model.selected)
		}
		w.key(fyne.KeyReturn)
		if len(w.service.requests) != 1 || w.service.requests[0].Profile.Name != "lab" {
			t.Fatalf("requests %+v", w.service.requests)
		}
		w.service.set(connection(app.StateConnected, func(c *app.Connection) { c.Profile = "lab" }))
		w.settleDown()
		w.win.Canvas().Focus(w.sidebar.rows[1])
		w.key(fyne.KeyReturn)
		if !slices.Equal(w.service.ended, []string{"c1"}) {
			t.Errorf("ended %v", w.service.ended)
		}
	})
}

const pcf = "[main]\nDescription=Works\nHost=gw.example.com\nAuthType=1\nGroupName=staff\nGroupPwd=sesame\nUsername=ada\n"

func TestImport(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "works.pcf"), filepath.Join(dir, "photo.jpg")
	if err := errors.Join(os.WriteFile(good, []byte(pcf), 0o600), os.WriteFile(bad, []byte("\xff\xd8\xff"), 0o600)); err != nil {
		t.Fatal(err)
	}
	start := func(w *world, o *Options) { o.Files = []string{good, bad, filepath.Join(dir, "none")} }
	inWorld(t, start, func(w *world) {
		if w.page == nil {
			t.Fatal("nothing is shown of the files")
		}
		shown := texts(w.page)
		for _, want := range []string{"works.pcf", "Gateway: gw.example.com", "Group: staff", "photo.jpg", syscall.Errno(2).Error()} {
			if !strings.Contains(strings.ToLower(shown), strings.ToLower(want)) {
				t.Errorf("%q is not shown in:\n%s", want, shown)
			}
		}
		if strings.Contains(shown, "sesame") {
			t.Error("the secret is shown")
		}
		if len(w.names()) > 0 {
			t.Fatal("saved without a question")
		}
		w.press(w.buttonOf(w.page, "Save"))
		names := w.names()
		if len(names) != 1 || w.page != nil || w.model.selected != profileKey(names[0]) {
			t.Fatalf("names %q, selected %q", names, w.model.selected)
		}
		if e, _ := w.store.Load(names[0]); e.Profile.Gateway != "gw.example.com" || string(e.GroupSecret) != "sesame" {
			t.Errorf("stored %+v", e)
		}
		// A second time, it gets another name.
		w.importFiles([]string{good})
		w.settleDown()
		w.press(w.buttonOf(w.page, "Save"))
		if names := w.names(); len(names) != 2 || names[1] != names[0]+" 2" {
			t.Errorf("names %q", names)
		}
	})
}

// TestImportNothing: a file that is none of ours, or that nobody wants.
func TestImportNothing(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "photo.jpg")
	if err := os.WriteFile(bad, []byte("\xff\xd8\xff"), 0o600); err != nil {
		t.Fatal(err)
	}
	inWorld(t, withOffice, func(w *world) {
		w.importFiles([]string{bad})
		w.settleDown()
		w.press(w.buttonOf(w.page, "Cancel"))
		if w.page != nil || len(w.names()) != 1 {
			t.Error("the page stays, or something was saved")
		}
	})
}

// fakeSwitch is that of starting at login.
type fakeSwitch struct {
	on  bool
	err error
}

func (s *fakeSwitch) Enabled() (bool, error) { return s.on, s.err }
func (s *fakeSwitch) Set(on bool) error      { s.on = on; return s.err }

func TestSettings(t *testing.T) {
	start := &fakeSwitch{}
	prepare := func(w *world, o *Options) { withThree(w, o); o.Autostart = start }
	inWorld(t, prepare, func(w *world) {
		w.openSettings()
		w.settleDown()
		page := w.page
		if !strings.Contains(texts(page), "There is no tray: ") {
			t.Error("that there is no tray is not said")
		}
		check(t, page, "Start at login").SetChecked(true)
		check(t, page, "Block traffic outside the VPN").SetChecked(true)
		check(t, page, "Reach the local network").SetChecked(true)
		selects := selectsOf(page)
		selects[0].SetSelected("lab")
		w.settleDown()
		if !start.on || !w.prefs.blockOutside() || !w.prefs.localNetwork() || w.prefs.connectOnStart() != "lab" {
			t.Errorf("start %v, block %v, local %v, connect %q", start.on, w.prefs.blockOutside(), w.prefs.localNetwork(), w.prefs.connectOnStart())
		}
		selects[0].SetSelectedIndex(0)
		if w.prefs.connectOnStart() != "" {
			t.Errorf("connect %q", w.prefs.connectOnStart())
		}
		w.press(w.buttonOf(page, "Repair the network of this computer"))
		if w.service.repaired != 1 || w.dialog == nil {
			t.Error("the network was not repaired, or it is not said")
		}
		w.key(fyne.KeyEscape)
		w.key(fyne.KeyEscape)
		if w.page != nil {
			t.Error("Escape does not close the page")
		}
	})
}

// TestNamesOfButtons: a button without a text says its name when the mouse rests on it.
func TestNamesOfButtons(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		var more *button
		for _, o := range visible(w.sidebar.root) {
			if b, ok := o.(*button); ok && b.name == "More" {
				more = b
			}
		}
		tip := w.keys.tips
		more.MouseIn(nil)
		if tip.box.Visible() {
			t.Error("at once")
		}
		time.Sleep(tipTime)
		w.settleDown()
		if !tip.box.Visible() || tip.label.Text != "More" {
			t.Errorf("visible %v, says %q", tip.box.Visible(), tip.label.Text)
		}
		more.MouseOut()
		if tip.box.Visible() {
			t.Error("it stays")
		}
		more.MouseIn(nil)
		more.MouseOut()
		time.Sleep(tipTime)
		w.settleDown()
		if tip.box.Visible() {
			t.Error("it comes although the mouse has gone")
		}
	})
}

// TestEveryButtonHasAName: in text, or for who rests the mouse on it.
func TestEveryButtonHasAName(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.openSettings()
		w.settleDown()
		for _, root := range []fyne.CanvasObject{w.main, w.page, w.noService.content(), w.bar.content()} {
			for _, o := range visible(root) {
				if b, ok := o.(*button); ok && b.Text == "" && b.name == "" {
					t.Errorf("a button with the icon %s has no name", b.Icon.Name())
				}
			}
		}
	})
}

func selectsOf(o fyne.CanvasObject) (list []*picker) {
	for _, o := range visible(o) {
		if s, ok := o.(*picker); ok {
			list = append(list, s)
		}
	}
	return list
}

// TestProgramMenu: each of its lines opens a page, which Escape closes.
func TestProgramMenu(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		menu := fyne.NewMenu("", w.programItems()...)
		for _, line := range []string{"Settings", "Log", "Conversation with the gateway", "Create report"} {
			w.menu(menu, line)
			if w.page == nil {
				t.Errorf("%s opens nothing", line)
			}
			w.key(fyne.KeyEscape)
			if w.page != nil {
				t.Errorf("%s stays open", line)
			}
		}
	})
}

// TestChangeLanguage: all views are made anew, and show what is.
func TestChangeLanguage(t *testing.T) {
	inWorld(t, withThree, func(w *world) {
		w.service.set(connection(app.StateConnected, nil))
		w.want("connected")
		before := w.home
		w.openSettings()
		w.settleDown()
		w.changeLanguage("en")
		w.want("connected")
		if w.home == before || w.page != nil || w.root.Objects[0] != w.main || len(w.sidebar.rows) != 3 || !w.sidebar.root.Visible() {
			t.Error("the window is not as before")
		}
		if w.prefs.language() != "en" {
			t.Errorf("the language is %q", w.prefs.language())
		}
	})
}
