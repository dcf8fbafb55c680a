package main

import (
	"context"
	"io"
	"iter"
	"os"
	"time"

	"golang.org/x/term"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/store"
	"wayfarer/platform"
)

// env is what a command needs of the world.
type env struct {
	in       io.Reader
	out, err io.Writer
	// ask asks the person at the terminal; nil when nobody is there.
	ask asker
	// progress means that a person reads err as it is written.
	progress bool
	now      func() time.Time
	// service is the service behind a socket.
	service func(socket string) installed
	// profiles is the user's store.
	profiles func() (*store.Store, error)
	// edit opens a file in the person's editor and returns when it is left.
	edit func(ctx context.Context, path string) error
	// restore undoes, without a service, what one has left.
	restore func(ctx context.Context, stateDir string) error
	// selftest tries every change to the network.
	selftest func(ctx context.Context, tell func(platform.Check)) error

	socket string // of --socket
}

// service is what connecting needs of the local API; *control.Client is one.
type service interface {
	Status(context.Context) (*app.Status, error)
	Watch(context.Context) iter.Seq2[*app.Status, error]
	Connect(context.Context, *control.ConnectRequest) (id string, err error)
	Disconnect(ctx context.Context, id string) error
	Answer(ctx context.Context, id string, answer *control.Answer) error
}

// installed is the service of this computer, which outlives commands.
type installed interface {
	service
	Logs(ctx context.Context, level string, following bool) iter.Seq2[*app.LogRecord, error]
	RestoreNetwork(context.Context) error
	Managed(context.Context) (*app.Managed, error)
}

// systemEnv is the process's own world.
func systemEnv() *env {
	e := &env{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		progress: term.IsTerminal(int(os.Stderr.Fd())),
		now:      time.Now,
		service:  func(socket string) installed { return &control.Client{Path: socket} },
		profiles: store.Open,
		edit:     runEditor,
		restore:  platform.Restore,
		selftest: selftest,
	}
	if e.progress && term.IsTerminal(int(os.Stdin.Fd())) {
		e.ask = newTerminal(os.Stdin, os.Stderr)
	}
	return e
}
