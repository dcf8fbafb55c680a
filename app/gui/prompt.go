package gui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// promptView puts a question to the person: of the gateway, or of the window's own.
type promptView struct {
	heading, text, note *widget.Label
	secret, open        *field
	keep                *checkBox
	ok, cancel          *button
	fields              fyne.CanvasObject
	box, actions        *fyne.Container

	// onAnswer gets the text, which the callee zeroises, and whether it is to be
	// kept for the next time.
	onAnswer func(text []byte, keep bool)
	onCancel func()

	asked string // the question that stands there, see questionOf
	kind  app.PromptKind
}

func newPromptView(k *keys) *promptView {
	v := &promptView{heading: wrapped(""), text: wrapped(""), note: quiet(""), secret: newSecretField(k), open: newField(k)}
	v.heading.SizeName = theme.SizeNameSubHeadingText
	v.heading.TextStyle.Bold = true
	v.heading.Alignment = fyne.TextAlignCenter
	v.text.Selectable = true
	v.keep = newCheckBox(k, lang.L("Remember"), nil)
	v.ok = newButton(k, lang.L("Continue"), nil, v.submit)
	v.ok.Importance = widget.HighImportance
	v.cancel = newButton(k, lang.L("Cancel"), nil, func() { v.clear(); v.onCancel() })
	v.secret.OnSubmitted = func(string) { v.submit() }
	v.open.OnSubmitted = v.secret.OnSubmitted
	v.fields = container.NewVBox(container.NewStack(v.secret, v.open), v.keep, v.note)
	v.box = container.NewVBox(v.heading, v.text, v.fields)
	v.actions = container.NewGridWithColumns(2, v.cancel, v.ok)
	return v
}

func (v *promptView) part() part { return part{v.box, v.actions} }

// update shows a prompt, which question tells from others; canKeep: its answer can be
// kept with the profile, and with keeps it will be, unless the person decides otherwise. It
// reports whether the prompt is a new one.
func (v *promptView) update(question string, p *app.Prompt, canKeep, keeps bool) (fresh bool) {
	fresh = question != v.asked
	canKeep = canKeep && p.Kind == app.PromptPassword
	if fresh || canKeep && !v.keep.Visible() { // it may be known late whose question it is
		v.keep.SetChecked(keeps)
	}
	showIf(v.keep, canKeep)
	if !fresh {
		return false
	}
	v.clear()
	v.asked, v.kind = question, p.Kind
	heading, note := promptWords(p.Kind)
	setText(v.heading, heading)
	setText(v.note, note)
	showIf(v.note, note != "")
	text := plain(p.Text)
	setText(v.text, text)
	showIf(v.text, text != "")
	showIf(v.fields, p.Kind != app.PromptBanner)
	hidden := p.Secret || p.Kind == app.PromptPassword || p.Kind == app.PromptPassphrase || p.Kind == app.PromptNextPIN
	showIf(v.secret, hidden)
	showIf(v.open, !hidden)
	return true
}

// promptWords are what a person reads above and below the field.
func promptWords(kind app.PromptKind) (heading, note string) {
	switch kind {
	case app.PromptPassword:
		return lang.L("Your password, please"), ""
	case app.PromptOTP:
		return lang.L("Your one-time code, please"), lang.L("A code works once. It is never stored.")
	case app.PromptNextPIN:
		return lang.L("The gateway wants a new PIN"), lang.L("Think of a new PIN, and remember it: it is not stored.")
	case app.PromptPassphrase:
		return lang.L("The passphrase of your certificate, please"), lang.L("It is used now and never stored.")
	case promptGroupSecret:
		return lang.L("The group password, please"), lang.L("Your administrator gave it to you together with the name of the group.")
	case app.PromptBanner:
		return lang.L("A message of the gateway"), ""
	}
	return lang.L("The gateway asks"), lang.L("The answer is never stored.")
}

// first is the field to type into; nil: there is none.
func (v *promptView) first() fyne.Focusable {
	switch {
	case !v.fields.Visible():
		return v.ok
	case v.secret.Visible():
		return v.secret
	}
	return v.open
}

func (v *promptView) submit() {
	text := v.secret.take()
	if v.open.Visible() {
		text = v.open.take()
	}
	if len(text) == 0 && v.fields.Visible() {
		focus(v.box, v.first())
		return
	}
	v.onAnswer(text, v.keep.Visible() && v.keep.Checked)
}

// clear forgets the question and what was typed: when it is another one, and when the
// prompt is no longer shown.
func (v *promptView) clear() {
	v.asked = ""
	v.secret.empty()
	v.open.empty()
}
