//go:build cgo

package main

import (
	"os"
	"strings"

	"github.com/go-gl/glfw/v3.4/glfw"
)

// GLFW makes every program one with a menu bar and a place in the Dock. In its bundle this
// one is to be what Info.plist says: it lives in the menu bar's status area (LSUIElement).
// Outside of one nothing else would let its window have the keyboard.
func init() {
	if program, err := os.Executable(); err == nil && strings.Contains(program, ".app/Contents/MacOS/") {
		glfw.InitHint(glfw.CocoaMenubar, glfw.False)
	}
}
