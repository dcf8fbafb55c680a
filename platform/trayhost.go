package platform

import "errors"

// Why there is no tray.
var (
	// ErrNoSessionBus: programs of this session cannot talk to each other.
	ErrNoSessionBus = errors.New("there is no D-Bus session bus")
	// ErrNoTray: the desktop has no place for icons, such as GNOME without the
	// extension for it.
	ErrNoTray = errors.New("this desktop shows no icons of programs")
)
