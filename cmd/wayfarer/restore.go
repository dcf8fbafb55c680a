package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"github.com/spf13/cobra"

	"wayfarer/app"
	"wayfarer/platform"
)

func newRestoreNetwork(e *env) *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use:   "restore-network",
		Short: "Undo whatever a crashed service left behind",
		Long: "Undo what a service that has crashed left of its connections: routes, name servers, the block of\n" +
			"--block-outside. A service that runs is asked to do it, which it refuses while there are\n" +
			"connections; each service does the same when it starts. Without a service, " + adminHint() + ".",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := e.restoreNetwork(cmd.Context(), stateDir); err != nil {
				return err
			}
			fmt.Fprintln(e.out, "Nothing that connections changed is left in this computer's network.")
			return nil
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", platform.StateDir(), "`DIR` in which the service keeps what must outlive a crash")
	return cmd
}

// restoreNetwork does the service's work, and asks one that runs to do it, too: it may
// have another state directory.
func (e *env) restoreNetwork(ctx context.Context, stateDir string) error {
	err := e.restore(ctx, stateDir)
	busy, running := errors.AsType[*platform.BusyError](err)
	denied := errors.Is(err, fs.ErrPermission) || errors.Is(err, platform.ErrNoRights)
	if err != nil && !running && !denied {
		return app.NewFailure(app.CodeNetworkConfig, "", fmt.Sprintf("not everything could be undone: %v", err), "try again")
	}
	asked := e.service(e.socket).RestoreNetwork(ctx)
	failure, _ := errors.AsType[*app.Failure](asked)
	switch {
	case failure == nil || failure.Code != app.CodeNoService:
		return asked
	case running:
		return app.NewFailure(app.CodeNetworkConfig, "", fmt.Sprintf("%v, and does not answer", busy), "stop it, and try again")
	case denied:
		return app.NewFailure(app.CodeNetworkConfig, "", err.Error(), adminHint())
	}
	return nil
}

// adminHint is how a program may do what only administrators may.
func adminHint() string {
	if runtime.GOOS == "windows" {
		return "run it in a terminal that was started as administrator"
	}
	return "run it as root"
}
