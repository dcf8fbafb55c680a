package gui

import (
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/lang"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"

	"wayfarer/app"
)

// Switch is a setting of the system's; platform has that of starting at login.
type Switch interface {
	Enabled() (bool, error)
	Set(on bool) error
}

// settings are what the page shows and changes.
type settings struct {
	startAtLogin        bool
	noStart             error // why starting at login cannot be set; nil: it can
	noTray              error // why there is no tray; nil: there is
	connectOnStart      string
	profiles            []string
	blockOutside, local bool
	policy              app.Policy
	managed             bool // there is something that the administrator has set up
	language            string
	version             string
	serviceVersion      string // empty: the service cannot be used
}

// settingsView is the page of the settings. Each takes effect at once.
type settingsView struct {
	start, block, local *checkBox
	connect, language   *picker
	repair              *button
	root                fyne.CanvasObject

	onStart    func(bool) error
	onConnect  func(profile string) // empty: none
	onBlock    func(bool)
	onLocal    func(bool)
	onLanguage func(code string)
	onRepair   func()
	onBack     func()
}

func newSettingsView(k *keys, s *settings) *settingsView {
	v := &settingsView{}
	v.start = newCheckBox(k, lang.L("Start at login"), nil)
	v.start.Checked = s.startAtLogin
	v.start.OnChanged = func(on bool) {
		if v.onStart(on) != nil { // the tick shows what is so
			v.start.Checked = !on
			v.start.Refresh()
		}
	}
	startHelp := lang.L("Wayfarer then waits in the tray.")
	if s.noTray != nil {
		startHelp = lang.L("There is no tray: closing the window ends Wayfarer, and connections stay. {{.Why}}",
			map[string]any{"Why": plainLine(sentence(s.noTray.Error()))})
	}
	if s.noStart != nil {
		v.start.Disable()
		startHelp = plainLine(sentence(s.noStart.Error()))
	}
	none := lang.L("nothing")
	v.connect = newPicker(k, append([]string{none}, s.profiles...), nil)
	v.connect.SetSelected(none)
	if s.connectOnStart != "" {
		v.connect.SetSelected(s.connectOnStart)
	}
	v.connect.OnChanged = func(name string) {
		if v.connect.SelectedIndex() <= 0 {
			name = ""
		}
		v.onConnect(name)
	}
	v.block = toggle(k, lang.L("Block traffic outside the VPN"), s.blockOutside, func(on bool) { v.onBlock(on) })
	if s.policy.ForceBlockOutside {
		fix(v.block, true)
	}
	v.local = toggle(k, lang.L("Reach the local network"), s.local, func(on bool) { v.onLocal(on) })
	if s.policy.ForbidAdding {
		fix(v.local, false)
	}
	v.language = newPicker(k, languageNames(), nil)
	v.language.SetSelectedIndex(languageIndex(s.language))
	v.language.OnChanged = func(string) { v.onLanguage(languages[v.language.SelectedIndex()].code) }
	v.repair = newButton(k, lang.L("Repair the network of this computer"), theme.ViewRefreshIcon(), func() { v.onRepair() })
	v.root = pageFrame(k, lang.L("Settings"), func() { v.onBack() }, container.NewVScroll(margins(readable(v.sections(s, startHelp)))), nil)
	return v
}

// policyNote says what this computer's policy demands, whatever is set here.
func policyNote(policy app.Policy) fyne.CanvasObject {
	var rules []string
	for _, rule := range []struct {
		holds bool
		text  string
	}{
		{policy.ForbidWeak, lang.L("Weak algorithms are forbidden.")},
		{policy.ForceBlockOutside, lang.L("Nothing leaves outside of the VPN.")},
		{policy.ForbidAdding, lang.L("Only what the administrator has set up is connected.")},
	} {
		if rule.holds {
			rules = append(rules, rule.text)
		}
	}
	note := quiet(lang.L("Rules of the administrator of this computer:") + "\n" + strings.Join(rules, "\n"))
	showIf(note, len(rules) > 0)
	return note
}

// fix shows what the administrator has decided.
func fix(c *checkBox, on bool) {
	c.Checked = on
	c.Disable()
}

// fixedHelp explains what fix has done.
func fixedHelp() string { return lang.L("The administrator of this computer has decided this.") }

func toggle(k *keys, name string, on bool, changed func(bool)) *checkBox {
	c := newCheckBox(k, name, nil)
	c.Checked = on
	c.OnChanged = changed
	return c
}

// blockText explains the block, and why it cannot be switched, if so.
func blockText(policy app.Policy) string {
	if policy.ForceBlockOutside {
		return blockHelp() + "\n" + fixedHelp()
	}
	return blockHelp()
}

// localText explains the local network, and for which connections it cannot be switched.
// The block can be had beside what the administrator wants, the local network cannot.
func localText(s *settings) string {
	if s.managed || s.policy.ForbidAdding {
		return localHelp() + "\n" + lang.L("Connections that the administrator has set up do not heed this.")
	}
	return localHelp()
}

func (v *settingsView) content() fyne.CanvasObject { return v.root }

func (v *settingsView) sections(s *settings, startHelp string) fyne.CanvasObject {
	tight := func(o ...fyne.CanvasObject) fyne.CanvasObject {
		return container.New(layout.NewCustomPaddedVBoxLayout(-4), o...)
	}
	about := lang.L("Wayfarer {{.Version}}", map[string]any{"Version": s.version})
	if s.serviceVersion != "" && s.serviceVersion != s.version {
		about += "\n" + lang.L("Service {{.Version}}", map[string]any{"Version": s.serviceVersion})
	}
	return container.NewVBox(
		caption(lang.L("Start")),
		card(container.NewVBox(
			tight(v.start, quiet(startHelp)),
			under(lang.L("When Wayfarer starts, connect"), v.connect, ""),
		)),
		caption(lang.L("Safety, for all connections")),
		card(container.NewVBox(
			tight(v.block, quiet(blockText(s.policy))),
			tight(v.local, quiet(localText(s))),
			quiet(lang.L("A change counts from the next connecting on.")),
			policyNote(s.policy),
		)),
		caption(lang.L("Appearance")),
		card(container.NewVBox(
			under(lang.L("Language"), v.language, ""),
			quiet(lang.L("Light or dark follows the system.")),
		)),
		caption(lang.L("Help")),
		card(tight(v.repair, quiet(lang.L("Undoes what a connection that is no more may have left behind: addresses, routes, name servers, blocks.")))),
		quiet(about),
	)
}
