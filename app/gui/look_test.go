package gui

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
	"wayfarer/app/store"
)

// screen is something that the window shows, in a picture of that size.
type screen struct {
	name string
	size fyne.Size
	show func(*world)
}

// screens are all of them.
func screens() []screen {
	narrow, wide := fyne.NewSize(460, 600), fyne.NewSize(760, 600)
	asks := func(p app.Prompt) func(*world) { return func(w *world) { w.service.set(promptedBy(p)) } }
	return []screen{
		{"first-run", narrow, func(w *world) { w.remove3(); w.service.update(func(*app.Status) {}) }},
		{"profile", wide, func(*world) {}},
		{"connecting", wide, func(w *world) {
			w.service.set(connection(app.StateConnecting, func(c *app.Connection) { c.Step = app.StepGetSettings }))
		}},
		{"trust", fyne.NewSize(760, 760), func(w *world) { w.service.set(promptedBy(trustPrompt())) }},
		{"password", wide, func(w *world) {
			w.press(w.home.form.connect)
			w.service.set(promptedBy(app.Prompt{Kind: app.PromptPassword, Text: "Password for ada at vpn.example.com", Secret: true}))
		}},
		{"otp", wide, func(w *world) {
			w.service.set(promptedBy(app.Prompt{Kind: app.PromptOTP, Text: "Enter the code of your token"}))
		}},
		{"banner", wide, func(w *world) {
			w.service.set(promptedBy(app.Prompt{Kind: app.PromptBanner, Text: "Welcome to Example.\nThis network is for work only."}))
		}},
		{"challenge", wide, asks(app.Prompt{Kind: app.PromptChallenge, Text: "Challenge 4711: type what your token shows for it"})},
		{"next-pin", wide, asks(app.Prompt{Kind: app.PromptNextPIN, Text: "Enter a new PIN of 4 to 8 digits"})},
		{"passphrase", wide, asks(app.Prompt{Kind: app.PromptPassphrase, Text: "ada.p12", Secret: true})},
		{"group-secret", wide, asks(app.Prompt{Kind: promptGroupSecret, Text: "staff", Secret: true})},
		{"changed-gateway", fyne.NewSize(760, 760), func(w *world) {
			w.model.profiles[0].pinned = true
			w.service.set(failedWith(app.NewFailure(app.CodeUntrusted, app.StepCheckCertificate, "the certificate of vpn.example.com is another one than before",
				"ask your administrator whether the gateway has a new certificate")))
		}},
		{"disconnecting", wide, func(w *world) { w.service.set(connection(app.StateDisconnecting, nil)) }},
		{"no-keyring", narrow, func(w *world) {
			w.remove3()
			w.loaded(nil, store.ErrNoKeyring, "")
			w.render()
		}},
		{"rename", wide, func(w *world) { w.rename("office") }},
		{"remove", wide, func(w *world) { w.remove("office") }},
		{"discard", narrow, func(w *world) {
			w.edit("office")
			w.settleDown()
			w.pageChanged = func() bool { return true }
			w.leave(func() {}, nil)
		}},
		{"connected", wide, func(w *world) { w.service.set(*wholeOffice()) }},
		{"reconnecting", wide, func(w *world) { w.service.set(connection(app.StateReconnecting, nil)) }},
		{"blocked", wide, func(w *world) { w.service.set(connection(app.StateBlocked, nil)) }},
		{"failed", fyne.NewSize(760, 720), func(w *world) {
			w.service.set(failedWith(app.NewFailure(app.CodeNoAnswer, app.StepFindGateway, "the gateway vpn.example.com does not answer",
				"check the name and whether UDP ports 500 and 4500 get through")))
		}},
		{"no-service", narrow, func(w *world) {
			w.service.lose(app.NewFailure(app.CodeNoService, "", "the service does not run", ""))
		}},
		{"narrow", narrow, func(w *world) { w.service.set(connection(app.StateConnecting, nil)) }},
		{"editor", fyne.NewSize(460, 900), func(w *world) { w.edit("office"); w.settleDown(); unfold(w.page) }},
		{"settings", fyne.NewSize(460, 900), func(w *world) { w.openSettings() }},
		{"managed", wide, func(w *world) {
			w.obey(app.Policy{}, app.Profile{Name: "office", Gateway: "vpn.example.com", Login: "ada"})
			w.selectItem(managedKey("office"))
		}},
		{"managed-only", wide, func(w *world) {
			w.obey(app.Policy{ForbidAdding: true}, app.Profile{Name: "plant", Gateway: "plant.example.com"})
			w.selectItem(profileKey("office"))
		}},
		{"first-run-managed", narrow, func(w *world) { w.remove3(); w.obey(app.Policy{ForbidAdding: true}) }},
		{"settings-managed", fyne.NewSize(460, 1000), func(w *world) {
			w.obey(app.Policy{ForbidWeak: true, ForceBlockOutside: true, ForbidAdding: true})
			w.openSettings()
		}},
		{"editor-managed", fyne.NewSize(460, 3200), func(w *world) {
			w.obey(app.Policy{ForbidWeak: true, ForceBlockOutside: true})
			w.edit("office")
			w.settleDown()
			unfold(w.page)
		}},
		{"import-managed", fyne.NewSize(460, 700), func(w *world) {
			w.obey(app.Policy{ForbidWeak: true})
			w.openImport(someImports())
		}},
		{"import", fyne.NewSize(460, 700), func(w *world) { w.openImport(someImports()) }},
	}
}

// TestLook compares each screen, in light and dark, with the pictures in testdata.
func TestLook(t *testing.T) {
	for _, screen := range screens() {
		for shade, variant := range map[string]fyne.ThemeVariant{"light": theme.VariantLight, "dark": theme.VariantDark} {
			t.Run(screen.name+" "+shade, func(t *testing.T) {
				if screen.name == "no-service" && runtime.GOOS != "linux" {
					t.Skip("what is advised is that for Linux")
				}
				three := func(w *world, o *Options) {
					withThree(w, o)
					o.Now = func() time.Time { return at(70) }
					o.App.Settings().SetTheme(inVariant{newLook(), variant})
				}
				inWorld(t, three, func(w *world) {
					screen.show(w)
					w.settleDown()
					picture := w.win
					if w.dialog == nil {
						// In a window of the same size, whatever the real one became.
						picture = test.NewTempWindow(t, container.NewStack(w.root))
						picture.SetPadded(false)
					}
					picture.Resize(fyne.NewSize(screen.size.Width, screen.size.Height-1))
					picture.Resize(screen.size) // text that wraps has its height now
					w.settleDown()
					test.AssertRendersToImage(t, "screen-"+screen.name+"-"+shade+".png", picture.Canvas())
				})
			})
		}
	}
}

// large is the program's theme with everything twice as large.
type large struct{ fyne.Theme }

func (l large) Size(name fyne.ThemeSizeName) float32 { return 2 * l.Theme.Size(name) }

// TestNothingIsClipped: at 200 %, which is a window of the first run's size on a canvas of
// twice that, no screen is wider than the window, and no text than
// its room.
func TestNothingIsClipped(t *testing.T) {
	for _, screen := range screens() {
		t.Run(screen.name, func(t *testing.T) {
			prepare := func(w *world, o *Options) {
				withThree(w, o)
				o.Now = func() time.Time { return at(70) }
				o.App.Settings().SetTheme(large{newLook()})
			}
			inWorld(t, prepare, func(w *world) {
				screen.show(w)
				w.settleDown()
				root, size := fyne.CanvasObject(w.root), fyne.NewSize(2*sizeAlone.Width, 2*sizeAlone.Height)
				picture := w.win
				if w.dialog == nil {
					picture = test.NewTempWindow(t, container.NewStack(w.root))
					picture.SetPadded(false)
				} else {
					root = w.win.Canvas().Overlays().Top()
				}
				picture.Resize(size)
				picture.Resize(size.AddWidthHeight(0, 1)) // text that wraps has its height now
				if got := picture.Canvas().Size().Width; got > size.Width || picture.Content().MinSize().Width > size.Width {
					t.Errorf("it is %v wide, and needs %v", got, picture.Content().MinSize().Width)
				}
				seen := 0
				for _, o := range visible(root) {
					var text string
					switch o := o.(type) {
					case *widget.Label:
						if o.Truncation != fyne.TextTruncateOff {
							continue // it is meant to be cut
						}
						text = o.Text
					case *button:
						text = o.Text
					case *widget.Button:
						text = o.Text
					case *checkBox:
						text = o.Text
					}
					if text == "" || o.Size().IsZero() { // a heading of Fyne's dialogs has no size, and is drawn
						continue
					}
					seen++
					if need, has := o.MinSize(), o.Size(); need.Width > has.Width+1 || need.Height > has.Height+1 {
						t.Errorf("%q needs %v and has %v", text, need, has)
					}
				}
				if seen < 2 {
					t.Errorf("only %d texts were seen", seen)
				}
			})
		})
	}
}

// obey gives the window a policy, and profiles of the administrator's.
func (w *world) obey(policy app.Policy, placed ...app.Profile) {
	set := app.Managed{Policy: policy}
	for _, p := range placed {
		set.Profiles = append(set.Profiles, app.ManagedProfile{Profile: p})
	}
	w.model.place(&set)
	w.render()
}

// remove3 takes the profiles away again.
func (w *world) remove3() {
	for _, name := range w.names() {
		if err := w.store.Remove(name); err != nil {
			w.t.Fatal(err)
		}
	}
	w.reload("")
	w.settleDown()
}

func trustPrompt() app.Prompt {
	return app.Prompt{Kind: app.PromptTrust, Certificate: &app.Certificate{
		Subject: "CN=vpn.example.com,O=Example", Issuer: "CN=Example VPN CA,O=Example", Names: []string{"vpn.example.com", "192.0.2.1"},
		NotBefore: time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC),
		SHA256: strings.Repeat("3f9a07c1", 8), Reason: "no CA certificate and no fingerprint is stored for it",
	}}
}

func someImports() []found {
	return []found{
		{file: "works.pcf", in: &store.Imported{
			Format: "Cisco VPN client (.pcf)",
			Profiles: []*store.Candidate{{
				Entry:   store.Entry{Profile: app.Profile{Name: "Works", Gateway: "gw.example.com", Login: "ada", Auth: "xauth-psk", GroupID: "staff"}},
				Weak:    []string{"3des", "modp1024"},
				Remarks: []string{"The file contains a clear password; delete it when the import is done."},
			}},
		}},
		{file: "photo.jpg", err: store.ErrFormat},
	}
}
