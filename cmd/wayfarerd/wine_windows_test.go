package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"

	"wayfarer/app/control"
	"wayfarer/app/daemon"
	"wayfarer/platform"
)

// notedNetwork is this computer's network, of which Set only tells what it was asked for:
// Wine has no way to configure one.
type notedNetwork struct {
	*platform.Network
	out io.Writer
}

func (n notedNetwork) Set(_ context.Context, cfg platform.Config) error {
	fmt.Fprintf(n.out, "wish: %+v\n", cfg)
	return nil
}

// TestServiceUnderWine is no test but the service that test/wine connects with: all that
// Windows has of it, but for Set.
func TestServiceUnderWine(t *testing.T) {
	pipe, dir := os.Getenv("WAYFARER_TEST_PIPE"), os.Getenv("WAYFARER_TEST_STATE")
	if pipe == "" {
		t.Skip("it is test/wine that runs this")
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // until whoever started it goes
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	logs := daemon.NewLogs(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	listener, err := control.Listen(pipe)
	if err != nil {
		t.Fatal(err)
	}
	network, err := daemon.HostNetwork(slog.New(logs), dir)
	if err != nil {
		t.Fatal(err)
	}
	opts := options{socket: pipe, stateDir: dir, level: slog.LevelDebug}
	if err := serveOn(ctx, logs, opts, listener, notedNetwork{network, os.Stderr}, daemon.SetUp{}); err != nil {
		t.Error(err)
	}
}
