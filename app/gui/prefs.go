package gui

import "fyne.io/fyne/v2"

// prefs are the user's settings of the window, which Fyne keeps in a file.
type prefs struct{ fyne.Preferences }

const (
	prefBlock   = "block-outside"
	prefLocal   = "local-network"
	prefConnect = "connect-on-start"
	prefLang    = "language"
)

// blockOutside: every connection lets nothing past the gateway.
func (p prefs) blockOutside() bool { return p.Bool(prefBlock) }

// localNetwork: every connection lets the local network be reached.
func (p prefs) localNetwork() bool { return p.Bool(prefLocal) }

// connectOnStart is the name of the profile to connect when the program starts; empty:
// none.
func (p prefs) connectOnStart() string { return p.String(prefConnect) }

// language is the chosen language's code; empty: the system's.
func (p prefs) language() string { return p.String(prefLang) }
