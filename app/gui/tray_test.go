package gui

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"fyne.io/fyne/v2"

	"wayfarer/app"
)

// labels of a menu; a separator is a dash, what is disabled stands in brackets.
func labels(menu *fyne.Menu) []string {
	var list []string
	for _, item := range menu.Items {
		switch {
		case item.IsSeparator:
			list = append(list, "-")
		case item.Disabled:
			list = append(list, "("+item.Label+")")
		default:
			list = append(list, item.Label)
		}
	}
	return list
}

func click(t *testing.T, menu *fyne.Menu, label string) {
	t.Helper()
	i := slices.IndexFunc(menu.Items, func(item *fyne.MenuItem) bool { return item.Label == label })
	if i < 0 {
		t.Fatalf("no item %q among %q", label, labels(menu))
	}
	menu.Items[i].Action()
}

// trayModel is a model with these profiles and connections.
func trayModel(profiles []string, connections ...app.Connection) *model {
	m := &model{status: &app.Status{Connections: connections}}
	for _, name := range profiles {
		m.profiles = append(m.profiles, saved{name: name})
	}
	return m
}

func TestTrayMenu(t *testing.T) {
	office := inState("c1", "office", app.StateConnected)
	office.Addresses = []netip.Prefix{netip.MustParsePrefix("192.168.201.20/32")}
	typed := inState("c2", "", app.StateConnecting)
	typed.Gateway = &app.Gateway{Host: "vpn.example.com"}
	unreachable := trayModel([]string{"office"})
	unreachable.noService = app.NewFailure(app.CodeNoService, "", "it is not there", "")
	tail := []string{"-", "Open Wayfarer", "Logs", "Settings", "-"}
	one, two := []string{"office"}, []string{"office", "home"}
	for _, tt := range []struct {
		name  string
		model *model
		ends  bool
		want  []string // without tail
		quit  string
	}{
		{"nothing yet", &model{}, false, []string{"(Not connected)"}, "Quit"},
		{"disconnected", trayModel(two), false, []string{"(Not connected)", "-", "Connect office", "Connect home"}, "Quit"},
		{
			"connected", trayModel(two, office), false,
			[]string{"(office: Connected, 192.168.201.20)", "-", "Disconnect office", "Connect home"},
			"Quit (stays connected)",
		},
		{
			"demonstration", trayModel(one, office), true,
			[]string{"(office: Connected, 192.168.201.20)", "-", "Disconnect office"},
			"Quit (disconnects)",
		},
		{
			"no profile", trayModel(one, typed), false,
			[]string{"(vpn.example.com: Connecting)", "-", "Connect office", "Disconnect vpn.example.com"},
			"Quit",
		},
		{
			"failed", trayModel(one, inState("c1", "office", app.StateFailed)), false,
			[]string{"(office: " + stateName(app.StateFailed) + ")", "-", "Connect office"},
			"Quit",
		},
		{
			"on its way down", trayModel(one, inState("c1", "office", app.StateDisconnecting)), false,
			[]string{"(office: Disconnecting)", "-", "(Disconnect office)"},
			"Quit",
		},
		{
			"blocked", trayModel(one, inState("c1", "office", app.StateBlocked)), false,
			[]string{"(office: Blocked)", "-", "Disconnect office"},
			"Quit (stays connected)",
		},
		{
			"another user's", trayModel(one, app.Connection{Owner: "eve", State: app.StateConnected}), false,
			[]string{"(Not connected)", "-", "Connect office"},
			"Quit",
		},
		{"no service", unreachable, false, []string{"(The Wayfarer service cannot be used)", "-", "(Connect office)"}, "Quit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			menu := trayMenu(tt.model, tt.ends, &trayActions{})
			want := slices.Concat(tt.want, tail, []string{tt.quit})
			if got := labels(menu); !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			if last := menu.Items[len(menu.Items)-1]; !last.IsQuit {
				t.Error("Fyne would add an item of its own")
			}
		})
	}
}

func TestTrayActions(t *testing.T) {
	var did []string
	say := func(what string) func() { return func() { did = append(did, what) } }
	m := trayModel([]string{"office", "home"}, inState("c7", "office", app.StateActionNeeded))
	menu := trayMenu(m, false, &trayActions{
		connect:    func(key string) { did = append(did, "connect "+key) },
		disconnect: func(key string) { did = append(did, "disconnect "+key) },
		open:       say("open"), logs: say("logs"), settings: say("settings"), quit: say("quit"),
	})
	for _, label := range []string{"Disconnect office", "Connect home", "Open Wayfarer", "Logs", "Settings", "Quit"} {
		click(t, menu, label)
	}
	want := []string{"disconnect profile office", "connect profile home", "open", "logs", "settings", "quit"}
	if !slices.Equal(did, want) {
		t.Errorf("got %q, want %q", did, want)
	}
}

func TestTrayNames(t *testing.T) {
	long := trayName(strings.Repeat("x", 100))
	if n := len([]rune(long)); n != maxTrayName+1 {
		t.Errorf("%d characters", n)
	}
	if got := trayName("a\u202e\nb"); got != "a b" {
		t.Errorf("got %q", got)
	}
	for goos, want := range map[string]string{"linux": "R&D__x", "windows": "R&&D_x", "darwin": "R&D_x"} {
		if got := escapeMnemonic("R&D_x", goos); got != want {
			t.Errorf("%s: got %q", goos, got)
		}
	}
}

func TestTrayState(t *testing.T) {
	m := trayModel(nil, inState("c1", "office", app.StateConnected), inState("c2", "home", app.StateReconnecting))
	if got := trayState(m); got != app.StateReconnecting {
		t.Errorf("got %s", got)
	}
	if got := trayState(trayModel(nil, app.Connection{Owner: "eve", State: app.StateBlocked})); got != app.StateDisconnected {
		t.Errorf("another user's: %s", got)
	}
	m.noService = app.NewFailure(app.CodeNoService, "", "it is not there", "")
	if got := trayState(m); got != app.StateFailed {
		t.Errorf("without a service: %s", got)
	}
}

func TestTrayTouchesWhatChanges(t *testing.T) {
	var did []string
	tr := &tray{
		setMenu:    func(*fyne.Menu) { did = append(did, "menu") },
		setIcon:    func(r fyne.Resource) { did = append(did, r.Name()) },
		setTooltip: func(s string) { did = append(did, s) },
	}
	m := trayModel([]string{"office"})
	step := func(want ...string) {
		t.Helper()
		tr.update(m, true)
		if !slices.Equal(did, want) {
			t.Errorf("did %q, want %q", did, want)
		}
		did = nil
	}
	step("menu", "disconnected-dark.png", "Wayfarer\nNot connected")
	tr.icon = "" // it is not even drawn to be compared
	step()
	m.status.Connections = []app.Connection{inState("c1", "office", app.StateConnected)}
	step("menu", "connected-dark.png", "Wayfarer\noffice: Connected")
	m.status.Connections[0].ESP = []app.ESP{{BytesIn: 7}}
	step()
	// The same words, but what they do has changed.
	m.profiles[0].name, m.status.Connections[0].Profile = "office ", "office "
	step("menu")
	tr.template = true
	tr.update(m, false)
	if len(did) != 1 || !strings.Contains(did[0], "connected-template") {
		t.Errorf("did %q", did)
	}
}
