package gui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/widget"
)

// bindKeys gives the keyboard its commands.
func (c *controller) bindKeys() {
	c.keys.shortcuts = map[fyne.KeyName]func(){
		fyne.KeyN: c.compose,
		fyne.KeyQ: c.quit,
	}
	c.keys.plain = map[fyne.KeyName]func(){
		fyne.KeyEscape: c.escape,
	}
	c.keys.listen(c.win.Canvas())
}

// escape closes what is open last, or cancels what is on its way.
func (c *controller) escape() {
	switch it := c.model.item(c.model.selected); {
	case c.dialog != nil:
		c.dialog.Hide()
	case c.page != nil:
		c.showPage(nil)
	case c.composing:
		c.composing = false
		c.selectFirst()
		c.render()
	case it.prompt != nil:
		c.refuse(it.key)
	}
}

// compose shows the form for a new connection.
func (c *controller) compose() {
	c.composing = true
	c.selectItem("")
}

func (c *controller) quit() {
	c.close()
	c.app.Quit()
}

// moreOptions opens what there is beside the form's three fields.
func (c *controller) moreOptions() {
	menu := fyne.NewMenu("",
		fyne.NewMenuItem(lang.L("Quit"), c.quit),
	)
	at := c.app.Driver().AbsolutePositionForObject(c.home.form.more)
	at.Y += c.home.form.more.Size().Height
	widget.ShowPopUpMenuAtPosition(menu, c.win.Canvas(), at)
}

func (c *controller) editSelected() {}
