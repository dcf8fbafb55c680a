package gui

import (
	"slices"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"wayfarer/app"
)

// remark is a warning in the user's language: what it is, and what to do about it.
// What the service itself says, in English, stands below.
type remark struct{ headline, advice string }

// remarkOn words a warning by its code; one that nobody knows is told by the service
// alone.
func remarkOn(code string) remark {
	switch code {
	case "weak-crypto":
		return remark{
			lang.L("Old encryption"),
			lang.L("Somebody with great means could read this connection. Ask your administrator for stronger algorithms; “Security” below says which are weak."),
		}
	case "weak-certificate":
		return remark{
			lang.L("The gateway's certificate is weak"),
			lang.L("Somebody with great means could pretend to be the gateway. Ask your administrator for a new certificate."),
		}
	case "psk-aggressive":
		return remark{
			lang.L("The group password can be guessed"),
			lang.L("Ask your administrator for main mode, or for a gateway with a certificate."),
		}
	case "sha256-96":
		return remark{
			lang.L("The gateway shortens the check of packets"),
			lang.L("The connection works as the gateway wants it. An update of the gateway mends this."),
		}
	case "compression":
		return remark{
			lang.L("Packets are compressed"),
			lang.L("Their lengths can tell something about what is in them. Switch compression off in the profile if you do not need it."),
		}
	case app.WarningTrustedNew:
		return remark{
			lang.L("The gateway was trusted without a question"),
			lang.L("Compare its fingerprint, under “Gateway” below, with what your administrator says."),
		}
	case app.WarningNoSave:
		return remark{
			lang.L("The gateway forbids saving the password"),
			lang.L("You will be asked for it each time."),
		}
	}
	return remarkOnNetwork(code)
}

// remarkOnNetwork words what is about addresses and networks.
func remarkOnNetwork(code string) remark {
	switch code {
	case app.WarningIPv6Blocked:
		return remark{
			lang.L("IPv6 is held back"),
			lang.L("The VPN carries IPv4 only. IPv6 is back when you disconnect."),
		}
	case app.WarningUnguarded:
		return remark{
			lang.L("This computer has no firewall that could help"),
			lang.L("Do not use a network that you do not trust meanwhile."),
		}
	case app.WarningOverlap:
		return remark{
			lang.L("Your local network has the addresses of a company network"),
			lang.L("If a device is not reached, ask your administrator, or change the addresses in your router."),
		}
	case app.WarningOutside:
		return remark{
			lang.L("Some addresses are reached past the VPN"),
			lang.L("This computer has routes for them that come first. If you do not trust this network, block traffic outside the VPN in the profile."),
		}
	case app.WarningConflict:
		return remark{
			lang.L("Another VPN is active"),
			lang.L("If something is not reached, end the other one."),
		}
	case app.WarningDNSTaken, app.WarningDNSLeak:
		return remark{
			lang.L("Names may be looked up past the VPN"),
			lang.L("Others could see which names you use, and names of the company may not be found. Ask your administrator."),
		}
	case app.WarningDNSUnsplit:
		return remark{
			lang.L("All names are looked up by the company"),
			lang.L("This system cannot ask the VPN for the company's names alone: its administrator could see which names you use."),
		}
	case app.WarningOutdated:
		return remark{
			lang.L("Your network has changed"),
			lang.L("This computer could not be set up for that. If something does not work, disconnect and connect again."),
		}
	case app.WarningCaptivePortal:
		return remark{
			lang.L("This network wants you to sign in first"),
			lang.L("Open its page in your browser, sign in, and come back."),
		}
	case app.WarningLastAttempt:
		return remark{
			lang.L("The last attempt did not work"),
			lang.L("It is tried again by itself."),
		}
	}
	return remarkOnSettings(code)
}

// remarkOnSettings words what is about settings that do not fit.
func remarkOnSettings(code string) remark {
	switch code {
	case "gateway-settings":
		return remark{
			lang.L("A setting of the gateway makes no sense"),
			lang.L("It is ignored. Tell your administrator if something does not work."),
		}
	case "network-refused":
		return remark{
			lang.L("The gateway refuses a network"),
			lang.L("It cannot be reached. Tell your administrator if you need it."),
		}
	case "route-not-covered":
		return remark{
			lang.L("An added network is not in the VPN"),
			lang.L("The gateway did not agree to it. Take it out of the profile, or ask your administrator."),
		}
	case "no-office-address":
		return remark{
			lang.L("This computer is not in the office network"),
			lang.L("Other computers there reach the networks behind the gateway, this one does not."),
		}
	}
	return remark{headline: lang.L("Note")}
}

// warningsView shows the standing remarks on a connection as cards, the grave ones
// first.
type warningsView struct {
	box   *fyne.Container
	shown []app.Warning
}

func newWarningsView() *warningsView { return &warningsView{box: container.NewVBox()} }

func (v *warningsView) content() fyne.CanvasObject { return v.box }

func (v *warningsView) update(warnings []app.Warning) {
	if slices.Equal(warnings, v.shown) {
		return
	}
	v.shown = slices.Clone(warnings)
	v.box.RemoveAll()
	for _, w := range byGravity(warnings) {
		v.box.Add(warningCard(&w))
	}
}

// byGravity puts warnings before what is only to be known. Those of one code become
// one: many networks may overlap.
func byGravity(warnings []app.Warning) []app.Warning {
	var list []app.Warning
	for _, w := range warnings {
		i := slices.IndexFunc(list, func(o app.Warning) bool { return o.Code == w.Code && o.Severity == w.Severity })
		if i < 0 {
			list = append(list, w)
		} else {
			list[i].Text += "\n" + w.Text
		}
	}
	grave := slices.DeleteFunc(slices.Clone(list), func(w app.Warning) bool { return w.Severity != app.SeverityWarning })
	return append(grave, slices.DeleteFunc(list, func(w app.Warning) bool { return w.Severity == app.SeverityWarning })...)
}

// tightly set lines of text overlap by the room that each label has around itself.
const tightly = -12

func warningCard(w *app.Warning) fyne.CanvasObject {
	icon := theme.InfoIcon()
	if w.Severity == app.SeverityWarning {
		icon = theme.NewWarningThemedResource(theme.WarningIcon())
	}
	r := remarkOn(w.Code)
	head := wrapped(r.headline)
	head.TextStyle = fyne.TextStyle{Bold: true}
	lines := []fyne.CanvasObject{head}
	if r.advice != "" {
		lines = append(lines, wrapped(r.advice))
	}
	own := quiet(plain(w.Text))
	own.Selectable = true
	lines = append(lines, own)
	sign := container.NewVBox(container.NewPadded(widget.NewIcon(icon)))
	return card(container.NewBorder(nil, nil, sign, nil, container.New(layout.NewCustomPaddedVBoxLayout(tightly), lines...)))
}
