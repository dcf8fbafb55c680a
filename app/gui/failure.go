package gui

import (
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// failureView says at which step connecting failed, why, and what to do next.
type failureView struct {
	step, headline, advice, words *widget.Label
	steps                         *stepsView
	retry, edit, copy, back       *button
	box, actions                  *fyne.Container

	onRetry, onEdit, onBack func()
	onCopy                  func(text string)

	report string // what is copied
}

func newFailureView(k *keys) *failureView {
	v := &failureView{step: quiet(""), headline: wrapped(""), advice: wrapped(""), words: wrapped(""), steps: newStepsView()}
	v.headline.SizeName = theme.SizeNameSubHeadingText
	v.headline.TextStyle.Bold = true
	v.headline.Alignment, v.step.Alignment, v.advice.Alignment = fyne.TextAlignCenter, fyne.TextAlignCenter, fyne.TextAlignCenter
	v.words.Selectable = true
	v.words.Importance = widget.LowImportance
	v.retry = newButton(k, lang.L("Try again"), nil, func() { v.onRetry() })
	v.retry.Importance = widget.HighImportance
	v.edit = newButton(k, lang.L("Edit"), theme.DocumentCreateIcon(), func() { v.onEdit() })
	v.back = newButton(k, lang.L("Back"), nil, func() { v.onBack() })
	v.copy = newButton(k, lang.L("Copy"), theme.ContentCopyIcon(), func() { v.onCopy(v.report) })
	v.copy.Importance = widget.LowImportance
	said := container.NewBorder(nil, nil, nil, container.NewVBox(v.copy), v.words)
	v.box = container.NewVBox(v.step, v.headline, v.advice, card(said), gap(4), container.NewCenter(v.steps.content()))
	v.actions = container.NewVBox(v.retry, container.NewGridWithColumns(2, v.back, v.edit))
	return v
}

func (v *failureView) part() part { return part{v.box, v.actions} }

// update shows an item that has failed.
func (v *failureView) update(it *item) {
	f := it.failure
	if f == nil {
		f = app.NewFailure(app.CodeInternal, "", "", "")
	}
	name := stepName(f.Step)
	showIf(v.step, name != "")
	setText(v.step, lang.L("Failed at: {{.Step}}", map[string]any{"Step": name}))
	headline, advice := failureWords(f, it.profile)
	setText(v.headline, headline)
	setText(v.advice, advice)
	words := plain(sentence(f.Message))
	if f.Hint != "" {
		words += "\n" + plain(sentence(f.Hint))
	}
	setText(v.words, words)
	v.report = strings.Join([]string{headline, advice, words, string(f.Code) + " " + string(f.Step)}, "\n")
	showIf(v.steps.content(), name != "")
	showIf(v.edit, it.managed == nil)
	v.steps.update(it)
}

// sentence is a text of the service, which begins small and has no full stop.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	first := []rune(text)
	text = strings.ToUpper(string(first[:1])) + string(first[1:])
	if strings.HasSuffix(text, ".") || strings.HasSuffix(text, "。") {
		return text
	}
	return text + "."
}

// failureWords are what happened and what to do, for people. p is the saved profile;
// nil: there is none.
func failureWords(f *app.Failure, p *saved) (headline, advice string) {
	switch f.Code {
	case app.CodeNoAnswer:
		return noAnswerWords(f.Step)
	case app.CodeUntrusted:
		return untrustedWords(p)
	case app.CodeSignInRefused:
		return lang.L("The gateway refused the sign-in"),
			lang.L("Check login and password, and mind upper and lower case. After several wrong tries a gateway may lock the account.")
	case app.CodeNoProposal:
		return lang.L("Gateway and computer found no common security"),
			lang.L("Give your administrator the text below. An old gateway may need algorithms that are weak: they can be allowed for this connection only.")
	case app.CodeNetworkConfig:
		return lang.L("This computer's network could not be set up"),
			lang.L("Another VPN program may be in the way: end it and try again. Nothing of the network was left changed.")
	case app.CodeNoService:
		return lang.L("The Wayfarer service cannot be used"), lang.L("Start the service, or ask your administrator for the right to use it.")
	case app.CodeCancelled:
		return lang.L("Cancelled"), lang.L("Connect again when you like.")
	case app.CodeProtocol:
		return lang.L("The gateway's answer was not understood"),
			lang.L("Try again. If it stays so, give your administrator a report.")
	case app.CodeSettingsRefused:
		return lang.L("The gateway gave no settings"),
			lang.L("Perhaps all its addresses are in use. Try again in a few minutes, or ask your administrator.")
	case app.CodePolicy:
		return lang.L("This computer does not allow it"), lang.L("The administrator of this computer has set limits. Ask for the connection that you need.")
	case app.CodeUsage:
		return lang.L("Something is wrong with the settings of this connection"), lang.L("Edit the connection, and correct what is named below.")
	}
	return lang.L("Something went wrong in the program"), lang.L("Try again. If it stays so, create a report.")
}

func noAnswerWords(step app.Step) (headline, advice string) {
	switch step {
	case "", app.StepFindGateway:
		return lang.L("The gateway does not answer"),
			lang.L("Check the gateway's name and your Internet connection. Guest networks sometimes block VPNs: try another network.")
	case app.StepTest:
		return lang.L("The gateway stopped answering"), lang.L("Check your Internet connection, then try again.")
	}
	return lang.L("The gateway stopped answering"),
		lang.L("A firewall or hotspot on the way may drop large packets: try another network.")
}

// untrustedWords tell a gateway that has changed from one that is not known.
func untrustedWords(p *saved) (headline, advice string) {
	if p != nil && p.pinned {
		return lang.L("The gateway is not the one that you trusted"),
			lang.L("Its certificate has changed. Somebody may be listening, so nothing secret was sent. Ask your administrator: only if the new certificate is confirmed, remove the old fingerprint with Edit and connect again.")
	}
	return lang.L("The gateway could not prove who it is"),
		lang.L("Nothing secret was sent. Ask your administrator for the right name or certificate of the gateway.")
}
