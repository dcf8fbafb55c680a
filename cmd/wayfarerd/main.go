package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
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

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stderr))
}

// run is the service until ctx ends. It returns the exit code: 0, 1, 2 for a
// mistake on the command line, or 7 without the rights that it needs.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	opts, err := parse(args, stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "wayfarerd: %v; see `wayfarerd --help`\n", err)
		return app.CodeUsage.Exit()
	}
	logs := daemon.NewLogs(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: opts.level}))
	if err := serve(ctx, logs, opts); err != nil {
		return tell(stderr, err)
	}
	return 0
}

// tell says why the service ends, and gives the exit code: a service without rights
// cannot change the network.
func tell(stderr io.Writer, err error) int {
	if errors.Is(err, fs.ErrPermission) {
		fmt.Fprintf(stderr, "wayfarerd: %v; run it as root or with CAP_NET_ADMIN\n", err)
		return app.CodeNetworkConfig.Exit()
	}
	fmt.Fprintf(stderr, "wayfarerd: %v\n", err)
	return app.CodeInternal.Exit()
}

type options struct {
	socket, stateDir string
	level            slog.Level
}

func parse(args []string, stderr io.Writer) (options, error) {
	var opts options
	var level string
	flags := pflag.NewFlagSet("wayfarerd", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprintf(stderr, "Usage: wayfarerd [flags]\n\n%s", flags.FlagUsages()) }
	flags.StringVar(&opts.socket, "socket", control.DefaultPath(), "where to listen")
	flags.StringVar(&opts.stateDir, "state-dir", defaultStateDir(), "`DIR` to keep what must outlive a crash")
	flags.StringVar(&level, "log-level", "info", "`LEVEL` of the log: "+strings.Join(app.LogLevels(), ", "))
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	if flags.NArg() > 0 {
		return opts, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	var ok bool
	if opts.level, ok = app.ParseLogLevel(strings.ToLower(level)); !ok {
		return opts, fmt.Errorf("unknown log level %q", level)
	}
	return opts, nil
}

func defaultStateDir() string {
	switch runtime.GOOS {
	case "windows":
		return filepath.Join(os.Getenv("ProgramData"), "Wayfarer")
	case "darwin":
		return "/Library/Application Support/Wayfarer"
	}
	return "/var/lib/wayfarer"
}

// serve serves the local API until ctx ends, then ends what stands.
func serve(ctx context.Context, logs *daemon.Logs, opts options) (err error) {
	log := slog.New(logs)
	// The socket comes first: whoever holds it is the only service.
	listener, err := control.Listen(opts.socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	network, err := daemon.HostNetwork(log, opts.stateDir)
	if err != nil {
		return fmt.Errorf("open this computer's network: %w", err)
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	managed, errs := daemon.ReadManaged(daemon.ManagedDir())
	for _, err := range errs {
		log.Error("a managed profile is left out", "error", err)
	}
	// What a service that crashed left must not last until somebody connects; only
	// the block of an always-on profile stays until that is connected.
	if err := network.Recover(ctx, daemon.KeepsBlock(managed)); err != nil {
		log.Warn("not everything that an earlier service left is undone", "error", err)
	}
	d := daemon.New(daemon.Options{Log: log, Version: app.Version(), Network: network, Managed: managed})

	server := &control.Server{Backend: d, Log: log, Logs: logs, Version: app.Version()}
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	var serveErr error
	served := make(chan struct{})
	go func() {
		defer close(served)
		serveErr = server.Serve(serving, listener)
	}()
	log.Info("wayfarerd runs", "version", app.Version(), "socket", opts.socket)

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
