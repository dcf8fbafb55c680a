package platform

import (
	"fmt"
	"os"
	"path/filepath"
)

// NewAutostart is the user's entry for Wayfarer's window. The error is of a user without
// a home.
func NewAutostart() (*Autostart, error) {
	dir, err := os.UserHomeDir()
	if err != nil {
		return nil, fmt.Errorf("find the folder of what starts at login: %w", err)
	}
	return &Autostart{launchAgent{filepath.Join(dir, "Library", "LaunchAgents", autostartID+".plist")}}, nil
}
