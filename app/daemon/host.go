package daemon

import (
	"context"
	"fmt"
	"log/slog"

	"wayfarer/app/control"
	"wayfarer/platform"
)

// HostNetwork opens this computer's network, for the Options of the service; it
// changes nothing yet. What must outlive a crash is kept in stateDir. The caller
// closes it after the daemon.
func HostNetwork(log *slog.Logger, stateDir string) (*platform.Network, error) {
	network, err := platform.New(log, stateDir)
	if err != nil {
		return nil, fmt.Errorf("open this computer's network: %w", err)
	}
	return network, nil
}

// StateDir is where a service keeps what must outlive a crash, if it is told no other place.
func StateDir() string { return platform.StateDir() }

// Authorize says whether a process may connect because it sits at this computer, for the
// server of the local API.
func Authorize(ctx context.Context, p control.Process) error {
	return platform.Authorize(ctx, p.PID, p.UID)
}
