//go:build !linux && !windows

package platform

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
)

func newHost(*slog.Logger, string) (_ host, boot string, _ error) { return unsupported{}, "", nil }

// unsupported is a host that cannot be changed; restoring it is no change.
type unsupported struct{}

func (unsupported) plan(_ context.Context, cfg Config, _ []change) ([]change, Report, error) {
	if len(cfg.Tunnels) > 0 || cfg.BlockOutside {
		return nil, Report{}, &Error{PartAddress, ErrUnsupported}
	}
	return nil, Report{}, nil
}

func (unsupported) decode(string, json.RawMessage) (change, error) { return nil, ErrUnsupported }

func (unsupported) listenPacket(context.Context, netip.Addr, uint16) (net.PacketConn, error) {
	return nil, ErrUnsupported
}

func (unsupported) listenESP(context.Context, netip.Addr) (net.PacketConn, error) {
	return nil, ErrUnsupported
}

func (unsupported) dialer() *net.Dialer { return &net.Dialer{} }

func (unsupported) nameservers([]change) []netip.Addr { return nil }

func (unsupported) verify(context.Context, Config, *Report) error { return nil }

func (unsupported) overlaps(Config, []change) ([]Overlap, error) { return nil, nil }

func (unsupported) conflicts(context.Context, []string) ([]Conflict, error) { return nil, nil }

func (unsupported) online([]string) (bool, error) { return true, nil }

func (unsupported) watch(context.Context, func() []string) (*watchSource, error) {
	return nil, ErrUnsupported
}

func (unsupported) describe() (string, error) { return "", ErrUnsupported }

func (unsupported) close() error { return nil }
