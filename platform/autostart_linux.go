package platform

import (
	"fmt"
	"os"
	"path/filepath"
)

// NewAutostart is the user's entry for Wayfarer's window. The error is of a user without
// a configuration folder.
func NewAutostart() (*Autostart, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("find the folder of what starts at login: %w", err)
	}
	return &Autostart{desktopEntry{filepath.Join(dir, "autostart", autostartID+".desktop")}}, nil
}
