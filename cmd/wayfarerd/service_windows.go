package main

import (
	"context"
	"io"
	"time"

	"golang.org/x/sys/windows/svc"

	"wayfarer/app/daemon"
)

// serviceName is what the service manager knows the service by.
const serviceName = "wayfarerd"

// stopHint is how long the service manager is asked to wait for the end.
const stopHint = closeTime + 5*time.Second

// service is what the service manager controls.
type service struct {
	args []string
	log  io.Writer
	work func(context.Context, *daemon.Logs, options) error
	exit int // of the work, once it has ended
}

// Execute runs the work until the service manager stops it or the computer shuts down. The
// code that it returns is the program's exit code; 0 is a service that was stopped.
func (s *service) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (specific bool, code uint32) {
	status <- svc.Status{State: svc.StartPending}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, s.args, s.log, s.work) }()
	status <- svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown}
	for {
		select {
		case s.exit = <-ended:
			status <- svc.Status{State: svc.StopPending}
			return s.exit != 0, uint32(s.exit)
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				status <- r.CurrentStatus
			case svc.Stop, svc.Shutdown:
				status <- svc.Status{State: svc.StopPending, WaitHint: uint32(stopHint.Milliseconds())}
				cancel()
			}
		}
	}
}
