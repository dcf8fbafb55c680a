package gui

import (
	"context"
	"errors"
	"testing"
	"time"

	"wayfarer/app"
)

// closing says what closing the window does.
func (w *world) closing() string {
	w.closeWindow()
	w.settleDown()
	switch {
	case w.dialog != nil:
		return "asks"
	case w.ctx.Err() != nil:
		return "ends"
	case !w.visible:
		return "hides"
	}
	return "nothing"
}

// TestClosingAsks: the window goes where the tray can bring it back, else the program
// ends; nobody is left to wonder about a connection.
func TestClosingAsks(t *testing.T) {
	noTray := errors.New("no tray")
	for _, tt := range []struct {
		host  error
		state app.State
		want  string
	}{
		{nil, app.StateDisconnected, "hides"},
		{nil, app.StateConnected, "hides"},
		{noTray, app.StateDisconnected, "ends"},
		{noTray, app.StateFailed, "ends"},
		{noTray, app.StateConnected, "asks"},
		{noTray, app.StateBlocked, "asks"},
	} {
		tray := func(w *world, opts *Options) {
			withOffice(w, opts)
			opts.TrayHost = func(context.Context) error { return tt.host }
		}
		inWorld(t, tray, func(w *world) {
			if tt.state != app.StateDisconnected {
				w.service.set(connection(tt.state, nil))
				w.settleDown()
			}
			if got := w.closing(); got != tt.want {
				t.Errorf("%v, %s: it %s, want %s", tt.host, tt.state, got, tt.want)
			}
			if tt.want == "asks" {
				w.confirm()
				w.settleDown()
				if w.ctx.Err() == nil {
					t.Error("it did not end")
				}
			}
		})
	}
}

// TestHiddenStartWaitsForThePanel: which starts at the same time, or never.
func TestHiddenStartWaitsForThePanel(t *testing.T) {
	for _, tt := range []struct {
		panel time.Duration // after the start; 0: never
		shown bool
	}{{3 * time.Second, false}, {0, true}} {
		var began time.Time
		tray := func(_ *world, opts *Options) {
			began = time.Now()
			opts.TrayHost = func(context.Context) error {
				if tt.panel > 0 && time.Since(began) >= tt.panel {
					return nil
				}
				return errors.New("no tray")
			}
		}
		inWorld(t, tray, func(w *world) {
			w.visible = false
			w.startHidden()
			time.Sleep(trayWait - time.Second)
			w.settleDown()
			if w.visible {
				t.Error("the window came at once")
			}
			time.Sleep(2 * time.Second)
			w.settleDown()
			if w.visible != tt.shown {
				t.Errorf("panel after %v: shown %v", tt.panel, w.visible)
			}
		})
	}
}

// TestRaiseGivesTheKeyboard: who opens the window for a question can type the answer.
func TestRaiseGivesTheKeyboard(t *testing.T) {
	tray := func(w *world, opts *Options) {
		withOffice(w, opts)
		opts.TrayHost = func(context.Context) error { return nil }
	}
	inWorld(t, tray, func(w *world) {
		if got := w.closing(); got != "hides" {
			t.Fatalf("it %s", got)
		}
		w.service.set(promptedBy(app.Prompt{ID: "p1", Kind: app.PromptOTP}))
		w.settleDown()
		w.raise()
		w.settleDown()
		w.want("prompt")
		if got := w.focused(); got != w.home.prompt.first() {
			t.Errorf("the keyboard is at %T", got)
		}
	})
}
