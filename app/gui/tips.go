package gui

import (
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"
)

// tipTime is how long the mouse rests on a button until its name appears.
const tipTime = 600 * time.Millisecond

// tips show the name of a button without a text, while the mouse rests on it. They are a
// layer over the window that takes no part in what the mouse does.
type tips struct {
	do    func(func())
	layer *fyne.Container
	label *widget.Label
	box   *fyne.Container
	timer *time.Timer // nil: the mouse rests on nothing
}

func newTips(do func(func())) *tips {
	t := &tips{do: do, label: widget.NewLabel("")}
	t.label.SizeName = theme.SizeNameCaptionText
	back := newPane(theme.ColorNameMenuBackground)
	back.border = true
	t.box = container.NewStack(back, t.label)
	t.box.Hide()
	t.layer = container.NewWithoutLayout(t.box)
	return t
}

// rest is told that the mouse rests on a button.
func (t *tips) rest(on *button) {
	t.leave()
	t.timer = time.AfterFunc(tipTime, func() {
		t.do(func() {
			if t.timer != nil {
				t.show(on)
			}
		})
	})
}

// leave is told that the mouse has gone, or has pressed.
func (t *tips) leave() {
	if t.timer == nil {
		return
	}
	t.timer.Stop()
	t.timer = nil
	t.box.Hide()
}

// show puts the button's name below it, or above it where there is no room.
func (t *tips) show(b *button) {
	t.label.SetText(b.name)
	size := t.box.MinSize()
	at := fyne.CurrentApp().Driver().AbsolutePositionForObject(b)
	window := t.layer.Size()
	at.X = max(0, min(at.X, window.Width-size.Width))
	if at.Y += b.Size().Height; at.Y+size.Height > window.Height {
		at.Y -= b.Size().Height + size.Height
	}
	t.box.Resize(size)
	t.box.Move(at)
	t.box.Show()
}
