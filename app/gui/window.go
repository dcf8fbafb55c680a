package gui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/dialog"
	"fyne.io/fyne/v2/lang"
)

// window is the one window and the views in it.
type window struct {
	win       fyne.Window
	keys      *keys
	home      *homeView
	noService *noServiceView
	sidebar   *sidebarView
	root      *fyne.Container
	main      fyne.CanvasObject // sidebar and home
	page      fyne.CanvasObject // in place of all else; nil: none
	dialog    dialog.Dialog     // open; nil: none
	visible   bool
	composing bool // a new connection was asked for, though there are profiles
}

// Sizes of the window, before the person changes them.
var (
	sizeAlone = fyne.NewSize(460, 600) // without profiles
	sizeList  = fyne.NewSize(780, 620) // with the list of profiles
)

// build makes the window and its views.
func (c *controller) build() {
	k := &keys{}
	w := &window{win: c.app.NewWindow("Wayfarer"), keys: k}
	c.window = w
	w.home = newHomeView(k, nil)
	w.noService = newNoServiceView(k, c.copyText)
	w.sidebar = newSidebarView(k)
	c.wire()
	w.main = container.New(&split{}, w.sidebar.content(), w.home.content())
	w.root = container.NewStack(w.main)
	w.win.SetContent(w.root)
	w.win.Resize(sizeAlone)
	c.bindKeys()
}

// wire gives the views what they call.
func (c *controller) wire() {
	h := c.home
	h.form.onConnect = c.connectDraft
	h.form.onMore = c.moreOptions
	h.form.onEdit = c.editSelected
	h.onCancel = func() { c.disconnect(c.model.selected) }
	h.connected.onDisconnect = h.onCancel
	h.prompt.onAnswer = func(text []byte, keep bool) { c.answer(c.model.selected, text, true, keep) }
	h.prompt.onCancel = func() { c.refuse(c.model.selected) }
	h.trust.onTrust = func() { c.answer(c.model.selected, nil, true, false) }
	h.trust.onCancel = h.prompt.onCancel
	h.failure.onRetry = func() { c.tryAgain(c.model.selected) }
	h.failure.onEdit = c.editSelected
	h.failure.onBack = func() { c.back(c.model.selected) }
	h.failure.onCopy = c.copyText
	c.sidebar.onSelect = func(key string) { c.composing = false; c.selectItem(key) }
}

// renderWindow shows the list, and what stands in place of everything.
func (c *controller) renderWindow(m *model) {
	c.sidebar.update(m)
	root := c.main
	switch {
	case c.page != nil:
		root = c.page
	case m.noService != nil:
		root = c.noService.content()
	}
	if len(c.root.Objects) != 1 || c.root.Objects[0] != root {
		c.root.Objects = []fyne.CanvasObject{root}
		c.root.Refresh()
	}
}

// showPage puts a page in place of everything; nil takes it away.
func (c *controller) showPage(page fyne.CanvasObject) {
	c.page = page
	c.renderWindow(&c.model)
}

// raise shows the window, in front.
func (c *controller) raise() {
	c.visible = true
	c.win.Show()
	c.win.RequestFocus()
	c.render()
}

func (c *controller) copyText(text string) { c.app.Clipboard().SetContent(text) }

// complain shows an error of the window's own work, such as of the keyring.
func (c *controller) complain(err error) {
	text := wrapped(plain(sentence(err.Error())))
	c.openDialog(dialog.NewCustom(lang.L("That did not work"), lang.L("Close"), text, c.win))
}

// openDialog shows a dialog, in place of one that is open.
func (c *controller) openDialog(d dialog.Dialog) {
	if c.dialog != nil {
		c.dialog.Hide()
	}
	c.dialog = d
	d.SetOnClosed(func() {
		if c.dialog == d {
			c.dialog = nil
		}
	})
	d.Show()
}

// split shows the list beside the rest where there is room, and else the rest alone.
type split struct{}

// listWidth is that of the list of profiles; splitWidth the least of a window that has
// room for it.
const (
	listWidth  = 210
	splitWidth = 600
)

// MinSize implements fyne.Layout.
func (*split) MinSize(objects []fyne.CanvasObject) fyne.Size { return objects[1].MinSize() }

// Layout implements fyne.Layout.
func (*split) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	list, rest := objects[0], objects[1]
	var x float32
	if list.Visible() && size.Width >= splitWidth {
		x = listWidth
	}
	list.Resize(fyne.NewSize(x, size.Height))
	rest.Move(fyne.NewPos(x, 0))
	rest.Resize(fyne.NewSize(size.Width-x, size.Height))
}
