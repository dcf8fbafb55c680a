package gui

import (
	"context"
	"errors"
	"testing"
	"time"

	"fyne.io/fyne/v2"

	"wayfarer/app"
)

// deskApp is the test's app with a tray, as that of a desktop has one.
type deskApp struct {
	fyne.App
	menu    *fyne.Menu
	quitted bool
	sent    []*fyne.Notification
}

func (a *deskApp) SetSystemTrayMenu(m *fyne.Menu)        { a.menu = m }
func (a *deskApp) SetSystemTrayIcon(fyne.Resource)       {}
func (a *deskApp) SetSystemTrayWindow(fyne.Window)       {}
func (a *deskApp) Quit()                                 { a.quitted = true }
func (a *deskApp) SendNotification(n *fyne.Notification) { a.sent = append(a.sent, n) }

// inDesk runs a test with a tray, whose host is what host says.
func inDesk(t *testing.T, host error, hidden bool, body func(*world, *deskApp)) {
	t.Helper()
	var desk *deskApp
	prepare := func(w *world, o *Options) {
		w.save(officeEntry())
		desk = &deskApp{App: o.App}
		o.App, o.Tray, o.Hidden = desk, true, hidden
		o.TrayHost = func(context.Context) error { return host }
		o.TrayTooltip, o.TrayTapped = func(string) {}, func(func()) {}
	}
	inWorld(t, prepare, func(w *world) { body(w, desk) })
}

func TestCloseWindow(t *testing.T) {
	for _, tt := range []struct {
		name  string
		host  error
		quits bool
	}{{"with a tray", nil, false}, {"without", errors.New("no tray"), true}} {
		inDesk(t, tt.host, false, func(w *world, desk *deskApp) {
			w.closeWindow()
			w.settleDown()
			if desk.quitted != tt.quits || w.visible != tt.quits {
				t.Errorf("%s: quitted %v, visible %v", tt.name, desk.quitted, w.visible)
			}
		})
	}
}

// TestTrayOfTheWindow: its menu connects, disconnects and opens.
func TestTrayOfTheWindow(t *testing.T) {
	inDesk(t, nil, false, func(w *world, desk *deskApp) {
		w.menu(desk.menu, "Connect office")
		if len(w.service.requests) != 1 {
			t.Fatalf("%d requests", len(w.service.requests))
		}
		w.service.set(connection(app.StateConnected, nil))
		w.settleDown()
		w.menu(desk.menu, "Disconnect office")
		if len(w.service.ended) != 1 {
			t.Errorf("ended %v", w.service.ended)
		}
		w.closeWindow()
		w.settleDown()
		w.menu(desk.menu, "Settings")
		if !w.visible || w.page == nil {
			t.Error("the settings do not open")
		}
		w.menu(desk.menu, "Quit")
		if !desk.quitted {
			t.Error("it does not quit")
		}
	})
}

// TestNotifications: of what happens while nobody looks.
func TestNotifications(t *testing.T) {
	for _, inFront := range []bool{true, false} {
		inDesk(t, nil, false, func(w *world, desk *deskApp) {
			w.inFront = inFront
			w.press(w.home.form.connect)
			w.service.set(connection(app.StateConnecting, nil))
			w.settleDown()
			w.service.set(connection(app.StateConnected, nil))
			w.settleDown()
			w.service.set(connection(app.StateReconnecting, nil))
			w.settleDown()
			time.Sleep(settleTime)
			w.settleDown()
			want := map[bool]int{true: 0, false: 2}[inFront]
			if len(desk.sent) != want {
				t.Errorf("in front %v: %d notifications, want %d", inFront, len(desk.sent), want)
			}
		})
	}
}

// TestReveal: what the keyboard reaches can be seen, also where there is little room.
func TestReveal(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.win.Resize(fyne.NewSize(400, 300))
		w.win.Canvas().Focus(w.home.form.gateway)
		w.win.Canvas().Focus(w.home.form.password)
		at := fyne.CurrentApp().Driver().AbsolutePositionForObject
		scroll := w.home.scroll
		inside := func(o fyne.CanvasObject) bool {
			top := at(o).Y - at(scroll).Y
			return top >= 0 && top+o.Size().Height <= scroll.Size().Height
		}
		if !inside(w.home.form.password) {
			t.Error("the password's field is out of sight")
		}
		w.win.Canvas().Focus(w.home.form.gateway)
		if !inside(w.home.form.gateway) {
			t.Error("the gateway's field is out of sight")
		}
		w.editDraft()
		unfold(w.page)
		w.win.Resize(fyne.NewSize(400, 301)) // lays it out
		scroll = scrollIn(w.page)
		last := entries(w.page)["Quirks"]
		if inside(last) {
			t.Fatal("the window is not small")
		}
		w.win.Canvas().Focus(last)
		if !inside(last) {
			t.Errorf("the editor's last field is out of sight, at %v", at(last).Y-at(scroll).Y)
		}
	})
}
