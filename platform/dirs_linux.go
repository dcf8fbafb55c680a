package platform

// StateDir is where a service keeps what must outlive a crash.
func StateDir() string { return "/var/lib/wayfarer" }

// ConfigDir is where an administrator places what is for all users.
func ConfigDir() string { return "/etc/wayfarer" }
