package gui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/lang"

	"wayfarer/app"
	"wayfarer/assets"
)

// stateName is a state in people's words.
func stateName(s app.State) string {
	switch s {
	case app.StateConnecting:
		return lang.L("Connecting")
	case app.StateActionNeeded:
		return lang.L("Waiting for you")
	case app.StateConnected:
		return lang.L("Connected")
	case app.StateReconnecting:
		return lang.L("Reconnecting")
	case app.StateDisconnecting:
		return lang.L("Disconnecting")
	case app.StateBlocked:
		return lang.L("Blocked")
	case app.StateFailed:
		return lang.L("Could not connect")
	}
	return lang.L("Not connected")
}

// stepName is a step in people's words.
func stepName(s app.Step) string {
	switch s {
	case app.StepFindGateway:
		return lang.L("Find gateway")
	case app.StepAgreeSecurity:
		return lang.L("Agree security")
	case app.StepCheckCertificate:
		return lang.L("Check gateway certificate")
	case app.StepSignIn:
		return lang.L("Sign in")
	case app.StepGetSettings:
		return lang.L("Get settings")
	case app.StepBuildTunnel:
		return lang.L("Build tunnel")
	case app.StepTest:
		return lang.L("Test")
	}
	return ""
}

// stateSign is the sign of a state in the window, by shape and colour.
func stateSign(s app.State, dark bool) fyne.Resource {
	icon := iconOf(s)
	if dark {
		return fyne.NewStaticResource("sign-"+icon.name+"-dark.svg", assets.Tint(icon.shape, icon.dark))
	}
	return fyne.NewStaticResource("sign-"+icon.name+"-light.svg", assets.Tint(icon.shape, icon.light))
}
