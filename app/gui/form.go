package gui

import (
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/widget"
)

// draft is what a form holds. Whoever gets it zeroises the password.
type draft struct {
	gateway, login string
	password       []byte
	remember       bool
}

// formView is what a person fills in to connect: gateway, login and password, or for a
// saved profile what of it is missing.
type formView struct {
	gateway, login, password          *field
	gatewayPart, loginPart, entryPart fyne.CanvasObject
	known                             *widget.Label // of a saved profile, in place of fields
	remember                          *checkBox
	noKeyring                         *widget.Label
	connect, more                     *button
	box, actions                      *fyne.Container

	onConnect func(draft)
	onMore    func() // a new connection: what else there is
	onEdit    func() // a saved profile

	shown  *saved // what it was last updated for; nil: a new connection
	barred bool   // see item
}

func newFormView(k *keys) *formView {
	v := &formView{gateway: newField(k), login: newField(k), password: newSecretField(k)}
	v.gateway.SetPlaceHolder("vpn.example.com")
	v.remember = newCheckBox(k, lang.L("Remember"), nil)
	v.known = wrapped("")
	v.known.Alignment = fyne.TextAlignCenter
	v.noKeyring = quiet(lang.L("There is no keyring on this computer that could keep passwords: you are asked each time."))
	v.connect = newButton(k, lang.L("Connect"), nil, v.submit)
	v.connect.Importance = widget.HighImportance
	v.more = newButton(k, lang.L("More options"), nil, func() {
		if v.shown != nil {
			v.onEdit()
			return
		}
		v.onMore()
	})
	v.more.Importance = widget.LowImportance
	v.gateway.OnSubmitted = func(string) { v.submit() }
	v.login.OnSubmitted, v.password.OnSubmitted = v.gateway.OnSubmitted, v.gateway.OnSubmitted
	for _, f := range []*field{v.gateway, v.login, v.password} {
		f.OnChanged = func(string) { v.check() }
	}
	v.gatewayPart = under(lang.L("Gateway"), v.gateway, "")
	v.loginPart = under(lang.L("Login"), v.login, "")
	v.entryPart = under(lang.L("Password"), v.password, "")
	v.box = container.NewVBox(v.known, v.gatewayPart, v.loginPart, v.entryPart, v.remember, v.noKeyring)
	v.actions = container.NewVBox(v.connect, container.NewCenter(v.more))
	v.remember.Checked = true
	v.update(nil, false, nil)
	return v
}

func (v *formView) part() part { return part{v.box, v.actions} }

// update shows the form for a saved profile, or with nil for a new connection; barred, in
// its place, that the administrator's alone are connected. noKeyring says why nothing can
// be kept.
func (v *formView) update(p *saved, barred bool, noKeyring error) {
	v.barred = barred
	showIf(v.noKeyring, noKeyring != nil && !barred)
	showIf(v.gatewayPart, p == nil && !barred)
	managed := p != nil && p.managed
	showIf(v.loginPart, p == nil && !barred || managed && p.signsIn && p.login == "")
	showIf(v.connect, !barred)
	showIf(v.more, !managed)
	showIf(v.known, p != nil || barred)
	asks := !barred && (p == nil || p.signsIn && !p.hasPassword)
	showIf(v.entryPart, asks)
	showIf(v.remember, asks && noKeyring == nil && !managed)
	if (p == nil) != (v.shown == nil) || p != nil && p.name != v.shown.name {
		v.password.empty()
		if managed || v.shown != nil && v.shown.managed {
			v.login.SetText("") // that of another connection
		}
	}
	v.shown = p
	v.more.SetText(lang.L("More options"))
	if p != nil {
		v.more.SetText(lang.L("Edit"))
	}
	setText(v.known, knownText(p, barred))
	v.check()
}

// knownText is what there is to say of a profile in place of fields.
func knownText(p *saved, barred bool) string {
	var lines []string
	if p != nil {
		lines = append(lines, describe(p))
	}
	switch {
	case barred:
		lines = append(lines, managedOnly())
	case p != nil && p.managed:
		lines = append(lines, lang.L("Set up by the administrator of this computer."))
	}
	return strings.Join(lines, "\n")
}

// managedOnly is for what the policy forbids to add.
func managedOnly() string {
	return lang.L("The administrator of this computer sets up its connections, and allows no others. Ask there for the one that you need.")
}

// describe is a saved profile in one or two lines.
func describe(p *saved) string {
	if p.damaged != nil {
		return lang.L("This profile cannot be read: {{.Reason}}", map[string]any{"Reason": plainLine(p.damaged.Error())})
	}
	if p.signsIn && p.login != "" {
		return lang.L("{{.Login}} at {{.Gateway}}", map[string]any{"Login": plainLine(p.login), "Gateway": plainLine(p.gateway)})
	}
	return plainLine(p.gateway)
}

// check lets Connect be pressed when there is enough to connect with.
func (v *formView) check() {
	enough := v.gateway.trimmed() != "" && v.login.trimmed() != ""
	if v.shown != nil {
		enough = v.shown.damaged == nil && (!v.loginPart.Visible() || v.login.Text != "")
	}
	if enough && !v.barred {
		v.connect.Enable()
		return
	}
	v.connect.Disable()
}

// fill puts values into the fields of a new connection.
func (v *formView) fill(gateway, login string) {
	v.gateway.SetText(gateway)
	v.login.SetText(login)
}

// first is the field where somebody begins to type; nil: there is none to fill in.
func (v *formView) first() fyne.Focusable {
	for _, f := range []struct {
		part  fyne.CanvasObject
		field *field
	}{{v.gatewayPart, v.gateway}, {v.loginPart, v.login}, {v.entryPart, v.password}} {
		if f.part.Visible() && f.field.trimmed() == "" {
			return f.field
		}
	}
	return nil
}

// submit goes on to the next empty field, or connects. The password may stay empty:
// then the service asks for it.
func (v *formView) submit() {
	if v.connect.Disabled() {
		if next := v.first(); next != nil {
			focus(v.box, next)
		}
		return
	}
	v.onConnect(v.take())
}

// take is what the form holds; it gives the password up.
func (v *formView) take() draft {
	return draft{
		gateway: v.gateway.trimmed(), login: v.login.trimmed(), password: v.password.take(),
		remember: v.remember.Visible() && v.remember.Checked,
	}
}
