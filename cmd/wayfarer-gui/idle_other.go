//go:build cgo && (wayland || !linux)

package main

import (
	"context"
	"time"
)

// rest does nothing: Fyne's loop keeps its pace here.
type rest struct{}

func (*rest) wake()                            {}
func (*rest) untouched() time.Duration         { return 0 }
func (*rest) run(context.Context, func() bool) {}
