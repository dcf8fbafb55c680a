package gui

import (
	"strings"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
	"wayfarer/app/control"
)

// homeView is the right side of the window: where the selected item stands, and what
// there is to do. What a person may do stands below, and never scrolls away.
type homeView struct {
	sign            *canvas.Image
	state, subtitle *widget.Label
	hero            *fyne.Container
	body, foot      *fyne.Container
	scroll          *container.Scroll
	root            fyne.CanvasObject

	form      *formView
	steps     *stepsView
	prompt    *promptView
	trust     *trustView
	failure   *failureView
	connected *connectedView
	progress  part
	cancel    *button
	onCancel  func()

	shown      fyne.CanvasObject
	shownState app.State
	shownKey   string
}

// part is what the body shows for a state, and the buttons below it; nil: none.
type part struct{ content, actions fyne.CanvasObject }

// Sizes of the sign of the state: alone, and above a part that has a heading of its own.
const (
	largeSign = 72
	smallSign = 44
)

func newHomeView(k *keys, details detailPart) *homeView {
	v := &homeView{
		sign: canvas.NewImageFromResource(nil), state: title(""), subtitle: wrapped(""),
		form: newFormView(k), steps: newStepsView(), prompt: newPromptView(k), trust: newTrustView(k),
		failure: newFailureView(k), connected: newConnectedView(k, details), shownState: "none", shownKey: "none",
	}
	v.sign.FillMode = canvas.ImageFillContain
	v.state.Alignment, v.subtitle.Alignment = fyne.TextAlignCenter, fyne.TextAlignCenter
	v.subtitle.Importance = widget.LowImportance
	v.cancel = newButton(k, lang.L("Cancel"), nil, func() { v.onCancel() })
	v.progress = part{container.NewCenter(v.steps.content()), v.cancel}
	v.hero = container.New(layout.NewCustomPaddedVBoxLayout(0), gap(16), v.sign, v.state, v.subtitle)
	v.body, v.foot = container.NewStack(), container.NewStack()
	v.scroll = container.NewVScroll(margins(readable(container.NewVBox(v.hero, v.body, gap(8)))))
	v.root = container.NewBorder(nil, margins(readable(v.foot)), nil, nil, v.scroll)
	return v
}

// questionOf tells an item's prompt from all others: the service numbers those of each
// connection, and after a restart the connections, from one.
func questionOf(it *item) string {
	p, id, certificate := it.prompt, "", ""
	if it.conn != nil {
		id = it.conn.ID
	}
	if p.Certificate != nil {
		certificate = p.Certificate.SHA256
	}
	return strings.Join([]string{it.key, id, p.ID, string(p.Kind), p.Text, certificate}, "\x00")
}

func (v *homeView) content() fyne.CanvasObject { return v.root }

// update shows an item; noKeyring says why nothing can be kept. It reports where the
// focus belongs now, if that has changed.
func (v *homeView) update(it *item, noKeyring error, now time.Time) (focus fyne.Focusable, changed bool) {
	shown := v.part(it)
	v.head(it, shown)
	changed = v.shownState != it.state || v.shownKey != it.key
	v.shownState, v.shownKey = it.state, it.key
	if shown != v.progress {
		v.steps.rest()
	}
	switch shown {
	case v.form.part():
		p := it.profile
		if it.managed != nil {
			p = it.managed
		}
		v.form.update(p, it.barred, noKeyring)
		focus = v.form.first()
	case v.progress:
		v.steps.update(it)
		showIf(v.steps.content(), it.state == app.StateConnecting || it.state == app.StateReconnecting)
		showIf(v.cancel, it.state != app.StateDisconnecting)
		v.cancel.SetText(cancelName(it.state))
	case v.prompt.part():
		changed = v.prompt.update(questionOf(it), it.prompt, it.canKeep, it.keeps) || changed
		focus = v.prompt.first()
	case v.trust.part():
		v.trust.update(questionOf(it), it.prompt, hostOf(it))
	case v.failure.part():
		v.failure.update(it)
	case v.connected.part():
		v.connected.update(it, now)
	}
	v.show(shown)
	return focus, changed
}

// head shows the state above the part that fits it.
func (v *homeView) head(it *item, shown part) {
	state := it.state
	if shown == v.prompt.part() {
		state = app.StateConnecting // nothing is wrong
	}
	setSign(v.sign, state)
	alone := shown != v.prompt.part() && shown != v.trust.part() && shown != v.failure.part()
	size := float32(smallSign)
	if alone {
		size = largeSign
	}
	v.sign.SetMinSize(fyne.NewSquareSize(size))
	setText(v.state, headline(it))
	setText(v.subtitle, subtitle(it))
	showIf(v.state, alone)
	showIf(v.subtitle, alone && v.subtitle.Text != "")
}

// setSign shows a state, in the theme's colours of now.
func setSign(image *canvas.Image, state app.State) {
	if sign := stateSign(state, isDark()); image.Resource == nil || image.Resource.Name() != sign.Name() {
		image.Resource = sign
		image.Refresh()
	}
}

// part is the one that fits an item.
func (v *homeView) part(it *item) part {
	switch {
	case it.prompt != nil && it.prompt.Kind == app.PromptTrust:
		return v.trust.part()
	case it.prompt != nil && it.state != app.StateConnected:
		return v.prompt.part()
	case it.state == app.StateFailed, it.failure != nil:
		return v.failure.part()
	case it.state == app.StateConnected:
		return v.connected.part()
	case active(it.state):
		return v.progress
	}
	return v.form.part()
}

func (v *homeView) show(p part) {
	if v.shown == p.content {
		return
	}
	if v.shown == v.prompt.box {
		v.prompt.clear()
	}
	v.shown = p.content
	v.body.Objects = []fyne.CanvasObject{p.content}
	v.foot.Objects = nil
	if p.actions != nil {
		v.foot.Objects = []fyne.CanvasObject{p.actions}
	}
	v.body.Refresh()
	v.foot.Refresh()
	v.scroll.ScrollToTop()
	v.root.Refresh()
}

// headline is the largest line: the state.
func headline(it *item) string {
	if it.state == app.StateDisconnected && it.key == "" {
		return lang.L("Connect to your network")
	}
	return stateName(it.state)
}

// subtitle says which connection it is, or what its state means.
func subtitle(it *item) string {
	switch it.state {
	case app.StateBlocked:
		return lang.L("The connection is lost. Nothing leaves this computer unprotected until it is back or you disconnect.")
	case app.StateReconnecting:
		return lang.L("The connection to {{.Name}} was lost. It is being made again.", map[string]any{"Name": it.name})
	}
	return it.name
}

func cancelName(s app.State) string {
	if s == app.StateBlocked || s == app.StateReconnecting {
		return lang.L("Disconnect")
	}
	return lang.L("Cancel")
}

func hostOf(it *item) string {
	if it.conn != nil && it.conn.Gateway != nil {
		return it.conn.Gateway.Host
	}
	return it.name
}

// detailPart is what there is to know of a connection.
type detailPart interface {
	update(c *app.Connection, now time.Time)
	content() fyne.CanvasObject
}

// connectedView is for a connection that stands.
type connectedView struct {
	disconnect   *button
	details      detailPart
	box          *fyne.Container
	onDisconnect func()
}

func newConnectedView(k *keys, details detailPart) *connectedView {
	v := &connectedView{details: details}
	v.disconnect = newButton(k, lang.L("Disconnect"), nil, func() { v.onDisconnect() })
	v.box = container.NewVBox(gap(4))
	if details != nil {
		v.box.Add(details.content())
	}
	return v
}

func (v *connectedView) part() part { return part{v.box, v.disconnect} }

func (v *connectedView) update(it *item, now time.Time) {
	if it.conn != nil && v.details != nil {
		v.details.update(it.conn, now)
	}
}

// noServiceView is shown while the service cannot be used.
type noServiceView struct {
	sign                    *canvas.Image
	headline, advice, words *widget.Label
	command                 *widget.Label
	commandPart             fyne.CanvasObject
	root                    fyne.CanvasObject
}

func newNoServiceView(k *keys, copyText func(string)) *noServiceView {
	v := &noServiceView{headline: title(""), advice: wrapped(""), words: quiet(""), command: wrapped("")}
	v.headline.Alignment, v.advice.Alignment, v.words.Alignment = fyne.TextAlignCenter, fyne.TextAlignCenter, fyne.TextAlignCenter
	v.command.Selectable = true
	v.command.TextStyle.Monospace = true
	v.words.Selectable = true
	v.sign = canvas.NewImageFromResource(nil)
	v.sign.FillMode = canvas.ImageFillContain
	v.sign.SetMinSize(fyne.NewSquareSize(largeSign))
	copyIt := newIconButton(k, lang.L("Copy"), theme.ContentCopyIcon(), func() { copyText(v.command.Text) })
	v.commandPart = card(container.NewBorder(nil, nil, nil, copyIt, v.command))
	waits := quiet(lang.L("Wayfarer goes on by itself as soon as the service answers."))
	waits.Alignment = fyne.TextAlignCenter
	v.root = container.NewVScroll(margins(readable(container.NewVBox(gap(16), v.sign, v.headline, v.advice,
		v.commandPart, waits, v.words))))
	return v
}

func (v *noServiceView) content() fyne.CanvasObject { return v.root }

// update says why the service cannot be used and what to do on this system.
func (v *noServiceView) update(f *app.Failure, goos string) {
	headline, advice, command := noServiceWords(f, goos)
	setSign(v.sign, app.StateFailed)
	setText(v.headline, headline)
	setText(v.advice, advice)
	setText(v.command, command)
	showIf(v.commandPart, command != "")
	setText(v.words, plain(sentence(f.Message)))
}

// noServiceWords are what is wrong, what to do about it, and a command that does it;
// empty: there is none to type.
func noServiceWords(f *app.Failure, goos string) (headline, advice, command string) {
	refused := control.RefusesUser(f)
	switch {
	case f.Code != app.CodeNoService:
		return lang.L("The service gives answers that are not understood"),
			lang.L("Window and service may be of different versions. Install both anew."), ""
	case refused && goos == "windows":
		return lang.L("You may not use the VPN service"), lang.L("Sign in at this computer, or ask its administrator."), ""
	case refused && goos == "darwin":
		return lang.L("You may not use the VPN service"),
			lang.L("Sign in at this computer, or have an administrator add you to the group wayfarer:"),
			control.MacGroupCommand(`"$USER"`)
	case refused:
		return lang.L("You may not use the VPN service"),
			lang.L("Sign in at this computer, or have an administrator add you to the group wayfarer. Then log out and in again."),
			"sudo usermod -aG wayfarer \"$USER\""
	}
	headline = lang.L("The VPN service does not run")
	switch goos {
	case "windows":
		return headline, lang.L("Start the service Wayfarer: open Services, or type this into a terminal as administrator:"), "net start wayfarerd"
	case "darwin":
		return headline, lang.L("Start it in a terminal:"), control.MacStartCommand
	}
	return headline, lang.L("Start it in a terminal:"), "sudo systemctl start wayfarerd"
}
