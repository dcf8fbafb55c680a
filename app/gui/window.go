package gui

import (
	"slices"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/dialog"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// window is the one window and the views in it.
type window struct {
	win       fyne.Window
	keys      *keys
	home      *homeView
	noService *noServiceView
	sidebar   *sidebarView
	bar       *barView
	split     *split
	root      *fyne.Container
	main      fyne.CanvasObject // list, bar and home
	page      fyne.CanvasObject // in place of all else; nil: none
	pageEnds  func()            // when the page is closed; may be nil
	pageSaves func()            // what Ctrl+S does on it; may be nil
	// pageChanged says whether something on it is not saved; nil: nothing is.
	pageChanged func() bool
	dialog      dialog.Dialog // open; nil: none
	visible     bool
	widened     bool // for the list, once
	composing   bool // a new connection was asked for, though there are profiles
}

// Sizes of the window, before the person changes them.
var (
	sizeAlone = fyne.NewSize(460, 600) // without profiles
	sizeList  = fyne.NewSize(760, 600) // with the list of profiles
)

// build makes the window.
func (c *controller) build() {
	c.window = &window{win: c.app.NewWindow("Wayfarer"), keys: &keys{}, root: container.NewStack()}
	c.keys.tips, c.keys.reveal = newTips(c.do), c.reveal
	c.bindKeys()
	c.makeViews()
	c.win.SetPadded(false)
	c.win.SetContent(container.NewStack(c.root, c.keys.tips.layer))
	c.win.Resize(sizeAlone)
	c.win.SetOnDropped(func(_ fyne.Position, files []fyne.URI) {
		var paths []string
		for _, f := range files {
			paths = append(paths, f.Path())
		}
		c.importFiles(paths)
	})
}

// makeViews makes all views, at the start and for another language.
func (c *controller) makeViews() {
	w, k := c.window, c.keys
	w.home = newHomeView(k, newDetailsView(k, c.copyText))
	w.noService = newNoServiceView(k, c.copyText)
	w.sidebar = newSidebarView(k)
	w.bar = newBarView(k)
	w.split = &split{list: w.sidebar.content(), bar: w.bar.content(), rest: w.home.content()}
	w.main = container.New(w.split, w.split.list, w.split.bar, w.split.rest)
	c.wire()
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
	h.prompt.onCancel = h.onCancel
	h.trust.onTrust = func() { c.answer(c.model.selected, nil, true, false) }
	h.trust.onCancel = h.onCancel
	h.failure.onRetry = func() { c.tryAgain(c.model.selected) }
	h.failure.onEdit = c.editSelected
	h.failure.onBack = func() { c.back(c.model.selected) }
	h.failure.onCopy = c.copyText
	s := c.sidebar
	s.onSelect = func(key string) { c.composing = false; c.selectItem(key) }
	s.onMenu = c.itemMenu
	s.onActivate = c.activate
	s.onAdd = c.compose
	s.onImport = c.chooseImport
	s.onMore = func(below fyne.CanvasObject) { c.popUp(fyne.NewMenu("", c.programItems()...), below) }
	c.bar.onMore = s.onMore
	c.bar.onList = c.showList
}

// activate connects or disconnects an item: Return, or a double click.
func (c *controller) activate(key string) {
	switch it := c.model.item(key); {
	case it.state == app.StateDisconnected, it.state == app.StateFailed:
		c.connectKey(key)
	case it.state == app.StateConnected:
		c.disconnect(key)
	}
}

// showList opens the list as a menu, where the window has no room for it.
func (c *controller) showList(below fyne.CanvasObject) {
	menu := fyne.NewMenu("")
	for _, it := range c.model.items() {
		line := fyne.NewMenuItem(it.name+" · "+stateName(it.state), func() { c.composing = false; c.selectItem(it.key) })
		line.Checked = it.key == c.model.selected
		menu.Items = append(menu.Items, line)
	}
	if !c.model.policy.ForbidAdding {
		menu.Items = append(menu.Items, fyne.NewMenuItemSeparator(),
			fyne.NewMenuItem(lang.L("New connection"), c.compose), fyne.NewMenuItem(lang.L("Import"), c.chooseImport))
	}
	c.popUp(menu, below)
}

// renderWindow shows the list, and what stands in place of everything.
func (c *controller) renderWindow(m *model) {
	items := m.items()
	c.sidebar.update(m, items)
	it := m.item(m.selected)
	c.bar.update(&it, len(items))
	listed := len(m.profiles) > 0 || len(items) > 1
	first := it.key == "" && it.state == app.StateDisconnected && !listed // nothing but the form
	if c.split.wantList != listed || c.split.wantBar == first {
		c.split.wantList, c.split.wantBar = listed, !first
		c.main.Refresh()
	}
	if listed && !c.widened {
		c.widened = true
		if size := c.win.Canvas().Size(); size.Width < sizeList.Width {
			c.win.Resize(fyne.NewSize(sizeList.Width, max(size.Height, sizeList.Height)))
		}
	}
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

// openPage puts a page in place of everything. ends is called when it is closed, saves
// by Ctrl+S; both may be nil.
func (c *controller) openPage(page fyne.CanvasObject, ends, saves func()) {
	c.closePage()
	c.page, c.pageEnds, c.pageSaves = page, ends, saves
	c.render()
}

// closePage takes the page away, if there is one.
func (c *controller) closePage() {
	if c.page == nil {
		return
	}
	ends := c.pageEnds
	c.page, c.pageEnds, c.pageSaves, c.pageChanged = nil, nil, nil, nil
	c.win.Canvas().Unfocus() // a field that is gone would still get the keys
	if ends != nil {
		ends()
	}
	c.render()
}

// leave goes on with what takes the place of the open page: at once, or if something on
// it is not saved, when the person gives it up. Else stay is called; it may be nil.
func (c *controller) leave(then, stay func()) {
	if c.pageChanged == nil || !c.pageChanged() {
		then()
		return
	}
	if !c.visible {
		c.raise()
	}
	text := lang.L("What is open here has not been saved.")
	c.ask(lang.L("Discard it?"), text, lang.L("Discard"), func(yes bool) {
		switch {
		case yes:
			c.closePage()
			then()
		case stay != nil:
			stay()
		}
	})
}

// saveOpen saves what is being edited.
func (c *controller) saveOpen() {
	if c.pageSaves != nil {
		c.pageSaves()
	}
}

// raise shows the window, in front.
func (c *controller) raise() {
	if !c.visible {
		c.home.shownKey = "none" // what came while nobody saw it gets the keyboard now
	}
	c.visible = true
	c.win.Show()
	c.win.RequestFocus()
	c.reload("") // another program may have changed them, or unlocked the keyring
	c.render()
}

func (c *controller) copyText(text string) { c.app.Clipboard().SetContent(text) }

// complain shows an error of the window's own work, such as of the keyring.
func (c *controller) complain(err error) {
	c.say(lang.L("That did not work"), plain(sentence(err.Error())))
}

// say shows a text to be read.
func (c *controller) say(title, text string) {
	d := dialog.NewCustomWithoutButtons(title, wrapped(text), c.win)
	d.SetButtons([]fyne.CanvasObject{newButton(c.keys, lang.L("Close"), nil, d.Hide)})
	c.openDialog(d, nil)
}

// ask asks whether something that cannot be undone is to be done.
func (c *controller) ask(title, text, do string, answer func(yes bool)) {
	d, said := dialog.NewCustomWithoutButtons(title, wrapped(text), c.win), false
	yes := newButton(c.keys, do, nil, func() {
		said = true
		d.Hide()
	})
	yes.Importance = widget.DangerImportance
	d.SetButtons([]fyne.CanvasObject{newButton(c.keys, lang.L("Cancel"), nil, d.Hide), yes})
	d.Resize(fyne.NewSize(360, 0))
	c.openDialog(d, func() { answer(said) })
}

// openDialog shows a dialog, in place of one that is open. closed is called at its end; it
// may be nil.
func (c *controller) openDialog(d dialog.Dialog, closed func()) {
	if c.dialog != nil {
		c.dialog.Hide()
	}
	c.dialog = d
	d.SetOnClosed(func() {
		if c.dialog == d {
			c.dialog = nil
		}
		if closed != nil {
			closed()
		}
	})
	d.Show()
}

// reveal scrolls what is shown so that an object in it can be seen.
func (c *controller) reveal(o fyne.CanvasObject) {
	scroll := c.home.scroll
	if c.page != nil {
		scroll = scrollIn(c.page)
	}
	if scroll == nil || !holds(scroll.Content, o) {
		return
	}
	at := c.app.Driver().AbsolutePositionForObject
	const room = 36 // for its name above it
	top := at(o).Y - at(scroll).Y - room
	bottom := top + room + o.Size().Height + theme.Padding() - scroll.Size().Height
	switch {
	case top < 0:
		scroll.ScrollToOffset(fyne.NewPos(0, max(0, scroll.Offset.Y+top)))
	case bottom > 0:
		scroll.ScrollToOffset(fyne.NewPos(0, scroll.Offset.Y+bottom))
	}
}

// scrollIn is the first scroll of a page; nil: it has none.
func scrollIn(o fyne.CanvasObject) *container.Scroll {
	if s, ok := o.(*container.Scroll); ok {
		return s
	}
	if box, ok := o.(*fyne.Container); ok {
		for _, inside := range box.Objects {
			if s := scrollIn(inside); s != nil {
				return s
			}
		}
	}
	return nil
}

// holds says whether an object is within another one.
func holds(in, o fyne.CanvasObject) bool {
	if in == o {
		return true
	}
	var inside []fyne.CanvasObject
	switch in := in.(type) {
	case *fyne.Container:
		inside = in.Objects
	case *widget.Accordion:
		for _, part := range in.Items {
			inside = append(inside, part.Detail)
		}
	}
	return slices.ContainsFunc(inside, func(part fyne.CanvasObject) bool { return holds(part, o) })
}

// barView stands above the right side where the list has no room.
type barView struct {
	list, more *button
	root       *fyne.Container

	onList, onMore func(below fyne.CanvasObject)
}

func newBarView(k *keys) *barView {
	v := &barView{}
	v.list = newButton(k, "", theme.ListIcon(), func() { v.onList(v.list) })
	v.list.Importance = widget.LowImportance
	v.more = newIconButton(k, lang.L("More"), theme.MoreVerticalIcon(), func() { v.onMore(v.more) })
	v.root = container.NewPadded(container.NewHBox(v.list, layout.NewSpacer(), v.more))
	return v
}

func (v *barView) content() *fyne.Container { return v.root }

// update names the selected item, of so many.
func (v *barView) update(it *item, items int) {
	showIf(v.list, items > 0)
	name := it.name
	if it.key == "" {
		name = lang.L("New connection")
	}
	if r := []rune(name); len(r) > maxBarName {
		name = string(r[:maxBarName]) + "…"
	}
	if v.list.Text != name {
		v.list.SetText(name)
	}
}

// maxBarName bounds the name in the bar, in characters.
const maxBarName = 28

// split shows the list beside the rest where there is room, and else a bar above it.
type split struct {
	list, bar, rest   fyne.CanvasObject
	wantList, wantBar bool
}

// listWidth is that of the list of profiles; splitWidth the least of a window that has
// room for it.
const (
	listWidth  = 220
	splitWidth = 620
)

// MinSize implements fyne.Layout.
func (s *split) MinSize([]fyne.CanvasObject) fyne.Size { return s.rest.MinSize() }

// Layout implements fyne.Layout.
func (s *split) Layout(_ []fyne.CanvasObject, size fyne.Size) {
	beside := s.wantList && size.Width >= splitWidth
	showIf(s.list, beside)
	showIf(s.bar, s.wantBar && !beside)
	var x, y float32
	if beside {
		x = listWidth
		s.list.Resize(fyne.NewSize(x, size.Height))
	}
	if s.bar.Visible() {
		y = s.bar.MinSize().Height
		s.bar.Resize(fyne.NewSize(size.Width, y))
	}
	s.rest.Move(fyne.NewPos(x, y))
	s.rest.Resize(fyne.NewSize(size.Width-x, size.Height-y))
}
