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
