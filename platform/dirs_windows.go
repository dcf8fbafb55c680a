package platform

import (
	"path/filepath"

	"golang.org/x/sys/windows"
)

// programData asks the system, because any user can set a variable of the environment
// for programs that are started from there.
func programData() string {
	dir, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, windows.KF_FLAG_DEFAULT)
	if err != nil {
		dir = `C:\ProgramData`
	}
	return filepath.Join(dir, "Wayfarer")
}

// StateDir is where a service keeps what must outlive a crash.
func StateDir() string { return programData() }

// ConfigDir is where an administrator places what is for all users.
func ConfigDir() string { return programData() }
