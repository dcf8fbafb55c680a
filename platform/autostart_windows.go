package platform

import (
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// Keys below HKEY_CURRENT_USER, and below HKEY_LOCAL_MACHINE.
const (
	runPath      = `Software\Microsoft\Windows\CurrentVersion\Run`
	approvedPath = `Software\Microsoft\Windows\CurrentVersion\Explorer\StartupApproved\Run`
)

// NewAutostart is the user's entry for Wayfarer's window. The error is always nil.
func NewAutostart() (*Autostart, error) {
	return &Autostart{runKey{registryEntry{autostartTitle}, func(program string, args []string) string {
		return windows.ComposeCommandLine(append([]string{program}, args...))
	}}}, nil
}

// registryEntry is the values of one name.
type registryEntry struct{ name string }

func (r registryEntry) machine() (bool, error) {
	key, err := registry.OpenKey(registry.LOCAL_MACHINE, runPath, registry.QUERY_VALUE|registry.WOW64_64KEY)
	if err != nil {
		return false, unlessAbsent(err)
	}
	defer key.Close()
	command, _, err := key.GetStringValue(r.name)
	return command != "", unlessAbsent(err)
}

func (r registryEntry) command() (string, error) {
	key, err := registry.OpenKey(registry.CURRENT_USER, runPath, registry.QUERY_VALUE)
	if err != nil {
		return "", unlessAbsent(err)
	}
	defer key.Close()
	command, _, err := key.GetStringValue(r.name)
	return command, unlessAbsent(err)
}

func (r registryEntry) approval() ([]byte, error) { return r.approved(registry.CURRENT_USER, 0) }

func (r registryEntry) machineApproval() ([]byte, error) {
	return r.approved(registry.LOCAL_MACHINE, registry.WOW64_64KEY)
}

func (r registryEntry) approved(root registry.Key, access uint32) ([]byte, error) {
	key, err := registry.OpenKey(root, approvedPath, registry.QUERY_VALUE|access)
	if err != nil {
		return nil, unlessAbsent(err)
	}
	defer key.Close()
	value, _, err := key.GetBinaryValue(r.name)
	return value, unlessAbsent(err)
}

func (r registryEntry) setCommand(command string) error {
	key, _, err := registry.CreateKey(registry.CURRENT_USER, runPath, registry.SET_VALUE)
	if err != nil {
		return err
	}
	defer key.Close()
	return key.SetStringValue(r.name, command)
}

func (r registryEntry) setApproval(value []byte) error {
	key, _, err := registry.CreateKey(registry.CURRENT_USER, approvedPath, registry.SET_VALUE)
	if err != nil {
		return err
	}
	defer key.Close()
	return key.SetBinaryValue(r.name, value)
}

func (r registryEntry) removeCommand() error  { return r.remove(runPath) }
func (r registryEntry) removeApproval() error { return r.remove(approvedPath) }

func (r registryEntry) remove(path string) error {
	key, err := registry.OpenKey(registry.CURRENT_USER, path, registry.SET_VALUE)
	if err != nil {
		return unlessAbsent(err)
	}
	defer key.Close()
	return unlessAbsent(key.DeleteValue(r.name))
}
