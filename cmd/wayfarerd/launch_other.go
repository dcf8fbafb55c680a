//go:build !linux && !windows

package main

import "io"

// launch runs the program and returns its exit code.
func launch(args []string, stderr io.Writer) int {
	ctx := untilSignal()
	return run(ctx, args[1:], stderr, serve)
}
