//go:build cgo && !windows && (x11 || wayland || !linux)

package main

import "syscall"

// withoutConsole is nothing here: programs of the command line open no windows.
func withoutConsole() *syscall.SysProcAttr { return nil }
