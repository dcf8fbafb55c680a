package main

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// launch runs the program, as root and as one process, and returns its exit code.
func launch(args []string, stderr io.Writer) int {
	ctx := untilSignal()
	// What a crash leaves must hold no secrets. A lower limit cannot be refused.
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if err := closeToOthers(os.Stderr); err != nil {
		fmt.Fprintf(stderr, "wayfarerd: other users can read the log: %v\n", err)
	}
	return run(ctx, args[1:], stderr, serve)
}

// closeToOthers lets nobody but its owner read a file of this process's user: launchd makes
// the log readable to all, and the log names users and gateways. What is no file, such as a
// terminal, or somebody else's is left alone.
func closeToOthers(log *os.File) error {
	info, err := log.Stat()
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || !info.Mode().IsRegular() || int(owner.Uid) != os.Geteuid() {
		return nil
	}
	return log.Chmod(0o600)
}

// rightsHint is what gives the service the rights that it lacks.
const rightsHint = "run it as root"
