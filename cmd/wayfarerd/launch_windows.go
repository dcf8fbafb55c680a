package main

import (
	"io"

	"golang.org/x/sys/windows/svc"
)

// serviceArgument is how the service manager starts the program. Whether it is a service
// cannot be asked of every system.
const serviceArgument = "service"

// launch runs the program and returns its exit code: with the argument service it is what
// the service manager has started, otherwise a program in a terminal. The service manager
// waits 30 s for svc.Run, so nothing that may take its time stands before it.
func launch(args []string, stderr io.Writer) int {
	if len(args) < 2 || args[1] != serviceArgument {
		return run(untilSignal(), args[1:], stderr, serve)
	}
	log := openEventLog(stderr, windowsEvents)
	defer log.close()
	if err := dropPrivileges(keptPrivileges); err != nil {
		return tell(log, err)
	}
	s := &service{args: args[2:], log: log, manage: func() error { return manage(serviceName) }, work: serve}
	if err := svc.Run(serviceName, s); err != nil {
		return tell(log, err)
	}
	return s.exit
}

// rightsHint is what gives the service the rights that it lacks.
const rightsHint = "run it as administrator, or as a service"
