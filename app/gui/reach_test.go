package gui

import (
	"fmt"
	"slices"
	"testing"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/driver/desktop"

	"wayfarer/app"
)

// onTab lists what Tab reaches, once around.
func onTab(c fyne.Canvas) (list []fyne.Focusable) {
	c.Unfocus()
	for {
		c.FocusNext()
		o := c.Focused()
		if o == nil || slices.Contains(list, o) {
			return list
		}
		list = append(list, o)
	}
}

// theirs are parts of Fyne's widgets that keep Escape to themselves: text that can be
// selected, and the headings of an accordion.
var theirs = []string{"*widget.focusSelectable", "*widget.Button"}

// TestKeyboardReachesEverything: wherever Tab leads, Escape and the shortcuts arrive, but
// for what is theirs.
func TestKeyboardReachesEverything(t *testing.T) {
	for name, page := range map[string]struct {
		show func(*world)
		want int // about what Tab reaches, not less
	}{
		"form":         {func(w *world) { w.compose() }, 5},
		"password":     {func(w *world) { w.service.set(promptedBy(app.Prompt{Kind: app.PromptPassword, Secret: true})) }, 3},
		"connected":    {func(w *world) { w.service.set(*wholeOffice()) }, 3},
		"editor":       {func(w *world) { w.edit("office"); w.settleDown(); unfold(w.page) }, 20},
		"settings":     {func(w *world) { w.openSettings() }, 6},
		"import":       {func(w *world) { w.openImport(someImports()) }, 4},
		"log":          {func(w *world) { w.openLog() }, 5},
		"conversation": {func(w *world) { w.openConversation() }, 4},
		"report":       {func(w *world) { w.openReport() }, 5},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, withThree, func(w *world) {
				page.show(w)
				w.settleDown()
				defer w.closePage() // what follows the log ends
				var escapes, saves int
				w.keys.plain[fyne.KeyEscape] = func() { escapes++ }
				w.keys.shortcuts[fyne.KeyS] = func() { saves++ }
				all := onTab(w.win.Canvas())
				if len(all) < page.want {
					t.Errorf("Tab reaches only %d", len(all))
				}
				all = slices.DeleteFunc(all, func(o fyne.Focusable) bool { return slices.Contains(theirs, fmt.Sprintf("%T", o)) })
				for i, o := range all {
					o.TypedKey(&fyne.KeyEvent{Name: fyne.KeyEscape})
					if s, ok := o.(fyne.Shortcutable); ok { // else it arrives at the window
						s.TypedShortcut(&desktop.CustomShortcut{KeyName: fyne.KeyS, Modifier: fyne.KeyModifierShortcutDefault})
					} else {
						saves++
					}
					if escapes != i+1 || saves != i+1 {
						t.Errorf("%T keeps Escape %t, Ctrl+S %t", o, escapes != i+1, saves != i+1)
						escapes, saves = i+1, i+1
					}
				}
			})
		})
	}
}
