package main

import (
	"context"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sys/windows/svc"

	"wayfarer/app/daemon"
)

// serviceName is what the service manager knows the service by.
const serviceName = "wayfarerd"

const (
	// stopHint is how long the service manager is asked to wait for the end.
	stopHint = closeTime + 5*time.Second
	// startHint is how long it is asked to wait for the next sign of life while the service
	// starts, which gives one every startPause: undoing what a crash left takes its time.
	startHint  = 10 * time.Second
	startPause = 2 * time.Second
	// manageTime is how long a service that fails waits for its settings to be told: they
	// say that it is started again.
	manageTime = 2 * time.Second
)

// service is what the service manager controls.
type service struct {
	args   []string
	log    io.Writer
	manage func() error // tells the service manager the service's settings
	work   func(context.Context, *daemon.Logs, options) error
	exit   int // of the work, once it has ended
}

// accepted are the requests that the service heeds while it runs. Before a shutdown Windows
// waits as long as [manage] has said, and at one only for some seconds.
const accepted = svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown

// Execute runs the work until the service manager stops it or the computer shuts down. It is
// running when it serves. The code that is returned is the program's exit code; 0 is a
// service that was stopped.
func (s *service) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (specific bool, code uint32) {
	now := svc.Status{State: svc.StartPending, WaitHint: uint32(startHint.Milliseconds())}
	status <- now
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	managed := s.beManaged()
	ready, ended := make(chan struct{}), make(chan int, 1)
	serves := ready
	go func() {
		ended <- run(ctx, s.args, s.log, func(ctx context.Context, logs *daemon.Logs, opts options) error {
			opts.ready = func() { close(serves) }
			return s.work(ctx, logs, opts)
		})
	}()
	alive := time.NewTicker(startPause)
	defer alive.Stop()
	for {
		select {
		case s.exit = <-ended:
			status <- svc.Status{State: svc.StopPending}
			select {
			case <-managed:
			case <-time.After(manageTime):
			}
			return s.exit != 0, uint32(s.exit)
		case <-alive.C:
			now.CheckPoint++
			status <- now
		case <-ready:
			ready = nil
			alive.Stop()
			now = svc.Status{State: svc.Running, Accepts: accepted}
			status <- now
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				status <- now
			case svc.Stop, svc.Shutdown, svc.PreShutdown:
				ready = nil
				alive.Stop()
				now = svc.Status{State: svc.StopPending, WaitHint: uint32(stopHint.Milliseconds())}
				status <- now
				cancel()
			}
		}
	}
}

// beManaged tells the service manager the service's settings while the service starts, for it
// may take its time. The channel is closed when that is done.
func (s *service) beManaged() <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.manage(); err != nil {
			slog.New(slog.NewTextHandler(s.log, nil)).Warn("the service manager does not take all settings of the service; look whether it is to be started again after a crash", "error", err)
		}
	}()
	return done
}
