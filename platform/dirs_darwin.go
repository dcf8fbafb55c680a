package platform

const supportDir = "/Library/Application Support/Wayfarer"

// StateDir is where a service keeps what must outlive a crash.
func StateDir() string { return supportDir }

// ConfigDir is where an administrator places what is for all users.
func ConfigDir() string { return supportDir }
