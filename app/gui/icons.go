package gui

import (
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
}

// iconOf is the picture of any state of a connection.
func iconOf(state app.State) stateIcon {
	switch state {
	case app.StateConnected:
		return stateIcon{"connected", assets.Connected, "#1c8a3c", "#4ecb71"}
	case app.StateConnecting, app.StateReconnecting, app.StateDisconnecting:
		return stateIcon{"connecting", assets.Connecting, "#1f6fd1", "#6cb2ff"}
	case app.StateBlocked:
		return stateIcon{"blocked", assets.Blocked, "#c02622", "#ff6b60"}
	case app.StateFailed, app.StateActionNeeded:
		return stateIcon{"trouble", assets.Trouble, "#b86200", "#ffb340"}
	}
	return stateIcon{"disconnected", assets.Disconnected, "#5b6470", "#c3cad3"}
}

// trayIcon is a state's icon for a light or a dark panel. Each has a name of
// its own, for Fyne draws resources of one name once.
func trayIcon(state app.State, dark bool) fyne.Resource {
	icon := iconOf(state)
	if dark {
		return fyne.NewStaticResource(icon.name+"-dark.svg", assets.Tint(icon.shape, icon.dark))
	}
	return fyne.NewStaticResource(icon.name+"-light.svg", assets.Tint(icon.shape, icon.light))
}

// trayTemplate is a state's icon for a macOS menu bar, which colours it itself.
func trayTemplate(state app.State) fyne.Resource {
	icon := iconOf(state)
	return theme.NewThemedResource(fyne.NewStaticResource(icon.name+"-template.svg", icon.shape))
}
