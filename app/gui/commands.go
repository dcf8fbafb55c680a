package gui

import (
	"errors"
	"slices"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/dialog"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
	"wayfarer/app/profiles"
	"wayfarer/app/store"
)

// bindKeys gives the keyboard its commands.
func (c *controller) bindKeys() {
	c.keys.shortcuts = map[fyne.KeyName]func(){fyne.KeyQ: c.quit}
	for key, do := range map[fyne.KeyName]func(){
		fyne.KeyN: c.compose,
		fyne.KeyE: c.editSelected,
		fyne.KeyO: c.chooseImport,
		fyne.KeyS: c.saveOpen,
	} {
		c.keys.shortcuts[key] = func() {
			if c.dialog == nil { // which waits for an answer
				do()
			}
		}
	}
	c.keys.plain = map[fyne.KeyName]func(){
		fyne.KeyEscape: c.escape,
		fyne.KeyDelete: func() { c.withSelected(c.remove) },
		fyne.KeyF2:     func() { c.withSelected(c.rename) },
	}
	c.keys.listen(c.win.Canvas())
}

// withSelected does something with the profile that is selected, if one is.
func (c *controller) withSelected(do func(name string)) {
	name, ok := profileOf(c.model.selected)
	if ok && c.model.profile(c.model.selected) != nil && c.page == nil && c.dialog == nil {
		do(name)
	}
}

// escape closes what is open last, or cancels what is on its way.
func (c *controller) escape() {
	switch it := c.model.item(c.model.selected); {
	case c.dialog != nil:
		c.dialog.Hide()
	case c.page != nil:
		c.leave(c.closePage, nil)
	case c.composing && it.key == "" && it.state == app.StateDisconnected:
		c.composing = false
		c.selectFirst()
		c.render()
	case it.prompt != nil:
		c.disconnect(it.key)
	case it.state == app.StateConnecting:
		c.disconnect(it.key)
	case it.state == app.StateFailed:
		c.back(it.key)
	}
}

// mayAdd says whether this computer's policy lets the user have profiles and gateways of
// his own. If it does not, the person is told.
func (c *controller) mayAdd() bool {
	if c.model.policy.ForbidAdding {
		c.say(lang.L("This computer does not allow it"), managedOnly())
	}
	return !c.model.policy.ForbidAdding
}

// compose shows the form for a new connection.
func (c *controller) compose() {
	if !c.mayAdd() {
		return
	}
	c.leave(func() {
		c.composing = true
		c.selectItem("")
	}, nil)
}

// quit ends the program; the connections stay with the service.
func (c *controller) quit() {
	c.leave(func() {
		c.close()
		c.app.Quit()
	}, nil)
}

// popUp shows a menu below a button.
func (c *controller) popUp(menu *fyne.Menu, below fyne.CanvasObject) {
	at := c.app.Driver().AbsolutePositionForObject(below)
	at.Y += below.Size().Height
	if over := at.X + menuWidth - c.win.Canvas().Size().Width; over > 0 {
		at.X = max(0, at.X-over)
	}
	widget.ShowPopUpMenuAtPosition(menu, c.win.Canvas(), at)
}

// menuWidth is about that of a menu, to keep it in the window.
const menuWidth = 220

// moreOptions opens what there is beside the form's three fields.
func (c *controller) moreOptions() {
	menu := fyne.NewMenu("")
	if !c.model.policy.ForbidAdding {
		menu.Items = []*fyne.MenuItem{
			fyne.NewMenuItem(lang.L("All settings of this connection"), c.editDraft),
			fyne.NewMenuItem(lang.L("Import"), c.chooseImport),
			fyne.NewMenuItemSeparator(),
		}
	}
	menu.Items = append(menu.Items, c.programItems()...)
	c.popUp(menu, c.home.form.more)
}

// programItems are what concerns no connection in particular.
func (c *controller) programItems() []*fyne.MenuItem {
	return []*fyne.MenuItem{
		fyne.NewMenuItem(lang.L("Settings"), c.openSettings),
		fyne.NewMenuItem(lang.L("Log"), c.openLog),
		fyne.NewMenuItem(lang.L("Conversation with the gateway"), c.openConversation),
		fyne.NewMenuItem(lang.L("Create report"), c.openReport),
		fyne.NewMenuItemSeparator(),
		fyne.NewMenuItem(quitLabel(c.model.items(), c.opts.Demo != nil), c.quit),
	}
}

// itemMenu is what can be done with an item of the list.
func (c *controller) itemMenu(key string) *fyne.Menu {
	it := c.model.item(key)
	menu := fyne.NewMenu("")
	if active(it.state) {
		menu.Items = append(menu.Items, fyne.NewMenuItem(lang.L("Disconnect"), func() { c.disconnect(key) }))
	} else {
		connect := fyne.NewMenuItem(lang.L("Connect"), func() { c.connectKey(key) })
		connect.Disabled = it.barred
		menu.Items = append(menu.Items, connect)
	}
	if it.profile == nil {
		return menu
	}
	name := it.profile.name
	at := slices.IndexFunc(c.model.profiles, func(p saved) bool { return p.name == name })
	up := fyne.NewMenuItem(lang.L("Move up"), func() { c.move(name, -1) })
	up.Disabled = at == 0
	down := fyne.NewMenuItem(lang.L("Move down"), func() { c.move(name, 1) })
	down.Disabled = at == len(c.model.profiles)-1
	duplicate := fyne.NewMenuItem(lang.L("Duplicate"), func() { c.duplicate(name) })
	duplicate.Disabled = it.barred
	menu.Items = append(
		menu.Items,
		fyne.NewMenuItemSeparator(),
		fyne.NewMenuItem(lang.L("Edit"), func() { c.edit(name) }),
		fyne.NewMenuItem(lang.L("Rename"), func() { c.rename(name) }),
		duplicate,
		fyne.NewMenuItem(lang.L("Export"), func() { c.export(name) }),
		up, down,
		fyne.NewMenuItemSeparator(),
		fyne.NewMenuItem(lang.L("Remove"), func() { c.remove(name) }),
	)
	return menu
}

// editSelected opens the editor for what is on the right side.
func (c *controller) editSelected() {
	c.leave(func() {
		if name, ok := profileOf(c.model.selected); ok && c.model.profile(c.model.selected) != nil {
			c.edit(name)
			return
		}
		if c.model.item(c.model.selected).managed != nil {
			return // it is the administrator's
		}
		if it := c.model.item(c.model.selected); it.state == app.StateFailed {
			c.back(it.key)
		}
		c.editDraft()
	}, nil)
}

// edit opens the editor for a saved profile.
func (c *controller) edit(name string) {
	c.later(func() func() {
		entry, err := c.store.Load(name)
		return func() {
			if err != nil {
				c.complain(err)
				return
			}
			c.openEditor(lang.L("Edit {{.Name}}", map[string]any{"Name": plainLine(name)}), entry, name)
		}
	})
}

// editDraft opens the editor for a new profile, with what the form holds.
func (c *controller) editDraft() {
	if !c.mayAdd() {
		return
	}
	d := c.home.form.take()
	entry := &store.Entry{Profile: app.Profile{Gateway: d.gateway, Login: d.login}, Password: d.password}
	if d.gateway != "" {
		entry.Profile.Name = c.model.freeName(nameFor(d.gateway))
	}
	c.openEditor(lang.L("New connection"), entry, "")
}

// openEditor edits an entry; name is that under which it is saved, empty for a new one.
func (c *controller) openEditor(heading string, entry *store.Entry, name string) {
	v := newEditorView(c.keys, heading, entry, c.model.policy)
	v.onCancel = func() { c.leave(c.closePage, nil) }
	v.pick = c.chooseFile
	saving := false
	v.onSave = func(e *store.Entry) {
		to := e.Profile.Name
		switch {
		case saving:
			return
		case to != name && c.model.profile(profileKey(to)) != nil:
			v.complain(lang.L("there is a profile of that name already"))
			return
		case to != name && name != "" && c.busy(name):
			v.complain(errConnected().Error())
			return
		}
		saving = true
		entry := e.Clone() // the page may be closed meanwhile
		c.later(func() func() {
			save := c.store.Save
			if name != "" {
				save = func(e *store.Entry) error { return c.store.Replace(name, e) }
			}
			err := save(entry)
			entry.Zero()
			return func() {
				saving = false
				if err != nil {
					v.complain(err.Error())
					return
				}
				if c.page == v.content() {
					c.closePage()
				}
				c.composing = false
				c.changed(name)
				c.renamed(name, to)
				c.reload(to)
			}
		})
	}
	c.leave(func() {
		c.openPage(v.content(), v.close, v.save)
		c.pageChanged = v.changed
		c.win.Canvas().Focus(v.first)
	}, v.close)
}

// busy says whether a profile connects, or is connected: then it keeps its name, by which
// the service knows it.
func (c *controller) busy(name string) bool {
	return active(c.model.item(profileKey(name)).state)
}

func errConnected() error {
	return errors.New(lang.L("it is in use: disconnect before you rename it"))
}

// renamed has the settings follow a profile to its new name; empty: it was removed.
func (c *controller) renamed(from, to string) {
	if from == "" || from == to {
		return
	}
	if c.prefs.connectOnStart() == from {
		c.prefs.SetString(prefConnect, to)
	}
	c.dismiss(profileKey(from)) // what has failed under that name
}

// changed forgets what is left of a failed attempt of a profile that is another one now.
func (c *controller) changed(name string) {
	key := profileKey(name)
	if a := c.attempts[key]; a != nil && !c.busy(name) {
		delete(c.attempts, key)
		delete(c.model.own, key)
		a.zero()
	}
}

// rename asks for another name of a profile.
func (c *controller) rename(name string) {
	if c.busy(name) {
		c.complain(errConnected())
		return
	}
	f := newField(c.keys)
	f.SetText(name)
	f.Validator = store.CheckName
	item := widget.NewFormItem(lang.L("Name"), f)
	d := dialog.NewForm(lang.L("Rename"), lang.L("Save"), lang.L("Cancel"), []*widget.FormItem{item}, func(yes bool) {
		if to := strings.TrimSpace(f.Text); yes && to != name {
			c.later(func() func() {
				err := c.store.Rename(name, to)
				return func() {
					if err == nil {
						c.renamed(name, to)
					}
					c.stored(err, to)
				}
			})
		}
	}, c.win)
	f.OnSubmitted = func(string) { d.Submit() }
	d.Resize(fyne.NewSize(360, 0))
	c.openDialog(d, nil)
	c.win.Canvas().Focus(f)
}

// stored is after a change of the store; selectName is selected then.
func (c *controller) stored(err error, selectName string) {
	if err != nil {
		c.complain(err)
		selectName = ""
	}
	c.reload(selectName)
}

// duplicate saves a profile a second time, under another name.
func (c *controller) duplicate(name string) {
	free := c.model.freeName(name)
	c.later(func() func() {
		entry, err := c.store.Load(name)
		if err == nil {
			entry.Profile.Name = free
			err = c.store.Save(entry)
			entry.Zero()
		}
		return func() { c.stored(err, free) }
	})
}

// remove asks whether a profile is to be removed with its secrets.
func (c *controller) remove(name string) {
	text := lang.L("{{.Name}} is removed from this computer, with its password.", map[string]any{"Name": plainLine(name)})
	c.ask(lang.L("Remove this profile?"), text, lang.L("Remove"), func(yes bool) {
		if yes {
			c.later(func() func() {
				err := c.store.Remove(name)
				return func() {
					if err == nil {
						c.renamed(name, "")
					}
					c.stored(err, "")
				}
			})
		}
	})
}

// move moves a profile in the list.
func (c *controller) move(name string, by int) {
	var names []string
	for _, p := range c.model.profiles {
		names = append(names, p.name)
	}
	i := slices.Index(names, name)
	if i < 0 || i+by < 0 || i+by >= len(names) {
		return
	}
	names[i], names[i+by] = names[i+by], names[i]
	c.later(func() func() {
		err := c.store.Reorder(names)
		return func() { c.stored(err, "") }
	})
}

// chooseFile lets the person choose a file and gives its path to put.
func (c *controller) chooseFile(put func(path string)) {
	c.openDialog(dialog.NewFileOpen(func(file fyne.URIReadCloser, err error) {
		if err != nil {
			c.complain(err)
			return
		}
		if file == nil {
			return // the person does not want to
		}
		defer file.Close()
		put(file.URI().Path())
	}, c.win), nil)
}

// chooseImport lets the person choose a file of profiles.
func (c *controller) chooseImport() {
	if c.page == nil && c.mayAdd() {
		c.chooseFile(func(path string) { c.importFiles([]string{path}) })
	}
}

// importFiles shows what files hold, and saves it when the person agrees.
func (c *controller) importFiles(paths []string) {
	if len(paths) == 0 {
		return
	}
	c.later(func() func() {
		list := readImports(paths)
		return func() { c.openImport(list) }
	})
}

func (c *controller) openImport(list []found) {
	v := newImportView(c.keys, list, c.model.policy)
	if !c.mayAdd() {
		v.close()
		return
	}
	v.onCancel = c.closePage
	saving := false
	v.onSave = func(chosen []*store.Candidate) {
		if saving || !c.mayAdd() { // the service may have told it only now
			return
		}
		saving = true
		c.later(func() func() {
			first, err := adopt(c.store, chosen)
			return func() {
				saving = false
				if c.page == v.content() {
					c.closePage()
				} else {
					v.close()
				}
				c.composing = false
				c.stored(err, first)
			}
		})
	}
	ends := func() {
		if !saving {
			v.close()
		}
	}
	c.leave(func() { c.openPage(v.content(), ends, v.take) }, v.close)
}

// export saves a profile without its secrets into a file that the person chooses.
func (c *controller) export(name string) {
	c.later(func() func() {
		entry, err := c.store.Load(name)
		var text []byte
		if err == nil {
			entry.Zero()
			// A file of the user's that cannot be read keeps its name in the profile.
			if _, err = profiles.Embed(&entry.Profile); err == nil {
				text, err = profiles.Encode(&entry.Profile)
			}
		}
		return func() {
			if err != nil {
				c.complain(err)
				return
			}
			c.saveFile(name+".toml", string(text))
		}
	})
}

// saveFile writes a text into a file that the person chooses.
func (c *controller) saveFile(name, text string) {
	d := dialog.NewFileSave(func(file fyne.URIWriteCloser, err error) {
		if file == nil && err == nil {
			return // the person does not want to
		}
		if err == nil {
			_, err = file.Write([]byte(text))
			err = errors.Join(err, file.Close())
		}
		if err != nil {
			c.complain(err)
		}
	}, c.win)
	d.SetFileName(name)
	c.openDialog(d, nil)
}

// openSettings shows the page of the settings, once it is known whether there is a tray.
func (c *controller) openSettings() {
	go func() {
		noTray := c.trayHost()
		c.do(func() { c.showSettings(noTray) })
	}()
}

func (c *controller) showSettings(noTray error) {
	s := &settings{
		noTray:         noTray,
		connectOnStart: c.prefs.connectOnStart(), blockOutside: c.prefs.blockOutside(), local: c.prefs.localNetwork(),
		language: c.prefs.language(), version: c.opts.Version,
		noStart: errors.New(lang.L("this system does not offer it")),
	}
	if c.opts.Autostart != nil {
		s.startAtLogin, s.noStart = c.opts.Autostart.Enabled()
	}
	for _, p := range slices.Concat(c.model.profiles, c.model.managed) {
		if !c.model.item(c.model.keyOf(p.name)).barred && !slices.Contains(s.profiles, p.name) {
			s.profiles = append(s.profiles, p.name)
		}
	}
	s.policy, s.managed = c.model.policy, len(c.model.managed) > 0
	if c.model.status != nil {
		s.serviceVersion = plainLine(c.model.status.Version)
	}
	v := newSettingsView(c.keys, s)
	v.onBack = c.closePage
	v.onStart = func(on bool) error {
		err := c.opts.Autostart.Set(on)
		if err != nil {
			c.complain(err)
		}
		return err
	}
	v.onConnect = func(name string) { c.prefs.SetString(prefConnect, name) }
	v.onBlock = func(on bool) { c.prefs.SetBool(prefBlock, on) }
	v.onLocal = func(on bool) { c.prefs.SetBool(prefLocal, on) }
	v.onLanguage = c.changeLanguage
	v.onRepair = c.repair
	c.leave(func() { c.openPage(v.content(), nil, nil) }, nil)
}

// repair has the service undo what is left of connections that are no more.
func (c *controller) repair() {
	go func() {
		err := c.svc.RestoreNetwork(c.ctx)
		c.do(func() {
			if err != nil {
				c.complain(err)
				return
			}
			c.say(lang.L("Done"), lang.L("Nothing of old connections is left."))
		})
	}()
}

// changeLanguage makes all views anew, in another language.
func (c *controller) changeLanguage(code string) {
	c.prefs.SetString(prefLang, code)
	if err := useLanguage(code); err != nil {
		c.complain(err)
	}
	c.closePage()
	c.makeViews()
	c.render()
}

// framed is content as a page of its own, with a way back.
func (c *controller) framed(heading string, content fyne.CanvasObject) fyne.CanvasObject {
	return pageFrame(c.keys, heading, c.closePage, container.NewPadded(content), nil)
}
