//go:build cgo

package main

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// withoutConsole keeps a program of the command line from opening a window of its own: this
// one has no console that it could share.
func withoutConsole() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW}
}

// tell shows why there is no window in a box, for nobody reads this program's standard error.
func tell(text string) {
	message, err := windows.UTF16PtrFromString(text)
	if err != nil {
		return // a NUL in an argument
	}
	_, _ = windows.MessageBox(0, message, windows.StringToUTF16Ptr("Wayfarer"), windows.MB_OK|windows.MB_ICONINFORMATION|windows.MB_SETFOREGROUND)
}
