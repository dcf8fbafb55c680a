//go:build cgo && !windows && (x11 || wayland || !linux)

package main

import (
	"fmt"
	"os"
	"syscall"
)

// withoutConsole is nothing here: programs of the command line open no windows.
func withoutConsole() *syscall.SysProcAttr { return nil }

// tell says why there is no window.
func tell(text string) { fmt.Fprint(os.Stderr, text) }
