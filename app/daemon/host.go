package daemon

import (
	"log/slog"

	"wayfarer/platform"
)

// HostNetwork opens this computer's network, for the Options of the service; it
// changes nothing yet. What must outlive a crash is kept in stateDir. The caller
// closes it after the daemon.
func HostNetwork(log *slog.Logger, stateDir string) (*platform.Network, error) {
	return platform.New(log, stateDir)
}
