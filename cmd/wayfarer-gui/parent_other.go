//go:build cgo && !linux

package main

import "syscall"

// endsWithParent is nothing here: a window that is killed leaves the process.
func endsWithParent() *syscall.SysProcAttr { return nil }
