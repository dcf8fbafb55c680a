package gui

import (
	"strings"
	"testing"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"

	"wayfarer/app"
)

// Every state has pictures and names of its own in light and dark, and a template.
func TestTrayIcons(t *testing.T) {
	test.NewTempApp(t)
	seen := map[string]string{}
	for _, state := range []app.State{app.StateDisconnected, app.StateConnecting, app.StateConnected, app.StateBlocked, app.StateFailed} {
		for _, icon := range []fyne.Resource{trayIcon(state, false), trayIcon(state, true), trayTemplate(state)} {
			content := string(icon.Content())
			if !strings.HasPrefix(content, "<svg") {
				t.Errorf("%s is no SVG", icon.Name())
			}
			for other, name := range seen {
				if other == content || name == icon.Name() {
					t.Errorf("%s looks like %s", icon.Name(), name)
				}
			}
			seen[content] = icon.Name()
		}
	}
	// What macOS may colour is told by its type.
	if _, ok := trayTemplate(app.StateConnected).(*theme.ThemedResource); !ok {
		t.Error("the template is no themed resource")
	}
}
