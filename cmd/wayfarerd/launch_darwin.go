package main

import (
	"io"

	"golang.org/x/sys/unix"
)

// launch runs the program, as root and as one process, and returns its exit code.
func launch(args []string, stderr io.Writer) int {
	ctx := untilSignal()
	// What a crash leaves must hold no secrets. A lower limit cannot be refused.
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	return run(ctx, args[1:], stderr, serve)
}

// rightsHint is what gives the service the rights that it lacks.
const rightsHint = "run it as root"
