//go:build cgo && (wayland || !linux)

package main

import "context"

// rest does nothing: Fyne's loop keeps its pace here.
type rest struct{}

func (*rest) wake()                            {}
func (*rest) run(context.Context, func() bool) {}
