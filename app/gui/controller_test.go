package gui

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/store"
)

func TestFirstRun(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.want("form")
		f := w.home.form
		if w.focused() != f.gateway {
			t.Error("the keyboard is not in the first field")
		}
		if !f.connect.Disabled() {
			t.Error("Connect can be pressed without a gateway")
		}
		f.gateway.SetText("vpn.example.com")
		f.login.SetText("ada")
		f.password.SetText("lovelace")
		w.press(f.connect)
		w.want("progress")
		if f.password.Text != "" {
			t.Error("the password stays in its field")
		}
		if len(w.service.requests) != 1 {
			t.Fatalf("%d requests", len(w.service.requests))
		}
		req := w.service.requests[0]
		if p := req.Profile; p.Gateway != "vpn.example.com" || p.Login != "ada" || p.Name != "vpn.example.com" || string(req.Password) != "lovelace" || !req.Ask || req.TrustNew {
			t.Errorf("got %+v", req)
		}
		w.service.set(connection(app.StateConnecting, func(c *app.Connection) { c.Profile, c.Step = "vpn.example.com", app.StepSignIn }))
		w.want("progress")
		if names, _ := w.store.Names(); len(names) > 0 {
			t.Error("saved before it is connected")
		}
		w.service.set(connection(app.StateConnected, func(c *app.Connection) { c.Profile = "vpn.example.com" }))
		w.want("connected")
		entry, err := w.store.Load("vpn.example.com")
		if err != nil || string(entry.Password) != "lovelace" {
			t.Errorf("saved: %+v, %v", entry, err)
		}
		if len(w.attempts) != 0 {
			t.Error("an attempt with its password stays")
		}
		w.press(w.home.connected.disconnect)
		w.want("form")
	})
}

// TestStates: each state has its view, for a saved profile.
func TestStates(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.want("form")
		for _, tt := range []struct {
			conn     app.Connection
			part     string
			headline string
		}{
			{connection(app.StateConnecting, func(c *app.Connection) { c.Step = app.StepFindGateway }), "progress", "Connecting"},
			{promptedBy(app.Prompt{Kind: app.PromptOTP}), "prompt", "Waiting for you"},
			{promptedBy(app.Prompt{Kind: app.PromptTrust, Certificate: &app.Certificate{}}), "trust", "Waiting for you"},
			{connection(app.StateConnected, nil), "connected", "Connected"},
			{connection(app.StateReconnecting, nil), "progress", "Reconnecting"},
			{connection(app.StateBlocked, nil), "progress", "Blocked"},
			{connection(app.StateBlocked, func(c *app.Connection) { c.Failure = app.NewFailure(app.CodeNoAnswer, "", "gone", "") }), "failure", "Blocked"},
			{connection(app.StateDisconnecting, nil), "progress", "Disconnecting"},
			{connection(app.StateFailed, nil), "failure", "Could not connect"},
			{connection(app.StateDisconnected, nil), "form", "Not connected"},
		} {
			w.service.set(tt.conn)
			w.settleDown()
			if w.shows() != tt.part || w.home.state.Text != tt.headline {
				t.Errorf("%s: shows %s under %q, want %s under %q", tt.conn.State, w.shows(), w.home.state.Text, tt.part, tt.headline)
			}
			if it := w.sidebar.rows[0]; it.note.Text != stateName(tt.conn.State) {
				t.Errorf("%s: the list says %q", tt.conn.State, it.note.Text)
			}
		}
	})
}

// TestCancel: whatever is shown, there is a way out of it, by a button and by Escape.
func TestCancel(t *testing.T) {
	for _, tt := range []struct {
		name   string
		conn   app.Connection
		button func(*world) *button
		escape bool
	}{
		{"connecting", connection(app.StateConnecting, nil), func(w *world) *button { return w.home.cancel }, true},
		{"a prompt", promptedBy(app.Prompt{Kind: app.PromptOTP}), func(w *world) *button { return w.home.prompt.cancel }, true},
		{"a banner", promptedBy(app.Prompt{Kind: app.PromptBanner}), func(w *world) *button { return w.home.prompt.cancel }, true},
		{"trust", promptedBy(app.Prompt{Kind: app.PromptTrust}), func(w *world) *button { return w.home.trust.cancel }, true},
		{"reconnecting", connection(app.StateReconnecting, nil), func(w *world) *button { return w.home.cancel }, false},
		{"blocked", connection(app.StateBlocked, nil), func(w *world) *button { return w.home.cancel }, false},
		{"failed", failedWith(app.NewFailure(app.CodeNoAnswer, "", "", "")), func(w *world) *button { return w.home.failure.back }, true},
		{"blocked for good", connection(app.StateBlocked, func(c *app.Connection) { c.Failure = app.NewFailure(app.CodeNoAnswer, "", "", "") }), func(w *world) *button { return w.home.failure.back }, false},
		{"connected", connection(app.StateConnected, nil), func(w *world) *button { return w.home.connected.disconnect }, false},
	} {
		ways := map[string]func(*world){"button": func(w *world) { w.press(tt.button(w)) }}
		if tt.escape {
			ways["Escape"] = func(w *world) { w.keys.press(fyne.KeyEscape); w.settleDown() }
		}
		for way, leave := range ways {
			t.Run(tt.name+" by "+way, func(t *testing.T) {
				inWorld(t, withOffice, func(w *world) {
					w.service.set(tt.conn)
					w.settleDown()
					leave(w)
					if !slices.Equal(w.service.ended, []string{"c1"}) {
						t.Errorf("ended %v", w.service.ended)
					}
					w.want("form")
				})
			})
		}
	}
}

// TestCancelBeforeTheService: a cancelled attempt leaves no connection behind, also
// where the service answers too late.
func TestCancelBeforeTheService(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.service.hang = make(chan struct{})
		w.press(w.home.form.connect)
		w.want("progress")
		entry := w.attempts[w.model.selected].entry
		w.press(w.home.cancel)
		w.want("form")
		if len(entry.Password) > 0 {
			t.Error("the password stays")
		}
		close(w.service.hang)
		w.settleDown()
		if !slices.Equal(w.service.ended, []string{"c1"}) {
			t.Errorf("ended %v", w.service.ended)
		}
	})
}

// TestPrompts: each kind is asked and answered, once.
func TestPrompts(t *testing.T) {
	for _, tt := range []struct {
		prompt       app.Prompt
		heading      string
		hidden, open bool // which of the fields
	}{
		{app.Prompt{Kind: app.PromptPassword, Text: "Password for ada", Secret: true}, "Your password, please", true, false},
		{app.Prompt{Kind: app.PromptOTP, Text: "Token code"}, "Your one-time code, please", false, true},
		{app.Prompt{Kind: app.PromptChallenge, Text: "What is\x1b the \u202eword?"}, "The gateway asks", false, true},
		{app.Prompt{Kind: app.PromptChallenge, Text: "secret?", Secret: true}, "The gateway asks", true, false},
		{app.Prompt{Kind: app.PromptNextPIN, Text: "New PIN"}, "The gateway wants a new PIN", true, false},
		{app.Prompt{Kind: app.PromptBanner, Text: "Welcome.\nBe good."}, "A message of the gateway", false, false},
	} {
		t.Run(string(tt.prompt.Kind), func(t *testing.T) {
			inWorld(t, withOffice, func(w *world) {
				w.service.set(promptedBy(tt.prompt))
				w.want("prompt")
				v := w.home.prompt
				if v.heading.Text != tt.heading || v.text.Text != plain(tt.prompt.Text) {
					t.Errorf("asks %q, %q", v.heading.Text, v.text.Text)
				}
				asks := v.fields.Visible()
				if hidden, open := asks && v.secret.Visible(), asks && v.open.Visible(); hidden != tt.hidden || open != tt.open {
					t.Errorf("hidden field %v, open field %v", hidden, open)
				}
				w.press(v.ok)
				if asks && len(w.service.answers) > 0 {
					t.Error("an empty answer was sent")
				}
				if asks {
					w.focused().TypedRune('4')
					w.focused().TypedRune('2')
					// The service tells something else meanwhile.
					w.service.update(func(s *app.Status) { s.Version = "1.2.4" })
					w.settleDown()
					w.focused().TypedKey(&fyne.KeyEvent{Name: fyne.KeyReturn})
					w.settleDown()
				}
				want := ""
				if asks {
					want = "42"
				}
				if a := w.service.answers; len(a) != 1 || a[0].PromptID != "p1" || !a[0].Accept || a[0].Cancel || string(a[0].Text) != want {
					t.Errorf("answered %+v, want %q", a, want)
				}
				if v.secret.Text+v.open.Text != "" {
					t.Error("the answer stays in its field")
				}
			})
		})
	}
}

// TestTrust: Return does not trust, pressing Trust does, and the pin is stored.
func TestTrust(t *testing.T) {
	cert := &app.Certificate{
		Subject: "CN=vpn.example.com", Issuer: "CN=Example CA", Names: []string{"vpn.example.com"},
		SHA256: strings.Repeat("ab", 32), Reason: "no CA is known",
	}
	inWorld(t, withOffice, func(w *world) {
		w.press(w.home.form.connect)
		w.service.set(promptedBy(app.Prompt{Kind: app.PromptTrust, Certificate: cert}))
		w.want("trust")
		if f := w.focused(); f != nil {
			t.Errorf("%T is preselected", f)
		}
		v := w.home.trust
		v.trust.TypedKey(&fyne.KeyEvent{Name: fyne.KeyReturn})
		w.settleDown()
		if len(w.service.answers) > 0 {
			t.Fatal("Return trusts")
		}
		shown := texts(v.box)
		for _, want := range []string{"CN=vpn.example.com", "CN=Example CA", "no CA is known", twoLines(inFours(cert.SHA256))} {
			if !strings.Contains(shown, want) {
				t.Errorf("%q is not shown", want)
			}
		}
		w.press(v.trust)
		if a := w.service.answers; len(a) != 1 || !a[0].Accept {
			t.Fatalf("answered %+v", a)
		}
		w.service.set(connection(app.StateConnected, func(c *app.Connection) { c.Gateway.CertificateSHA256 = cert.SHA256 }))
		w.want("connected")
		if entry, err := w.store.Load("office"); err != nil || entry.Profile.Pin != cert.SHA256 || string(entry.Password) != "lovelace" {
			t.Errorf("stored %+v, %v", entry, err)
		}
	})
}

// TestTrustOutlivesARefusal: who trusted the gateway and mistyped the password is not asked
// for trust again.
func TestTrustOutlivesARefusal(t *testing.T) {
	cert := &app.Certificate{SHA256: strings.Repeat("ab", 32)}
	inWorld(t, withOffice, func(w *world) {
		w.press(w.home.form.connect)
		w.service.set(promptedBy(app.Prompt{Kind: app.PromptTrust, Certificate: cert}))
		w.want("trust")
		w.press(w.home.trust.trust)
		w.service.set(failedWith(app.NewFailure(app.CodeSignInRefused, app.StepSignIn, "refused", "")))
		w.want("failure")
		w.press(w.home.failure.retry)
		if r := w.service.requests; len(r) != 2 || r[0].Profile.Pin != "" || r[1].Profile.Pin != cert.SHA256 {
			t.Errorf("requests %+v", r)
		}
		w.service.set(connection(app.StateConnected, func(c *app.Connection) { c.Gateway.CertificateSHA256 = cert.SHA256 }))
		w.want("connected")
		if entry, err := w.store.Load("office"); err != nil || entry.Profile.Pin != cert.SHA256 {
			t.Errorf("stored %+v, %v", entry, err)
		}
	})
}

// TestTrustWithoutAttempt: a connection of the command line's, or from before the window,
// is asked about here.
func TestTrustWithoutAttempt(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.service.set(promptedBy(app.Prompt{Kind: app.PromptTrust, Certificate: &app.Certificate{SHA256: "ab"}}))
		w.want("trust")
		w.press(w.home.trust.trust)
		w.service.set(connection(app.StateConnected, func(c *app.Connection) { c.Gateway.CertificateSHA256 = "ab" }))
		w.want("connected")
		if entry, _ := w.store.Load("office"); entry.Profile.Pin != "ab" {
			t.Errorf("pin %q", entry.Profile.Pin)
		}
	})
}

// TestTrustIsOfOneService: a service that was restarted numbers its connections anew, and
// trust in one is no trust in another.
func TestTrustIsOfOneService(t *testing.T) {
	two := func(w *world, o *Options) { withThree(w, o) }
	inWorld(t, two, func(w *world) {
		w.press(w.home.form.connect) // office
		w.service.set(promptedBy(app.Prompt{Kind: app.PromptTrust, Certificate: &app.Certificate{SHA256: "ab"}}))
		w.want("trust")
		w.press(w.home.trust.trust)
		w.service.lose(app.NewFailure(app.CodeNoService, "", "gone", ""))
		w.settleDown()
		w.service.set(connection(app.StateConnected, func(c *app.Connection) { c.Profile, c.Gateway.CertificateSHA256 = "lab", "cd" }))
		w.service.lose(nil)
		time.Sleep(lastRetry)
		w.settleDown()
		for _, name := range w.names() {
			if e, _ := w.store.Load(name); e.Profile.Pin != "" {
				t.Errorf("%s: pin %q", name, e.Profile.Pin)
			}
		}
		if len(w.attempts) > 0 {
			t.Error("the attempt stays")
		}
	})
}

// TestAttemptIsOfOneService: nor is a connection of the same number the one that was
// begun.
func TestAttemptIsOfOneService(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.home.form.fill("vpn.example.com", "ada")
		w.home.form.password.SetText("lovelace")
		w.press(w.home.form.connect)
		w.service.set(connection(app.StateConnected, func(c *app.Connection) { c.Profile = "another" }))
		w.settleDown()
		if names := w.names(); len(names) > 0 {
			t.Errorf("saved %q", names)
		}
	})
}

// TestChangedPin: it is refused with an explanation, and not overwritten.
func TestChangedPin(t *testing.T) {
	pinned := func(w *world, _ *Options) {
		e := officeEntry()
		e.Profile.Pin = strings.Repeat("cd", 32)
		w.save(e)
	}
	inWorld(t, pinned, func(w *world) {
		w.press(w.home.form.connect)
		w.service.set(failedWith(app.NewFailure(app.CodeUntrusted, app.StepCheckCertificate, "another certificate", "")))
		w.want("failure")
		if got := w.home.failure.headline.Text; got != "The gateway is not the one that you trusted" {
			t.Errorf("says %q", got)
		}
		if entry, _ := w.store.Load("office"); entry.Profile.Pin != strings.Repeat("cd", 32) {
			t.Errorf("the pin became %q", entry.Profile.Pin)
		}
	})
}

// TestFailures: each code has its words, names its step, and can be copied.
func TestFailures(t *testing.T) {
	seen := map[string]app.Code{}
	for _, code := range []app.Code{
		app.CodeInternal, app.CodeUsage, app.CodeNoAnswer, app.CodeUntrusted, app.CodeSignInRefused, app.CodeNoProposal,
		app.CodeNetworkConfig, app.CodeNoService, app.CodeCancelled, app.CodeProtocol, app.CodeSettingsRefused, app.CodePolicy,
	} {
		inWorld(t, withOffice, func(w *world) {
			w.service.set(failedWith(app.NewFailure(code, app.StepAgreeSecurity, "the reason is <b>this</b>", "do that")))
			w.want("failure")
			v := w.home.failure
			if other, ok := seen[v.headline.Text]; ok || v.advice.Text == "" {
				t.Errorf("%s: %q (as %s), %q", code, v.headline.Text, other, v.advice.Text)
			}
			seen[v.headline.Text] = code
			if v.step.Text != "Failed at: Agree security" || v.words.Text != "The reason is <b>this</b>.\nDo that." {
				t.Errorf("%s: %q, %q", code, v.step.Text, v.words.Text)
			}
			w.press(v.copy)
			for _, want := range []string{v.headline.Text, "The reason", string(code)} {
				if !strings.Contains(w.app.Clipboard().Content(), want) {
					t.Errorf("%s: copied %q", code, w.app.Clipboard().Content())
				}
			}
		})
	}
}

// TestTryAgain: what was typed serves once more, but for a password that was refused.
func TestTryAgain(t *testing.T) {
	for _, tt := range []struct {
		code     app.Code
		password string
	}{{app.CodeNoAnswer, "lovelace"}, {app.CodeSignInRefused, ""}} {
		inWorld(t, nil, func(w *world) {
			f := w.home.form
			f.fill("vpn.example.com", "ada")
			f.password.SetText("lovelace")
			f.remember.SetChecked(false)
			w.press(f.connect)
			unnamed := func(c *app.Connection) { c.Profile = ""; c.Failure = app.NewFailure(tt.code, "", "no", "") }
			w.service.set(connection(app.StateFailed, unnamed))
			w.want("failure")
			w.press(w.home.failure.retry)
			if n := len(w.service.requests); n != 2 {
				t.Fatalf("%s: %d requests", tt.code, n)
			}
			if got := string(w.service.requests[1].Password); got != tt.password {
				t.Errorf("%s: password %q, want %q", tt.code, got, tt.password)
			}
			w.service.set(connection(app.StateFailed, func(c *app.Connection) { unnamed(c); c.ID = "c2" }))
			w.want("failure")
			w.press(w.home.failure.back)
			w.want("form")
			if f.gateway.Text != "vpn.example.com" || f.login.Text != "ada" || f.password.Text != "" || len(w.attempts) > 0 {
				t.Errorf("%s: back at %q, %q, %q, %d attempts", tt.code, f.gateway.Text, f.login.Text, f.password.Text, len(w.attempts))
			}
		})
	}
}

// TestRememberTheRightOne: of the password that was refused and the one that was typed in
// its place, the second is kept; also if the gateway's question is here before the
// service's answer to the window.
func TestRememberTheRightOne(t *testing.T) {
	for i, remember := range []bool{true, false, true} {
		early := i == 2
		inWorld(t, nil, func(w *world) {
			f := w.home.form
			f.fill("vpn.example.com", "ada")
			f.password.SetText("byron")
			f.remember.SetChecked(remember)
			w.press(f.connect)
			id := "c1"
			named := func(c *app.Connection) {
				c.ID = id
				if c.Profile = ""; remember {
					c.Profile = "vpn.example.com"
				}
			}
			refused := failedWith(app.NewFailure(app.CodeSignInRefused, app.StepSignIn, "no", ""))
			named(&refused)
			w.service.set(refused)
			w.want("failure")
			answers := make(chan struct{})
			if early {
				w.service.hang = answers
			}
			w.press(w.home.failure.retry)
			id = "c2"
			asks := promptedBy(app.Prompt{Kind: app.PromptPassword, Secret: true})
			named(&asks)
			w.service.set(asks)
			w.want("prompt")
			close(answers)
			w.settleDown()
			v := w.home.prompt
			if v.keep.Visible() != remember || v.keep.Checked != remember {
				t.Errorf("remember %v: visible %v, checked %v", remember, v.keep.Visible(), v.keep.Checked)
			}
			v.secret.SetText("lovelace")
			w.press(v.ok)
			w.service.set(connection(app.StateConnected, named))
			w.want("connected")
			entry, err := w.store.Load("vpn.example.com")
			if (err == nil) != remember || remember && string(entry.Password) != "lovelace" {
				t.Errorf("remember %v: stored %+v, %v", remember, entry, err)
			}
		})
	}
}

// TestRefusedRequest: what the service, or a file, says before there is a connection.
func TestRefusedRequest(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.service.connect = app.NewFailure(app.CodePolicy, "", "not here", "")
		w.press(w.home.form.connect)
		w.want("failure")
		if w.home.failure.headline.Text != "This computer does not allow it" {
			t.Errorf("says %q", w.home.failure.headline.Text)
		}
		w.service.connect = nil
		w.press(w.home.failure.retry)
		w.want("progress")
	})
}

// TestForbiddenPassword: a gateway that forbids it has its way, however the connection
// was made.
func TestForbiddenPassword(t *testing.T) {
	forbids := func(c *app.Connection) { c.Warnings = []app.Warning{{Code: app.WarningNoSave}} }
	for _, here := range []bool{true, false} {
		inWorld(t, withOffice, func(w *world) {
			if here {
				w.press(w.home.form.connect)
			}
			w.service.set(connection(app.StateConnected, forbids))
			w.want("connected")
			if entry, err := w.store.Load("office"); err != nil || len(entry.Password) > 0 {
				t.Errorf("made here %v: stored %q, %v", here, entry.Password, err)
			}
		})
	}
}

// TestNewPassword: one that the gateway asks for is kept when the person says so.
func TestNewPassword(t *testing.T) {
	for _, keep := range []bool{true, false} {
		inWorld(t, withOffice, func(w *world) {
			w.press(w.home.form.connect)
			w.service.set(promptedBy(app.Prompt{Kind: app.PromptPassword, Secret: true}))
			w.want("prompt")
			v := w.home.prompt
			v.secret.SetText("byron")
			v.keep.SetChecked(keep)
			w.press(v.ok)
			w.service.set(connection(app.StateConnected, nil))
			w.want("connected")
			want := map[bool]string{true: "byron", false: "lovelace"}[keep]
			if entry, _ := w.store.Load("office"); string(entry.Password) != want {
				t.Errorf("keep %v: stored %q", keep, entry.Password)
			}
		})
	}
}

// TestOneTimeCodeIsNotKept: nothing of it is stored, nor can it be asked for.
func TestOneTimeCodeIsNotKept(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.press(w.home.form.connect)
		w.service.set(promptedBy(app.Prompt{Kind: app.PromptOTP}))
		w.want("prompt")
		if w.home.prompt.keep.Visible() {
			t.Error("a code can be kept")
		}
		w.home.prompt.open.SetText("123456")
		w.press(w.home.prompt.ok)
		w.service.set(connection(app.StateConnected, nil))
		w.want("connected")
		if entry, _ := w.store.Load("office"); string(entry.Password) != "lovelace" {
			t.Errorf("stored %q", entry.Password)
		}
	})
}

// TestPasswordOnce: a profile without a password is asked for it in the form, and it is
// kept only when the person says so.
func TestPasswordOnce(t *testing.T) {
	for _, remember := range []bool{true, false} {
		without := func(w *world, _ *Options) {
			e := officeEntry()
			e.Password = nil
			w.save(e)
		}
		inWorld(t, without, func(w *world) {
			f := w.home.form
			if !f.entryPart.Visible() || f.gatewayPart.Visible() || w.focused() != f.password {
				t.Fatal("the password is not asked for")
			}
			f.remember.SetChecked(remember)
			f.password.SetText("lovelace")
			f.password.TypedKey(&fyne.KeyEvent{Name: fyne.KeyReturn})
			w.want("progress")
			w.service.set(promptedBy(app.Prompt{Kind: app.PromptTrust, Certificate: &app.Certificate{SHA256: "ab"}}))
			w.want("trust")
			w.press(w.home.trust.trust)
			w.service.set(connection(app.StateConnected, func(c *app.Connection) { c.Gateway.CertificateSHA256 = "ab" }))
			w.want("connected")
			entry, _ := w.store.Load("office")
			if (len(entry.Password) > 0) != remember || entry.Profile.Pin != "ab" {
				t.Errorf("remember %v: stored %q, pin %q", remember, entry.Password, entry.Profile.Pin)
			}
		})
	}
}

// TestNoService: the state is shown with what to do, nothing is busy meanwhile, and the
// window comes back by itself.
func TestNoService(t *testing.T) {
	gone := app.NewFailure(app.CodeNoService, "", "nothing answers", "start it")
	inWorld(t, withOffice, func(w *world) {
		w.service.lose(gone)
		w.settleDown()
		if w.root.Objects[0] != w.noService.content() || w.dialog != nil {
			t.Fatal("the state is not shown as one")
		}
		before := w.service.timesWatched()
		time.Sleep(time.Minute)
		w.settleDown()
		if n := w.service.timesWatched() - before; n < 10 || n > 20 {
			t.Errorf("asked %d times in a minute", n)
		}
		w.service.lose(nil)
		time.Sleep(lastRetry)
		w.settleDown()
		if w.root.Objects[0] != w.main {
			t.Error("the window does not come back")
		}
	})
}

func TestNoServiceWords(t *testing.T) {
	test.NewTempApp(t)
	refused := app.NewFailure(app.CodeNoService, "", "the service refuses this user", "ask an administrator to add you to the group wayfarer")
	for _, tt := range []struct {
		failure           *app.Failure
		goos              string
		headline, command string
	}{
		{app.NewFailure(app.CodeNoService, "", "x", ""), "linux", "The VPN service does not run", "sudo systemctl start wayfarerd"},
		{app.NewFailure(app.CodeNoService, "", "x", ""), "windows", "The VPN service does not run", "net start wayfarerd"},
		{app.NewFailure(app.CodeNoService, "", "x", ""), "darwin", "The VPN service does not run", "sudo launchctl bootstrap system /Library/LaunchDaemons/io.github.wayfarer.wayfarerd.plist; sudo launchctl kickstart system/io.github.wayfarer.wayfarerd"},
		{refused, "darwin", "You may not use the VPN service", `dseditgroup -o read wayfarer >/dev/null 2>&1 || sudo dseditgroup -o create wayfarer; sudo dseditgroup -o edit -a "$USER" -t user wayfarer`},
		{refused, "linux", "You may not use the VPN service", `sudo usermod -aG wayfarer "$USER"`},
		{app.NewFailure(app.CodeInternal, "", "x", ""), "linux", "The service gives answers that are not understood", ""},
	} {
		v := newNoServiceView(&keys{}, nil)
		v.update(tt.failure, tt.goos)
		if width := v.content().MinSize().Width; width > 400 {
			t.Errorf("%s, %s: the window has to be %.0f wide", tt.failure.Message, tt.goos, width)
		}
		headline, advice, command := noServiceWords(tt.failure, tt.goos)
		if headline != tt.headline || command != tt.command || advice == "" {
			t.Errorf("%s, %s: %q, %q, %q", tt.failure.Message, tt.goos, headline, advice, command)
		}
	}
}

// TestNoKeyring: the window says so, and connects all the same.
func TestNoKeyring(t *testing.T) {
	without := func(w *world, o *Options) { o.Store = brokenStore{&Memory{}} }
	inWorld(t, without, func(w *world) {
		f := w.home.form
		if !f.noKeyring.Visible() || f.remember.Visible() {
			t.Error("it is not said, or Remember can be chosen")
		}
		f.fill("vpn.example.com", "ada")
		f.password.SetText("lovelace")
		w.press(f.connect)
		w.service.set(connection(app.StateConnected, func(c *app.Connection) { c.Profile = "" }))
		w.want("connected")
		if w.dialog != nil {
			t.Error("an error box")
		}
	})
	// A profile lasts as long as the program, without its secrets.
	inWorld(t, without, func(w *world) {
		w.ctrl(fyne.KeyE)
		fields := entries(w.page)
		fields["Name"].SetText("office")
		fields["Gateway"].SetText("vpn.example.com")
		fields["Login"].SetText("ada")
		fields["Password"].SetText("lovelace")
		w.ctrl(fyne.KeyS)
		w.want("form")
		if w.page != nil || w.model.profile(profileKey("office")) == nil || !w.home.form.entryPart.Visible() || w.home.form.remember.Visible() {
			t.Fatal("the profile is not there, or its password is not asked for")
		}
	})
}

// TestKeyringComesBack: one that is unlocked later is used then.
func TestKeyringComesBack(t *testing.T) {
	var locked *lockedStore
	prepare := func(w *world, o *Options) {
		w.save(officeEntry())
		locked = &lockedStore{Memory: w.store, locked: true}
		o.Store = locked
	}
	inWorld(t, prepare, func(w *world) {
		if len(w.model.profiles) > 0 || w.model.noKeyring == nil {
			t.Fatal("the keyring is not locked")
		}
		locked.locked = false
		w.raise()
		w.settleDown()
		if len(w.model.profiles) != 1 || w.model.noKeyring != nil {
			t.Errorf("profiles %v, keyring %v", w.model.profiles, w.model.noKeyring)
		}
	})
}

// lockedStore is a keyring that may be locked.
type lockedStore struct {
	*Memory
	locked bool
}

func (s *lockedStore) Names() ([]string, error) {
	if s.locked {
		return nil, store.ErrNoKeyring
	}
	return s.Memory.Names()
}

// TestOwnQuestions: what a profile lacks before the service is asked.
func TestOwnQuestions(t *testing.T) {
	for _, tt := range []struct {
		name    string
		profile app.Profile
		heading string
		answer  string
		got     func(control.ConnectRequest) bool
	}{
		{
			"group",
			app.Profile{Name: "x", Gateway: "gw", Login: "ada", Auth: "xauth-psk", GroupID: "staff"},
			"The group password, please", "sesame",
			func(r control.ConnectRequest) bool { return string(r.GroupSecret) == "sesame" },
		},
		{
			"passphrase",
			app.Profile{Name: "x", Gateway: "gw", Auth: "rsa", Certificate: "../profiles/testdata/modern.p12"},
			"The passphrase of your certificate, please", "päss",
			func(r control.ConnectRequest) bool {
				return strings.Contains(r.Profile.Certificate, "BEGIN CERTIFICATE")
			},
		},
	} {
		prepare := func(w *world, _ *Options) { w.save(store.Entry{Profile: tt.profile}) }
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, prepare, func(w *world) {
				w.press(w.home.form.connect)
				w.want("prompt")
				if v := w.home.prompt; v.heading.Text != tt.heading || !v.secret.Visible() {
					t.Errorf("asks %q", v.heading.Text)
				}
				w.home.prompt.secret.SetText(tt.answer)
				w.press(w.home.prompt.ok)
				w.want("progress")
				if len(w.service.requests) != 1 || !tt.got(w.service.requests[0]) {
					t.Errorf("requests %+v", w.service.requests)
				}
			})
			inWorld(t, prepare, func(w *world) {
				w.press(w.home.form.connect)
				w.want("prompt")
				w.press(w.home.prompt.cancel)
				w.want("form")
				if len(w.service.requests) > 0 || len(w.attempts) > 0 {
					t.Error("the service was asked, or the attempt stays")
				}
			})
		})
	}
}

// brokenStore has no keyring.
type brokenStore struct{ *Memory }

func (brokenStore) Names() ([]string, error)  { return nil, store.ErrNoKeyring }
func (brokenStore) Save(e *store.Entry) error { return store.ErrNoKeyring }

// TestSettingsReachTheRequest: the switches for all connections, on top of a profile's.
func TestSettingsReachTheRequest(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.prefs.SetBool(prefBlock, true)
		w.prefs.SetBool(prefLocal, true)
		w.press(w.home.form.connect)
		if p := w.service.requests[0].Profile; !p.BlockOutside || !p.LocalNetwork {
			t.Errorf("got %+v", p)
		}
	})
}

func TestConnectOnStart(t *testing.T) {
	named := func(w *world, o *Options) { w.save(officeEntry()); o.Connect = "office" }
	preferred := func(w *world, o *Options) {
		w.save(officeEntry())
		o.App.Preferences().SetString(prefConnect, "office")
	}
	for _, prepare := range []func(*world, *Options){named, preferred} {
		inWorld(t, prepare, func(w *world) {
			w.want("progress")
			if len(w.service.requests) != 1 {
				t.Errorf("%d requests", len(w.service.requests))
			}
		})
	}
}

// TestCounters: they are asked for while somebody looks at a connection, and only then;
// more rarely when another window is in front.
func TestCounters(t *testing.T) {
	var touched atomic.Int64 // Unix time
	prepare := func(w *world, opts *Options) {
		withOffice(w, opts)
		touched.Store(time.Now().Add(time.Hour).Unix())
		opts.Untouched = func() time.Duration { return time.Since(time.Unix(touched.Load(), 0)) }
	}
	inWorld(t, prepare, func(w *world) {
		asked := func() int {
			before := w.service.timesAsked()
			time.Sleep(12*time.Second + time.Millisecond)
			w.settleDown()
			return w.service.timesAsked() - before
		}
		still := func(want bool) {
			t.Helper()
			if got := w.still.Load(); got != want {
				t.Errorf("still: %v", got)
			}
		}
		still(false)
		if n := asked(); n > 0 {
			t.Errorf("disconnected: asked %d times", n)
		}
		w.service.set(connection(app.StateConnected, nil))
		w.want("connected")
		if n := asked(); n != 4 {
			t.Errorf("behind another window: asked %d times in 12 s", n)
		}
		still(true)
		w.inFront = true
		w.render()
		if n := asked(); n != 12 {
			t.Errorf("connected: asked %d times in 12 s", n)
		}
		touched.Store(time.Now().Add(-quietTime).Unix())
		if n := asked(); n != 4 {
			t.Errorf("long untouched: asked %d times in 12 s", n)
		}
		w.openSettings()
		w.settleDown()
		if n := asked(); n > 0 {
			t.Errorf("another page: asked %d times", n)
		}
		still(false)
		w.closePage()
		w.visible = false
		w.render()
		if n := asked(); n > 0 {
			t.Errorf("hidden: asked %d times", n)
		}
		still(true)
	})
}

// TestLostConnection: one that ends elsewhere is gone here, too.
func TestLostConnection(t *testing.T) {
	inWorld(t, withOffice, func(w *world) {
		w.press(w.home.form.connect)
		w.service.set(connection(app.StateConnecting, nil))
		w.want("progress")
		w.service.update(func(s *app.Status) { s.Connections = nil })
		w.want("form")
		if len(w.attempts) > 0 {
			t.Error("its attempt stays")
		}
	})
}

// TestSeveralConnections: the list has the state of each, and the right side that of the
// one that is selected.
func TestSeveralConnections(t *testing.T) {
	two := func(w *world, _ *Options) {
		w.save(officeEntry())
		e := officeEntry()
		e.Profile.Name, e.Profile.Gateway = "lab", "lab.example.com"
		w.save(e)
	}
	inWorld(t, two, func(w *world) {
		w.service.update(func(s *app.Status) {
			lab := connection(app.StateReconnecting, nil)
			lab.ID, lab.Profile = "c2", "lab"
			typed := connection(app.StateConnected, nil)
			typed.ID, typed.Profile, typed.Gateway = "c3", "", &app.Gateway{Host: "typed.example.com"}
			s.Connections = []app.Connection{
				connection(app.StateConnected, nil), lab, typed,
				{State: app.StateConnected, Owner: "eve"}, // another user's
			}
		})
		w.settleDown()
		var list []string
		for _, r := range w.sidebar.rows {
			list = append(list, r.name.Text+": "+r.note.Text)
		}
		if want := []string{"office: Connected", "lab: Reconnecting", "typed.example.com: Connected"}; !slices.Equal(list, want) {
			t.Errorf("the list is %q", list)
		}
		w.want("connected")
		w.sidebar.rows[1].Tapped(nil)
		w.want("progress")
		w.sidebar.rows[2].Tapped(nil)
		w.want("connected")
		w.press(w.home.connected.disconnect)
		if !slices.Equal(w.service.ended, []string{"c3"}) {
			t.Errorf("ended %v", w.service.ended)
		}
	})
}
