//go:build cgo && (x11 || wayland)

package main

import "syscall"

// endsWithParent has a process asked to end when this one is gone, however that came.
func endsWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}
