package gui

import (
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/dialog"
	"fyne.io/fyne/v2/test"

	"wayfarer/app"
	"wayfarer/app/store"
)

// slowStore is a keyring that waits for the person.
type slowStore struct {
	Store
	gate chan struct{}
}

func (s slowStore) Load(name string) (*store.Entry, error) {
	<-s.gate
	return s.Store.Load(name)
}

func (s slowStore) Replace(name string, e *store.Entry) error {
	<-s.gate
	return s.Store.Replace(name, e)
}

// slowly has the store wait until the test opens the gate. It waits at the start, too.
func slowly(w *world, opts *Options) (open func()) {
	s := slowStore{w.store, make(chan struct{})}
	opts.Store = s
	return func() { close(s.gate); w.settleDown() }
}

// unsaved is a connection of the form without Remember.
func unsaved(id string, state app.State) app.Connection {
	return connection(state, func(c *app.Connection) {
		c.ID, c.Profile = id, ""
		if state == app.StateFailed {
			c.Failure = app.NewFailure(app.CodeNoAnswer, app.StepFindGateway, "no", "")
		}
	})
}

// types fills the form and presses Connect.
func (w *world) types(remember bool) {
	w.t.Helper()
	f := w.home.form
	f.fill("vpn.example.com", "ada")
	f.password.SetText("lovelace")
	f.remember.SetChecked(remember)
	w.press(f.connect)
}

// wantDraft: the form stands there with what was typed, but for the password.
func (w *world) wantDraft() {
	w.t.Helper()
	w.want("form")
	f := w.home.form
	if f.gateway.Text != "vpn.example.com" || f.login.Text != "ada" || f.password.Text != "" {
		w.t.Errorf("the form has %q, %q, %q", f.gateway.Text, f.login.Text, f.password.Text)
	}
	if w.model.selected != "" || len(w.attempts) > 0 {
		w.t.Errorf("selected is %q, %d attempts", w.model.selected, len(w.attempts))
	}
}

// TestRetriedIsFollowed: one that is tried again has another ID, and the old one goes.
func TestRetriedIsFollowed(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.types(false)
		w.service.set(unsaved("c1", app.StateFailed))
		w.want("failure")
		w.press(w.home.failure.retry)
		w.want("progress")
		if len(w.service.ended) != 1 || w.service.ended[0] != "c1" {
			t.Errorf("ended are %q", w.service.ended)
		}
		w.service.set(unsaved("c2", app.StateConnected))
		w.want("connected")
		if len(w.attempts) > 0 {
			t.Error("the attempt is kept, with its password")
		}
	})
}

// TestDraftIsBack: what was typed is there again when a first connection is cancelled or
// ends elsewhere, and the next one is seen.
func TestDraftIsBack(t *testing.T) {
	for name, end := range map[string]func(*world){
		"cancelled": func(w *world) {
			w.service.set(unsaved("c1", app.StateConnecting))
			w.want("progress")
			w.press(w.home.cancel)
		},
		"cancelled before it is shown": func(w *world) { w.press(w.home.cancel) },
		"ended elsewhere": func(w *world) {
			w.service.set(unsaved("c1", app.StateConnecting))
			w.settleDown()
			w.service.update(func(st *app.Status) { st.Connections = nil })
		},
		"service gone before it is shown": func(w *world) {
			w.service.lose(app.NewFailure(app.CodeNoService, "", "gone", ""))
			w.settleDown()
			w.service.lose(nil)
			time.Sleep(lastRetry)
		},
	} {
		inWorld(t, nil, func(w *world) {
			t.Log(name)
			w.types(false)
			w.want("progress")
			end(w)
			w.wantDraft()
			w.types(false)
			w.want("progress")
			w.service.set(unsaved("c2", app.StateConnected))
			w.want("connected")
		})
	}
}

// TestCancelWhileReading: while a keyring waits for the person, Cancel cancels.
func TestCancelWhileReading(t *testing.T) {
	var open func()
	slow := func(w *world, opts *Options) { withOffice(w, opts); open = slowly(w, opts) }
	inWorld(t, slow, func(w *world) {
		w.connectProfile("office", nil, false)
		w.model.selected = profileKey("office")
		w.render()
		w.want("progress")
		w.press(w.home.cancel)
		open()
		w.want("form")
		if len(w.service.requests) > 0 || len(w.attempts) > 0 {
			t.Errorf("%d requests, %d attempts", len(w.service.requests), len(w.attempts))
		}
	})
}

// TestProfileChangesMeanwhile: what is learnt from a connection goes into the profile as
// it is then.
func TestProfileChangesMeanwhile(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.press(w.home.form.connect)
		certificate := &app.Certificate{SHA256: "aa11"}
		w.service.set(promptedBy(app.Prompt{Kind: app.PromptTrust, Certificate: certificate}))
		w.want("trust")
		changed := officeEntry()
		changed.Profile.MTU = 1300
		w.save(changed)
		w.press(w.home.trust.trust)
		w.service.set(connection(app.StateConnected, func(c *app.Connection) { c.Gateway.CertificateSHA256 = "aa11" }))
		w.want("connected")
		e, err := w.store.Load("office")
		if err != nil || e.Profile.MTU != 1300 || e.Profile.Pin != "aa11" || string(e.Password) != "lovelace" {
			t.Errorf("stored %+v, %v", e, err)
		}
	})
}

// TestNothingIsOverwritten: a new profile gets another name if one has it by now.
func TestNothingIsOverwritten(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.types(true)
		w.save(store.Entry{Profile: app.Profile{Name: "vpn.example.com", Gateway: "vpn.example.com", Login: "grace"}})
		w.service.set(connection(app.StateConnected, func(c *app.Connection) { c.Profile = "vpn.example.com" }))
		w.want("connected")
		if e, _ := w.store.Load("vpn.example.com"); e.Profile.Login != "grace" {
			t.Errorf("overwritten with %+v", e)
		}
		if len(w.names()) != 2 {
			t.Errorf("profiles %q", w.names())
		}
	})
}

// TestSavedTwice: Ctrl+S twice, then Escape, while the keyring waits.
func TestSavedTwice(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		gate := make(chan struct{})
		w.ctrl(fyne.KeyE)
		w.controller.store.keyring = slowStore{w.store, gate}
		entries(w.page)["Password"].SetText("byron")
		w.ctrl(fyne.KeyS)
		w.ctrl(fyne.KeyS)
		w.closePage()
		close(gate)
		w.settleDown()
		if e, err := w.store.Load("office"); err != nil || string(e.Password) != "byron" {
			t.Errorf("stored %+v, %v", e, err)
		}
	})
}

// TestOwnQuestionIsSeen: a question of the window's own brings it up.
func TestOwnQuestionIsSeen(t *testing.T) {
	prepare := func(w *world, _ *Options) {
		e := officeEntry()
		e.Profile.Auth = "xauth-psk"
		w.save(e)
	}
	inWorld(t, prepare, func(w *world) {
		w.visible = false
		w.connectFromTray(profileKey("office"))
		w.settleDown()
		if !w.visible || w.shows() != "prompt" {
			t.Errorf("visible %v, it shows %s", w.visible, w.shows())
		}
	})
}

// TestOwnFailureIsTold: when nobody sees the window, a notification says that it did not
// work.
func TestOwnFailureIsTold(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.visible = false
		w.service.connect = app.NewFailure(app.CodePolicy, "", "not here", "")
		test.AssertNotificationSent(t, fyne.NewNotification("Could not connect to office", "Open Wayfarer to see why."), func() {
			w.connectFromTray(profileKey("office"))
			w.settleDown()
		})
	})
}

// TestConnectWhatFailed: Connect in list and tray begins again, also without a profile;
// and so does a second start for it.
func TestConnectWhatFailed(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.types(false)
		w.service.set(unsaved("c1", app.StateFailed))
		w.settleDown()
		w.connectFromTray("connection c1")
		w.settleDown()
		if n := len(w.service.requests); n != 2 || string(w.service.requests[1].Password) != "lovelace" {
			t.Errorf("%d requests", n)
		}
	})
	inWorld(t, withOffice, func(w *world) {
		w.service.set(failedWith(app.NewFailure(app.CodeNoAnswer, "", "no", "")))
		w.settleDown()
		w.connectNamed("office")
		w.settleDown()
		if len(w.service.requests) != 1 {
			t.Error("it is not connected")
		}
	})
}

// TestOldFailure: one of the window's own is forgotten once it worked elsewhere.
func TestOldFailure(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.service.connect = app.NewFailure(app.CodeNoService, "", "no", "")
		w.press(w.home.form.connect)
		w.want("failure")
		w.service.set(connection(app.StateConnected, nil))
		w.want("connected")
		w.service.update(func(st *app.Status) { st.Connections = nil })
		w.settleDown()
		if w.shows() == "failure" {
			t.Error("the old failure is back")
		}
	})
}

// TestEditedAfterFailure: trying again takes the profile as it is now, and what a removed
// one has left is gone.
func TestEditedAfterFailure(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.press(w.home.form.connect)
		w.service.set(failedWith(app.NewFailure(app.CodeSignInRefused, app.StepSignIn, "no", "")))
		w.want("failure")
		w.press(w.home.failure.edit)
		entries(w.page)["Gateway"].SetText("new.example.com")
		entries(w.page)["Password"].SetText("byron")
		w.ctrl(fyne.KeyS)
		w.press(w.home.failure.retry)
		if r := w.service.requests; len(r) != 2 || r[1].Profile.Gateway != "new.example.com" || string(r[1].Password) != "byron" {
			t.Errorf("requests %+v", r)
		}
		w.service.set(failedWith(app.NewFailure(app.CodeNoAnswer, "", "no", "")))
		w.settleDown()
		w.remove("office")
		w.confirm()
		if len(w.attempts) > 0 || len(w.model.items()) > 0 {
			t.Errorf("%d attempts, %d lines in the list", len(w.attempts), len(w.model.items()))
		}
	})
}

// TestWrongPasswordIsNotKept: of a typed one after which the gateway asked again, nobody
// knows whether it was right.
func TestWrongPasswordIsNotKept(t *testing.T) {
	bare := func(w *world, _ *Options) {
		e := officeEntry()
		e.Password = nil
		w.save(e)
	}
	inWorld(t, bare, func(w *world) {
		w.home.form.password.SetText("wrong")
		w.home.form.remember.SetChecked(true)
		w.press(w.home.form.connect)
		w.service.set(promptedBy(app.Prompt{Kind: app.PromptPassword, Secret: true}))
		w.want("prompt")
		w.home.prompt.secret.SetText("right")
		w.home.prompt.keep.SetChecked(false)
		w.press(w.home.prompt.ok)
		w.service.set(connection(app.StateConnected, nil))
		w.want("connected")
		if e, _ := w.store.Load("office"); len(e.Password) > 0 {
			t.Errorf("stored %q", e.Password)
		}
	})
}

// TestFormStays: while somebody types, nothing else takes the form's place.
func TestFormStays(t *testing.T) {
	for name, disturb := range map[string]func(*world){
		"the service comes back": func(w *world) {
			w.service.lose(app.NewFailure(app.CodeNoService, "", "gone", ""))
			w.settleDown()
			w.service.lose(nil)
			time.Sleep(lastRetry)
		},
		"the list is read": func(w *world) { w.reload("") },
	} {
		inWorld(t, withOffice, func(w *world) {
			w.ctrl(fyne.KeyN)
			w.home.form.password.SetText("typed")
			disturb(w)
			w.want("form")
			if w.model.selected != "" || w.home.form.password.Text != "typed" {
				t.Errorf("%s: selected %q, password %q", name, w.model.selected, w.home.form.password.Text)
			}
		})
	}
	inWorld(t, withOffice, func(w *world) {
		w.ctrl(fyne.KeyN)
		w.types(false)
		w.service.set(unsaved("c1", app.StateFailed))
		w.want("failure")
		w.press(w.home.failure.back)
		w.reload("")
		w.wantDraft()
	})
}

// TestEscapeCancels: also an attempt of the form, at once.
func TestEscapeCancels(t *testing.T) {
	for _, shown := range []bool{true, false} {
		inWorld(t, withOffice, func(w *world) {
			w.ctrl(fyne.KeyN)
			gate := make(chan struct{})
			if !shown {
				w.service.hang = gate
			}
			w.types(false)
			if shown {
				w.service.set(unsaved("c1", app.StateConnecting))
			}
			w.want("progress")
			w.keys.press(fyne.KeyEscape)
			close(gate)
			w.settleDown()
			if len(w.attempts) > 0 || len(w.service.ended) != 1 || w.model.selected != "" {
				t.Errorf("shown %v: %d attempts, ended %q, selected %q", shown, len(w.attempts), w.service.ended, w.model.selected)
			}
		})
	}
}

// TestDialogFirst: beneath a dialog the shortcuts do nothing.
func TestDialogFirst(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.remove("office")
		w.ctrl(fyne.KeyE)
		w.ctrl(fyne.KeyN)
		if w.page != nil || w.composing {
			t.Error("a page opens beneath the dialog")
		}
	})
}

// TestServiceAway: an attempt outlives a moment in which the service is not seen.
func TestServiceAway(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.types(true)
		named := func(c *app.Connection) { c.Profile = "vpn.example.com" }
		w.service.set(connection(app.StateConnecting, named))
		w.want("progress")
		w.service.lose(app.NewFailure(app.CodeNoService, "", "gone", ""))
		w.settleDown()
		w.change("", func(*own) {})
		w.service.lose(nil)
		time.Sleep(lastRetry)
		w.service.set(connection(app.StateConnected, named))
		w.want("connected")
		if got := w.names(); len(got) != 1 {
			t.Errorf("profiles %q", got)
		}
	})
}

// TestNameInUse: the service knows a connection by its profile's name, and so do the
// settings.
func TestNameInUse(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.prefs.SetString(prefConnect, "office")
		w.service.set(connection(app.StateConnected, nil))
		w.settleDown()
		w.rename("office")
		if w.dialog == nil || len(w.names()) != 1 {
			t.Error("it can be renamed")
		}
		w.dialog.Hide()
		w.service.update(func(st *app.Status) { st.Connections = nil })
		w.settleDown()
		w.rename("office")
		w.dialog.(*dialog.FormDialog).Hide()
		w.ctrl(fyne.KeyE)
		entries(w.page)["Name"].SetText("work")
		w.ctrl(fyne.KeyS)
		if got := w.prefs.connectOnStart(); got != "work" {
			t.Errorf("connected at the start is %q", got)
		}
		w.remove("work")
		w.confirm()
		w.settleDown()
		if got := w.prefs.connectOnStart(); got != "" {
			t.Errorf("connected at the start is %q", got)
		}
	})
}
