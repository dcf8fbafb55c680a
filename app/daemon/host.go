package daemon

import (
	"fmt"
	"log/slog"

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
