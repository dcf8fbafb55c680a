package gui

import (
	"strings"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// trustView asks whether to trust a gateway that is not known, as SSH does. Nothing is
// preselected: Return does nothing.
type trustView struct {
	heading, why  *widget.Label
	facts         *fyne.Container
	trust, cancel *button
	box, actions  *fyne.Container

	onTrust  func()
	onCancel func()

	asked string // the question that stands there, see questionOf
}

func newTrustView(k *keys) *trustView {
	v := &trustView{heading: wrapped(""), why: wrapped(""), facts: container.NewVBox()}
	v.heading.SizeName = theme.SizeNameSubHeadingText
	v.heading.TextStyle.Bold = true
	v.heading.Alignment, v.why.Alignment = fyne.TextAlignCenter, fyne.TextAlignCenter
	v.cancel = newButton(k, lang.L("Cancel"), nil, func() { v.onCancel() })
	v.trust = newButton(k, lang.L("Trust"), nil, func() { v.onTrust() })
	v.trust.spaceOnly = true
	advice := wrapped(lang.L("Nothing secret has been sent. Compare the fingerprint with the one that your administrator gave you. If it differs, somebody may be listening: cancel."))
	v.box = container.NewVBox(v.heading, v.why, card(v.facts), advice)
	v.actions = container.NewGridWithColumns(2, v.cancel, v.trust)
	return v
}

func (v *trustView) part() part { return part{v.box, v.actions} }

// update shows the certificate that a prompt asks about, of the gateway host; question
// tells the prompt from others.
func (v *trustView) update(question string, p *app.Prompt, host string) {
	if question == v.asked {
		return
	}
	v.asked = question
	setText(v.heading, lang.L("Do you trust {{.Host}}?", map[string]any{"Host": plainLine(host)}))
	v.facts.RemoveAll()
	c := p.Certificate
	if c == nil {
		setText(v.why, plain(p.Text))
		return
	}
	setText(v.why, lang.L("This computer does not know the gateway yet."))
	v.fact(lang.L("Subject"), c.Subject)
	v.fact(lang.L("Issuer"), c.Issuer)
	v.fact(lang.L("Names"), strings.Join(c.Names, ", "))
	v.fact(lang.L("Valid"), lang.L("{{.From}} to {{.To}}", map[string]any{"From": day(c.NotBefore), "To": day(c.NotAfter)}))
	v.add(lang.L("Fingerprint (SHA-256)"), twoLines(inFours(plainLine(c.SHA256))))
	v.fact(lang.L("Why you are asked"), c.Reason)
}

// fact adds what the gateway says of itself, on one line: with more of them a
// certificate could show a fingerprint of its own.
func (v *trustView) fact(name, value string) { v.add(name, plainLine(value)) }

// add adds a fact; an empty one is left out.
func (v *trustView) add(name, value string) {
	if value == "" {
		return
	}
	text := wrapped(value)
	text.Selectable = true
	v.facts.Add(container.New(layout.NewCustomPaddedVBoxLayout(-10), quiet(name), text))
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }

// twoLines breaks a SHA-256 in fours into halves, which are easier to compare.
func twoLines(hash string) string {
	const half = 32 + 7
	if len(hash) <= half {
		return hash
	}
	return hash[:half] + "\n" + strings.TrimSpace(hash[half:])
}
