package gui

import (
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
)

// keys are what the keyboard does wherever the focus is, and the names of buttons. A field of text gets all keys
// first, and hands those on that it has no use for.
type keys struct {
	shortcuts map[fyne.KeyName]func() // with Ctrl, or Cmd on macOS
	plain     map[fyne.KeyName]func()
	tips      *tips // names of buttons that the mouse rests on; nil: none
	// reveal scrolls to what has got the focus; nil: nothing scrolls.
	reveal func(fyne.CanvasObject)
}

// focused is told what has got the focus.
func (k *keys) focused(o fyne.CanvasObject) {
	if k.reveal != nil {
		k.reveal(o)
	}
}

// run does what a shortcut stands for; false: nothing.
func (k *keys) run(s fyne.Shortcut) bool {
	custom, ok := s.(*desktop.CustomShortcut)
	if !ok || custom.Modifier != fyne.KeyModifierShortcutDefault {
		return false
	}
	do := k.shortcuts[custom.KeyName]
	if do != nil {
		do()
	}
	return do != nil
}

// press does what a key alone stands for; false: nothing.
func (k *keys) press(key fyne.KeyName) bool {
	do := k.plain[key]
	if do != nil {
		do()
	}
	return do != nil
}

// first has a key do what it stands for in the program; else own gets it.
func (k *keys) first(e *fyne.KeyEvent, own func(*fyne.KeyEvent)) {
	if !k.press(e.Name) {
		own(e)
	}
}

// listen has the keys work in a window, when nothing has the focus.
func (k *keys) listen(c fyne.Canvas) {
	for name := range k.shortcuts {
		c.AddShortcut(&desktop.CustomShortcut{KeyName: name, Modifier: fyne.KeyModifierShortcutDefault},
			func(s fyne.Shortcut) { k.run(s) })
	}
	c.SetOnTypedKey(func(e *fyne.KeyEvent) { k.press(e.Name) })
}

// field is an entry that leaves the program's shortcuts and Escape to keys.
type field struct {
	widget.Entry
	keys   *keys
	secret bool // it hides what is typed, but for who presses its eye
}

func newField(k *keys) *field {
	f := &field{keys: k}
	f.ExtendBaseWidget(f)
	return f
}

// newSecretField hides what is typed.
func newSecretField(k *keys) *field {
	f := &field{keys: k, secret: true}
	f.Password = true
	f.ExtendBaseWidget(f)
	return f
}

// FocusGained implements fyne.Focusable.
func (f *field) FocusGained() {
	f.Entry.FocusGained()
	f.keys.focused(f)
}

// TypedShortcut implements fyne.Shortcutable.
func (f *field) TypedShortcut(s fyne.Shortcut) {
	if !f.keys.run(s) {
		f.Entry.TypedShortcut(s)
	}
}

// TypedKey implements fyne.Focusable.
func (f *field) TypedKey(e *fyne.KeyEvent) {
	if e.Name == fyne.KeyEscape && f.keys.press(e.Name) {
		return
	}
	f.Entry.TypedKey(e)
}

// trimmed is the field's text without the blanks around it, which come with pasting.
func (f *field) trimmed() string { return strings.TrimSpace(f.Text) }

// take is the field's text, which it gives up.
func (f *field) take() []byte {
	text := []byte(f.Text)
	f.empty()
	return text
}

// empty forgets what was typed. An eye that was open is closed: it was for that text only.
func (f *field) empty() {
	f.SetText("")
	if f.secret && !f.Password {
		f.Password = true
		f.Refresh()
	}
}

// button is one that is pressed with Return, too, and knows the program's keys.
type button struct {
	widget.Button
	keys *keys
	name string // of one without a text
	// spaceOnly: Return does not press it, so that nobody does so without reading.
	spaceOnly bool
}

func newButton(k *keys, text string, icon fyne.Resource, do func()) *button {
	b := &button{keys: k}
	b.Text, b.Icon, b.OnTapped = text, icon, do
	b.ExtendBaseWidget(b)
	return b
}

// newIconButton has no text, but a name for those who do not see the icon.
func newIconButton(k *keys, name string, icon fyne.Resource, do func()) *button {
	b := newButton(k, "", icon, do)
	b.name = name
	b.Importance = widget.LowImportance
	return b
}

// AccessibilityLabel implements fyne.Accessible.
func (b *button) AccessibilityLabel() string {
	if b.name != "" {
		return b.name
	}
	return b.Button.AccessibilityLabel()
}

// FocusGained implements fyne.Focusable.
func (b *button) FocusGained() {
	b.Button.FocusGained()
	b.keys.focused(b)
}

// MouseIn implements desktop.Hoverable.
func (b *button) MouseIn(e *desktop.MouseEvent) {
	b.Button.MouseIn(e)
	if b.name != "" && b.keys.tips != nil {
		b.keys.tips.rest(b)
	}
}

// MouseOut implements desktop.Hoverable.
func (b *button) MouseOut() {
	b.Button.MouseOut()
	if b.keys.tips != nil {
		b.keys.tips.leave()
	}
}

// Tapped implements fyne.Tappable.
func (b *button) Tapped(e *fyne.PointEvent) {
	if b.keys.tips != nil {
		b.keys.tips.leave()
	}
	b.Button.Tapped(e)
}

// TypedKey implements fyne.Focusable.
func (b *button) TypedKey(e *fyne.KeyEvent) {
	switch {
	case (e.Name == fyne.KeyReturn || e.Name == fyne.KeyEnter) && !b.spaceOnly:
		b.Tapped(nil)
	case e.Name == fyne.KeySpace:
		b.Button.TypedKey(e)
	default:
		b.keys.press(e.Name)
	}
}

// The widgets below are Fyne's, but that they leave the program's keys, of which they have
// no use, to keys, and are scrolled to when they get the focus.

// checkBox is a box to tick.
type checkBox struct {
	widget.Check
	keys *keys
}

func newCheckBox(k *keys, text string, changed func(bool)) *checkBox {
	t := &checkBox{keys: k}
	t.Text, t.OnChanged = text, changed
	t.ExtendBaseWidget(t)
	return t
}

// FocusGained implements fyne.Focusable.
func (t *checkBox) FocusGained() {
	t.Check.FocusGained()
	t.keys.focused(t)
}

// TypedKey implements fyne.Focusable.
func (t *checkBox) TypedKey(e *fyne.KeyEvent) { t.keys.first(e, t.Check.TypedKey) }

// picker is one of several texts, out of a menu.
type picker struct {
	widget.Select
	keys *keys
}

func newPicker(k *keys, options []string, changed func(string)) *picker {
	p := &picker{keys: k}
	p.Options, p.OnChanged = options, changed
	p.PlaceHolder = widget.NewSelect(nil, nil).PlaceHolder
	p.ExtendBaseWidget(p)
	return p
}

// FocusGained implements fyne.Focusable.
func (p *picker) FocusGained() {
	p.Select.FocusGained()
	p.keys.focused(p)
}

// TypedKey implements fyne.Focusable.
func (p *picker) TypedKey(e *fyne.KeyEvent) { p.keys.first(e, p.Select.TypedKey) }

// listBox is a list.
type listBox struct {
	widget.List
	keys *keys
}

func newListBox(k *keys, length func() int, create func() fyne.CanvasObject, update func(widget.ListItemID, fyne.CanvasObject)) *listBox {
	l := &listBox{keys: k}
	l.Length, l.CreateItem, l.UpdateItem = length, create, update
	l.ExtendBaseWidget(l)
	return l
}

// TypedKey implements fyne.Focusable.
func (l *listBox) TypedKey(e *fyne.KeyEvent) { l.keys.first(e, l.List.TypedKey) }

// newChoiceField is a field with a menu of values for it.
func newChoiceField(k *keys, name string, values []string) *field {
	f := newField(k)
	open := newIconButton(k, name, theme.Icon(theme.IconNameArrowDropDown), func() {
		menu := fyne.NewMenu("")
		for _, value := range values {
			menu.Items = append(menu.Items, fyne.NewMenuItem(value, func() { f.SetText(value) }))
		}
		driver := fyne.CurrentApp().Driver()
		if c := driver.CanvasForObject(f); c != nil {
			widget.ShowPopUpMenuAtPosition(menu, c, driver.AbsolutePositionForObject(f).AddXY(0, f.Size().Height))
		}
	})
	f.ActionItem = open
	return f
}
