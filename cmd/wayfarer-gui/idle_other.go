//go:build cgo && (wayland || !linux)

package main

import "context"

// rest does nothing: Fyne's loop keeps its pace here.
func rest(context.Context, func() bool) {}
