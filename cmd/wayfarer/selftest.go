package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/spf13/cobra"

	"wayfarer/app"
	"wayfarer/platform"
	"wayfarer/tun"
)

// The interface of a self-test.
const (
	selftestName = "wayfarertest"
	selftestMTU  = 1280
)

func newSelftest(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "selftest",
		Short: "Try every kind of change to this computer's network",
		Long: "Make every kind of change that a connection makes to this computer's network, on an interface of its\n" +
			"own, say what the system answered, and undo it. Names cannot be resolved, and for an instant nothing is\n" +
			"let out, meanwhile. The service must not run; " + adminHint() + ".",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Its state directory may be another one, where nothing here would see it.
			if _, err := e.service(e.socket).Status(cmd.Context()); err == nil {
				return app.NewFailure(app.CodeNetworkConfig, "", "the service runs, and controls this computer's network", "stop it first")
			}
			failed := 0
			err := e.selftest(cmd.Context(), func(c platform.Check) {
				result := "ok"
				switch {
				case c.Err != nil:
					result = "failed: " + c.Err.Error()
					failed++
				case c.Answer != "":
					result = "ok: " + c.Answer
				}
				fmt.Fprintf(e.out, "%-29s %s\n", c.Name, plainLine(result))
				for _, line := range c.System {
					fmt.Fprintf(e.out, "    %s\n", plainLine(line))
				}
			})
			if err != nil {
				return err
			}
			if failed > 0 {
				return app.NewFailure(app.CodeNetworkConfig, "", "this computer's network cannot be configured as connections need it",
					"see above what the system answered")
			}
			return nil
		},
	}
}

// selftest changes the network of this computer, and gives it back.
func selftest(ctx context.Context, tell func(platform.Check)) error {
	network, err := platform.New(slog.New(slog.DiscardHandler), platform.StateDir())
	switch {
	case errors.As(err, new(*platform.BusyError)):
		return app.NewFailure(app.CodeNetworkConfig, "", err.Error(), "stop the service first")
	case errors.Is(err, fs.ErrPermission):
		return app.NewFailure(app.CodeNetworkConfig, "", err.Error(), adminHint())
	case err != nil:
		return app.NewFailure(app.CodeNetworkConfig, "", err.Error(), "")
	}
	defer network.Close()
	if err := network.Recover(ctx, false); err != nil {
		tell(platform.Check{Name: "undo what a service has left", Err: err})
		return nil
	}
	device, err := tun.Open(selftestName, selftestMTU)
	tell(platform.Check{Name: "interface", Err: err})
	if err != nil {
		return nil
	}
	name, err := device.Name() // not every system lets a program choose it
	if err == nil {
		network.SelfTest(ctx, name, selftestMTU, tell)
	}
	return errors.Join(err, device.Close())
}
