//go:build !linux

package platform

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
)

func newHost(*slog.Logger) (host, error) { return unsupported{}, nil }

// unsupported is a host that cannot be changed; restoring it is no change.
type unsupported struct{}

func (unsupported) plan(_ context.Context, cfg Config, _ []change) ([]change, error) {
	if len(cfg.Tunnels) > 0 {
		return nil, &Error{PartAddress, ErrUnsupported}
	}
	return nil, nil
}

func (unsupported) listenPacket(context.Context, netip.Addr) (*net.UDPConn, error) {
	return nil, ErrUnsupported
}

func (unsupported) close() error { return nil }
