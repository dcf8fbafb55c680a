package gui

import (
	"bytes"
	"image"
	"image/png"
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
		for _, icon := range []fyne.Resource{trayIcon(state, false), trayIcon(state, true)} {
			content := string(icon.Content())
			for other, name := range seen {
				if other == content || name == icon.Name() {
					t.Errorf("%s looks like %s", icon.Name(), name)
				}
			}
			seen[content] = icon.Name()
			picture, err := png.Decode(bytes.NewReader(icon.Content()))
			if err != nil {
				t.Fatalf("%s: %v", icon.Name(), err)
			}
			if full := opaque(t, picture); full < 5 || full > 80 {
				t.Errorf("%s covers %d %% of its place", icon.Name(), full)
			}
		}
	}
	// What macOS may colour is told by its type.
	if _, ok := trayTemplate(app.StateConnected).(*theme.ThemedResource); !ok {
		t.Error("the template is no themed resource")
	}
}

// opaque is how much of a picture can be seen, in percent. None of it is half
// transparent.
func opaque(t *testing.T, picture image.Image) int {
	t.Helper()
	size, full := picture.Bounds().Size(), 0
	for y := range size.Y {
		for x := range size.X {
			switch _, _, _, a := picture.At(x, y).RGBA(); a {
			case 0:
			case 0xffff:
				full++
			default:
				t.Fatalf("the pixel at %d, %d is half transparent", x, y)
			}
		}
	}
	return 100 * full / (size.X * size.Y)
}
