package main

import (
	"io"

	"golang.org/x/sys/unix"
)

// launch runs the program and returns its exit code: as root it is the root process, which
// starts the service; as anybody else the service.
func launch(args []string, stderr io.Writer) int {
	ctx := untilSignal()
	// What a crash leaves must hold no secrets. A lower limit cannot be refused.
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	switch {
	case args[0] == serviceName:
		return run(ctx, args[1:], stderr, serveConfined)
	case mayDivide():
		return run(ctx, args[1:], stderr, supervise)
	}
	return run(ctx, args[1:], stderr, serveAlone)
}

// rightsHint is what gives the service the rights that it lacks.
const rightsHint = "run it as root or with CAP_NET_ADMIN"
