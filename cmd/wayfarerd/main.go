package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"wayfarer/app"
	"wayfarer/app/control"
	"wayfarer/app/daemon"
)

// closeTime bounds how long the end of all connections may take; service managers
// kill after longer.
const closeTime = 20 * time.Second

func main() { os.Exit(launch(os.Args, os.Stderr)) }

// untilSignal is a context that ends with the first signal to stop.
func untilSignal() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	return ctx
}

// run reads the command line and does the work until ctx ends. It returns the exit
// code: 0, 1, 2 for a mistake on the command line, or 7 without the rights that it
// needs.
func run(ctx context.Context, args []string, stderr io.Writer, work func(context.Context, *daemon.Logs, options) error) int {
	opts, err := parse(args, stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "wayfarerd: %v; see `wayfarerd --help`\n", err)
		return app.CodeUsage.Exit()
	}
	logs := daemon.NewLogs(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: opts.level, ReplaceAttr: nameLevel}))
	if err := work(ctx, logs, opts); err != nil {
		return tell(stderr, err)
	}
	return 0
}

// nameLevel writes the name of a record's level, as slog does, which has none for trace.
func nameLevel(groups []string, attr slog.Attr) slog.Attr {
	if level, ok := attr.Value.Any().(slog.Level); ok && attr.Key == slog.LevelKey && len(groups) == 0 {
		attr.Value = slog.StringValue(strings.ToUpper(app.LogLevelName(level)))
	}
	return attr
}

// tell says why the service ends, and gives the exit code: a service without rights
// cannot change the network.
func tell(stderr io.Writer, err error) int {
	if exit, ok := err.(exitError); ok {
		return int(exit)
	}
	if errors.Is(err, fs.ErrPermission) {
		fmt.Fprintf(stderr, "wayfarerd: %v; %s\n", err, rightsHint)
		return app.CodeNetworkConfig.Exit()
	}
	fmt.Fprintf(stderr, "wayfarerd: %v\n", err)
	return app.CodeInternal.Exit()
}

// exitError is the exit code of another process, which has told why it ends.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("the service ended with %d", int(e)) }

type options struct {
	socket, stateDir string
	level            slog.Level
	ready            func() // is called when the service serves, if it is not nil
}

// about is what help says of the service.
const about = "The service of Wayfarer, a VPN client for IPsec gateways: it holds the connections that wayfarer makes, and\n" +
	"restores this computer's network when it ends."

// flags is the command line, which has a log level by name.
func (opts *options) flags(stderr io.Writer) *pflag.FlagSet {
	flags := pflag.NewFlagSet("wayfarerd", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "%s\n\nUsage:\n  wayfarerd [flags]\n\nFlags:\n%s", about, flags.FlagUsages())
	}
	flags.StringVar(&opts.socket, "socket", control.DefaultPath(), "where to listen")
	flags.StringVar(&opts.stateDir, "state-dir", daemon.StateDir(), "`DIR` to keep what must outlive a crash")
	flags.String("log-level", "info", "`LEVEL` of the log: "+strings.Join(app.LogLevels(), ", ")+"; debug shows each IKE message, trace the payloads of each")
	return flags
}

func parse(args []string, stderr io.Writer) (options, error) {
	var opts options
	flags := opts.flags(stderr)
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if flags.NArg() > 0 {
		return opts, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	level, err := flags.GetString("log-level")
	if err != nil {
		return opts, err
	}
	var ok bool
	if opts.level, ok = app.ParseLogLevel(strings.ToLower(level)); !ok {
		return opts, fmt.Errorf("unknown log level %q", level)
	}
	return opts, nil
}

// serve is the service, with the rights that this process has.
func serve(ctx context.Context, logs *daemon.Logs, opts options) error {
	// The socket comes first: whoever holds it is the only service.
	listener, err := control.Listen(opts.socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	network, err := daemon.HostNetwork(slog.New(logs), opts.stateDir)
	if err != nil {
		return err
	}
	return serveOn(ctx, logs, opts, listener, network, readSetUp(slog.New(logs)))
}

// readSetUp reads what an administrator has placed.
func readSetUp(log *slog.Logger) daemon.SetUp {
	set, errs := daemon.ReadSetUp(daemon.ConfigDir())
	for _, err := range errs {
		log.Error("a file of the administrator's is left out", "error", err)
	}
	return set
}

// hostNetwork is what the service needs of this computer's network.
type hostNetwork interface {
	daemon.Network
	Recover(ctx context.Context, keepBlock bool) error
	Close() error
}

// serveOn connects the managed profiles and serves the local API until ctx ends, then
// ends what stands.
func serveOn(ctx context.Context, logs *daemon.Logs, opts options, listener net.Listener, network hostNetwork, set daemon.SetUp) (err error) {
	log := slog.New(logs)
	defer func() { err = errors.Join(err, network.Close()) }()
	// What a service that crashed left must not last until somebody connects; only
	// the block of an always-on profile stays until that is connected.
	if err := network.Recover(ctx, daemon.KeepsBlock(set.Profiles)); err != nil {
		log.Warn("not everything that an earlier service left is undone", "error", err)
	}
	d := daemon.New(daemon.Options{Log: log, Version: app.Version(), Network: network, Managed: set.Profiles, Policy: set.Policy})

	server := &control.Server{Backend: d, Log: log, Logs: logs, Version: app.Version(), Authorize: daemon.Authorize, Managed: d.Managed}
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	var serveErr error
	served := make(chan struct{})
	go func() {
		defer close(served)
		serveErr = server.Serve(serving, listener)
	}()
	log.Info("wayfarerd runs", "version", app.Version(), "socket", opts.socket)
	if opts.ready != nil {
		opts.ready()
	}

	select {
	case <-served:
	case <-ctx.Done():
	}
	log.Info("wayfarerd stops")
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	// The API outlives the connections, so that clients see them end.
	err = d.Close(closing)
	stopServing()
	<-served
	return errors.Join(serveErr, err)
}
