package gui

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/theme"

	"wayfarer/app"
	"wayfarer/assets"
)

// stateIcon is how a state is drawn: the shape, and its colour on light and on dark.
type stateIcon struct {
	name        string
	shape       []byte
	light, dark string
	// panel is for a dark panel. Whether a panel is dark is a guess from the theme, so
	// it can be told from a light one, too.
	panel string
}

// iconOf is the picture of any state of a connection.
func iconOf(state app.State) stateIcon {
	switch state {
	case app.StateConnected:
		return stateIcon{"connected", assets.Connected, "#1c8a3c", "#4ecb71", "#35b75a"}
	case app.StateConnecting, app.StateReconnecting, app.StateDisconnecting:
		return stateIcon{"connecting", assets.Connecting, "#1f6fd1", "#6cb2ff", "#4c9df5"}
	case app.StateBlocked:
		return stateIcon{"blocked", assets.Blocked, "#c02622", "#ff6b60", "#f0554a"}
	case app.StateFailed, app.StateActionNeeded:
		return stateIcon{"trouble", assets.Trouble, "#b86200", "#ffb340", "#f09a1a"}
	}
	return stateIcon{"disconnected", assets.Disconnected, "#5b6470", "#c3cad3", "#97a1ad"}
}

// trayIconSize is that of a tray's picture, in pixels: several times what panels show,
// because its edges are hard.
const trayIconSize = 128

// trayIcon is a state's icon for a light or a dark panel, as PNG. No pixel of it is half
// transparent: the colours of those come out wrong in Fyne's tray on Linux, and what the
// panel makes smaller gets smooth edges by that.
func trayIcon(state app.State, dark bool) fyne.Resource {
	icon := iconOf(state)
	name, tint := icon.name+"-light.png", icon.light
	if dark {
		name, tint = icon.name+"-dark.png", icon.panel
	}
	colour := color.NRGBA{A: 0xff}
	_, err := fmt.Sscanf(tint, "#%02x%02x%02x", &colour.R, &colour.G, &colour.B)
	if err != nil {
		fyne.LogError("draw an icon", err)
	}
	shape, err := assets.Render(icon.shape, trayIconSize)
	if err != nil {
		fyne.LogError("draw an icon", err)
		return fyne.NewStaticResource(icon.name+".svg", icon.shape)
	}
	picture := image.NewNRGBA(shape.Bounds())
	for y := range trayIconSize {
		for x := range trayIconSize {
			if shape.RGBAAt(x, y).A >= 0x80 {
				picture.SetNRGBA(x, y, colour)
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		fyne.LogError("draw an icon", err)
	}
	return fyne.NewStaticResource(name, b.Bytes())
}

// trayTemplate is a state's icon for a macOS menu bar, which colours it itself.
func trayTemplate(state app.State) fyne.Resource {
	icon := iconOf(state)
	return theme.NewThemedResource(fyne.NewStaticResource(icon.name+"-template.svg", icon.shape))
}
