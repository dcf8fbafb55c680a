package gui

import (
	"runtime"
	"slices"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/lang"

	"wayfarer/app"
)

// maxTrayName bounds a profile's name in the tray's menu, in characters.
const maxTrayName = 40

// trayActions are what the menu's items do; key is that of an item of the model.
type trayActions struct {
	connect    func(key string)
	disconnect func(key string)
	open       func()
	logs       func()
	settings   func()
	quit       func()
}

// trayRow is an item of the menu: what it says, and what it does with arg. Rows are
// compared, so that a menu that somebody has open is not replaced by the same.
type trayRow struct {
	label     string
	does      trayAction
	arg       string
	separator bool
}

// trayAction is a function of trayActions.
type trayAction int

const (
	trayNothing trayAction = iota // the row is disabled
	trayConnect
	trayDisconnect
	trayOpen
	trayLogs
	traySettings
	trayQuit
)

// trayRows is the menu as data: where each connection stands, one toggle for each item
// of the model, and what else there is. ends says that the connections end with this
// program, as in the demonstration.
func trayRows(m *model, ends bool) []trayRow {
	items := m.items()
	var rows []trayRow
	for _, line := range trayStatus(m, items) {
		rows = append(rows, trayRow{label: mnemonicFree(line)})
	}
	if len(items) > 0 {
		rows = append(rows, trayRow{separator: true})
	}
	for i := range items {
		rows = append(rows, trayToggle(m, &items[i]))
	}
	return append(
		rows,
		trayRow{separator: true},
		trayRow{label: lang.L("Open Wayfarer"), does: trayOpen},
		trayRow{label: lang.L("Logs"), does: trayLogs},
		trayRow{label: lang.L("Settings"), does: traySettings},
		trayRow{separator: true},
		trayRow{label: quitLabel(items, ends), does: trayQuit},
	)
}

// trayStatus has a line for each item that is not at rest.
func trayStatus(m *model, items []item) []string {
	if m.noService != nil {
		return []string{lang.L("The Wayfarer service cannot be used")}
	}
	var lines []string
	for i := range items {
		if items[i].state != app.StateDisconnected {
			lines = append(lines, trayLine(&items[i]))
		}
	}
	if len(lines) == 0 {
		lines = append(lines, lang.L("Not connected"))
	}
	return lines
}

func trayToggle(m *model, it *item) trayRow {
	name := map[string]any{"Name": mnemonicFree(trayName(it.name))}
	row := trayRow{label: lang.L("Connect {{.Name}}", name), does: trayConnect, arg: it.key}
	if active(it.state) {
		row.label, row.does = lang.L("Disconnect {{.Name}}", name), trayDisconnect
	}
	if m.noService != nil || it.state == app.StateDisconnecting || it.barred && !active(it.state) {
		row.does = trayNothing
	}
	return row
}

// quitLabel says what becomes of the connections when the program ends.
func quitLabel(items []item, ends bool) string {
	switch up := slices.ContainsFunc(items, func(it item) bool { return isUp(it.state) }); {
	case up && ends:
		return lang.L("Quit (disconnects)")
	case up:
		return lang.L("Quit (stays connected)")
	}
	return lang.L("Quit")
}

// isUp says whether a connection lives on when nobody looks at it.
func isUp(s app.State) bool {
	return s == app.StateConnected || s == app.StateReconnecting || s == app.StateBlocked
}

// trayLine says where an item stands.
func trayLine(it *item) string {
	data := map[string]any{"Name": trayName(it.name), "State": stateName(it.state)}
	if it.state == app.StateConnected && it.conn != nil && len(it.conn.Addresses) > 0 {
		data["Address"] = it.conn.Addresses[0].Addr().String()
		return lang.L("{{.Name}}: {{.State}}, {{.Address}}", data)
	}
	return lang.L("{{.Name}}: {{.State}}", data)
}

// trayName is a name, short.
func trayName(name string) string {
	name = plainLine(name)
	if r := []rune(name); len(r) > maxTrayName {
		name = string(r[:maxTrayName]) + "…"
	}
	return name
}

// mnemonicFree is a text of which no menu takes a part for the mark of a keyboard
// shortcut.
func mnemonicFree(text string) string { return escapeMnemonic(text, runtime.GOOS) }

func escapeMnemonic(label, goos string) string {
	switch goos {
	case "windows":
		return strings.ReplaceAll(label, "&", "&&")
	case "darwin":
		return label
	}
	return strings.ReplaceAll(label, "_", "__") // com.canonical.dbusmenu
}

// trayMenu is the tray's menu.
func trayMenu(m *model, ends bool, actions *trayActions) *fyne.Menu {
	return menuOf(trayRows(m, ends), actions)
}

func menuOf(rows []trayRow, actions *trayActions) *fyne.Menu {
	menu := fyne.NewMenu("")
	for _, row := range rows {
		item := fyne.NewMenuItemSeparator()
		if !row.separator {
			item = fyne.NewMenuItem(row.label, actions.of(row))
			item.Disabled = row.does == trayNothing
			item.IsQuit = row.does == trayQuit // else Fyne adds its own
		}
		menu.Items = append(menu.Items, item)
	}
	return menu
}

func (a *trayActions) of(row trayRow) func() {
	switch row.does {
	case trayConnect:
		return func() { a.connect(row.arg) }
	case trayDisconnect:
		return func() { a.disconnect(row.arg) }
	case trayOpen:
		return a.open
	case trayLogs:
		return a.logs
	case traySettings:
		return a.settings
	case trayQuit:
		return a.quit
	}
	return nil
}

// trayState is what the icon tells of all connections. Without a service there is
// something to do.
func trayState(m *model) app.State {
	if m.noService != nil {
		return app.StateFailed
	}
	return m.overall()
}

// trayTooltip is what the tray says to who points at it.
func trayTooltip(m *model) string {
	return strings.Join(append([]string{"Wayfarer"}, trayStatus(m, m.items())...), "\n")
}

// tray keeps the system's tray as the model says, and touches it only for changes.
type tray struct {
	setMenu    func(*fyne.Menu)
	setIcon    func(fyne.Resource)
	setTooltip func(string)
	actions    trayActions
	ends       bool // see trayRows
	template   bool // icons are templates (macOS)

	rows    []trayRow
	sign    traySign
	icon    string // its resource's name
	tooltip string
}

// traySign is what the icon depends on. Drawing one takes a while.
type traySign struct {
	state app.State
	dark  bool
}

// update shows the model, on a dark panel or a light one.
func (t *tray) update(m *model, dark bool) {
	if rows := trayRows(m, t.ends); !slices.Equal(rows, t.rows) {
		t.rows = rows
		t.setMenu(menuOf(rows, &t.actions))
	}
	if sign := (traySign{trayState(m), dark}); sign != t.sign {
		t.sign = sign
		t.showIcon()
	}
	if tooltip := trayTooltip(m); tooltip != t.tooltip {
		t.tooltip = tooltip
		t.setTooltip(tooltip)
	}
}

// showIcon draws the icon, which several states may share.
func (t *tray) showIcon() {
	var icon fyne.Resource
	if t.template {
		icon = trayTemplate(t.sign.state)
	} else {
		icon = trayIcon(t.sign.state, t.sign.dark)
	}
	if icon.Name() != t.icon {
		t.icon = icon.Name()
		t.setIcon(icon)
	}
}
