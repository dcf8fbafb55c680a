package gui

import (
	"errors"
	"runtime"
	"slices"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/lang"
)

// shell is what surrounds the window: tray and notifications.
type shell struct {
	tray     *tray // nil: the driver has none, as in tests
	notifier notifier
	again    *time.Timer // to look at the notifier again; nil: need not be
	inFront  bool        // the window has the keyboard
}

// errNoTray: the driver knows no tray.
var errNoTray = errors.New("this desktop shows no icons of programs")

// startShell follows whether the window is in front.
func (c *controller) startShell() {
	life := c.app.Lifecycle()
	life.SetOnEnteredForeground(func() { c.inFront = true; c.render() })
	life.SetOnExitedForeground(func() { c.inFront = false; c.render() })
	c.app.Settings().AddListener(func(fyne.Settings) { c.do(c.render) }) // light or dark
	c.win.SetCloseIntercept(c.closeWindow)
	if c.tray != nil {
		c.opts.TrayTapped(func() { c.do(c.raise) })
	}
}

// makeTray puts the icon into the tray. Fyne wants that before its loop runs.
func (c *controller) makeTray() {
	if desk, ok := c.app.(desktop.App); ok && c.opts.Tray {
		c.tray = &tray{
			setMenu: desk.SetSystemTrayMenu, setIcon: desk.SetSystemTrayIcon, setTooltip: c.opts.TrayTooltip,
			actions: trayActions{
				connect: c.connectFromTray, disconnect: c.disconnect, open: c.raise,
				logs:     func() { c.raise(); c.openLog() },
				settings: func() { c.raise(); c.openSettings() },
				quit:     c.quit,
			},
			ends: c.opts.Demo != nil, template: runtime.GOOS == "darwin",
		}
		c.renderTray()
	}
}

// connectFromTray connects a profile, and shows the window where that needs a person.
func (c *controller) connectFromTray(key string) {
	c.connectKey(key)
	it := c.model.item(key)
	p := it.profile
	if p == nil {
		p = it.managed
	}
	if p == nil || p.signsIn && !p.hasPassword {
		c.model.selected = key
		c.raise()
	}
}

// renderTray shows the model in the tray.
func (c *controller) renderTray() {
	if c.tray != nil {
		c.tray.update(&c.model, isDark())
	}
}

// trayHost says why no icon in the tray would be seen; nil: it is. It may take a second.
func (c *controller) trayHost() error {
	if c.opts.TrayHost == nil {
		return errNoTray
	}
	return c.opts.TrayHost(c.ctx)
}

// closeWindow hides the window, and ends the program where nothing would be left to see
// of it. With a connection it says so before.
func (c *controller) closeWindow() {
	go func() {
		err := c.trayHost()
		c.do(func() {
			up := slices.ContainsFunc(c.model.items(), func(it item) bool { return isUp(it.state) })
			switch {
			case err != nil && up:
				c.askToQuit()
			case err != nil:
				c.quit()
			default:
				c.visible = false
				if c.pageChanged == nil || !c.pageChanged() { // else it is there when the window is opened again
					c.closePage()
				}
				c.win.Hide()
				c.render()
			}
		})
	}()
}

// askToQuit says why closing the window ends the program, and what becomes of the
// connections.
func (c *controller) askToQuit() {
	text := lang.L("This desktop has no place for Wayfarer's icon, so Wayfarer ends with its window. Connections stay.")
	if c.opts.Demo != nil {
		text = lang.L("This desktop has no place for Wayfarer's icon, so Wayfarer ends with its window, and with it the connection.")
	}
	c.ask(lang.L("Quit Wayfarer?"), text, lang.L("Quit"), func(yes bool) {
		if yes {
			c.quit()
		}
	})
}

// Times of a start without the window: the panel may just be starting, too.
const (
	trayWait  = 10 * time.Second
	trayRetry = 500 * time.Millisecond
)

// startHidden leaves the window away, if there is a tray to open it from.
func (c *controller) startHidden() {
	go func() {
		for began := time.Now(); c.trayHost() != nil; {
			if time.Since(began) >= trayWait {
				c.do(c.raise)
				return
			}
			select {
			case <-time.After(trayRetry):
			case <-c.ctx.Done():
				return
			}
		}
	}()
}

// notify tells what is worth it, now and when it has settled.
func (c *controller) notify() {
	if c.again != nil {
		c.again.Stop()
		c.again = nil
	}
	notices, wait := c.notifier.update(c.model.status, c.now(), c.inFront && c.visible)
	for _, n := range notices {
		c.tell(n)
	}
	if wait > 0 {
		c.again = time.AfterFunc(wait, func() { c.do(c.notify) })
	}
}

// tell shows a notification.
func (c *controller) tell(n notice) {
	go c.app.SendNotification(fyne.NewNotification(n.title, n.text)) // it waits for another program's answer
}

// openConversation shows the messages that were exchanged with gateways, as a page.
func (c *controller) openConversation() {
	c.leave(func() {
		v := newConversationView(c.keys, c.svc.Logs, c.do, c.copyText, c.saveFile)
		c.openPage(c.framed(lang.L("Conversation with the gateway"), v.content()), v.end, nil)
		v.start()
		if conn := c.model.connection(c.model.selected); conn != nil {
			v.choose(conn.ID)
		}
	}, nil)
}

// openReport gathers what helps others to help, and shows it as a page.
func (c *controller) openReport() {
	status, list := c.model.status, slices.Clone(c.model.profiles)
	go func() {
		r := newReport(c.ctx, c.now(), c.opts.Version, c.svc.Logs, status, list)
		c.do(func() {
			v := newReportView(c.keys, r, c.copyText, c.saveFile)
			c.leave(func() { c.openPage(c.framed(lang.L("Report"), v.content()), nil, nil) }, nil)
		})
	}()
}

// openLog shows the service's log as a page.
func (c *controller) openLog() {
	c.leave(func() {
		v := newLogView(c.keys, c.svc.Logs, c.do, c.copyText, c.saveFile)
		c.openPage(c.framed(lang.L("Log"), v.content()), v.end, nil)
		v.start()
	}, nil)
}
